/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/fs/fs.h"

/* --- what a file is like --- */

void fs_fill_attr(const struct fs *fs, const struct stat *st, struct fuse_attr *attr)
{
	/* The guest sees one device: a file of another that is mounted in the folder must not be taken for a link. */
	uint64_t other = st->st_dev == fs->dev ? 0 : (st->st_dev * 0x9e3779b97f4a7c15u) << 32;
	*attr = (struct fuse_attr){.ino = st->st_ino ^ other,
	        .size = (uint64_t)st->st_size,
	        .blocks = (uint64_t)st->st_blocks,
	        .atime = (uint64_t)st->st_atim.tv_sec,
	        .mtime = (uint64_t)st->st_mtim.tv_sec,
	        .ctime = (uint64_t)st->st_ctim.tv_sec,
	        .atimensec = (uint32_t)st->st_atim.tv_nsec,
	        .mtimensec = (uint32_t)st->st_mtim.tv_nsec,
	        .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
	        .mode = st->st_mode,
	        .nlink = (uint32_t)st->st_nlink,
	        .uid = fs->o.map ? st->st_uid : 0,
	        .gid = fs->o.map ? st->st_gid : 0,
	        .blksize = (uint32_t)st->st_blksize};
}

static uint64_t valid_s(const struct fs *fs)
{
	return fs->o.always ? FS_VALID_ALWAYS_S : 0;
}

static uint32_t valid_ns(const struct fs *fs)
{
	return fs->o.always ? 0 : FS_VALID_NS;
}

int fs_fill_entry(struct fs *fs, struct request *r, struct node *node, const struct stat *st)
{
	struct fuse_entry_out *out = r->out;
	*out = (struct fuse_entry_out){.nodeid = node_id(&fs->nodes, node),
	        .generation = node->generation,
	        .entry_valid = valid_s(fs),
	        .entry_valid_nsec = valid_ns(fs),
	        .attr_valid = valid_s(fs),
	        .attr_valid_nsec = valid_ns(fs)};
	fs_fill_attr(fs, st, &out->attr);
	return sizeof(*out);
}

static int fill_attr_out(struct fs *fs, struct request *r, const struct stat *st)
{
	struct fuse_attr_out *out = r->out;
	*out = (struct fuse_attr_out){.attr_valid = valid_s(fs), .attr_valid_nsec = valid_ns(fs)};
	fs_fill_attr(fs, st, &out->attr);
	return sizeof(*out);
}

mode_t fs_mode(mode_t mode, bool is_folder)
{
	return mode & (is_folder ? 03777 : 01777);
}

int64_t fs_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A file's time, which a guest may set to any: beyond the years 1677 and 2262, the nearest. */
static int64_t file_time_ns(const struct timespec *time)
{
	int64_t ns;
	if (__builtin_mul_overflow((int64_t)time->tv_sec, INT64_C(1000000000), &ns) ||
	        __builtin_add_overflow(ns, time->tv_nsec + FS_TICK_NS, &ns))
		return time->tv_sec < 0 ? INT64_MIN : INT64_MAX - FS_TICK_NS;
	return ns - FS_TICK_NS;
}

/*
 * The guest drops its pages when a file's time or size has changed. Two changes within a tick have the same time, so
 * pages that were read so soon after a change may be of before the second. Of its own changes it knows.
 */
bool fs_keeps(const struct fs *fs, const struct node *node, const struct stat *st)
{
	if (fs->o.always && node->cached_ns != NODE_CACHED_BEFORE)
		return true;
	return node->cached_ns == 0 || node->cached_ns > file_time_ns(&st->st_mtim) + FS_TICK_NS;
}

struct fs_link fs_link(int fd)
{
	struct fs_link link;
	snprintf(link.name, sizeof(link.name), "%d", fd);
	return link;
}

int fs_reopen(struct fs *fs, struct node *node, int flags)
{
	int fd = node_fd(&fs->nodes, node);
	if (fd < 0)
		return fd;
	fd = openat(fs->proc, fs_link(fd).name, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The thread's, whatever libc has: it is the only one. */
void fs_become(const struct fs *fs, const struct request *r)
{
	if (!fs->o.map)
		return;
	syscall(SYS_setfsgid, r->head.gid);
	syscall(SYS_setfsuid, r->head.uid);
}

void fs_return(const struct fs *fs)
{
	if (!fs->o.map)
		return;
	syscall(SYS_setfsuid, 0);
	syscall(SYS_setfsgid, 0);
}

/* --- operations --- */

/* The folder that is made for a single file, which cannot be listed. */
static struct stat file_folder(void)
{
	return (struct stat){.st_mode = S_IFDIR | 0555, .st_nlink = 2, .st_ino = 1, .st_blksize = 4096};
}

/* A name that does not exist is an entry without a node, which the guest may remember as long. */
static int no_entry(const struct fs *fs, struct request *r)
{
	*(struct fuse_entry_out *)r->out =
	        (struct fuse_entry_out){.entry_valid = valid_s(fs), .entry_valid_nsec = valid_ns(fs)};
	return sizeof(struct fuse_entry_out);
}

static int lookup_file(struct fs *fs, struct request *r)
{
	struct node *node = node_find(&fs->nodes, NODE_ROOT + 1);
	struct stat st;
	if (strcmp(r->name, FS_FILE_NAME) != 0)
		return -ENOENT;
	if (!node || fstat(node->fd, &st) < 0)
		return -EIO;
	node->lookups++;
	return fs_fill_entry(fs, r, node, &st);
}

int fs_lookup(struct fs *fs, struct request *r)
{
	struct node *node;
	struct stat st;
	if (fs->is_file)
		return r->head.nodeid == NODE_ROOT ? lookup_file(fs, r) : -ENOTDIR;
	int ret = node_look_up(&fs->nodes, r->node, r->name, &st, &node);
	if (ret == -ENOENT)
		return no_entry(fs, r);
	return ret < 0 ? ret : fs_fill_entry(fs, r, node, &st);
}

/* A single file and its folder stay. */
static void forget(struct fs *fs, uint64_t id, uint64_t lookups)
{
	struct node *node = node_find(&fs->nodes, id);
	if (node && !fs->is_file)
		node_forget(&fs->nodes, node, lookups);
}

int fs_forget(struct fs *fs, struct request *r)
{
	const struct fuse_forget_in *in = r->arg;
	forget(fs, r->head.nodeid, in->nlookup);
	return 0;
}

int fs_batch_forget(struct fs *fs, struct request *r)
{
	const struct fuse_batch_forget_in *in = r->arg;
	const struct fuse_forget_one *one = (const void *)(in + 1);
	if (in->count > (r->size - sizeof(*in)) / sizeof(*one))
		return -EINVAL;
	for (uint32_t i = 0; i < in->count; i++)
		forget(fs, one[i].nodeid, one[i].nlookup);
	return 0;
}

int fs_getattr(struct fs *fs, struct request *r)
{
	const struct fuse_getattr_in *in = r->arg;
	struct stat st = file_folder();
	const struct handle *handle =
	        in->getattr_flags & FUSE_GETATTR_FH ? fs_handle(fs, in->fh, S_ISDIR(r->node->type)) : NULL;
	int ret = 0;
	if (handle)
		ret = fstat(handle->fd, &st) < 0 ? -errno : 0;
	else if (!fs->is_file || r->head.nodeid != NODE_ROOT)
		ret = node_stat(&fs->nodes, r->node, &st);
	return ret < 0 ? ret : fill_attr_out(fs, r, &st);
}

/*
 * What changes a node through its descriptor: symbolic links only where the kernel can. A folder may hand its group
 * down, which only members of that can have it do: this process has no CAP_FSETID.
 */
static int set_mode(struct fs *fs, const struct node *node, mode_t mode)
{
	struct stat st;
	if (S_ISLNK(node->type))
		return -EOPNOTSUPP;
	mode = fs_mode(mode, S_ISDIR(node->type));
	if (fs->o.map && mode & S_ISGID && fstat(node->fd, &st) == 0)
		syscall(SYS_setfsgid, st.st_gid);
	int ret = fchmodat(fs->proc, fs_link(node->fd).name, mode, 0) < 0 ? -errno : 0;
	fs_return(fs);
	return ret;
}

/* With one owner for all, there is nothing to change. */
static int set_owner(struct fs *fs, const struct node *node, const struct fuse_setattr_in *in)
{
	uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;
	if (!fs->o.map)
		return 0;
	return fchownat(node->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int set_size(struct fs *fs, struct node *node, const struct fuse_setattr_in *in)
{
	const struct handle *handle = in->valid & FATTR_FH ? fs_handle(fs, in->fh, false) : NULL;
	if (in->size > INT64_MAX)
		return -EFBIG;
	if (handle)
		return ftruncate(handle->fd, (off_t)in->size) < 0 ? -errno : 0;
	if (!S_ISREG(node->type))
		return -EINVAL;
	int fd = fs_reopen(fs, node, O_WRONLY);
	if (fd < 0)
		return fd;
	int ret = ftruncate(fd, (off_t)in->size) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static struct timespec pick_time(uint32_t valid, uint32_t set, uint32_t now, uint64_t seconds, uint32_t nanoseconds)
{
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (!(valid & set))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	/* Nothing else than a time, whatever the number. */
	return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = nanoseconds % 1000000000};
}

static int set_times(struct fs *fs, const struct node *node, const struct fuse_setattr_in *in)
{
	struct timespec times[2] = {
	        pick_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
	        pick_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};
	int ret = S_ISLNK(node->type) ? utimensat(node->fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)
	                              : utimensat(fs->proc, fs_link(node->fd).name, times, 0);
	return ret < 0 ? -errno : 0;
}

int fs_setattr(struct fs *fs, struct request *r)
{
	const struct fuse_setattr_in *in = r->arg;
	struct stat st;
	int ret = node_fd(&fs->nodes, r->node);
	if (ret < 0)
		return ret;
	ret = 0;
	if (in->valid & FATTR_MODE)
		ret = set_mode(fs, r->node, in->mode);
	if (ret == 0 && in->valid & (FATTR_UID | FATTR_GID))
		ret = set_owner(fs, r->node, in);
	if (ret == 0 && in->valid & FATTR_SIZE)
		ret = set_size(fs, r->node, in);
	if (ret == 0 && in->valid & (FATTR_ATIME | FATTR_MTIME))
		ret = set_times(fs, r->node, in);
	if (ret == 0)
		ret = fstat(r->node->fd, &st) < 0 ? -errno : 0;
	return ret < 0 ? ret : fill_attr_out(fs, r, &st);
}

int fs_statfs(struct fs *fs, struct request *r)
{
	struct fuse_statfs_out *out = r->out;
	struct statfs st;
	if (fstatfs(fs->o.folder, &st) < 0)
		return -errno;
	*out = (struct fuse_statfs_out){.st = {.blocks = st.f_blocks,
	                                        .bfree = st.f_bfree,
	                                        .bavail = st.f_bavail,
	                                        .files = st.f_files,
	                                        .ffree = st.f_ffree,
	                                        .bsize = (uint32_t)st.f_bsize,
	                                        .namelen = (uint32_t)st.f_namelen,
	                                        .frsize = (uint32_t)st.f_frsize}};
	return sizeof(*out);
}

/*
 * Not asked for, each for a reason: WRITEBACK_CACHE, because then the guest would not see what the host writes; locks,
 * which are the guest's own; POSIX_ACL, which name users of the host.
 */
#define FEATURES                                                                                                       \
	(FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |        \
	        FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | \
	        FUSE_HANDLE_KILLPRIV_V2)

/* Nor, if only the guest changes files, that a new time of one has it drop the pages that it has written itself. */
static uint32_t features(const struct fs *fs)
{
	return fs->o.always ? FEATURES & ~FUSE_AUTO_INVAL_DATA : FEATURES;
}

/* A folder that changes can be read on only with the descriptor that has read it so far. */
static bool counts_entries(const struct fs *fs)
{
	struct statfs st;
	return fstatfs(fs->o.folder, &st) < 0 || st.f_type == TMPFS_MAGIC || st.f_type == OVERLAYFS_SUPER_MAGIC;
}

/*
 * If only the guest changes the folder, an OPENDIR has nothing to tell: the guest is to do without. The same of an
 * OPEN, if the guest cannot write: otherwise the host must know when a program that the guest has written is closed,
 * and a file may be written to that was created without the right to.
 */
static void choose_opens(struct fs *fs, uint32_t guest)
{
	fs->skips_opendir = fs->o.always && guest & FUSE_NO_OPENDIR_SUPPORT && !counts_entries(fs);
	fs->skips_open = fs->o.always && fs->o.read_only && guest & FUSE_NO_OPEN_SUPPORT;
}

int fs_init_session(struct fs *fs, struct request *r)
{
	const struct fuse_init_in *in = r->arg;
	struct fuse_init_out *out = r->out;
	*out = (struct fuse_init_out){.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
	if (in->major > FUSE_KERNEL_VERSION)
		return sizeof(*out); /* it asks again */
	if (in->major < FUSE_KERNEL_VERSION || in->minor < 31)
		return -EPROTO;
	int ret = fs_reset(fs);
	if (ret < 0)
		return ret;
	choose_opens(fs, in->flags);
	out->minor = in->minor < out->minor ? in->minor : out->minor;
	out->flags = in->flags & features(fs);
	out->max_readahead = in->max_readahead;
	out->max_background = 64;
	out->congestion_threshold = 48;
	out->max_write = FS_DATA_MAX;
	out->max_pages = FS_DATA_MAX / 4096;
	out->time_gran = 1;
	return sizeof(*out);
}

int fs_destroy_session(struct fs *fs, struct request *r)
{
	(void)r;
	return fs_reset(fs);
}
