/* SPDX-License-Identifier: Apache-2.0 */
/* What changes the names in a folder. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/fs/fs.h"

#define RENAME_ALLOWED (RENAME_NOREPLACE | RENAME_EXCHANGE)

/* Where a file is to be made: the folder's descriptor, or -errno; -ENFILE if the file could not have a node. */
static int parent_of_new(struct fs *fs, struct request *r)
{
	int fd = node_fd(&fs->nodes, r->node);
	return fd >= 0 && nodes_full(&fs->nodes) ? -ENFILE : fd;
}

/* The answer to what created `name`, if `ret` is 0. */
static int created(struct fs *fs, struct request *r, int ret)
{
	struct node *node;
	struct stat st;
	if (ret < 0)
		return ret;
	ret = node_look_up(&fs->nodes, r->node, r->name, &st, &node);
	return ret < 0 ? ret : fs_fill_entry(fs, r, node, &st);
}

/* The guest has device nodes of its own, and those of the host are not for it. */
int fs_mknod(struct fs *fs, struct request *r)
{
	const struct fuse_mknod_in *in = r->arg;
	int fd = parent_of_new(fs, r);
	if (!S_ISREG(in->mode) && !S_ISFIFO(in->mode) && !S_ISSOCK(in->mode))
		return -EPERM;
	if (fd < 0)
		return fd;
	fs_become(fs, r);
	int ret = mknodat(fd, r->name, (in->mode & S_IFMT) | fs_mode(in->mode, false), 0) < 0 ? -errno : 0;
	fs_return(fs);
	return created(fs, r, ret);
}

int fs_mkdir(struct fs *fs, struct request *r)
{
	const struct fuse_mkdir_in *in = r->arg;
	int fd = parent_of_new(fs, r);
	if (fd < 0)
		return fd;
	fs_become(fs, r);
	int ret = mkdirat(fd, r->name, fs_mode(in->mode, true)) < 0 ? -errno : 0;
	fs_return(fs);
	return created(fs, r, ret);
}

/* Where it leads is for those who follow it, which wisp-fs never does. */
int fs_symlink(struct fs *fs, struct request *r)
{
	int fd = parent_of_new(fs, r);
	if (fd < 0)
		return fd;
	fs_become(fs, r);
	int ret = symlinkat(r->name2, fd, r->name) < 0 ? -errno : 0;
	fs_return(fs);
	return created(fs, r, ret);
}

int fs_link_file(struct fs *fs, struct request *r)
{
	const struct fuse_link_in *in = r->arg;
	struct node *old = node_find(&fs->nodes, in->oldnodeid);
	if (!old)
		return -ESTALE;
	if (S_ISDIR(old->type))
		return -EPERM;
	int to = node_fd(&fs->nodes, r->node), fd = to < 0 ? to : node_fd(&fs->nodes, old);
	if (fd < 0)
		return fd;
	int ret = linkat(fs->proc, fs_link(fd).name, to, r->name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	ret = created(fs, r, ret);
	node_let_go(&fs->nodes, old);
	return ret;
}

int fs_readlink(struct fs *fs, struct request *r)
{
	int fd = node_fd(&fs->nodes, r->node);
	if (fd < 0)
		return fd;
	if (!S_ISLNK(r->node->type))
		return -EINVAL;
	ssize_t n = readlinkat(fd, "", r->out, r->room < PATH_MAX ? r->room : PATH_MAX);
	return n < 0 ? -errno : (int)n;
}

static int remove_name(struct fs *fs, struct request *r, int flags)
{
	struct node *node = node_hold(&fs->nodes, r->node, r->name);
	int fd = node_fd(&fs->nodes, r->node);
	if (fd < 0)
		return fd;
	if (unlinkat(fd, r->name, flags) < 0)
		return -errno;
	if (node)
		node_unname(&fs->nodes, node);
	return 0;
}

int fs_unlink(struct fs *fs, struct request *r)
{
	return remove_name(fs, r, 0);
}

int fs_rmdir(struct fs *fs, struct request *r)
{
	return remove_name(fs, r, AT_REMOVEDIR);
}

static int move_to(struct fs *fs, struct request *r, struct node *to, uint32_t flags)
{
	struct node *moved = node_hold(&fs->nodes, r->node, r->name);
	struct node *victim = node_hold(&fs->nodes, to, r->name2);
	int from_fd = node_fd(&fs->nodes, r->node), to_fd = from_fd < 0 ? from_fd : node_fd(&fs->nodes, to);
	if (to_fd < 0)
		return to_fd;
	if (syscall(SYS_renameat2, from_fd, r->name, to_fd, r->name2, flags) < 0)
		return -errno;
	/* Two names of one file stay, as rename(2) has it: the node keeps the first. */
	if (moved == victim)
		return 0;
	if (victim && flags & RENAME_EXCHANGE)
		node_rename(&fs->nodes, victim, r->node, r->name);
	else if (victim)
		node_unname(&fs->nodes, victim);
	if (moved) {
		node_rename(&fs->nodes, moved, to, r->name2);
		node_let_go(&fs->nodes, moved);
	}
	return 0;
}

static int move(struct fs *fs, struct request *r, uint64_t newdir, uint32_t flags)
{
	struct node *to = node_find(&fs->nodes, newdir);
	if (!to || !S_ISDIR(to->type))
		return -ESTALE;
	to->lookups++; /* it outlives the names that it loses here */
	int ret = move_to(fs, r, to, flags);
	node_forget(&fs->nodes, to, 1);
	return ret;
}

int fs_rename(struct fs *fs, struct request *r)
{
	return move(fs, r, ((const struct fuse_rename_in *)r->arg)->newdir, 0);
}

int fs_rename2(struct fs *fs, struct request *r)
{
	const struct fuse_rename2_in *in = r->arg;
	return in->flags & ~RENAME_ALLOWED ? -EINVAL : move(fs, r, in->newdir, in->flags);
}
