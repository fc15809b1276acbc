/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard streams as they are found. O_NONBLOCK belongs to the open file, so any process that shares a terminal or a
 * pipe with this one may set it, at any time: EAGAIN means to wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/command.h"

/* After a failed read or write: waits until the descriptor is ready. False: the error is a real one, in errno. */
static bool may_retry(int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};
	if (errno == EAGAIN)
		poll(&pfd, 1, -1);
	return errno == EAGAIN || errno == EINTR;
}

ssize_t cli_read(int fd, void *buffer, size_t size)
{
	ssize_t n;
	while ((n = read(fd, buffer, size)) < 0 && may_retry(fd, POLLIN))
		;
	return n;
}

bool cli_write(int fd, const void *data, size_t length)
{
	for (const char *at = data; length > 0;) {
		ssize_t n = write(fd, at, length);
		if (n < 0 && may_retry(fd, POLLOUT))
			continue;
		if (n < 0)
			return false;
		at += n;
		length -= (size_t)n;
	}
	return true;
}

static ssize_t write_stream(void *cookie, const char *data, size_t length)
{
	return cli_write((int)(intptr_t)cookie, data, length) ? (ssize_t)length : 0;
}

/* stdio takes EAGAIN for an error and drops what it has: a stream that writes with cli_write replaces its own. */
static FILE *open_stream(FILE *own, int fd, int mode)
{
	FILE *stream = fopencookie((void *)(intptr_t)fd, "w", (cookie_io_functions_t){.write = write_stream});
	if (!stream)
		return own;
	setvbuf(stream, NULL, mode, 0);
	return stream;
}

void cli_begin(void)
{
	sigset_t none;
	/* Otherwise the next file or socket that is opened becomes a standard stream. */
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			_exit(CLI_EXIT_FAILED);
	}
	stdout = open_stream(stdout, STDOUT_FILENO, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF);
	stderr = open_stream(stderr, STDERR_FILENO, _IONBF);
	/* A parent may have blocked any signal, and ignored SIGCHLD, with which no child can be waited for. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGCHLD, SIG_DFL);
}
