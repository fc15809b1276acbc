/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log file of bounded size. When it is full, "<name>.1" takes its place and a new file is begun. What is logged comes
 * from the guest, so a full disk, or any other failure to write, costs log entries only. Any thread.
 *
 * A reader never misses an entry: at every moment <name> exists, and the entries before its first one are in
 * <name>.1. Open <name> first, then <name>.1; both may be the same file for a moment, which the inode number tells.
 */
#ifndef WISP_MONITOR_LOGFILE_H
#define WISP_MONITOR_LOGFILE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/log.h"

struct logfile {
	pthread_mutex_t lock; /* guards what follows */
	int dir_fd;           /* the caller's */
	const char *name;     /* the caller's */
	int fd;               /* 0: none; -1: the first write creates it */
	bool lost;            /* the entry being written is incomplete: its remaining pieces are dropped */
	bool torn;            /* the file ends in part of an entry */
	uint64_t size, limit; /* bytes */
};

/*
 * Describes the file `name` in the directory `dir_fd` (as openat(2) takes it); both outlive the object. Creates
 * nothing: the first write does, or logfile_create.
 */
void logfile_init(struct logfile *file, int dir_fd, const char *name, uint64_t limit);

/* Creates the file, with mode 0600, unless a write has. Existing content stays. 0 or -errno with `err`. */
int logfile_create(struct logfile *file, struct err *err);

/*
 * Appends an entry, or the first piece of one. If the disk is full, an entry may be cut short or missing; the next one
 * that fits begins on a new line.
 */
void logfile_write(struct logfile *file, const void *data, size_t len);

/* For a struct log whose context is a logfile: appends a line with the time and the level. */
void logfile_write_line(void *file, enum log_level level, const char *text);

/* Appends a further piece of the entry that logfile_write began. It stays in the same file, whatever the limit. */
void logfile_continue(struct logfile *file, const void *data, size_t len);

/* Takes a zeroed object. */
void logfile_close(struct logfile *file);

#endif
