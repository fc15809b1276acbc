/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/fs_direct.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/shared/container_of.h"

/* Both requests have the same structure up to their flags. */
_Static_assert(sizeof(struct fuse_read_in) == sizeof(struct fuse_write_in), "one structure for both");

/* --- the files --- */

void fs_direct_init(struct fs_direct *direct, struct loop *loop)
{
	direct->loop = loop;
	for (unsigned i = 0; i < FS_DIRECT_FILES; i++)
		direct->file[i].fd = -1;
}

static struct fs_file *find(struct fs_direct *direct, uint64_t fh)
{
	return fh >= 1 && fh <= FS_DIRECT_FILES ? &direct->file[fh - 1] : NULL;
}

static void release(struct fs_file *file)
{
	file->released = true;
	if (file->fd < 0 || file->users > 0)
		return;
	close(file->fd);
	file->fd = -1;
}

void fs_direct_add(struct fs_direct *direct, uint64_t fh, int fd)
{
	struct fs_file *file = find(direct, fh);
	struct stat st;
	if (file)
		release(file);
	/* Anything else could keep a transfer waiting for ever. */
	if (!file || file->fd >= 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return;
	}
	*file = (struct fs_file){.fd = fd};
}

void fs_direct_release(struct fs_direct *direct, uint64_t fh)
{
	struct fs_file *file = find(direct, fh);
	if (file)
		release(file);
}

void fs_direct_release_all(struct fs_direct *direct)
{
	for (unsigned i = 0; i < FS_DIRECT_FILES; i++)
		release(&direct->file[i]);
}

/* --- how they come --- */

uint32_t fs_direct_looks_at(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_OPEN: return sizeof(struct fuse_out_header) + sizeof(struct fuse_open_out);
	case FUSE_CREATE: return sizeof(struct fs_reply);
	default: return sizeof(struct fuse_out_header);
	}
}

int fs_direct_take(struct msghdr *message)
{
	struct cmsghdr *head = CMSG_FIRSTHDR(message);
	int file = -1;
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	        head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&file, CMSG_DATA(head), sizeof(int));
	return file;
}

void fs_direct_replied(struct fs_direct *direct, uint32_t opcode, uint64_t fh, const struct fs_reply *reply, int file)
{
	uint32_t size = fs_direct_looks_at(opcode);
	struct fuse_open_out open;
	switch (opcode) {
	case FUSE_OPEN:
	case FUSE_CREATE:
		if (file < 0 || reply->header.error != 0 || reply->header.len != size)
			break;
		memcpy(&open, (const uint8_t *)reply + size - sizeof(open), sizeof(open));
		fs_direct_add(direct, open.fh, file);
		return;
	case FUSE_RELEASE: fs_direct_release(direct, fh); break;
	case FUSE_INIT:
	case FUSE_DESTROY: fs_direct_release_all(direct); break;
	default: break;
	}
	if (file >= 0)
		close(file);
}

/* --- transfers --- */

static void finish(struct fs_transfer *t, int error)
{
	struct fs_file *file = t->file;
	t->error = error;
	t->file = NULL;
	file->users--;
	if (file->released)
		release(file);
	t->finished(t);
}

static void transfer(struct fs_transfer *t)
{
	struct io_uring_sqe *sqe = loop_sqe(t->direct->loop);
	uint64_t offset = t->offset + t->done;
	if (t->writes)
		io_uring_prep_writev(sqe, t->file->fd, t->iov, t->count, offset);
	else
		io_uring_prep_readv(sqe, t->file->fd, t->iov, t->count, offset);
	loop_start_file(t->direct->loop, sqe, &t->op, true);
}

/* A read may be short at the file's end alone, which the guest would take it for. A write that fails has its bytes. */
static void transferred(struct loop_op *op, int res, uint32_t flags)
{
	struct fs_transfer *t = container_of(op, struct fs_transfer, op);
	(void)flags;
	if ((res == -EINTR || res == -EAGAIN) && !t->direct->ending) {
		transfer(t);
		return;
	}
	if (res <= 0) {
		finish(t, t->writes && t->done > 0 ? 0 : res);
		return;
	}
	unsigned used_up = iov_advance(t->iov, t->count, (size_t)res);
	t->iov += used_up;
	t->count -= used_up;
	t->done += (uint32_t)res;
	if (t->count > 0)
		transfer(t);
	else
		finish(t, 0);
}

void fs_direct_cancel(struct fs_direct *direct, struct fs_transfer *t)
{
	direct->ending = true;
	if (t->file)
		loop_cancel(direct->loop, &t->op);
}

/* The headers in buffers of their own, and the data behind them, as much as the request says. */
static bool is_laid_out(const struct virtq_chain *chain, bool writes, uint32_t size)
{
	const struct iovec *in = chain->iov, *out = &chain->iov[chain->readable];
	const uint32_t heads = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in);
	const uint32_t answer = sizeof(struct fuse_out_header);
	if (in[0].iov_len != sizeof(struct fuse_in_header) || in[1].iov_len != sizeof(struct fuse_write_in))
		return false;
	if (writes)
		return chain->readable_bytes - heads == size &&
		       chain->writable_bytes >= answer + sizeof(struct fuse_write_out);
	return out[0].iov_len == answer && chain->writable_bytes - answer == size;
}

bool fs_direct_start(
        struct fs_direct *direct, const struct fuse_in_header *header, struct virtq_chain *chain, struct fs_transfer *t)
{
	bool writes = header->opcode == FUSE_WRITE;
	struct fuse_write_in in;
	if ((!writes && header->opcode != FUSE_READ) || chain->readable < 2 || chain->writable < 1 ||
	        guest_load_iov(&in, chain->iov, chain->readable, sizeof(*header), sizeof(in)) < sizeof(in))
		return false;
	struct fs_file *file = find(direct, in.fh);
	if (!file || file->fd < 0 || file->released || in.size == 0 || in.offset > INT64_MAX - FS_DATA_MAX ||
	        in.size > FS_DATA_MAX || (writes && fs_appends(&in)) || !is_laid_out(chain, writes, in.size))
		return false;
	unsigned first = writes ? 2 : chain->readable + 1u, end = chain->readable + (writes ? 0u : chain->writable);
	t->direct = direct;
	t->file = file;
	t->iov = &chain->iov[first];
	t->count = end - first;
	t->offset = in.offset;
	t->done = 0;
	t->writes = writes;
	t->op.done = transferred;
	file->users++;
	transfer(t);
	return true;
}
