/* SPDX-License-Identifier: Apache-2.0 */
/* Saves and restores what the guest knows: fs.h, table.h. */
#include "vmm/fs/table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/fs/fs.h"

#define LOOKUPS_MAX (UINT64_C(1) << 62) /* no guest counts so far */

_Static_assert(FS_TABLE_MAX > sizeof(struct fs_table) + FS_HANDLES_MAX * sizeof(struct fs_table_handle) +
                                      FS_NODES_MAX * (sizeof(struct fs_table_node) + 64u),
        "room for all open files, and for all nodes if their names are not long");

/* When what `fd` is came to be, in ns; 0: its file system does not say. Not every libc has statx. */
static uint64_t born(int fd)
{
	struct statx st;
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) < 0 || !(st.stx_mask & STATX_BTIME))
		return 0;
	return (uint64_t)st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec;
}

/*
 * Which folder it is. Roots of file systems have the same number: 2 on ext4, 256 on btrfs, where a subvolume's snapshot
 * has its time of birth, too. That of overlayfs changes when the folder is copied up. XFS has the number of its device
 * for an fsid, which may be another one after the host has booted.
 */
static int identify(const struct fs *fs, struct fs_table *head)
{
	struct stat st;
	struct statfs of;
	if (fstat(fs->o.folder, &st) < 0 || fstatfs(fs->o.folder, &of) < 0)
		return -errno;
	head->ino = st.st_ino;
	head->born = of.f_type == OVERLAYFS_SUPER_MAGIC ? 0 : born(fs->o.folder);
	memcpy(&head->fsid, &of.f_fsid, sizeof(head->fsid));
	if (head->fsid == st.st_dev)
		head->fsid = 0;
	return 0;
}

/* --- saving --- */

struct writer {
	struct fs *fs;
	struct fs_table head;
	uint8_t *to;
	size_t room, used;
	size_t max, kept; /* of `room`; of that, bytes that are for handles */
};

static bool grow(struct writer *w, size_t bytes)
{
	size_t room = 2 * bytes < w->max ? 2 * bytes : w->max;
	uint8_t *to = bytes <= w->max ? realloc(w->to, room) : NULL;
	if (!to)
		return false;
	w->to = to;
	w->room = room;
	return true;
}

static uint8_t *take_room(struct writer *w, size_t bytes)
{
	size_t all = w->used + bytes + w->kept;
	if (all > w->room && !grow(w, all))
		return NULL;
	w->used += bytes;
	return w->to + w->used - bytes;
}

static bool put_node(struct writer *w, const struct node *node)
{
	size_t length = strlen(node->name) + 1, padded = (length + 7) / 8 * 8;
	uint8_t *to = take_room(w, sizeof(struct fs_table_node) + padded);
	struct fs_table_node entry = {.id = node_id(&w->fs->nodes, node),
	        .parent = node_id(&w->fs->nodes, node->parent),
	        .dev = node->dev == w->fs->dev ? 0 : node->dev,
	        .ino = node->ino,
	        .lookups = node->lookups,
	        .type = node->type,
	        .name = (uint32_t)padded};
	if (!to)
		return false;
	memcpy(to, &entry, sizeof(entry));
	memset(to + sizeof(entry), 0, padded);
	memcpy(to + sizeof(entry), node->name, length);
	w->head.nodes++;
	return true;
}

/* Puts the node and the folders above it, from the top. Without a name, or too deep, it could not be found again. */
static void put_path(struct writer *w, struct node *node)
{
	struct node *path[NODE_DEPTH_MAX];
	size_t depth = 0;
	for (; node && !node->saved; node = node->parent) {
		if (depth == NODE_DEPTH_MAX || !node->name)
			return;
		path[depth++] = node;
	}
	while (depth > 0 && put_node(w, path[depth - 1]))
		path[--depth]->saved = true;
}

static struct node *node_of(struct fs *fs, const struct handle *handle)
{
	struct stat st;
	return handle->fd >= 0 && fstat(handle->fd, &st) == 0 ? node_find_inode(&fs->nodes, st.st_dev, st.st_ino)
	                                                      : NULL;
}

static void put_nodes(struct writer *w)
{
	struct fs *fs = w->fs;
	struct nodes *nodes = &fs->nodes;
	for (uint32_t i = 0; i < nodes->touched; i++) {
		struct node *node = &nodes->all[i];
		node->saved = i == 0;
		if (node->generation >= w->head.generation)
			w->head.generation = node->generation + 1;
	}
	for (uint32_t i = 0; i < fs->handles_touched; i++)
		put_path(w, fs->handles[i].used ? node_of(fs, &fs->handles[i]) : NULL);
	for (unsigned others = 0; others < 2; others++)
		for (uint32_t i = 1; i < nodes->touched; i++) {
			struct node *node = &nodes->all[i];
			if (node->used && node->lookups > 0 && (others || S_ISDIR(node->type)))
				put_path(w, node);
		}
}

static void put_handles(struct writer *w)
{
	struct fs *fs = w->fs;
	for (uint32_t i = 0; i < fs->handles_touched; i++) {
		const struct handle *handle = &fs->handles[i];
		struct fs_table_handle entry = {.fh = i + 1, .flags = handle->is_folder ? O_DIRECTORY : 0};
		if (!handle->used)
			continue;
		struct node *node = node_of(fs, handle);
		int flags = handle->fd >= 0 ? fcntl(handle->fd, F_GETFL) : -1;
		if (node && (node->saved || fs->is_file) && flags >= 0) {
			entry.node = node_id(&fs->nodes, node);
			entry.flags |= (uint32_t)flags & FS_OPEN_FLAGS & ~(uint32_t)O_TRUNC;
			entry.born = handle->is_folder ? 0 : born(handle->fd);
		}
		memcpy(take_room(w, sizeof(entry)), &entry, sizeof(entry));
		w->head.handles++;
	}
}

/* Room for all handles is set aside first: no handle's number may come to stand for another file. */
int64_t fs_save_table(struct fs *fs, uint8_t **table)
{
	/* The guest may still have numbers from before an earlier restore. */
	struct writer w = {.fs = fs,
	        .head = {.magic = FS_TABLE_MAGIC, .is_file = fs->is_file, .generation = fs->nodes.generation},
	        .max = fs->o.table ? fs->o.table : FS_TABLE_MAX};
	for (uint32_t i = 0; i < fs->handles_touched; i++)
		w.kept += fs->handles[i].used ? sizeof(struct fs_table_handle) : 0;
	int ret = identify(fs, &w.head);
	if (ret < 0)
		return ret;
	if (!take_room(&w, sizeof(w.head)))
		return -ENOMEM;
	if (!fs->is_file)
		put_nodes(&w);
	w.kept = 0;
	put_handles(&w);
	memcpy(w.to, &w.head, sizeof(w.head));
	*table = w.to;
	return (int64_t)w.used;
}

/* --- restoring --- */

struct reader {
	struct fs *fs;
	struct fs_table head;
	const uint8_t *at;
	size_t left;
	bool known; /* it is the folder that the guest knows; otherwise all that it knows is stale */
};

/* The next `bytes`, or NULL: it ends before. */
static const uint8_t *take(struct reader *r, size_t bytes)
{
	if (bytes > r->left)
		return NULL;
	r->at += bytes;
	r->left -= bytes;
	return r->at - bytes;
}

static bool is_type(uint32_t type)
{
	return type == S_IFREG || type == S_IFDIR || type == S_IFLNK || type == S_IFIFO || type == S_IFSOCK ||
	       type == S_IFCHR || type == S_IFBLK;
}

static int take_node(struct reader *r)
{
	struct fs_table_node entry;
	const uint8_t *from = take(r, sizeof(entry));
	if (!from)
		return -EINVAL;
	memcpy(&entry, from, sizeof(entry));
	const char *name = (const char *)take(r, entry.name);
	if (name && !r->known)
		return 0;
	struct node as = {.dev = entry.dev ? entry.dev : r->fs->dev,
	        .ino = entry.ino,
	        .lookups = entry.lookups,
	        .parent = node_find(&r->fs->nodes, entry.parent),
	        .type = entry.type};
	if (!name || entry.name == 0 || entry.name % 8 != 0 || name[entry.name - 1] != '\0' ||
	        fs_check_component(name) < 0 || !as.parent || !is_type(entry.type) || entry.lookups >= LOOKUPS_MAX ||
	        (entry.id - 1) >> NODE_INDEX_BITS >= r->head.generation)
		return -EINVAL;
	return nodes_put(&r->fs->nodes, entry.id, &as, name);
}

/* A file that cannot be opened as it was leaves a handle of nothing, until the guest closes that. */
static int open_again(struct fs *fs, const struct fs_table_handle *entry)
{
	struct node *node = entry->node ? node_find(&fs->nodes, entry->node) : NULL;
	bool is_folder = entry->flags & O_DIRECTORY;
	int flags = (int)entry->flags & FS_OPEN_FLAGS & ~O_TRUNC;
	if (!node || !(is_folder ? S_ISDIR(node->type) : S_ISREG(node->type)) || (fs->is_file && node == fs->nodes.all))
		return -1;
	if (is_folder)
		return fs_reopen(fs, node, O_RDONLY | O_DIRECTORY);
	if (fs->o.read_only && (flags & O_ACCMODE) != O_RDONLY)
		return -1;
	int fd = fs_reopen(fs, node, flags);
	if (fd < 0 || entry->born == 0 || entry->born == born(fd))
		return fd;
	close(fd);
	return -1;
}

static int take_handle(struct reader *r)
{
	struct fs *fs = r->fs;
	struct fs_table_handle entry;
	const uint8_t *from = take(r, sizeof(entry));
	if (!from)
		return -EINVAL;
	memcpy(&entry, from, sizeof(entry));
	if (entry.fh < 1 || entry.fh > FS_HANDLES_MAX)
		return -EINVAL;
	if (entry.fh > fs->handles_max)
		return -EMFILE;
	if (fs->handles[entry.fh - 1].used)
		return -EINVAL;
	int fd = r->known ? open_again(fs, &entry) : -1;
	struct handle *handle = &fs->handles[entry.fh - 1];
	*handle = (struct handle){.fd = fd < 0 ? -1 : fd, .used = true, .is_folder = entry.flags & O_DIRECTORY};
	if (fd >= 0 && !handle->is_folder)
		fs_belong(fs, handle, node_find(&fs->nodes, entry.node));
	if (fs->handles_touched < entry.fh)
		fs->handles_touched = entry.fh;
	return 0;
}

static void free_handles(struct fs *fs)
{
	for (uint32_t fh = fs->handles_touched; fh > 0; fh--) {
		if (fs->handles[fh - 1].used)
			continue;
		fs->handles[fh - 1].next_free = fs->free_handle;
		fs->free_handle = fh;
	}
}

static int take_all(struct reader *r)
{
	struct fs_table here;
	const uint8_t *from = take(r, sizeof(r->head));
	if (!from)
		return -EINVAL;
	memcpy(&r->head, from, sizeof(r->head));
	if (r->head.magic != FS_TABLE_MAGIC || r->head.is_file != r->fs->is_file ||
	        r->head.generation > UINT64_MAX >> (NODE_INDEX_BITS + 1))
		return -EINVAL;
	int ret = identify(r->fs, &here);
	if (ret < 0)
		return ret;
	r->known = r->head.ino == here.ino && r->head.born == here.born && r->head.fsid == here.fsid;
	if (!r->known && r->fs->o.same)
		return -EXDEV;
	for (uint32_t i = 0; i < r->head.nodes && ret == 0; i++)
		ret = r->fs->is_file ? -EINVAL : take_node(r);
	for (uint32_t i = 0; i < r->head.handles && ret == 0; i++)
		ret = take_handle(r);
	return ret == 0 && r->left > 0 ? -EINVAL : ret;
}

int fs_restore_table(struct fs *fs, const uint8_t *table, size_t size)
{
	struct reader r = {.fs = fs, .at = table, .left = size};
	int ret = fs_reset(fs);
	if (ret == 0)
		ret = take_all(&r);
	if (ret < 0) {
		(void)fs_reset(fs);
		return ret;
	}
	nodes_go_on(&fs->nodes, r.head.generation);
	free_handles(fs);
	return 0;
}

/* --- the monitor's messages --- */

int fs_serve_table(struct fs *fs, const struct fs_table_message *message)
{
	struct fs_table_reply reply = {0};
	uint8_t *table = NULL;
	int ret = 0;
	bool restores = message->op == FS_RESTORE;
	if (message->size > (restores ? FS_TABLE_MAX : 0) || (!restores && message->op != FS_SAVE))
		return -EPROTO;
	if (restores && !(table = malloc(message->size ? message->size : 1)))
		return -ENOMEM;
	if (restores)
		ret = fs_wire_receive_all(fs->o.socket, table, message->size);
	if (ret == 0 && restores) {
		reply.error = fs_restore_table(fs, table, message->size);
	} else if (ret == 0) {
		int64_t size = fs_save_table(fs, &table);
		reply.error = size < 0 ? (int32_t)size : 0;
		reply.size = size > 0 ? (uint32_t)size : 0;
	}
	if (ret == 0)
		ret = fs_wire_send(fs->o.socket, &reply, sizeof(reply));
	if (ret == 0)
		ret = fs_wire_send(fs->o.socket, table, reply.size);
	free(table);
	return ret;
}
