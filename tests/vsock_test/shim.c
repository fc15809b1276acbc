/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the kernel's vsock_test. That program wants AF_VSOCK and a TCP control connection to its other
 * half; wisp's host side is Unix sockets, and its guest has no network. This file is linked in front of libc, into the
 * host's vsock_test only, and stands in for the calls that differ:
 *
 *   AF_VSOCK   a Unix socket: connect says CONNECT and reads OK, bind makes "<socket>_<port>" (virtio/vsock.h)
 *   AF_INET    the control connection: whoever connects or accepts runs $CONTROL_COMMAND, and talks to its stdin and
 *              stdout. It is to lead to the TCP port of the guest's half.
 *
 * $VSOCK_SOCKET is the sandbox's socket.
 */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FD_MAX 1024
#define POLL_AGAIN_MS 10

enum kind { OTHER, VSOCK, CONTROL };

/* Of each descriptor; vsock_test has one thread. */
static struct {
	enum kind kind;
	unsigned port; /* bound to, 0: not */
	int lowat;
} of[FD_MAX];

static int unix_address(struct sockaddr_un *address, const char *suffix)
{
	const char *path = getenv("VSOCK_SOCKET");
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	int len = snprintf(address->sun_path, sizeof(address->sun_path), "%s%s", path ? path : "", suffix);
	if (path && len < (int)sizeof(address->sun_path))
		return 0;
	fprintf(stderr, "shim: VSOCK_SOCKET is not set, or too long\n");
	errno = EINVAL;
	return -1;
}

static int bound_address(struct sockaddr_un *address, unsigned port)
{
	char suffix[16];
	snprintf(suffix, sizeof(suffix), "_%u", port);
	return unix_address(address, suffix);
}

static enum kind kind_of(int fd)
{
	return fd >= 0 && fd < FD_MAX ? of[fd].kind : OTHER;
}

/* One end of a pair of sockets; the other is the command's standard input and output. */
static int start_control(void)
{
	const char *command = getenv("CONTROL_COMMAND");
	int pair[2];
	if (!command || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		dup2(pair[1], STDIN_FILENO);
		dup2(pair[1], STDOUT_FILENO);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	return pid < 0 ? -1 : pair[0];
}

int socket(int domain, int type, int protocol)
{
	enum kind kind = domain == AF_VSOCK ? VSOCK : domain == AF_INET ? CONTROL : OTHER;
	if (kind == VSOCK && (type & 0xf) != SOCK_STREAM) {
		errno = ESOCKTNOSUPPORT;
		return -1;
	}
	int fd = (int)syscall(SYS_socket, kind == OTHER ? domain : AF_UNIX, type, kind == OTHER ? protocol : 0);
	if (fd >= 0 && fd < FD_MAX)
		of[fd].kind = kind;
	return fd;
}

int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	const struct sockaddr_vm *vm = (const struct sockaddr_vm *)(const void *)sa;
	struct sockaddr_un address;
	if (kind_of(fd) == CONTROL)
		return 0;
	if (kind_of(fd) == OTHER)
		return (int)syscall(SYS_bind, fd, sa, len);
	if (bound_address(&address, vm->svm_port) < 0 || syscall(SYS_bind, fd, &address, sizeof(address)) < 0)
		return -1;
	of[fd].port = vm->svm_port;
	return 0;
}

int listen(int fd, int backlog)
{
	return kind_of(fd) == CONTROL ? 0 : (int)syscall(SYS_listen, fd, backlog);
}

int accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	if (kind_of(fd) == CONTROL)
		return start_control();
	if (kind_of(fd) == OTHER)
		return (int)syscall(SYS_accept, fd, sa, len);
	int peer = (int)syscall(SYS_accept, fd, NULL, NULL);
	if (peer < 0)
		return -1;
	if (peer < FD_MAX)
		of[peer].kind = VSOCK;
	/* The guest's port does not come through. */
	struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = 3, .svm_port = VMADDR_PORT_ANY};
	if (sa && len) {
		memcpy(sa, &vm, *len < sizeof(vm) ? *len : sizeof(vm));
		*len = sizeof(vm);
	}
	return peer;
}

static int vsock_connect(int fd, unsigned port)
{
	struct sockaddr_un address;
	char line[32], c = '\0';
	if (unix_address(&address, "") < 0 || syscall(SYS_connect, fd, &address, sizeof(address)) < 0)
		return -1;
	int len = snprintf(line, sizeof(line), "CONNECT %u\n", port);
	if (send(fd, line, (size_t)len, MSG_NOSIGNAL) != len)
		return -1;
	/* Not a byte more than the line: what follows is the stream. */
	for (len = 0; c != '\n' && len < (int)sizeof(line) - 1; line[len++] = c) {
		ssize_t n = recv(fd, &c, 1, 0);
		if (n == 0)
			errno = ECONNRESET; /* refused: closed */
		if (n != 1)
			return -1;
	}
	line[len] = '\0';
	if (strncmp(line, "OK ", 3) == 0)
		return 0;
	fprintf(stderr, "shim: the device said \"%s\"\n", line);
	errno = EPROTO;
	return -1;
}

int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	const struct sockaddr_vm *vm = (const struct sockaddr_vm *)(const void *)sa;
	if (kind_of(fd) == OTHER)
		return (int)syscall(SYS_connect, fd, sa, len);
	if (kind_of(fd) == VSOCK)
		return vsock_connect(fd, vm->svm_port);
	int control = start_control();
	int ret = control < 0 ? -1 : dup2(control, fd);
	if (control >= 0)
		close(control);
	return ret < 0 ? -1 : 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	if (kind_of(fd) == VSOCK && level == AF_VSOCK)
		return 0; /* buffer sizes: the device's are fixed */
	if (kind_of(fd) == VSOCK && level == SOL_SOCKET && name == SO_RCVLOWAT && len >= sizeof(int))
		memcpy(&of[fd].lowat, value, sizeof(int));
	return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

static long long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

/* Unix sockets heed SO_RCVLOWAT in recv, but not in poll, as AF_VSOCK does. vsock_test polls one descriptor. */
int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	long long end = now_ms() + timeout_ms;
	for (;;) {
		long long left = timeout_ms < 0 ? -1 : end - now_ms();
		int have = 0, ret = (int)syscall(SYS_poll, fds, count, left < 0 && timeout_ms >= 0 ? 0 : (int)left);
		if (ret <= 0 || count != 1 || kind_of(fds->fd) != VSOCK || fds->revents & (POLLHUP | POLLERR) ||
		        !(fds->revents & POLLIN))
			return ret;
		if (ioctl(fds->fd, FIONREAD, &have) < 0 || have >= of[fds->fd].lowat)
			return ret;
		if (timeout_ms >= 0 && left <= 0) {
			fds->revents = 0;
			return 0;
		}
		nanosleep(&(struct timespec){.tv_nsec = POLL_AGAIN_MS * 1000000}, NULL);
	}
}

int close(int fd)
{
	struct sockaddr_un address;
	if (kind_of(fd) == VSOCK && of[fd].port != 0 && bound_address(&address, of[fd].port) == 0)
		unlink(address.sun_path);
	if (fd >= 0 && fd < FD_MAX)
		memset(&of[fd], 0, sizeof(of[fd]));
	return (int)syscall(SYS_close, fd);
}
