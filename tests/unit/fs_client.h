/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp-fs in a process of its own, which serves a new folder below /tmp, and its guest: the test, which speaks FUSE as
 * the monitor passes it on. `at(...)` is the folder's path on the host.
 */
#ifndef WISP_TEST_FS_CLIENT_H
#define WISP_TEST_FS_CLIENT_H

#include "tests/unit/fail_call.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmm/fs/fs.h"
#include "vmm/fs/jail.h"

static inline long long now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

struct client {
	char dir[64];
	pid_t pid;
	int socket, requests, replies;
	uint64_t unique;
	uint8_t in[FS_REPLY_MAX];
	uint32_t size; /* of the last reply's body */
	bool piped;    /* a part of it came by the pipe */
	int file;      /* that came with it, or -1 */
};

static struct client client;

struct start {
	const char *file; /* share this file of the folder */
	bool read_only, map, always, same, jail;
	uint32_t fds, nodes, table;
	unsigned fails; /* this system call of wisp-fs, with EIO */
};

__attribute__((format(printf, 1, 2))) static const char *at(const char *format, ...)
{
	static char path[4][PATH_MAX];
	static unsigned which;
	char *to = path[which++ % 4];
	int n = snprintf(to, PATH_MAX, "%s/", client.dir);
	va_list args;
	va_start(args, format);
	vsnprintf(to + n, PATH_MAX - (size_t)n, format, args);
	va_end(args);
	return to;
}

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return good;
}

/* A file of that number, which had to be another one's before. */
__attribute__((unused)) static bool recreate(const char *path, ino_t ino)
{
	struct stat st;
	bool same = false;
	for (int i = 0; i < 1000 && !same; i++)
		same = (i == 0 || unlink(path) == 0) && put(path, "the new one") && stat(path, &st) == 0 &&
		       st.st_ino == ino;
	return same;
}

/* What the file has, at most 200 bytes. */
__attribute__((unused)) static const char *get(const char *path)
{
	static char text[201];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, 200);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n < 0 ? "(no file)" : text;
}

static int serve(const struct fs_options *options, bool jail)
{
	static struct fs fs;
	const char *why = "";
	int ret = fs_init(&fs, options);
	if (ret == 0 && jail)
		ret = fs_jail_enter(&fs, &why);
	if (ret == 0)
		ret = fs_serve(&fs);
	fs_destroy(&fs);
	return ret;
}

static int call(uint32_t opcode, uint64_t nodeid, const void *arg, size_t size);

/* A session that has begun, over a folder that may be there already. */
static bool client_start_over(const struct start *start)
{
	int sockets[2], requests[2], replies[2];
	client.unique = 0;
	client.file = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0 || pipe2(requests, O_CLOEXEC) < 0 ||
	        pipe2(replies, O_CLOEXEC) < 0)
		return false;
	client.socket = sockets[0];
	client.requests = requests[1];
	client.replies = replies[0];
	client.pid = fork();
	if (client.pid == 0) {
		close(sockets[0]);
		close(requests[1]);
		close(replies[0]);
		umask(0);
		signal(SIGPIPE, SIG_IGN);
		struct fs_options options = {.socket = sockets[1],
		        .requests = requests[0],
		        .replies = replies[1],
		        .folder = open(start->file ? at("%s", start->file) : client.dir, O_PATH),
		        .read_only = start->read_only,
		        .map = start->map,
		        .always = start->always,
		        .same = start->same,
		        .fds = start->fds,
		        .nodes = start->nodes,
		        .table = start->table};
		if (start->fails && !make_call_fail(start->fails, EIO))
			_exit(1);
		_exit(serve(&options, start->jail) < 0);
	}
	close(sockets[1]);
	close(requests[0]);
	close(replies[1]);
	struct fuse_init_in init = {.major = 7, .minor = 36, .max_readahead = 131072, .flags = ~0u};
	return call(FUSE_INIT, 0, &init, sizeof(init)) == 0;
}

static bool client_start(const struct start *start)
{
	strcpy(client.dir, "/tmp/wisp-test-fs-XXXXXX");
	if (!mkdtemp(client.dir))
		return false;
	if (start->file && !put(at("%s", start->file), "shared"))
		return false;
	return client_start_over(start);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

/* Whether wisp-fs had ended well. */
static bool client_stop(void)
{
	int status = -1;
	if (client.file >= 0)
		close(client.file);
	close(client.socket);
	close(client.requests);
	close(client.replies);
	waitpid(client.pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void client_end(void)
{
	CHECK(client_stop());
	nftw(client.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static bool write_all(int fd, const uint8_t *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);
		if (n <= 0)
			return false;
		data += n;
		size -= (size_t)n;
	}
	return true;
}

/* As the monitor sends it: with `room` bytes for the reply. */
static bool post(uint32_t opcode, uint64_t nodeid, const void *arg, size_t size, uint32_t room)
{
	struct fuse_in_header header = {.len = (uint32_t)(sizeof(header) + size),
	        .opcode = opcode,
	        .unique = ++client.unique,
	        .nodeid = nodeid};
	struct fs_frame frame = {.room = room, .piped = header.len > FS_INLINE_MAX ? header.len - FS_SPLIT : 0};
	size_t here = size - frame.piped;
	struct iovec iov[] = {{&frame, sizeof(frame)}, {&header, sizeof(header)}, {(void *)(uintptr_t)arg, here}};
	return writev(client.socket, iov, 3) == (ssize_t)(sizeof(frame) + sizeof(header) + here) &&
	       write_all(client.requests, (const uint8_t *)arg + here, frame.piped);
}

/* A message, whose file replaces the last one's. */
static ssize_t receive(void *to, size_t size)
{
	struct iovec iov = {to, size};
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {
	        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(client.socket, &message, MSG_CMSG_CLOEXEC);
	if (client.file >= 0)
		close(client.file);
	client.file = -1;
	if (n > 0 && CMSG_FIRSTHDR(&message))
		memcpy(&client.file, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return n;
}

/* 0 or the reply's error; -1000 if it is not a reply. The body is client.in. */
static int take(void)
{
	static uint8_t message[FS_INLINE_MAX];
	struct fuse_out_header head;
	ssize_t n = receive(message, sizeof(message));
	if (n < (ssize_t)sizeof(head))
		return -1000;
	memcpy(&head, message, sizeof(head));
	if (head.unique != client.unique || head.len < n || head.len > FS_REPLY_MAX)
		return -1000;
	client.size = head.len - (uint32_t)sizeof(head);
	memcpy(client.in, message + sizeof(head), (size_t)n - sizeof(head));
	client.piped = head.len > n;
	for (uint32_t done = (uint32_t)n; done < head.len;) {
		ssize_t more = read(client.replies, client.in + done - sizeof(head), head.len - done);
		if (more <= 0)
			return -1000;
		done += (uint32_t)more;
	}
	return head.error;
}

static int call(uint32_t opcode, uint64_t nodeid, const void *arg, size_t size)
{
	return post(opcode, nodeid, arg, size, FS_REPLY_MAX) ? take() : -1000;
}

/* A structure, then names with their NULs. */
static int call_names(uint32_t opcode, uint64_t nodeid, const void *arg, size_t size, const char *one, const char *two)
{
	static uint8_t bytes[3 * PATH_MAX];
	if (size > 0)
		memcpy(bytes, arg, size);
	strcpy((char *)bytes + size, one);
	size += strlen(one) + 1;
	if (two) {
		strcpy((char *)bytes + size, two);
		size += strlen(two) + 1;
	}
	return call(opcode, nodeid, bytes, size);
}

#define REPLY(type) ((type *)(void *)client.in)

/* The node's number; 0: there is no such file; or an error. */
static int64_t look_up(uint64_t parent, const char *name)
{
	int ret = call_names(FUSE_LOOKUP, parent, NULL, 0, name, NULL);
	return ret < 0 ? ret : (int64_t)REPLY(struct fuse_entry_out)->nodeid;
}

__attribute__((unused)) static int forget(uint64_t nodeid, uint64_t lookups)
{
	struct fuse_forget_in in = {.nlookup = lookups};
	return post(FUSE_FORGET, nodeid, &in, sizeof(in), 0) ? 0 : -1000;
}

/* The handle, or an error. */
__attribute__((unused)) static int64_t open_node(uint64_t nodeid, int flags)
{
	struct fuse_open_in in = {.flags = (uint32_t)flags};
	int ret = call(flags & O_DIRECTORY ? FUSE_OPENDIR : FUSE_OPEN, nodeid, &in, sizeof(in));
	return ret < 0 ? ret : (int64_t)REPLY(struct fuse_open_out)->fh;
}

__attribute__((unused)) static int release_node(uint64_t nodeid, uint64_t fh, bool is_folder)
{
	struct fuse_release_in in = {.fh = fh};
	return call(is_folder ? FUSE_RELEASEDIR : FUSE_RELEASE, nodeid, &in, sizeof(in));
}

/* The bytes read, or an error. */
__attribute__((unused)) static int read_node(uint64_t nodeid, int64_t fh, uint64_t offset, uint32_t size)
{
	struct fuse_read_in in = {.fh = (uint64_t)fh, .offset = offset, .size = size};
	int ret = call(FUSE_READ, nodeid, &in, sizeof(in));
	return ret < 0 ? ret : (int)client.size;
}

/* The bytes written, or an error. */
__attribute__((unused)) static int write_node(
        uint64_t nodeid, int64_t fh, uint64_t offset, const void *data, uint32_t size, uint32_t flags)
{
	static uint8_t bytes[FS_REQUEST_MAX];
	struct fuse_write_in in = {.fh = (uint64_t)fh, .offset = offset, .size = size, .flags = flags};
	memcpy(bytes, &in, sizeof(in));
	memcpy(bytes + sizeof(in), data, size);
	int ret = call(FUSE_WRITE, nodeid, bytes, sizeof(in) + size);
	return ret < 0 ? ret : (int)REPLY(struct fuse_write_out)->size;
}

/* The node, with an open file in *fh; or an error. */
__attribute__((unused)) static int64_t create_node(
        uint64_t parent, const char *name, int flags, uint32_t mode, int64_t *fh)
{
	struct fuse_create_in in = {.flags = (uint32_t)flags, .mode = mode};
	int ret = call_names(FUSE_CREATE, parent, &in, sizeof(in), name, NULL);
	struct fuse_open_out opened;
	memcpy(&opened, client.in + sizeof(struct fuse_entry_out), sizeof(opened));
	*fh = (int64_t)opened.fh;
	return ret < 0 ? ret : (int64_t)REPLY(struct fuse_entry_out)->nodeid;
}

__attribute__((unused)) static int stat_node(uint64_t nodeid, struct fuse_attr *attr)
{
	struct fuse_getattr_in in = {0};
	int ret = call(FUSE_GETATTR, nodeid, &in, sizeof(in));
	*attr = REPLY(struct fuse_attr_out)->attr;
	return ret;
}

__attribute__((unused)) static int make_folder(uint64_t parent, const char *name)
{
	struct fuse_mkdir_in in = {.mode = 0755};
	return call_names(FUSE_MKDIR, parent, &in, sizeof(in), name, NULL);
}

__attribute__((unused)) static int rename_node(
        uint64_t from, const char *name, uint64_t to, const char *name2, uint32_t flags)
{
	struct fuse_rename2_in in = {.newdir = to, .flags = flags};
	return call_names(FUSE_RENAME2, from, &in, sizeof(in), name, name2);
}

#endif
