/* SPDX-License-Identifier: Apache-2.0 */
/* net.log: a line for each decision. When the file is full, its older half goes: that needs no directory. */
#ifndef WISP_PROXY_NETLOG_H
#define WISP_PROXY_NETLOG_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define NETLOG_MAX ((size_t)1 << 20) /* bytes */

struct netlog {
	pthread_mutex_t lock;
	int fd; /* open for reading and appending */
	size_t size, most;
};

/* The descriptor stays the caller's. */
void netlog_init(struct netlog *log, int fd, size_t most);

/* Adds the time before the line, and the newline. A line that cannot be written is lost. */
void netlog_write(struct netlog *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
