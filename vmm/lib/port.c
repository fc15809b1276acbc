/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/lib/port.h"
#include "vmm/lib/sandbox.h"
#include "vmm/lib/state.h"
#include "vmm/shared/proto.h"

#define LINE_MAX_BYTES 32
#define LINK_SIZE 32 /* of "/proc/self/fd/N" */
#define CONNECT_PAUSE_MS 10

static int fail_gone(const struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	return lib_fail(error, WISP_ERR_NOT_RUNNING, ESRCH, "the sandbox '%s' is not running", sandbox->name);
}

static bool leads_to(const char *path, const struct stat *dir)
{
	struct stat st;
	return stat(path, &st) == 0 && st.st_ino == dir->st_ino && st.st_dev == dir->st_dev;
}

/* Returns the length of the link that leads to the directory that the handle has open. */
static size_t format_link(const struct wisp_sandbox *sandbox, char *link, size_t size)
{
	return (size_t)snprintf(link, size, "/proc/self/fd/%d", sandbox->dir_fd);
}

/*
 * Names a socket through the directory that the handle has open: the sandbox's name may be another's by now. And such a
 * path is short. Without /proc, the directory's own path has to do.
 */
static int make_address(
        const struct wisp_sandbox *sandbox, const char *file, struct sockaddr_un *address, struct wisp_error *error)
{
	char link[LINK_SIZE];
	const char *path = link;
	struct stat dir;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	format_link(sandbox, link, sizeof(link));
	if (fstat(sandbox->dir_fd, &dir) < 0)
		return lib_fail_errno(error, errno, "cannot stat the directory of the sandbox '%s'", sandbox->name);
	if (!leads_to(link, &dir))
		path = sandbox->dir;
	if (path == sandbox->dir && !leads_to(path, &dir))
		return fail_gone(sandbox, error);
	if ((size_t)snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s", path, file) <
	        sizeof(address->sun_path))
		return 0;
	return lib_fail(error, WISP_ERR_INVALID, ENAMETOOLONG,
	        "%s: the path is too long for a socket in it: mount /proc, or use a shorter state directory", path);
}

/* connect(2) waits only while the monitor's backlog is full, and then nothing tells when it no longer is. */
static int connect_within(
        int fd, const struct sockaddr_un *address, const struct lib_cancel *cancel, int64_t deadline_ns)
{
	for (;;) {
		if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		int64_t now = lib_now_ns(), next = now + CONNECT_PAUSE_MS * NS_PER_MS;
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		int r = lib_poll(cancel, NULL, 0, next < deadline_ns ? next : deadline_ns);
		if (r != -ETIMEDOUT)
			return r;
	}
}

/* As make_address names it. Where /proc is, nothing needs to be looked up before. */
static int connect_to(const struct wisp_sandbox *sandbox, const char *file, int fd, const struct lib_cancel *cancel,
        int64_t deadline_ns, struct wisp_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = format_link(sandbox, address.sun_path, LINK_SIZE);
	snprintf(address.sun_path + length, sizeof(address.sun_path) - length, "/%s", file);
	int r = connect_within(fd, &address, cancel, deadline_ns);
	if (r == -ENOENT || r == -ENOTDIR) {
		r = make_address(sandbox, file, &address, error);
		if (r < 0)
			return r;
		r = connect_within(fd, &address, cancel, deadline_ns);
	}
	if (r == -ENOENT || r == -ECONNREFUSED)
		r = fail_gone(sandbox, error);
	else if (r == -ECANCELED || r == -EINTR)
		lib_fail_wait(error, r);
	else if (r < 0 && r != -ETIMEDOUT)
		lib_fail_errno(error, -r, "cannot connect to the monitor of the sandbox '%s'", sandbox->name);
	return r;
}

int port_check_runs(const struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	struct state state;
	if (state_is_ready(sandbox->dir_fd))
		return 0;
	state_read(sandbox->dir_fd, &state);
	free(state.text);
	if (state.kind != STATE_PAUSED && state.kind != STATE_TEMPLATE)
		return 0;
	return lib_fail(error, WISP_ERR_NOT_RUNNING, EAGAIN, "the sandbox '%s' is %s", sandbox->name,
	        state.kind == STATE_PAUSED ? "paused: resume it" : "a template, which never runs: fork it");
}

int port_open(const struct wisp_sandbox *sandbox, const char *file, const struct lib_cancel *cancel,
        int64_t deadline_ns, int *out, struct wisp_error *error)
{
	int r = strcmp(file, SANDBOX_FILES_VSOCK) == 0 ? port_check_runs(sandbox, error) : 0;
	if (r < 0)
		return r;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return lib_fail_errno(error, errno, "cannot make a socket");
	r = connect_to(sandbox, file, fd, cancel, deadline_ns, error);
	if (r < 0)
		close(fd);
	else
		*out = fd;
	return r;
}

int port_send(int fd, const struct lib_cancel *cancel, const void *data, size_t length, int64_t deadline_ns)
{
	const char *at = data;
	while (length > 0) {
		ssize_t n = send(fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			at += n;
			length -= (size_t)n;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			struct pollfd pfd = {.fd = fd, .events = POLLOUT};
			int r = lib_poll(cancel, &pfd, 1, deadline_ns);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

bool port_is_cut(int r)
{
	return r == -EPIPE || r == -ECONNRESET;
}

/* Receives up to the end of the line, and what follows it too if `all`. As recv(2), but for -errno. */
static ssize_t take(int fd, char *to, size_t size, bool all)
{
	ssize_t n = recv(fd, to, size, all ? MSG_DONTWAIT : MSG_DONTWAIT | MSG_PEEK);
	if (n > 0 && !all) {
		const char *newline = memchr(to, '\n', (size_t)n);
		n = recv(fd, to, newline ? (size_t)(newline + 1 - to) : (size_t)n, MSG_DONTWAIT);
	}
	return n < 0 ? -errno : n;
}

int port_wait_ok(int fd, const struct lib_cancel *cancel, const char *name, int64_t deadline_ns, void *buffer,
        size_t size, size_t *rest, struct wisp_error *error)
{
	char own[LINE_MAX_BYTES], *line = rest ? buffer : own;
	size_t length = 0, most = rest ? size : sizeof(own);
	while (length < LINE_MAX_BYTES) {
		ssize_t n = take(fd, line + length, most - length, rest != NULL);
		if (n > 0) {
			const char *newline = memchr(line + length, '\n', (size_t)n);
			length += (size_t)n;
			if (!newline)
				continue;
			if (newline - line < 4 || newline - line >= LINE_MAX_BYTES || memcmp(line, "OK ", 3) != 0)
				break;
			if (rest) {
				*rest = length - (size_t)(newline + 1 - line);
				memmove(line, newline + 1, *rest);
			}
			return 0;
		}
		if (n == -EAGAIN) {
			struct pollfd pfd = {.fd = fd, .events = POLLIN};
			int r = lib_poll(cancel, &pfd, 1, deadline_ns);
			if (r == -ETIMEDOUT || r == -ECANCELED || r == -EINTR)
				return r;
			if (r < 0)
				return lib_fail_errno(error, -r, "cannot wait for the sandbox '%s'", name);
		} else if (n != -EINTR) {
			return -ECONNREFUSED;
		}
	}
	return lib_fail(
	        error, WISP_ERR_PROTOCOL, EPROTO, "the monitor of the sandbox '%s' violated the protocol", name);
}

static int check_port(uint32_t port, struct wisp_error *error)
{
	/* VMADDR_PORT_ANY */
	return port != UINT32_MAX ? 0 : lib_fail(error, WISP_ERR_INVALID, EINVAL, "%u is not a vsock port", port);
}

static int fail_late(const struct wisp_sandbox *sandbox, uint32_t port, int64_t deadline_ns, struct wisp_error *error)
{
	if (lib_now_ns() >= deadline_ns)
		return lib_fail(error, WISP_ERR_AGAIN, EAGAIN,
		        "port %u of the sandbox '%s' was not connected within the timeout", port, sandbox->name);
	return lib_fail(error, WISP_ERR_DISCONNECTED, ETIMEDOUT,
	        "the guest of the sandbox '%s' did not answer a connection to port %u in %d s: it hangs: stop it",
	        sandbox->name, port, PORT_ANSWER_MS / 1000);
}

int wisp_connect_port(
        struct wisp_sandbox *sandbox, uint32_t port, int64_t timeout_ms, int *out, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(out, "fd", error))
		return -EINVAL;
	char line[LINE_MAX_BYTES];
	int64_t given = lib_deadline_ns(timeout_ms), limit = lib_deadline_ns(PORT_ANSWER_MS);
	int64_t deadline = given < limit ? given : limit;
	int fd = -1;
	*out = -1;
	int r = check_port(port, error);
	if (r == 0)
		r = port_open(sandbox, SANDBOX_FILES_VSOCK, &sandbox->cancel, deadline, &fd, error);
	if (r == 0) {
		int length = snprintf(line, sizeof(line), "CONNECT %u\n", port);
		r = port_send(fd, &sandbox->cancel, line, (size_t)length, deadline);
		/* If the connection broke, there is no answer either. */
		bool given_up = r == -ETIMEDOUT || r == -ECANCELED || r == -EINTR;
		if (r < 0 && !given_up && !port_is_cut(r))
			lib_fail_errno(error, -r, "cannot send to the sandbox '%s'", sandbox->name);
		else if (!given_up)
			r = port_wait_ok(fd, &sandbox->cancel, sandbox->name, deadline, NULL, 0, NULL, error);
		if (r == -ECANCELED || r == -EINTR)
			lib_fail_wait(error, r);
		if (r == -ECONNREFUSED)
			lib_fail(error, WISP_ERR_REFUSED, ECONNREFUSED,
			        "nothing listens on port %u in the sandbox '%s'", port, sandbox->name);
	}
	if (r == -ETIMEDOUT)
		r = fail_late(sandbox, port, given, error);
	/* The caller's descriptor blocks, as any socket does. */
	if (r == 0 && fcntl(fd, F_SETFL, 0) < 0)
		r = lib_fail_errno(error, errno, "cannot set up a socket");
	if (r < 0 && fd >= 0)
		close(fd);
	else if (r == 0)
		*out = fd;
	return r;
}

/*
 * Returns whether the address is the file of a listener that is gone. Connecting a datagram socket to it fails in
 * either case, and the error tells them apart; connecting a stream socket would reach the listener.
 */
static bool is_abandoned(const struct sockaddr_un *address)
{
	struct stat st;
	if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool abandoned =
	        fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED;
	if (fd >= 0)
		close(fd);
	return abandoned;
}

static int listen_on(int fd, const struct sockaddr_un *address)
{
	return bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 || listen(fd, SOMAXCONN) < 0 ? -errno
	                                                                                                     : 0;
}

int wisp_listen_port(struct wisp_sandbox *sandbox, uint32_t port, int *out, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(out, "fd", error))
		return -EINVAL;
	struct sockaddr_un address;
	char file[32];
	*out = -1;
	int r = check_port(port, error);
	if (r == 0 && port == PROTO_PORT_AGENT)
		r = lib_fail(error, WISP_ERR_INVALID, EINVAL, "port %u is the agent's: choose another", port);
	snprintf(file, sizeof(file), SANDBOX_FILES_VSOCK "_%u", port);
	if (r == 0)
		r = make_address(sandbox, file, &address, error);
	if (r < 0)
		return r;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return lib_fail_errno(error, errno, "cannot make a socket");
	r = listen_on(fd, &address);
	if (r == -EADDRINUSE && is_abandoned(&address) && unlink(address.sun_path) == 0)
		r = listen_on(fd, &address);
	if (r == 0)
		r = state_give(sandbox->root_fd, sandbox->dir_fd, file);
	if (r < 0) {
		close(fd);
		if (r == -ENOENT)
			return fail_gone(sandbox, error);
		return lib_fail_errno(error, -r, "cannot listen on port %u of the sandbox '%s'", port, sandbox->name);
	}
	*out = fd;
	return 0;
}
