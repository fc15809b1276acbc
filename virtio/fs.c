/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A request's header is copied out of guest memory once and checked; from then on only the copy
 * counts. The rest goes from guest memory to wisp-fs, and is never looked at (fs_link.h).
 *
 * A file that the guest has opened may come with a reply (fs_direct.h). What is read and written of it does not go to
 * wisp-fs.
 *
 * While the socket or the pipe to wisp-fs is full, requests wait in their queues. A request without a buffer for a
 * reply (FORGET) is complete when it is sent.
 *
 * Without wisp-fs, which may be killed, or which violates the protocol, every request fails with EIO. The guest goes
 * on.
 */
#include "virtio/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/fs_direct.h"
#include "virtio/fs_link.h"
#include "virtio/fs_table.h"
#include "vmm/shared/container_of.h"
#include "vmm/shared/fs_wire.h"

enum { HIPRIOQ, REQUESTQ, QUEUES };

#define QUEUE_SIZE VIRTQ_SIZE_MAX
#define REQUEST_HEAD sizeof(struct fuse_in_header)
#define REPLY_HEAD sizeof(struct fuse_out_header)

struct request {
	struct request *next; /* of the free ones */
	unsigned queue;
	bool early;  /* wisp-fs gives no reply, but the guest gets one */
	uint64_t fh; /* the handle that it releases, or 0 */
	struct fs *fs;
	struct fs_message message;
	struct fs_transfer transfer;
	struct virtq_chain chain;
};

struct fs {
	struct virtio_dev dev;
	struct virtio_fs_config config;
	const char *path;
	struct request *all, *free;
	unsigned touched; /* how many were ever used: the others have cost no memory */
	struct fs_link link;
	struct fs_direct direct;
};

static struct fs *to_fs(struct virtio_dev *dev)
{
	return (struct fs *)dev;
}

static void release(struct fs *fs, struct request *r)
{
	r->next = fs->free;
	fs->free = r;
}

/* The next request to use; it stays on the list. */
static struct request *idle(struct fs *fs)
{
	if (!fs->free)
		release(fs, &fs->all[fs->touched++]);
	return fs->free;
}

/* --- the end of a request --- */

static void finish(struct fs *fs, struct request *r, uint32_t written)
{
	virtio_complete(&fs->dev, r->queue, r->chain.head, written);
	fs->dev.in_flight--;
	release(fs, r);
	if (fs->dev.reset_call && fs->dev.in_flight == 0 && fs_link_is_idle(&fs->link))
		virtio_reset_done(&fs->dev);
}

/* The guest's buffers for the reply. */
static void store(struct request *r, const void *reply, size_t size)
{
	guest_store_iov(&r->chain.iov[r->chain.readable], r->chain.writable, 0, reply, size);
}

/* With no more than the header of a reply. */
static void answer(struct fs *fs, struct request *r, int error)
{
	const struct fuse_out_header head = {
	        .len = REPLY_HEAD, .error = error, .unique = r->message.head.header.unique};
	bool answers = r->chain.writable_bytes > 0;
	if (answers)
		store(r, &head, sizeof(head));
	finish(fs, r, answers ? REPLY_HEAD : 0);
}

static struct request *to_request(struct fs_message *m)
{
	return container_of(m, struct request, message);
}

static void sent(struct fs_message *m)
{
	struct request *r = to_request(m);
	struct fs *fs = r->fs;
	if (r->early) {
		fs_direct_release(&fs->direct, r->fh);
		virtio_count(&fs->dev.to_guest, REPLY_HEAD);
	}
	answer(fs, r, 0);
}

static void replied(struct fs_message *m, const struct fs_reply *reply, int file)
{
	struct request *r = to_request(m);
	struct fs *fs = r->fs;
	fs_direct_replied(&fs->direct, m->head.header.opcode, r->fh, reply, file);
	virtio_count(&fs->dev.to_guest, reply->header.len);
	finish(fs, r, reply->header.len);
}

static void failed(struct fs_message *m)
{
	struct request *r = to_request(m);
	answer(r->fs, r, -EIO);
}

static void ready(struct fs_link *link)
{
	struct fs *fs = container_of(link, struct fs, link);
	for (unsigned queue = 0; queue < QUEUES && fs->dev.active; queue++)
		virtio_kick_again(&fs->dev, queue);
}

static void lost(struct fs_link *link, const char *why)
{
	struct fs *fs = container_of(link, struct fs, link);
	if (!fs->dev.destroying)
		log_line(fs->dev.env.log, LOG_WARN, "the folder %.36s is lost: %s", (const char *)fs->config.tag, why);
	fs_direct_release_all(&fs->direct);
}

static const struct fs_link_owner owner = {
        .sent = sent, .replied = replied, .failed = failed, .ready = ready, .lost = lost};

/* --- its beginning --- */

/* The rule that the request breaks, or NULL. */
static const char *check(struct request *r)
{
	const struct virtq_chain *chain = &r->chain;
	struct fuse_in_header *header = &r->message.head.header;
	if (guest_load_iov(header, chain->iov, chain->readable, 0, REQUEST_HEAD) < REQUEST_HEAD ||
	        header->len != chain->readable_bytes)
		return "a file system request has another length than it says";
	if (header->len > FS_REQUEST_MAX)
		return "a file system request is longer than the device takes";
	if (chain->writable_bytes > 0 && chain->writable_bytes < REPLY_HEAD)
		return "a file system request has no room for the header of its reply";
	return NULL;
}

/*
 * The guest waits for the answer to a RELEASE, which is never an error to it. wisp-fs takes requests in order, so that
 * to the guest the file is closed as soon as wisp-fs has been told. To the host it is not yet: so this is not for a
 * file that was written to, which the host might want to run.
 */
static void look_at_release(struct request *r)
{
	const struct fuse_in_header *header = &r->message.head.header;
	const struct virtq_chain *chain = &r->chain;
	struct fuse_release_in in = {0};
	r->fh = 0;
	r->early = header->opcode == FUSE_RELEASEDIR && chain->writable_bytes > 0;
	if (header->opcode != FUSE_RELEASE ||
	        guest_load_iov(&in, chain->iov, chain->readable, REQUEST_HEAD, sizeof(in)) < sizeof(in))
		return;
	r->fh = in.fh;
	r->early = (in.flags & O_ACCMODE) == O_RDONLY && chain->writable_bytes > 0;
}

/* Read or written without wisp-fs. */
static void transferred(struct fs_transfer *transfer)
{
	struct request *r = container_of(transfer, struct request, transfer);
	struct fs *fs = r->fs;
	struct {
		struct fuse_out_header head;
		struct fuse_write_out out;
	} reply = {.head = {.error = transfer->error, .unique = r->message.head.header.unique},
	        .out.size = transfer->done};
	uint32_t here = REPLY_HEAD;
	if (transfer->error == 0 && transfer->writes)
		here += sizeof(reply.out);
	reply.head.len = here + (transfer->error == 0 && !transfer->writes ? transfer->done : 0);
	store(r, &reply, here);
	virtio_count(&fs->dev.to_guest, reply.head.len);
	finish(fs, r, reply.head.len);
}

static void serve(struct fs *fs, struct request *r)
{
	struct virtq_chain *chain = &r->chain;
	struct fs_message *m = &r->message;
	const char *why = check(r);
	if (why) {
		release(fs, r);
		virtio_fail(&fs->dev, why);
		return;
	}
	uint32_t len = m->head.header.len;
	look_at_release(r);
	m->head.frame.room = r->early ? 0 : chain->writable_bytes < FS_REPLY_MAX ? chain->writable_bytes : FS_REPLY_MAX;
	m->head.frame.piped = len > FS_INLINE_MAX ? len - FS_SPLIT : 0;
	r->fs = fs;
	r->transfer.finished = transferred;
	fs->dev.in_flight++;
	if (!fs->link.lost)
		virtio_count(&fs->dev.from_guest, len);
	if (fs_direct_start(&fs->direct, &m->head.header, chain, &r->transfer))
		return;
	unsigned used_up = iov_advance(chain->iov, chain->readable, REQUEST_HEAD);
	m->out = chain->iov + used_up;
	m->out_count = chain->readable - used_up;
	m->in = chain->iov + chain->readable;
	m->in_count = chain->writable;
	fs_link_add(&fs->link, m);
}

static void fs_kick(struct virtio_dev *dev, unsigned queue)
{
	struct fs *fs = to_fs(dev);
	do {
		while (!fs_link_is_full(&fs->link) && virtio_fetch(dev, queue, &idle(fs)->chain)) {
			struct request *r = fs->free;
			fs->free = r->next;
			r->queue = queue;
			serve(fs, r);
		}
		fs_link_send(&fs->link);
	} while (!fs_link_is_full(&fs->link) && virtio_more(dev, queue));
}

/* --- life --- */

/*
 * Requests that wisp-fs or the kernel has are waited for, as those of a disk are. At the end of the device, wisp-fs
 * ends, and a file system that does not answer is waited for no longer than must be.
 */
static void fs_reset(struct virtio_dev *dev)
{
	struct fs *fs = to_fs(dev);
	if (dev->destroying) {
		fs_link_end(&fs->link, "");
		for (unsigned i = 0; i < fs->touched; i++)
			fs_direct_cancel(&fs->direct, &fs->all[i].transfer);
	}
	if (dev->in_flight == 0 && fs_link_is_idle(&fs->link))
		virtio_reset_done(dev);
}

static void fs_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	memcpy(data, (const uint8_t *)&to_fs(dev)->config + offset, len);
}

/* 0, or `ret` with `err`. */
static int check_table(const struct fs *fs, const char *verb, int ret, struct err *err)
{
	const char *why;
	switch (ret) {
	case 0: return 0;
	case -EPIPE:
	case -ECONNRESET: why = "wisp-fs does not serve it any more"; break;
	case -EPROTO: why = "wisp-fs violated the protocol"; break;
	case -EINVAL: why = "the saved table is damaged, or of another version"; break;
	case -EMFILE: why = "it has more open files than the limit permits: raise that (ulimit -Hn)"; break;
	case -EXDEV:
		return err_set(err, EXDEV,
		        "the folder %s is another one than the guest knows: put the folder that it had in its place",
		        fs->path);
	default: why = strerror(-ret);
	}
	return err_set(err, -ret, "cannot %s the folder %s: %s", verb, fs->path, why);
}

static int fs_save_more(struct virtio_dev *dev, void **data, size_t *size, struct err *err)
{
	const struct fs *fs = to_fs(dev);
	return check_table(fs, "save", fs->link.lost ? -EPIPE : fs_table_fetch(fs->link.socket, data, size), err);
}

static int fs_restore_more(struct virtio_dev *dev, const void *data, size_t size, struct err *err)
{
	const struct fs *fs = to_fs(dev);
	return check_table(fs, "restore", fs_table_give(fs->link.socket, data, size), err);
}

static void fs_destroy(struct virtio_dev *dev)
{
	struct fs *fs = to_fs(dev);
	fs_direct_release_all(&fs->direct);
	if (fs->link.socket >= 0) {
		close(fs->link.socket);
		close(fs->link.requests);
		close(fs->link.replies);
	}
	free(fs->all);
	free(fs);
}

static const struct virtio_type fs_type = {
        .name = "fs",
        .id = VIRTIO_ID_FS,
        .queue_size_max = QUEUE_SIZE,
        .config_size = sizeof(struct virtio_fs_config),
        .kick = fs_kick,
        .reset = fs_reset,
        .config_read = fs_config_read,
        .save_more = fs_save_more,
        .restore_more = fs_restore_more,
        .destroy = fs_destroy,
};

int fsdev_create(
        struct virtio_dev **dev, const struct virtio_env *env, const struct fsdev_options *opt, struct err *err)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	/* One more, to fetch into while the driver has all heads of its queues in flight. */
	struct request *all = calloc(QUEUES * QUEUE_SIZE + 1, sizeof(*all));
	if (!fs || !all) {
		free(fs);
		free(all);
		return err_set(err, ENOMEM, "out of memory for a folder");
	}
	fs->all = all;
	fs->path = opt->path;
	fs_link_init(&fs->link, env->loop, &owner);
	fs_direct_init(&fs->direct, env->loop);
	fs->config.num_request_queues = 1;
	memcpy(fs->config.tag, opt->tag, strnlen(opt->tag, FS_TAG_MAX));
	int ret = virtio_init(&fs->dev, &fs_type, env, QUEUES, 0, err);
	if (ret < 0) {
		virtio_destroy(&fs->dev);
		return ret;
	}
	/* The caller's until now. */
	fs->link.socket = opt->socket;
	fs->link.requests = opt->requests;
	fs->link.replies = opt->replies;
	*dev = &fs->dev;
	return 0;
}
