/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cli/command.h"
#include "vmm/cli/cp_file.h"
#include "vmm/shared/zero.h"

#define HOLE_SIZE 4096
#define FIFO_RETRY_MS 50 /* no event tells that a FIFO has got a reader */

int cp_wait(int fd, short events, int signals)
{
	struct pollfd pfds[2] = {{.fd = signals, .events = POLLIN}, {.fd = fd, .events = events}};
	struct signalfd_siginfo info;
	while (poll(pfds, 2, fd < 0 ? FIFO_RETRY_MS : -1) < 0 && errno == EINTR)
		;
	if (pfds[0].revents && read(signals, &info, sizeof(info)) == sizeof(info))
		return (int)info.ssi_signo;
	return 0;
}

bool cp_may_replace(int parent, const char *last)
{
	struct stat st;
	if (fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT;
	return S_ISREG(st.st_mode) || S_ISLNK(st.st_mode);
}

int cp_file_create(struct cp_file *file, int parent, const char *last, const char *show)
{
	*file = (struct cp_file){
	        .parent = parent, .fd = -1, .signals = -1, .seekable = true, .last = last, .show = show};
	if (!cp_may_replace(parent, last))
		return cli_fail("%s exists and is not a file; remove it first", show);
	for (unsigned i = 0; i < 1000 && file->fd < 0; i++) {
		snprintf(file->temporary, sizeof(file->temporary), ".wisp-cp-%d-%u", (int)getpid(), i);
		file->fd = openat(parent, file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (file->fd < 0 && errno != EEXIST)
			break;
	}
	if (file->fd >= 0)
		return 0;
	file->temporary[0] = '\0'; /* not this file's */
	return cli_fail("cannot create %s: %s", show, strerror(errno));
}

int cp_file_open(struct cp_file *file, const char *path, int signals)
{
	struct stat st;
	*file = (struct cp_file){.fd = -1, .signals = signals, .in_place = true, .show = path};
	for (;;) {
		file->fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (file->fd >= 0 || errno != ENXIO || stat(path, &st) < 0 || !S_ISFIFO(st.st_mode))
			break;
		int number = cp_wait(-1, 0, signals);
		if (number)
			return CLI_EXIT_SIGNAL + number;
	}
	if (file->fd < 0 || fstat(file->fd, &st) < 0)
		return cli_fail("cannot write to %s: %s", path, strerror(errno));
	file->seekable = S_ISREG(st.st_mode);
	return 0;
}

static int write_piece(struct cp_file *file, const char *data, size_t length)
{
	while (length > 0) {
		int number = file->seekable ? 0 : cp_wait(file->fd, POLLOUT, file->signals);
		if (number)
			return CLI_EXIT_SIGNAL + number;
		/* A pipe that is ready takes this much without blocking, even if it is not O_NONBLOCK. */
		size_t piece = file->seekable || length < PIPE_BUF ? length : PIPE_BUF;
		ssize_t n = file->seekable ? pwrite(file->fd, data, piece, file->at) : write(file->fd, data, piece);
		if (n > 0) {
			data += n;
			length -= (size_t)n;
			file->at += n;
			continue;
		}
		if (n < 0 && errno == EPIPE)
			return CLI_EXIT_SIGNAL + SIGPIPE;
		if (n == 0 || (errno != EINTR && errno != EAGAIN))
			return cli_fail("cannot write %s: %s", file->show, strerror(n < 0 ? errno : EIO));
	}
	return 0;
}

/* In a new file, blocks of zeros become holes. */
int cp_file_write(struct cp_file *file, const char *data, size_t length)
{
	int code = 0;
	if (file->in_place)
		return write_piece(file, data, length);
	while (length > 0 && code == 0) {
		size_t piece = (size_t)(HOLE_SIZE - file->at % HOLE_SIZE);
		piece = piece < length ? piece : length;
		if (is_zero(data, piece))
			file->at += (off_t)piece;
		else
			code = write_piece(file, data, piece);
		data += piece;
		length -= piece;
	}
	return code;
}

int cp_file_commit(struct cp_file *file, mode_t mode, int64_t mtime)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = mtime}};
	if (file->seekable && ftruncate(file->fd, file->at) < 0)
		return cli_fail("cannot write %s: %s", file->show, strerror(errno));
	if (file->in_place)
		return 0;
	if (fchmod(file->fd, mode) < 0)
		return cli_fail("cannot set the mode of %s: %s", file->show, strerror(errno));
	futimens(file->fd, times); /* a time that the file system cannot hold is no reason to fail */
	if (!cp_may_replace(file->parent, file->last))
		return cli_fail("%s exists and is not a file; remove it first", file->show);
	if (renameat(file->parent, file->temporary, file->parent, file->last) < 0)
		return cli_fail("cannot create %s: %s", file->show, strerror(errno));
	file->temporary[0] = '\0';
	return 0;
}

void cp_file_destroy(struct cp_file *file)
{
	if (file->temporary[0])
		unlinkat(file->parent, file->temporary, 0);
	if (file->fd >= 0)
		close(file->fd);
	*file = (struct cp_file){.fd = -1};
}
