/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in, replies out: what a request must look like before an operation sees it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/fs/fs.h"

#define OTHER_FDS 64u /* than files of the guest */
#define HEAD sizeof(struct fuse_in_header)
#define REPLY_HEAD sizeof(struct fuse_out_header)

enum needs {
	NODE = 1 << 0,   /* a node that exists */
	FOLDER = 1 << 1, /* which is a folder */
	WRITES = 1 << 2, /* a folder that may be changed */
	NAME = 1 << 3,   /* a component of a path behind the structure */
	NAMES = 1 << 4,  /* two */
	TARGET = 1 << 5, /* a component, and what a symbolic link says */
	TEXT = 1 << 6,   /* an attribute's name */
};

/* An attribute's, without SETXATTR_EXT. */
#define SETXATTR_SIZE FUSE_COMPAT_SETXATTR_IN_SIZE

static const struct operation {
	fs_op *run;
	uint32_t size; /* of its structure */
	uint32_t needs;
} operations[] = {
        [FUSE_LOOKUP] = {fs_lookup, 0, FOLDER | NAME},
        [FUSE_FORGET] = {fs_forget, sizeof(struct fuse_forget_in), 0},
        [FUSE_GETATTR] = {fs_getattr, sizeof(struct fuse_getattr_in), NODE},
        [FUSE_SETATTR] = {fs_setattr, sizeof(struct fuse_setattr_in), NODE | WRITES},
        [FUSE_READLINK] = {fs_readlink, 0, NODE},
        [FUSE_SYMLINK] = {fs_symlink, 0, FOLDER | TARGET | WRITES},
        [FUSE_MKNOD] = {fs_mknod, sizeof(struct fuse_mknod_in), FOLDER | NAME | WRITES},
        [FUSE_MKDIR] = {fs_mkdir, sizeof(struct fuse_mkdir_in), FOLDER | NAME | WRITES},
        [FUSE_UNLINK] = {fs_unlink, 0, FOLDER | NAME | WRITES},
        [FUSE_RMDIR] = {fs_rmdir, 0, FOLDER | NAME | WRITES},
        [FUSE_RENAME] = {fs_rename, sizeof(struct fuse_rename_in), FOLDER | NAMES | WRITES},
        [FUSE_RENAME2] = {fs_rename2, sizeof(struct fuse_rename2_in), FOLDER | NAMES | WRITES},
        [FUSE_LINK] = {fs_link_file, sizeof(struct fuse_link_in), FOLDER | NAME | WRITES},
        [FUSE_OPEN] = {fs_open, sizeof(struct fuse_open_in), NODE},
        [FUSE_CREATE] = {fs_create_file, sizeof(struct fuse_create_in), FOLDER | NAME | WRITES},
        [FUSE_READ] = {fs_read, sizeof(struct fuse_read_in), NODE},
        [FUSE_WRITE] = {fs_write, sizeof(struct fuse_write_in), NODE | WRITES},
        [FUSE_RELEASE] = {fs_release, sizeof(struct fuse_release_in), 0},
        [FUSE_FSYNC] = {fs_fsync, sizeof(struct fuse_fsync_in), 0},
        [FUSE_FALLOCATE] = {fs_fallocate, sizeof(struct fuse_fallocate_in), WRITES},
        [FUSE_LSEEK] = {fs_lseek, sizeof(struct fuse_lseek_in), 0},
        [FUSE_COPY_FILE_RANGE] = {fs_copy, sizeof(struct fuse_copy_file_range_in), WRITES},
        [FUSE_STATFS] = {fs_statfs, 0, 0},
        [FUSE_SYNCFS] = {fs_syncfs, sizeof(struct fuse_syncfs_in), NODE},
        [FUSE_OPENDIR] = {fs_opendir, sizeof(struct fuse_open_in), FOLDER},
        [FUSE_READDIR] = {fs_readdir, sizeof(struct fuse_read_in), FOLDER},
        [FUSE_READDIRPLUS] = {fs_readdirplus, sizeof(struct fuse_read_in), FOLDER},
        [FUSE_RELEASEDIR] = {fs_releasedir, sizeof(struct fuse_release_in), 0},
        [FUSE_FSYNCDIR] = {fs_fsyncdir, sizeof(struct fuse_fsync_in), 0},
        [FUSE_GETXATTR] = {fs_getxattr, sizeof(struct fuse_getxattr_in), NODE | TEXT},
        [FUSE_SETXATTR] = {fs_setxattr, SETXATTR_SIZE, NODE | TEXT | WRITES},
        [FUSE_LISTXATTR] = {fs_listxattr, sizeof(struct fuse_getxattr_in), NODE},
        [FUSE_REMOVEXATTR] = {fs_removexattr, 0, NODE | TEXT | WRITES},
        [FUSE_BATCH_FORGET] = {fs_batch_forget, sizeof(struct fuse_batch_forget_in), 0},
        [FUSE_INIT] = {fs_init_session, offsetof(struct fuse_init_in, flags2), 0},
        [FUSE_DESTROY] = {fs_destroy_session, 0, 0},
};
#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

/* --- a request --- */

/* A string with an end, and where that is; NULL: it has none. */
static const char *take_text(const char **at, const char *end)
{
	const char *text = *at, *nul = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;
	if (!nul)
		return NULL;
	*at = nul + 1;
	return text;
}

int fs_check_component(const char *name)
{
	if (!name || name[0] == '\0' || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	return strlen(name) > NAME_MAX ? -ENAMETOOLONG : 0;
}

static int take_names(struct request *r, const struct operation *op)
{
	const char *at = (const char *)r->arg + op->size, *end = (const char *)r->arg + r->size;
	int ret = 0;
	if (!(op->needs & (NAME | NAMES | TARGET | TEXT)))
		return 0;
	r->name = take_text(&at, end);
	if (op->needs & TEXT)
		return r->name && r->name[0] ? 0 : -EINVAL;
	ret = fs_check_component(r->name);
	if (ret == 0 && op->needs & (NAMES | TARGET))
		r->name2 = take_text(&at, end);
	if (ret == 0 && op->needs & NAMES)
		ret = fs_check_component(r->name2);
	if (ret == 0 && op->needs & TARGET && (!r->name2 || !r->name2[0]))
		ret = -EINVAL;
	return ret;
}

/* The folder that is made for a single file has that file, and no other use. */
static bool is_for_root_file(uint32_t opcode)
{
	return opcode == FUSE_LOOKUP || opcode == FUSE_GETATTR || opcode == FUSE_SYNCFS;
}

static int run(struct fs *fs, struct request *r)
{
	const struct operation *op = r->head.opcode < OPERATIONS ? &operations[r->head.opcode] : NULL;
	if (!op || !op->run)
		return -ENOSYS;
	if (r->size < op->size)
		return -EINVAL;
	if (op->needs & WRITES && fs->o.read_only)
		return -EROFS;
	if (op->needs & (NODE | FOLDER)) {
		r->node = node_find(&fs->nodes, r->head.nodeid);
		if (!r->node)
			return -ESTALE;
		if (op->needs & FOLDER && !S_ISDIR(r->node->type))
			return -ENOTDIR;
		if (fs->is_file && r->head.nodeid == NODE_ROOT && !is_for_root_file(r->head.opcode))
			return -EPERM;
	}
	int ret = take_names(r, op);
	if (ret < 0 || !r->node)
		return ret < 0 ? ret : op->run(fs, r);
	r->node->lookups++; /* it outlives the operation */
	ret = op->run(fs, r);
	node_let_go(&fs->nodes, r->node);
	node_forget(&fs->nodes, r->node, 1);
	return ret;
}

/* --- the socket and the pipes --- */

static int write_pipe(struct fs *fs, const uint8_t *data, uint32_t size)
{
	while (size > 0) {
		ssize_t n = write(fs->o.replies, data, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EPIPE;
		data += n;
		size -= (uint32_t)n;
	}
	return 0;
}

int fs_take(struct fs *fs, struct request *r, void *to, uint32_t bytes)
{
	for (uint8_t *at = to; bytes > 0 && r->piped > 0;) {
		ssize_t n = read(fs->o.requests, at, bytes < r->piped ? bytes : r->piped);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EPIPE;
		at += n;
		bytes -= (uint32_t)n;
		r->piped -= (uint32_t)n;
	}
	return 0;
}

/* With a file, if there are not too many on their way to other processes. */
static ssize_t send_reply(struct fs *fs, void *data, size_t size, int file)
{
	struct iovec iov = {data, size};
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = {{0}};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control};
	message.msg_controllen = sizeof(control);
	*CMSG_FIRSTHDR(&message) =
	        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &file, sizeof(file));
	ssize_t n = file >= 0 ? sendmsg(fs->o.socket, &message, MSG_NOSIGNAL) : -1;
	return n < 0 && (file < 0 || errno == ETOOMANYREFS) ? send(fs->o.socket, data, size, MSG_NOSIGNAL) : n;
}

static int reply(struct fs *fs, struct request *r, uint32_t body, int error)
{
	struct fuse_out_header *head = (struct fuse_out_header *)(void *)(fs->out);
	uint32_t here = (uint32_t)REPLY_HEAD + body, later = r->tail;
	if (error == 0 && r->more == 0 && here + r->tail <= FS_INLINE_MAX) {
		here += r->tail;
		later = 0;
	} else if (here > FS_INLINE_MAX) {
		here = REPLY_HEAD;
		later = body;
	}
	*head = (struct fuse_out_header){.len = here + r->more + later, .error = error, .unique = r->head.unique};
	if (send_reply(fs, head, here, error == 0 ? r->file : -1) != (ssize_t)here)
		return -EPIPE;
	return write_pipe(fs, r->out, later);
}

static int handle(struct fs *fs, struct request *r, uint32_t room)
{
	int ret = 0;
	r->out = fs->out + REPLY_HEAD;
	if (room > REPLY_HEAD)
		r->room = (room < FS_REPLY_MAX ? room : FS_REPLY_MAX) - (uint32_t)REPLY_HEAD;
	/* Only a write takes its bytes from the pipe itself. */
	if (r->head.opcode != FUSE_WRITE) {
		uint32_t piped = r->piped;
		ret = fs_take(fs, r, fs->in + sizeof(struct fs_frame) + HEAD + r->size, piped);
		r->size += piped;
	}
	if (ret < 0)
		return ret;
	ret = run(fs, r);
	if (ret > 0 && (uint32_t)ret > r->room)
		ret = -ERANGE;
	/* What a failed write has left. */
	while (r->piped > 0) {
		int drained = fs_take(fs, r, fs->in, FS_INLINE_MAX);
		if (drained < 0)
			return drained;
	}
	if (room == 0)
		return 0;
	return reply(fs, r, ret > 0 ? (uint32_t)ret : 0, ret < 0 ? ret : 0);
}

/* The monitor has checked this too: another length than it says is not its message. */
static int check(const struct fs_frame *frame, const struct fuse_in_header *head, size_t bytes)
{
	if (bytes < sizeof(*frame) + HEAD || head->len > FS_REQUEST_MAX || frame->piped > head->len ||
	        head->len - frame->piped != bytes - sizeof(*frame) || (frame->room > 0 && frame->room < REPLY_HEAD))
		return -EPROTO;
	return 0;
}

int fs_serve(struct fs *fs)
{
	for (;;) {
		struct fs_frame frame;
		struct request r = {.file = -1};
		ssize_t n = recv(fs->o.socket, fs->in, sizeof(frame) + FS_INLINE_MAX, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		if (n == sizeof(struct fs_table_message)) {
			struct fs_table_message message;
			memcpy(&message, fs->in, sizeof(message));
			if (fs_serve_table(fs, &message) < 0)
				return 0;
			continue;
		}
		memcpy(&frame, fs->in, sizeof(frame));
		memcpy(&r.head, fs->in + sizeof(frame), HEAD);
		if (check(&frame, &r.head, (size_t)n) < 0)
			return -EPROTO;
		r.arg = fs->in + sizeof(frame) + HEAD;
		r.size = r.head.len - frame.piped - (uint32_t)HEAD;
		r.piped = frame.piped;
		if (handle(fs, &r, frame.room) < 0)
			return 0;
	}
}

/* --- life --- */

/* The folder's own number is of no device of the host. */
static int share_file(struct fs *fs, const struct stat *st)
{
	const struct stat folder = {.st_ino = 1, .st_mode = S_IFDIR};
	struct node *node;
	int ret = nodes_init(&fs->nodes, fs->o.folder, &folder, 2, 2 * NODE_DEPTH_MAX);
	if (ret == 0)
		ret = node_adopt(&fs->nodes, fs->nodes.all, FS_FILE_NAME, st, &node);
	if (ret < 0)
		return ret;
	node->fd = fcntl(fs->o.folder, F_DUPFD_CLOEXEC, 0);
	return node->fd < 0 ? -errno : 0;
}

static void forget_all(struct fs *fs)
{
	for (uint32_t i = 0; i < fs->handles_touched; i++) {
		if (fs->handles[i].used)
			fs_close_handle(fs, &fs->handles[i]);
	}
	fs->handles_touched = fs->free_handle = 0;
	fs_close_unopened(fs);
	fs->skips_open = fs->skips_opendir = false;
	nodes_destroy(&fs->nodes);
}

int fs_reset(struct fs *fs)
{
	struct stat st;
	forget_all(fs);
	if (fstat(fs->o.folder, &st) < 0)
		return -errno;
	fs->dev = st.st_dev;
	fs->is_file = S_ISREG(st.st_mode);
	if (fs->is_file)
		return share_file(fs, &st);
	return nodes_init(&fs->nodes, fs->o.folder, &st, fs->o.nodes, fs->o.fds / 4);
}

static uint32_t count_fds(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < OTHER_FDS)
		return 0;
	return limit.rlim_cur > 4 * FS_HANDLES_MAX ? 4 * FS_HANDLES_MAX : (uint32_t)limit.rlim_cur - OTHER_FDS;
}

int fs_init(struct fs *fs, const struct fs_options *options)
{
	*fs = (struct fs){.o = *options, .proc = -1};
	if (fs->o.fds == 0)
		fs->o.fds = count_fds();
	if (fs->o.nodes == 0)
		fs->o.nodes = FS_NODES_MAX;
	if (fs->o.fds / 4 < 2 * NODE_DEPTH_MAX)
		return -EMFILE;
	fs->handles_max = fs->o.fds / 2 < FS_HANDLES_MAX ? fs->o.fds / 2 : FS_HANDLES_MAX;
	fs->handles = calloc(fs->handles_max, sizeof(*fs->handles));
	fs->in = malloc(sizeof(struct fs_frame) + FS_REQUEST_MAX);
	fs->out = malloc(REPLY_HEAD + FS_REPLY_MAX);
	if (!fs->handles || !fs->in || !fs->out)
		return -ENOMEM;
	fs->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fs->proc < 0 ? -errno : fs_reset(fs);
}

void fs_destroy(struct fs *fs)
{
	forget_all(fs);
	if (fs->proc >= 0)
		close(fs->proc);
	free(fs->handles);
	free(fs->in);
	free(fs->out);
}
