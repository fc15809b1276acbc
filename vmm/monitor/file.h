/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WISP_MONITOR_FILE_H
#define WISP_MONITOR_FILE_H

#include <stdint.h>

#include "vmm/monitor/err.h"

struct stat;

/* Reads exactly `len` bytes from `offset`: 0, -ENODATA if the file ends before, or another -errno. */
int file_read(int fd, void *to, uint64_t len, uint64_t offset);

/*
 * Fills in `st` of a regular file. `what` ("kernel") and `name` are for messages. 0, or -errno with `err`: -EINVAL for
 * a file of another kind.
 */
int file_check(int fd, const char *what, const char *name, struct stat *st, struct err *err);

#endif
