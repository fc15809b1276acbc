/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

void logfile_init(struct logfile *file, int dir_fd, const char *name, uint64_t limit)
{
	*file = (struct logfile){.dir_fd = dir_fd, .name = name, .fd = -1, .limit = limit};
	pthread_mutex_init(&file->lock, NULL);
}

static int open_at(const struct logfile *file, const char *name, int flags)
{
	return openat(file->dir_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
}

/* With the lock held. */
static int create(struct logfile *file)
{
	if (file->fd < 0)
		file->fd = open_at(file, file->name, 0);
	return file->fd < 0 ? -errno : 0;
}

int logfile_create(struct logfile *file, struct err *err)
{
	pthread_mutex_lock(&file->lock);
	int ret = create(file);
	if (ret < 0)
		file->fd = 0;
	pthread_mutex_unlock(&file->lock);
	return ret < 0 ? err_set(err, -ret, "cannot create the log file %s: %s", file->name, strerror(-ret)) : 0;
}

/* Gives the full file its second name, <name>.1. It keeps the first, unless the file system has no hard links. */
static int retain(const struct logfile *file, const char *fresh, const char *old)
{
	if (linkat(file->dir_fd, file->name, file->dir_fd, fresh, 0) == 0)
		return renameat(file->dir_fd, fresh, file->dir_fd, old);
	return renameat(file->dir_fd, file->name, file->dir_fd, old);
}

static void rotate(struct logfile *file)
{
	char fresh[NAME_MAX], old[NAME_MAX];
	bool fits = (size_t)snprintf(fresh, sizeof(fresh), "%s.new", file->name) < sizeof(fresh);
	snprintf(old, sizeof(old), "%s.1", file->name);
	unlinkat(file->dir_fd, fresh, 0);
	int fd = -1;
	if (fits && retain(file, fresh, old) == 0 && (fd = open_at(file, fresh, O_EXCL)) >= 0 &&
	        renameat(file->dir_fd, fresh, file->dir_fd, file->name) == 0) {
		close(file->fd);
		file->fd = fd;
	} else {
		/* The bound holds even so: the file is emptied. */
		if (fd >= 0) {
			close(fd);
			unlinkat(file->dir_fd, fresh, 0);
		}
		if (ftruncate(file->fd, 0) < 0)
			return;
	}
	file->size = 0;
	file->torn = false;
}

/* With the lock held. */
static void append(struct logfile *file, bool first, const void *data, size_t len)
{
	size_t separator = first && file->torn ? 1 : 0;
	struct iovec iov[2] = {{.iov_base = (char[]){'\n'}, .iov_len = separator},
	        {.iov_base = (void *)(uintptr_t)data, .iov_len = len}};
	ssize_t n = writev(file->fd, iov, 2);
	size_t done = n > 0 ? (size_t)n : 0;
	file->size += done;
	file->lost = done < separator + len;
	if (file->lost && (!first || done > separator))
		file->torn = true;
	else if (done > 0)
		file->torn = false;
}

void logfile_write(struct logfile *file, const void *data, size_t len)
{
	pthread_mutex_lock(&file->lock);
	file->lost = create(file) < 0 || file->fd == 0;
	if (!file->lost) {
		if (file->size + len > file->limit && file->size > 0)
			rotate(file);
		append(file, true, data, len);
	}
	pthread_mutex_unlock(&file->lock);
}

void logfile_write_line(void *file, enum log_level level, const char *text)
{
	static const char *const names[] = {"error", "warning", "info"};
	char line[1024];
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%06ldZ %s: %s\n", now.tv_nsec / 1000, names[level], text);
	logfile_write(file, line, n < sizeof(line) ? n : sizeof(line) - 1);
}

void logfile_continue(struct logfile *file, const void *data, size_t len)
{
	pthread_mutex_lock(&file->lock);
	if (!file->lost && file->fd > 0)
		append(file, false, data, len);
	pthread_mutex_unlock(&file->lock);
}

void logfile_close(struct logfile *file)
{
	if (file->fd > 0)
		close(file->fd);
	pthread_mutex_destroy(&file->lock);
	*file = (struct logfile){0};
}
