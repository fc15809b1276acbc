/* SPDX-License-Identifier: Apache-2.0 */
/* Open folders. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/fs/fs.h"

/* As the kernel writes it. */
struct entry {
	uint64_t ino;
	int64_t next; /* where the entry behind it begins */
	uint16_t length;
	uint8_t type;
	char name[];
};

/*
 * What the host's kernel has told of a folder, from one offset on, and where the guest is in it. The guest often goes
 * back a little. Where offsets count the entries that are there, as on tmpfs before Linux 6.6, a seek would then miss
 * some if others have been removed since.
 */
struct entries {
	int64_t from, offset; /* of the first entry; of the next one */
	uint32_t at, end;     /* where that is in `bytes` */
	uint8_t bytes[32768];
};

static const struct entry *next_entry(const struct entries *entries)
{
	return (const struct entry *)(const void *)(entries->bytes + entries->at);
}

static void pass(struct entries *entries)
{
	const struct entry *entry = next_entry(entries);
	entries->offset = entry->next;
	entries->at += entry->length;
}

/* The guest's own list of names may stay as its pages of a file may. */
int fs_opendir(struct fs *fs, struct request *r)
{
	struct fuse_open_out *out = r->out;
	struct stat st;
	if (fs->skips_opendir)
		return -ENOSYS;
	if (fs_is_full(fs))
		return -ENFILE;
	int fd = fs_reopen(fs, r->node, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	*out = (struct fuse_open_out){.fh = fs_add_handle(fs, fd, true), .open_flags = FOPEN_CACHE_DIR};
	if (fstat(fd, &st) == 0 && fs_keeps(fs, r->node, &st))
		out->open_flags |= FOPEN_KEEP_CACHE;
	else
		r->node->cached_ns = 0;
	return sizeof(*out);
}

int fs_releasedir(struct fs *fs, struct request *r)
{
	struct handle *handle = fs_handle(fs, ((const struct fuse_release_in *)r->arg)->fh, true);
	if (!handle)
		return -EBADF;
	fs_close_handle(fs, handle);
	return 0;
}

int fs_fsyncdir(struct fs *fs, struct request *r)
{
	int error;
	const struct handle *handle = fs_opened(fs, r, ((const struct fuse_fsync_in *)r->arg)->fh, true, &error);
	if (!handle)
		return error;
	return fsync(handle->fd) < 0 ? -errno : 0;
}

/* Has the next entry be the one at `offset`. At the first one begins who wants to see what has changed. */
static int seek_to(struct handle *handle, int64_t offset)
{
	struct entries *entries = handle->entries;
	if (!entries) {
		entries = handle->entries = malloc(sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		entries->from = entries->offset = 0;
		entries->at = entries->end = 0;
		if (offset == 0)
			return 0;
	}
	if (offset != 0 && entries->offset != offset) {
		entries->at = 0;
		for (entries->offset = entries->from; entries->offset != offset && entries->at < entries->end;)
			pass(entries);
	}
	if (offset != 0 && entries->offset == offset)
		return 0;
	if (lseek(handle->fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	entries->offset = offset;
	entries->at = entries->end = 0;
	return 0;
}

/* Fills the empty buffer, which stays empty at the end. 0 or -errno. */
static int fill(const struct handle *handle)
{
	struct entries *entries = handle->entries;
	long n = syscall(SYS_getdents64, handle->fd, entries->bytes, sizeof(entries->bytes));
	entries->from = entries->offset;
	entries->at = 0;
	entries->end = n > 0 ? (uint32_t)n : 0;
	return n < 0 ? -errno : 0;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* An entry whose file cannot be looked up is one without a node: the guest looks for itself when it needs to. */
static void fill_node(struct fs *fs, struct request *r, const char *name, struct fuse_entry_out *out)
{
	struct request at = {.out = out};
	struct node *node;
	struct stat st;
	memset(out, 0, sizeof(*out));
	if (!is_dots(name) && node_look_up(&fs->nodes, r->node, name, &st, &node) == 0)
		fs_fill_entry(fs, &at, node, &st);
}

/* Adds the entry if it fits: its length, or 0. */
static uint32_t add(struct fs *fs, struct request *r, const struct entry *entry, uint32_t used, bool plus)
{
	size_t head = plus ? sizeof(struct fuse_direntplus) : sizeof(struct fuse_dirent), length = strlen(entry->name);
	uint32_t size = (uint32_t)FUSE_DIRENT_ALIGN(head + length);
	uint8_t *to = (uint8_t *)r->out + used;
	struct fuse_dirent dirent = {
	        .ino = entry->ino, .off = (uint64_t)entry->next, .namelen = (uint32_t)length, .type = entry->type};
	if (size > r->room - used)
		return 0;
	memset(to, 0, size);
	if (plus)
		fill_node(fs, r, entry->name, (struct fuse_entry_out *)(void *)to);
	memcpy(to + head - sizeof(dirent), &dirent, sizeof(dirent));
	memcpy(to + head, entry->name, length);
	return size;
}

static int read_entries(struct fs *fs, struct request *r, bool plus)
{
	const struct fuse_read_in *in = r->arg;
	int error;
	struct handle *handle = fs_opened(fs, r, in->fh, true, &error);
	uint32_t used = 0, size;
	if (!handle)
		return error;
	if (in->offset == 0 && r->node->cached_ns == 0)
		r->node->cached_ns = fs_now_ns();
	r->room = in->size < r->room ? in->size : r->room;
	int ret = seek_to(handle, (int64_t)in->offset);
	struct entries *entries = handle->entries;
	if (ret == 0 && entries->at == entries->end)
		ret = fill(handle);
	if (ret < 0)
		return ret;
	/* No further than the buffer, so that the guest can go back to any entry that it is told now. */
	while (entries->at < entries->end && (size = add(fs, r, next_entry(entries), used, plus)) > 0) {
		used += size;
		pass(entries);
	}
	return (int)used;
}

int fs_readdir(struct fs *fs, struct request *r)
{
	return read_entries(fs, r, false);
}

int fs_readdirplus(struct fs *fs, struct request *r)
{
	return read_entries(fs, r, true);
}
