/* SPDX-License-Identifier: Apache-2.0 */
/* Time, strings and files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/lib.h"
#include "vmm/shared/utf8.h"

int64_t lib_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t lib_deadline_ns(int64_t ms)
{
	if (ms < 0)
		return INT64_MAX;
	int64_t now = lib_now_ns();
	return ms > (INT64_MAX - now) / NS_PER_MS ? INT64_MAX : now + ms * NS_PER_MS;
}

int lib_poll_ms(int64_t deadline_ns)
{
	if (deadline_ns == INT64_MAX)
		return -1;
	int64_t left = deadline_ns - lib_now_ns();
	if (left <= 0)
		return 0;
	int64_t ms = (left + NS_PER_MS - 1) / NS_PER_MS;
	return ms > 1000000000 ? 1000000000 : (int)ms;
}

int lib_poll(const struct lib_cancel *cancel, struct pollfd *pfds, size_t count, int64_t deadline_ns)
{
	struct pollfd all[4] = {{.fd = cancel && cancel->has_fd ? cancel->fd : -1, .events = POLLIN}};
	for (size_t i = 0; i < count; i++)
		all[i + 1] = pfds[i];
	for (;;) {
		int n = poll(all, count + 1, lib_poll_ms(deadline_ns));
		if (n < 0 && (errno != EINTR || (cancel && cancel->interruptible)))
			return -errno;
		if (n < 0)
			continue;
		if (all[0].revents)
			return -ECANCELED;
		if (n > 0)
			break;
		if (lib_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
	}
	for (size_t i = 0; i < count; i++)
		pfds[i] = all[i + 1];
	return 0;
}

int lib_check_cancel(const struct lib_cancel *cancel)
{
	int r = cancel && cancel->has_fd ? lib_poll(cancel, NULL, 0, 0) : 0;
	return r == -ETIMEDOUT ? 0 : r;
}

void lib_report(const struct lib_progress *progress, uint64_t done, uint64_t total)
{
	if (progress->report)
		progress->report(progress->context, done, total);
}

int lib_fail_wait(struct wisp_error *error, int r)
{
	if (r == -ECANCELED)
		return lib_fail(error, WISP_ERR_CANCELLED, ECANCELED, "the call was cancelled");
	if (r == -EINTR)
		return lib_fail(error, WISP_ERR_CANCELLED, EINTR, "the call was interrupted by a signal");
	return lib_fail_errno(error, -r, "cannot wait");
}

bool lib_is_utf8(const void *data, size_t length, size_t *valid_length)
{
	const unsigned char *bytes = data;
	size_t at = 0;
	while (at < length) {
		size_t step = utf8_length(bytes + at, length - at);
		if (step == 0)
			break;
		at += step;
	}
	if (valid_length)
		*valid_length = at;
	return at == length;
}

int lib_write_all(int fd, const void *data, size_t length)
{
	const char *at = data;
	while (length > 0) {
		ssize_t n = write(fd, at, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

int lib_truncate(int fd, off_t size)
{
	int r;
	do
		r = ftruncate(fd, size);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int lib_pwrite_all(int fd, const void *data, size_t length, off_t offset)
{
	const char *at = data;
	while (length > 0) {
		ssize_t n = pwrite(fd, at, length, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		offset += n;
		length -= (size_t)n;
	}
	return 0;
}

int lib_rename_new(int dir_fd, const char *from, const char *to)
{
	struct stat st;
	if (renameat2(dir_fd, from, dir_fd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* The file system lacks the flag. */
	if (fstatat(dir_fd, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(dir_fd, from, dir_fd, to) < 0 ? -errno : 0;
}

ssize_t lib_pread(int fd, void *to, size_t size, off_t offset)
{
	size_t got = 0;
	while (got < size) {
		ssize_t n = pread(fd, (char *)to + got, size - got, offset + (off_t)got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

bool lib_is_shortage(int errnum)
{
	return errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM || errnum == ENOBUFS;
}

char *lib_read_open_file(int fd, size_t limit, size_t *length)
{
	struct lib_string text = {0};
	char buffer[4096];
	ssize_t n;
	int errnum = 0;
	while ((n = read(fd, buffer, sizeof(buffer))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			errnum = errno;
		else
			lib_string_add(&text, buffer, (size_t)n);
		if (text.failed)
			errnum = ENOMEM;
		else if (text.length > limit)
			errnum = EFBIG;
		if (errnum)
			break;
	}
	if (!errnum && !text.text) {
		lib_string_add(&text, "", 0);
		errnum = text.failed ? ENOMEM : 0;
	}
	if (errnum) {
		free(text.text);
		errno = errnum;
		return NULL;
	}
	if (length)
		*length = text.length;
	return text.text;
}

char *lib_read_file(int dirfd, const char *path, size_t limit, size_t *length)
{
	/* O_NONBLOCK: opening a FIFO in its place must not block. */
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return NULL;
	char *text = lib_read_open_file(fd, limit, length);
	int errnum = errno;
	close(fd);
	errno = errnum;
	return text;
}

int lib_make_dirs(const char *path, struct wisp_error *error)
{
	char *copy = strdup(path);
	if (!copy)
		return lib_no_memory(error);
	int result = 0;
	for (char *at = copy + 1; result == 0; at++) {
		if (*at != '/' && *at != '\0')
			continue;
		char end = *at;
		*at = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			result = lib_fail_errno(error, errno, "cannot create the directory %s", copy);
		*at = end;
		if (end == '\0')
			break;
	}
	free(copy);
	return result;
}

void lib_random(void *to, size_t length)
{
	/* Complete for such lengths once the pool is ready. Before that, the bytes only have to be unique. */
	if (getrandom(to, length, 0) != (ssize_t)length) {
		int64_t now = lib_now_ns() ^ getpid();
		memcpy(to, &now, length < sizeof(now) ? length : sizeof(now));
	}
}

char *lib_absolute(const char *path)
{
	if (path[0] == '/')
		return strdup(path);
	char *cwd = getcwd(NULL, 0);
	char *result = NULL;
	if (cwd && asprintf(&result, "%s%s%s", cwd, strcmp(cwd, "/") == 0 ? "" : "/", path) < 0)
		result = NULL;
	free(cwd);
	return result;
}

void lib_string_add(struct lib_string *string, const void *data, size_t length)
{
	if (string->failed)
		return;
	if (length >= SIZE_MAX / 2 - string->length) {
		string->failed = true;
		return;
	}
	size_t needed = string->length + length + 1;
	if (needed > string->capacity) {
		size_t capacity = string->capacity ? string->capacity : 256;
		while (capacity < needed)
			capacity *= 2;
		char *text = realloc(string->text, capacity);
		if (!text) {
			string->failed = true;
			return;
		}
		string->text = text;
		string->capacity = capacity;
	}
	if (length > 0)
		memcpy(string->text + string->length, data, length);
	string->length += length;
	string->text[string->length] = '\0';
}

void lib_string_format(struct lib_string *string, const char *format, ...)
{
	char *text;
	va_list ap;
	va_start(ap, format);
	int length = vasprintf(&text, format, ap);
	va_end(ap);
	if (length < 0) {
		string->failed = true;
		return;
	}
	lib_string_add(string, text, (size_t)length);
	free(text);
}
