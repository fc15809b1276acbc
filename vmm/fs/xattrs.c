/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes: only those of users. Others mean something to the host's kernel (capabilities, access lists,
 * labels), or to privileged programs.
 */
#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "vmm/fs/fs.h"

#define PREFIX "user."

struct path {
	char text[32];
};

/* These calls take a path. It is that of the node's own descriptor, which leads nowhere else. */
static int path_of(struct fs *fs, struct node *node, struct path *path)
{
	int fd = node_fd(&fs->nodes, node);
	if (fd < 0)
		return fd;
	if (!S_ISREG(node->type) && !S_ISDIR(node->type))
		return -EOPNOTSUPP;
	snprintf(path->text, sizeof(path->text), "/proc/self/fd/%d", fd);
	return 0;
}

static int path_for(struct fs *fs, struct request *r, struct path *path)
{
	return strncmp(r->name, PREFIX, strlen(PREFIX)) == 0 ? path_of(fs, r->node, path) : -EOPNOTSUPP;
}

/* A guest that gives no room asks for the size. */
static int answer(struct request *r, uint32_t room, ssize_t n)
{
	if (n < 0)
		return -errno;
	if (room > 0)
		return (int)n;
	*(struct fuse_getxattr_out *)r->out = (struct fuse_getxattr_out){.size = (uint32_t)n};
	return sizeof(struct fuse_getxattr_out);
}

int fs_getxattr(struct fs *fs, struct request *r)
{
	uint32_t room = ((const struct fuse_getxattr_in *)r->arg)->size;
	struct path path;
	int ret = path_for(fs, r, &path);
	if (ret < 0)
		return ret;
	room = room < r->room ? room : r->room;
	return answer(r, room, getxattr(path.text, r->name, r->out, room));
}

/* Without SETXATTR_EXT, the request has the first half of its structure alone. */
int fs_setxattr(struct fs *fs, struct request *r)
{
	const struct fuse_setxattr_in *in = r->arg;
	const char *value = r->name + strlen(r->name) + 1, *end = (const char *)r->arg + r->size;
	struct path path;
	int ret = path_for(fs, r, &path);
	if (ret < 0)
		return ret;
	if (in->size != (size_t)(end - value))
		return -EINVAL;
	return setxattr(path.text, r->name, value, in->size, (int)in->flags & (XATTR_CREATE | XATTR_REPLACE)) < 0
	               ? -errno
	               : 0;
}

/* Leaves out what is not the user's. */
static ssize_t filter(char *list, ssize_t size)
{
	char *to = list;
	for (const char *at = list, *end = list + size; at < end;) {
		size_t length = strnlen(at, (size_t)(end - at)) + 1;
		if (strncmp(at, PREFIX, strlen(PREFIX)) == 0) {
			memmove(to, at, length);
			to += length;
		}
		at += length;
	}
	return to - list;
}

int fs_listxattr(struct fs *fs, struct request *r)
{
	uint32_t room = ((const struct fuse_getxattr_in *)r->arg)->size;
	struct path path;
	int ret = path_of(fs, r->node, &path);
	if (ret < 0)
		return ret;
	ssize_t n = listxattr(path.text, r->out, XATTR_LIST_MAX);
	if (n < 0)
		return -errno;
	n = filter(r->out, n);
	if (room > 0 && (size_t)n > room)
		return -ERANGE;
	return answer(r, room, n);
}

int fs_removexattr(struct fs *fs, struct request *r)
{
	struct path path;
	int ret = path_for(fs, r, &path);
	if (ret < 0)
		return ret;
	return removexattr(path.text, r->name) < 0 ? -errno : 0;
}
