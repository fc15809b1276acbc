/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A request's header is copied out of guest memory once and checked; from then on only the copy
 * counts. The rest goes from guest memory into the socket, or the request pipe, and is never looked at. wisp-fs answers
 * in order, so that the next reply is the oldest request's: it is received straight into that request's buffers, but
 * for its header, which is checked first. Of the reply only its length and its number matter.
 *
 * A file that the guest has opened may come with the reply (fs_direct.h). What is read and written of it does not go to
 * wisp-fs. Such a reply is checked whole, in memory of the device, before the guest has it.
 *
 * One request at a time may be half sent, because the socket or the pipe is full; until it is sent, the others wait in
 * their queues. A request without a buffer for a reply (FORGET) is complete when it is sent.
 *
 * Without wisp-fs, which may be killed, or which violates the protocol, every request fails with EIO. The guest goes
 * on.
 */
#include "virtio/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/fs_direct.h"
#include "virtio/fs_table.h"
#include "vmm/shared/container_of.h"
#include "vmm/shared/fs_wire.h"

enum { HIPRIOQ, REQUESTQ, QUEUES };

#define QUEUE_SIZE VIRTQ_SIZE_MAX
#define REQUEST_HEAD sizeof(struct fuse_in_header)
#define REPLY_HEAD sizeof(struct fuse_out_header)

struct request {
	struct request *next;
	unsigned queue;
	struct {
		struct fs_frame frame;
		struct fuse_in_header header;
	} head;            /* as it is sent */
	struct iovec *out; /* what of the request is to be sent */
	unsigned out_count;
	bool told;   /* its message is sent */
	bool early;  /* wisp-fs gives no reply, but the guest gets one */
	uint64_t fh; /* the handle that it releases, or 0 */
	struct fs *fs;
	struct fs_transfer transfer;
	struct virtq_chain chain;
};

struct fs {
	struct virtio_dev dev;
	struct virtio_fs_config config;
	const char *path;
	int socket, requests, replies;
	bool lost; /* there is no wisp-fs any more */
	struct request *all, *free;
	unsigned touched; /* how many were ever used: the others have cost no memory */

	struct request *sending; /* half sent: `send_op` waits for room */
	bool polling;
	struct loop_op send_op;

	struct request *oldest, **end; /* those that wait for replies */
	bool receiving;                /* `receive_op` is in flight */
	struct loop_op receive_op;
	struct fs_reply reply; /* what is looked at of it */
	uint32_t kept;         /* bytes of that */
	struct msghdr message;
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;
	int file;                              /* that came with it, or -1 */
	uint32_t received;                     /* bytes of the oldest one's reply; 0: its message is to come */
	struct iovec in[VIRTQ_SIZE_MAX + 1];   /* room for what is left of it */
	struct iovec part[VIRTQ_SIZE_MAX + 1]; /* the same, no more than its length */
	unsigned in_count;

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

/* The first `bytes` of the buffers. Returns how many buffers those are. */
static unsigned cut(struct iovec *to, const struct iovec *from, unsigned count, size_t bytes)
{
	unsigned used = 0;
	for (; used < count && bytes > 0; used++) {
		to[used] = from[used];
		if (to[used].iov_len > bytes)
			to[used].iov_len = bytes;
		bytes -= to[used].iov_len;
	}
	return used;
}

/* --- the end of a request --- */

static void check_reset(struct fs *fs)
{
	if (fs->dev.reset_call && fs->dev.in_flight == 0 && !fs->polling && !fs->receiving)
		virtio_reset_done(&fs->dev);
}

static void finish(struct fs *fs, struct request *r, uint32_t written)
{
	virtio_complete(&fs->dev, r->queue, r->chain.head, written);
	fs->dev.in_flight--;
	release(fs, r);
}

static void refuse(struct fs *fs, struct request *r)
{
	const struct fuse_out_header head = {.len = REPLY_HEAD, .error = -EIO, .unique = r->head.header.unique};
	bool answers = r->chain.writable > 0;
	if (answers)
		guest_store_iov(&r->chain.iov[r->chain.readable], r->chain.writable, 0, &head, sizeof(head));
	finish(fs, r, answers ? REPLY_HEAD : 0);
}

/* The queues have waited until nothing was half sent, or for the reply to a lookup. */
static void serve_again(struct fs *fs)
{
	for (unsigned queue = 0; queue < QUEUES && fs->dev.active; queue++)
		virtio_kick_again(&fs->dev, queue);
}

/* Not before the kernel is done with the guest's buffers. */
static void refuse_all(struct fs *fs)
{
	if (fs->receiving || fs->polling)
		return;
	while (fs->oldest) {
		struct request *r = fs->oldest;
		fs->oldest = r->next;
		refuse(fs, r);
	}
	fs->end = &fs->oldest;
	if (fs->sending)
		refuse(fs, fs->sending);
	fs->sending = NULL;
	serve_again(fs);
	check_reset(fs);
}

static void lose(struct fs *fs, const char *why)
{
	if (fs->lost)
		return;
	fs->lost = true;
	if (!fs->dev.destroying)
		log_line(fs->dev.env.log, LOG_WARN, "the folder %.36s is lost: %s", (const char *)fs->config.tag, why);
	fs_direct_release_all(&fs->direct);
	shutdown(fs->socket, SHUT_RDWR);
	if (fs->receiving)
		loop_cancel(fs->dev.env.loop, &fs->receive_op);
	if (fs->polling)
		loop_cancel(fs->dev.env.loop, &fs->send_op);
}

/* --- replies --- */

static void start_receiving(struct fs *fs, struct io_uring_sqe *sqe)
{
	fs->receiving = true;
	loop_start(fs->dev.env.loop, sqe, &fs->receive_op);
}

static void receive_message(struct fs *fs)
{
	struct request *r = fs->oldest;
	if (!r || fs->receiving || fs->lost)
		return;
	fs->received = 0;
	fs->kept = fs_direct_looks_at(r->head.header.opcode);
	fs->in[0] = (struct iovec){&fs->reply, fs->kept};
	struct iovec *body = &fs->in[1];
	memcpy(body, &r->chain.iov[r->chain.readable], r->chain.writable * sizeof(*body));
	unsigned used_up = iov_advance(body, r->chain.writable, fs->kept);
	fs->in_count = r->chain.writable - used_up;
	memmove(body, body + used_up, fs->in_count * sizeof(*body));
	/* No more than was promised to wisp-fs. */
	unsigned count = cut(fs->part, fs->in, fs->in_count + 1, r->head.frame.room);
	fs->message = (struct msghdr){.msg_iov = fs->part,
	        .msg_iovlen = count,
	        .msg_control = &fs->control,
	        .msg_controllen = CMSG_LEN(sizeof(int))}; /* CMSG_SPACE has room for two descriptors */
	struct io_uring_sqe *sqe = loop_sqe(fs->dev.env.loop);
	io_uring_prep_recvmsg(sqe, fs->socket, &fs->message, MSG_CMSG_CLOEXEC);
	start_receiving(fs, sqe);
}

static void receive_rest(struct fs *fs)
{
	unsigned count = cut(fs->part, &fs->in[1], fs->in_count, fs->reply.header.len - fs->received);
	struct io_uring_sqe *sqe = loop_sqe(fs->dev.env.loop);
	io_uring_prep_readv(sqe, fs->replies, fs->part, count, 0);
	start_receiving(fs, sqe);
}

/*
 * Whether the queue of requests will be looked at soon, without a notification: when the reply to the oldest one comes,
 * which is a lookup. A guest whose threads look up many names at the same time then exits less often. Of a request that
 * may take long, this is not so, because reads and writes (fs_direct.h) need not wait for it.
 */
static bool looks_soon(const struct fs *fs)
{
	return !fs->lost && fs->oldest && fs->oldest->head.header.opcode == FUSE_LOOKUP;
}

static void replied(struct fs *fs)
{
	struct request *r = fs->oldest;
	uint32_t len = fs->reply.header.len;
	fs_direct_replied(&fs->direct, r->head.header.opcode, r->fh, &fs->reply, fs->file);
	fs->file = -1;
	guest_store_iov(
	        &r->chain.iov[r->chain.readable], r->chain.writable, 0, &fs->reply, len < fs->kept ? len : fs->kept);
	if (looks_soon(fs))
		virtio_kick_again(&fs->dev, REQUESTQ);
	fs->oldest = r->next;
	if (!fs->oldest)
		fs->end = &fs->oldest;
	virtio_count(&fs->dev.to_guest, len);
	finish(fs, r, len);
	receive_message(fs);
	check_reset(fs);
}

static bool is_good(const struct fs *fs, uint32_t bytes)
{
	const struct fuse_out_header *reply = &fs->reply.header;
	return bytes >= REPLY_HEAD && reply->len >= bytes && reply->len <= fs->oldest->head.frame.room &&
	       reply->unique == fs->oldest->head.header.unique &&
	       (reply->len == bytes || fs->kept == REPLY_HEAD); /* what is kept comes at once */
}

static void received(struct loop_op *op, int res, uint32_t flags)
{
	struct fs *fs = container_of(op, struct fs, receive_op);
	bool first = fs->received == 0;
	(void)flags;
	fs->receiving = false;
	if (!fs->lost && (res == -EINTR || res == -EAGAIN)) {
		first ? receive_message(fs) : receive_rest(fs);
		return;
	}
	if (first && res > 0)
		fs->file = fs_direct_take(&fs->message);
	if (!fs->lost && res <= 0)
		lose(fs, res < 0 ? strerror(-res) : "wisp-fs has ended");
	else if (!fs->lost && first && !is_good(fs, (uint32_t)res))
		lose(fs, "wisp-fs violated the protocol");
	if (fs->lost) {
		if (fs->file >= 0)
			close(fs->file);
		fs->file = -1;
		refuse_all(fs);
		return;
	}
	uint32_t bytes = (uint32_t)res, kept = first ? fs->kept : 0, body = bytes > kept ? bytes - kept : 0;
	unsigned used_up = iov_advance(&fs->in[1], fs->in_count, body);
	fs->in_count -= used_up;
	memmove(&fs->in[1], &fs->in[1 + used_up], fs->in_count * sizeof(fs->in[0]));
	fs->received += bytes;
	fs->received < fs->reply.header.len ? receive_rest(fs) : replied(fs);
}

/* --- requests --- */

static void poll_for_room(struct fs *fs, int fd)
{
	struct io_uring_sqe *sqe = loop_sqe(fs->dev.env.loop);
	io_uring_prep_poll_add(sqe, fd, POLLOUT);
	fs->polling = true;
	loop_start(fs->dev.env.loop, sqe, &fs->send_op);
}

/* 1 if it is sent, 0 if there is no room for it, or -errno. */
static int send_message(struct fs *fs, struct request *r)
{
	struct iovec iov[VIRTQ_SIZE_MAX + 1] = {{&r->head, sizeof(r->head)}};
	size_t bytes = r->head.header.len - REQUEST_HEAD - r->head.frame.piped;
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = 1 + cut(&iov[1], r->out, r->out_count, bytes)};
	if (sendmsg(fs->socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -errno;
	unsigned used_up = iov_advance(r->out, r->out_count, bytes);
	r->out += used_up;
	r->out_count -= used_up;
	r->told = true;
	return 1;
}

static int send_rest(struct fs *fs, struct request *r)
{
	while (r->out_count > 0) {
		ssize_t n = writev(fs->requests, r->out, (int)r->out_count);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		unsigned used_up = iov_advance(r->out, r->out_count, (size_t)n);
		r->out += used_up;
		r->out_count -= used_up;
	}
	return 1;
}

static void answer_early(struct fs *fs, struct request *r)
{
	const struct fuse_out_header head = {.len = REPLY_HEAD, .unique = r->head.header.unique};
	fs_direct_release(&fs->direct, r->fh);
	guest_store_iov(&r->chain.iov[r->chain.readable], r->chain.writable, 0, &head, sizeof(head));
	virtio_count(&fs->dev.to_guest, REPLY_HEAD);
	finish(fs, r, REPLY_HEAD);
}

/* Goes on with the request that is being sent. */
static void send_on(struct fs *fs)
{
	struct request *r = fs->sending;
	int ret = r->told ? 1 : send_message(fs, r);
	if (ret > 0)
		ret = send_rest(fs, r);
	if (ret == 0) {
		poll_for_room(fs, r->told ? fs->requests : fs->socket);
		return;
	}
	if (ret < 0) {
		lose(fs, ret == -EPIPE || ret == -ECONNRESET ? "wisp-fs has ended" : strerror(-ret));
		refuse_all(fs);
		return;
	}
	fs->sending = NULL;
	virtio_count(&fs->dev.from_guest, r->head.header.len);
	if (r->head.frame.room == 0) {
		r->early ? answer_early(fs, r) : finish(fs, r, 0);
		check_reset(fs);
		return;
	}
	r->next = NULL;
	*fs->end = r;
	fs->end = &r->next;
	receive_message(fs);
}

static void room(struct loop_op *op, int res, uint32_t flags)
{
	struct fs *fs = container_of(op, struct fs, send_op);
	(void)flags;
	fs->polling = false;
	if (!fs->lost && res < 0 && res != -EINTR)
		lose(fs, strerror(-res));
	if (fs->lost) {
		refuse_all(fs);
		return;
	}
	send_on(fs);
	if (!fs->sending)
		serve_again(fs);
}

/* The rule that the request breaks, or NULL. */
static const char *check(struct request *r)
{
	const struct virtq_chain *chain = &r->chain;
	struct fuse_in_header *header = &r->head.header;
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
	const struct fuse_in_header *header = &r->head.header;
	const struct virtq_chain *chain = &r->chain;
	struct fuse_release_in in = {0};
	r->fh = 0;
	r->early = header->opcode == FUSE_RELEASEDIR && chain->writable > 0;
	if (header->opcode != FUSE_RELEASE ||
	        guest_load_iov(&in, chain->iov, chain->readable, REQUEST_HEAD, sizeof(in)) < sizeof(in))
		return;
	r->fh = in.fh;
	r->early = (in.flags & O_ACCMODE) == O_RDONLY && chain->writable > 0;
}

/* Read or written without wisp-fs. */
static void transferred(struct fs_transfer *transfer)
{
	struct request *r = container_of(transfer, struct request, transfer);
	struct fs *fs = r->fs;
	struct {
		struct fuse_out_header head;
		struct fuse_write_out out;
	} reply = {.head = {.error = transfer->error, .unique = r->head.header.unique}, .out.size = transfer->done};
	uint32_t here = REPLY_HEAD;
	if (transfer->error == 0 && transfer->writes)
		here += sizeof(reply.out);
	reply.head.len = here + (transfer->error == 0 && !transfer->writes ? transfer->done : 0);
	guest_store_iov(&r->chain.iov[r->chain.readable], r->chain.writable, 0, &reply, here);
	virtio_count(&fs->dev.to_guest, reply.head.len);
	finish(fs, r, reply.head.len);
	check_reset(fs);
}

static void serve(struct fs *fs, struct request *r)
{
	struct virtq_chain *chain = &r->chain;
	const char *why = check(r);
	if (why) {
		release(fs, r);
		virtio_fail(&fs->dev, why);
		return;
	}
	uint32_t len = r->head.header.len;
	r->head.frame =
	        (struct fs_frame){.room = chain->writable_bytes < FS_REPLY_MAX ? chain->writable_bytes : FS_REPLY_MAX,
	                .piped = len > FS_INLINE_MAX ? len - FS_SPLIT : 0};
	r->told = false;
	r->fs = fs;
	look_at_release(r);
	if (r->early)
		r->head.frame.room = 0;
	fs->dev.in_flight++;
	if (fs->lost) {
		refuse(fs, r);
		return;
	}
	r->transfer.finished = transferred;
	if (fs_direct_start(&fs->direct, &r->head.header, chain, &r->transfer)) {
		virtio_count(&fs->dev.from_guest, len);
		return;
	}
	unsigned used_up = iov_advance(chain->iov, chain->readable, REQUEST_HEAD);
	r->out = chain->iov + used_up;
	r->out_count = chain->readable - used_up;
	fs->sending = r;
	send_on(fs);
}

static void fs_kick(struct virtio_dev *dev, unsigned queue)
{
	struct fs *fs = to_fs(dev);
	do {
		while (!fs->sending && virtio_fetch(dev, queue, &idle(fs)->chain)) {
			struct request *r = fs->free;
			fs->free = r->next;
			r->queue = queue;
			serve(fs, r);
		}
	} while (!fs->sending && !(queue == REQUESTQ && looks_soon(fs)) && virtio_more(dev, queue));
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
		lose(fs, "");
		for (unsigned i = 0; i < fs->touched; i++)
			fs_direct_cancel(&fs->direct, &fs->all[i].transfer);
	}
	check_reset(fs);
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
	case -EMFILE: why = "it has more open files than the limit permits: raise it (ulimit -Hn)"; break;
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
	return check_table(fs, "save", fs->lost ? -EPIPE : fs_table_fetch(fs->socket, data, size), err);
}

static int fs_restore_more(struct virtio_dev *dev, const void *data, size_t size, struct err *err)
{
	const struct fs *fs = to_fs(dev);
	return check_table(fs, "restore", fs_table_give(fs->socket, data, size), err);
}

static void fs_destroy(struct virtio_dev *dev)
{
	struct fs *fs = to_fs(dev);
	fs_direct_release_all(&fs->direct);
	if (fs->socket >= 0) {
		close(fs->socket);
		close(fs->requests);
		close(fs->replies);
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
	fs->socket = -1; /* the caller's until all is done */
	fs->file = -1;
	fs->path = opt->path;
	fs_direct_init(&fs->direct, env->loop);
	fs->end = &fs->oldest;
	fs->send_op.done = room;
	fs->receive_op.done = received;
	fs->config.num_request_queues = 1;
	memcpy(fs->config.tag, opt->tag, strnlen(opt->tag, FS_TAG_MAX));
	int ret = virtio_init(&fs->dev, &fs_type, env, QUEUES, 0, err);
	if (ret < 0) {
		virtio_destroy(&fs->dev);
		return ret;
	}
	fs->socket = opt->socket;
	fs->requests = opt->requests;
	fs->replies = opt->replies;
	*dev = &fs->dev;
	return 0;
}
