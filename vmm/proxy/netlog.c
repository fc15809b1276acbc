/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/proxy/netlog.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024u

void netlog_init(struct netlog *log, int fd, size_t most)
{
	struct stat st;
	*log = (struct netlog){.fd = fd, .most = most};
	pthread_mutex_init(&log->lock, NULL);
	if (fstat(fd, &st) == 0)
		log->size = (size_t)st.st_size;
}

/* Keeps the lines of the newer half. */
static void shorten(struct netlog *log)
{
	size_t half = log->most / 2;
	char *kept = malloc(half);
	ssize_t n = kept && log->size > half ? pread(log->fd, kept, half, (off_t)(log->size - half)) : 0;
	const char *line = n > 0 ? memchr(kept, '\n', (size_t)n) : NULL;
	size_t length = line ? (size_t)(kept + n - line - 1) : 0;
	if (ftruncate(log->fd, 0) == 0) {
		ssize_t written = length > 0 ? write(log->fd, line + 1, length) : 0;
		log->size = written > 0 ? (size_t)written : 0;
	}
	free(kept);
}

void netlog_write(struct netlog *log, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	struct timespec now;
	struct tm tm;
	va_list arguments;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%06ldZ ", now.tv_nsec / 1000);
	va_start(arguments, format);
	n += (size_t)vsnprintf(line + n, sizeof(line) - n, format, arguments);
	va_end(arguments);
	if (n > sizeof(line) - 1)
		n = sizeof(line) - 1;
	line[n++] = '\n';
	pthread_mutex_lock(&log->lock);
	if (log->size + n > log->most)
		shorten(log);
	ssize_t written = log->size + n <= log->most ? write(log->fd, line, n) : 0;
	log->size += written > 0 ? (size_t)written : 0;
	pthread_mutex_unlock(&log->lock);
}
