/* SPDX-License-Identifier: Apache-2.0 */
/* Open files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/fs/fs.h"

/* A copy is one request, which the others wait for. */
#define COPY_MAX (16u << 20)

/* --- handles --- */

struct handle *fs_handle(struct fs *fs, uint64_t fh, bool is_folder)
{
	if (fh < 1 || fh > fs->handles_touched)
		return NULL;
	struct handle *handle = &fs->handles[fh - 1];
	return handle->used && handle->is_folder == is_folder ? handle : NULL;
}

bool fs_is_full(const struct fs *fs)
{
	return fs->free_handle == 0 && fs->handles_touched == fs->handles_max;
}

uint32_t fs_add_handle(struct fs *fs, int fd, bool is_folder)
{
	uint32_t fh = fs->free_handle;
	if (fh > 0)
		fs->free_handle = fs->handles[fh - 1].next_free;
	else
		fh = ++fs->handles_touched;
	fs->handles[fh - 1] = (struct handle){.fd = fd, .used = true, .is_folder = is_folder};
	return fh;
}

void fs_belong(struct fs *fs, struct handle *handle, struct node *node)
{
	handle->node = node_id(&fs->nodes, node);
	node->opens++;
}

void fs_close_handle(struct fs *fs, struct handle *handle)
{
	uint32_t fh = (uint32_t)(handle - fs->handles) + 1;
	struct node *node = handle->node > 0 ? node_find(&fs->nodes, handle->node) : NULL;
	if (handle->fd >= 0)
		close(handle->fd);
	free(handle->entries);
	*handle = (struct handle){.next_free = fs->free_handle};
	fs->free_handle = fh;
	if (node && --node->opens == 0)
		node_let_go(&fs->nodes, node);
}

/* --- without opening --- */

static void close_last(struct unopened *last)
{
	if (last->node > 0)
		close(last->handle.fd);
	free(last->handle.entries);
	*last = (struct unopened){0};
}

void fs_close_unopened(struct fs *fs)
{
	close_last(&fs->last[false]);
	close_last(&fs->last[true]);
}

static int open_last(struct fs *fs, uint64_t id, bool is_folder)
{
	struct unopened *last = &fs->last[is_folder];
	struct node *node = node_find(&fs->nodes, id);
	if (!fs->o.always || !node || node->type != (is_folder ? S_IFDIR : S_IFREG))
		return -EBADF;
	if (last->node == id)
		return 0;
	int fd = fs_reopen(fs, node, is_folder ? O_RDONLY | O_DIRECTORY : O_RDONLY);
	if (fd < 0)
		return fd;
	close_last(last);
	*last = (struct unopened){.node = id, .handle = {.fd = fd, .used = true, .is_folder = is_folder}};
	return 0;
}

struct handle *fs_opened(struct fs *fs, const struct request *r, uint64_t fh, bool is_folder, int *error)
{
	struct handle *handle = fs_handle(fs, fh, is_folder);
	*error = handle ? 0 : fh > 0 ? -EBADF : open_last(fs, r->head.nodeid, is_folder);
	return handle ? handle : *error < 0 ? NULL : &fs->last[is_folder].handle;
}

/* --- opening --- */

static int open_file(struct fs *fs, struct node *node, int flags, struct stat *st)
{
	int fd = fs_reopen(fs, node, flags);
	if (fd >= 0 && fstat(fd, st) < 0) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/*
 * The guest may have pages of the file from now on, which it fills when it writes, too, and without wisp-fs. A guest
 * that truncates sees the end of its pages itself. The monitor may read and write the file itself, but not one with a
 * setuid bit: a write ends that only if the writer lacks CAP_FSETID, as this process does in any case.
 */
static void fill_open(
        struct fs *fs, struct request *r, struct node *node, const struct stat *st, int fd, struct fuse_open_out *out)
{
	uint32_t fh = fs_add_handle(fs, fd, false);
	fs_belong(fs, &fs->handles[fh - 1], node);
	*out = (struct fuse_open_out){.fh = fh};
	if (fs_keeps(fs, node, st))
		out->open_flags = FOPEN_KEEP_CACHE;
	if (!out->open_flags || node->cached_ns == 0)
		node->cached_ns = fs_now_ns();
	if (fh <= FS_DIRECT_FILES && !(st->st_mode & (S_ISUID | S_ISGID)))
		r->file = fd;
}

static bool writes(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

int fs_open(struct fs *fs, struct request *r)
{
	const struct fuse_open_in *in = r->arg;
	struct stat st;
	if (fs->skips_open)
		return -ENOSYS;
	if (!S_ISREG(r->node->type))
		return S_ISLNK(r->node->type) ? -ELOOP : -EACCES;
	if (writes(in->flags) && fs->o.read_only)
		return -EROFS;
	if (fs_is_full(fs))
		return -ENFILE;
	int fd = open_file(fs, r->node, (int)in->flags & FS_OPEN_FLAGS, &st);
	if (fd < 0)
		return fd;
	fill_open(fs, r, r->node, &st, fd, r->out);
	return sizeof(struct fuse_open_out);
}

/*
 * One that is there already is opened like any other. What must not be opened, or followed, the host has made since the
 * guest looked: with ESTALE, its kernel looks again, and opens that as it does.
 */
static int create(
        struct fs *fs, struct request *r, const struct fuse_create_in *in, struct node **node, struct stat *st)
{
	int flags = (int)in->flags & FS_OPEN_FLAGS & ~O_TRUNC, fd = node_fd(&fs->nodes, r->node);
	if (fd < 0)
		return fd;
	if (fs_is_full(fs))
		return -ENFILE;
	fs_become(fs, r);
	fd = nodes_full(&fs->nodes)
	             ? -ENFILE
	             : node_open_beneath(fd, r->name, (uint64_t)(flags | O_CREAT | O_EXCL), fs_mode(in->mode, false));
	fs_return(fs);
	if (fd >= 0) {
		int ret = fstat(fd, st) < 0 ? -errno : node_adopt(&fs->nodes, r->node, r->name, st, node);
		if (ret < 0)
			close(fd);
		else
			(void)node_fd(&fs->nodes, *node); /* it remains this file, wherever the host moves it */
		return ret < 0 ? ret : fd;
	}
	if ((fd != -EEXIST && fd != -ENFILE) || in->flags & O_EXCL)
		return fd;
	int ret = node_look_up(&fs->nodes, r->node, r->name, st, node);
	if (ret < 0)
		return fd == -ENFILE ? fd : ret;
	fd = S_ISREG((*node)->type) ? open_file(fs, *node, flags | ((int)in->flags & O_TRUNC), st) : -ESTALE;
	if (fd < 0) {
		node_let_go(&fs->nodes, *node);
		node_forget(&fs->nodes, *node, 1);
	}
	return fd;
}

int fs_create_file(struct fs *fs, struct request *r)
{
	const struct fuse_create_in *in = r->arg;
	struct fuse_open_out open;
	struct node *node;
	struct stat st;
	int fd = create(fs, r, in, &node, &st);
	if (fd < 0)
		return fd;
	fill_open(fs, r, node, &st, fd, &open);
	int ret = fs_fill_entry(fs, r, node, &st);
	memcpy((uint8_t *)r->out + ret, &open, sizeof(open));
	return ret + (int)sizeof(open);
}

int fs_release(struct fs *fs, struct request *r)
{
	struct handle *handle = fs_handle(fs, ((const struct fuse_release_in *)r->arg)->fh, false);
	if (!handle)
		return -EBADF;
	fs_close_handle(fs, handle);
	return 0;
}

/* --- reading --- */

/*
 * All of it, or what there is up to the file's end, or an error: the guest takes a short reply for the end of the file.
 * A host that can read a part of what is asked for, and not the rest, says so when it is asked for the rest.
 */
static int read_all(int fd, uint8_t *to, uint32_t size, off_t offset)
{
	uint32_t done = 0;
	while (done < size) {
		ssize_t n = pread(fd, to + done, size - done, offset + done);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (uint32_t)n;
	}
	return (int)done;
}

/*
 * Much is moved by the file's pages into the reply pipe. What does not fit there, or cannot be moved so, is read, and
 * follows. What is in the pipe already is also part of a reply that says an error; the guest does not look at it.
 */
static int read_much(struct fs *fs, struct request *r, int fd, off_t offset, uint32_t size)
{
	loff_t at = offset;
	ssize_t n = splice(fd, &at, fs->o.replies, NULL, size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	r->more = n > 0 ? (uint32_t)n : 0;
	if (n == 0)
		return 0;
	int ret = read_all(fd, r->out, size - r->more, offset + r->more);
	r->tail = ret > 0 ? (uint32_t)ret : 0;
	return ret < 0 ? ret : 0;
}

int fs_read(struct fs *fs, struct request *r)
{
	const struct fuse_read_in *in = r->arg;
	int error;
	const struct handle *handle = fs_opened(fs, r, in->fh, false, &error);
	uint32_t size = in->size < r->room ? in->size : r->room;
	if (!handle)
		return error;
	if (in->offset > INT64_MAX - FS_REPLY_MAX)
		return -EINVAL;
	if (r->node->cached_ns == 0)
		r->node->cached_ns = fs_now_ns();
	if (size > FS_INLINE_MAX - sizeof(struct fuse_out_header))
		return read_much(fs, r, handle->fd, (off_t)in->offset, size);
	return read_all(handle->fd, r->out, size, (off_t)in->offset);
}

/* --- writing --- */

static ssize_t write_bytes(int fd, const struct fuse_write_in *in, const void *data, size_t size, uint64_t offset)
{
	const struct iovec io = {(void *)(uintptr_t)data, size};
	if (fs_appends(in))
		return syscall(SYS_pwritev2, fd, &io, 1, 0L, 0L, RWF_APPEND);
	return pwrite(fd, data, size, (off_t)offset);
}

/* As much as the host takes; an error only if that is nothing. */
static int write_all(int fd, const struct fuse_write_in *in, const uint8_t *data, uint32_t size, uint32_t *done)
{
	for (uint32_t from = 0; from < size;) {
		ssize_t n = write_bytes(fd, in, data + from, size - from, in->offset + *done);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += (uint32_t)n;
		*done += (uint32_t)n;
	}
	return 0;
}

/* From the pipe into the file, without a buffer in between; -EINVAL if the file cannot. */
static int move_all(struct fs *fs, struct request *r, int fd, uint64_t offset, uint32_t *done)
{
	while (r->piped > 0) {
		loff_t at = (loff_t)(offset + *done);
		ssize_t n = splice(fs->o.requests, NULL, fd, &at, r->piped, SPLICE_F_MOVE);
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		r->piped -= (uint32_t)n;
		*done += (uint32_t)n;
	}
	return 0;
}

static int write_piped(struct fs *fs, struct request *r, int fd, const struct fuse_write_in *in, uint32_t *done)
{
	int ret = fs_appends(in) ? -EINVAL : move_all(fs, r, fd, in->offset, done);
	if (ret != -EINVAL || r->piped == 0)
		return ret;
	uint32_t size = r->piped;
	ret = fs_take(fs, r, r->out, size);
	return ret < 0 ? ret : write_all(fd, in, r->out, size, done);
}

int fs_write(struct fs *fs, struct request *r)
{
	const struct fuse_write_in *in = r->arg;
	const struct handle *handle = fs_handle(fs, in->fh, false);
	uint32_t here = r->size - (uint32_t)sizeof(*in), done = 0;
	struct fuse_write_out *out = r->out;
	if (!handle)
		return -EBADF;
	if (in->size != here + r->piped || in->size > FS_DATA_MAX || in->offset > INT64_MAX - FS_DATA_MAX)
		return -EINVAL;
	int ret = write_all(handle->fd, in, (const uint8_t *)(in + 1), here, &done);
	if (ret == 0)
		ret = write_piped(fs, r, handle->fd, in, &done);
	if (ret < 0 && done == 0)
		return ret;
	*out = (struct fuse_write_out){.size = done};
	return sizeof(*out);
}

/* --- the rest --- */

int fs_fsync(struct fs *fs, struct request *r)
{
	const struct fuse_fsync_in *in = r->arg;
	int error;
	const struct handle *handle = fs_opened(fs, r, in->fh, false, &error);
	if (!handle)
		return error;
	return (in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(handle->fd) : fsync(handle->fd)) < 0 ? -errno : 0;
}

int fs_fallocate(struct fs *fs, struct request *r)
{
	const struct fuse_fallocate_in *in = r->arg;
	const struct handle *handle = fs_handle(fs, in->fh, false);
	if (!handle)
		return -EBADF;
	if (in->offset > INT64_MAX || in->length > INT64_MAX)
		return -EFBIG;
	return fallocate(handle->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0 ? -errno : 0;
}

/* The guest knows the other places itself. */
int fs_lseek(struct fs *fs, struct request *r)
{
	const struct fuse_lseek_in *in = r->arg;
	int error;
	const struct handle *handle = fs_opened(fs, r, in->fh, false, &error);
	struct fuse_lseek_out *out = r->out;
	if (!handle)
		return error;
	if ((in->whence != SEEK_DATA && in->whence != SEEK_HOLE) || in->offset > INT64_MAX)
		return -EINVAL;
	off_t offset = lseek(handle->fd, (off_t)in->offset, (int)in->whence);
	if (offset < 0)
		return -errno;
	*out = (struct fuse_lseek_out){.offset = (uint64_t)offset};
	return sizeof(*out);
}

int fs_copy(struct fs *fs, struct request *r)
{
	const struct fuse_copy_file_range_in *in = r->arg;
	const struct handle *from = fs_handle(fs, in->fh_in, false), *to = fs_handle(fs, in->fh_out, false);
	struct fuse_write_out *out = r->out;
	if (!from || !to)
		return -EBADF;
	if (in->flags || in->off_in > INT64_MAX || in->off_out > INT64_MAX)
		return -EINVAL;
	loff_t off_in = (loff_t)in->off_in, off_out = (loff_t)in->off_out;
	ssize_t n = copy_file_range(
	        from->fd, &off_in, to->fd, &off_out, in->len < COPY_MAX ? (size_t)in->len : COPY_MAX, 0);
	if (n < 0)
		return -errno;
	*out = (struct fuse_write_out){.size = (uint32_t)n};
	return sizeof(*out);
}

/* A single file is all that its guest's file system has. */
int fs_syncfs(struct fs *fs, struct request *r)
{
	struct node *file = fs->is_file ? node_find(&fs->nodes, NODE_ROOT + 1) : NULL;
	int fd = file ? fs_reopen(fs, file, O_RDONLY) : fs_reopen(fs, r->node, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	int ret = (file ? fsync(fd) : syncfs(fd)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}
