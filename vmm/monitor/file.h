/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WISP_MONITOR_FILE_H
#define WISP_MONITOR_FILE_H

#include <stdint.h>

/* Reads exactly `len` bytes from `offset`: 0, -ENODATA if the file ends before, or another -errno. */
int file_read(int fd, void *to, uint64_t len, uint64_t offset);

#endif
