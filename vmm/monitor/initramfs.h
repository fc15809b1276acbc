/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WISP_MONITOR_INITRAMFS_H
#define WISP_MONITOR_INITRAMFS_H

#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"

struct initramfs {
	uint64_t start, size; /* guest physical; bytes. 0 and 0: there is none */
};

/*
 * Loads the file open as `fd` at the top of the first region of RAM, from a page boundary on; with an `fd` of -1, loads
 * nothing. `floor` is the end of the kernel. `name` is for messages. 0, or -errno with `err`.
 */
int initramfs_load(int fd, const char *name, const struct gmem *gmem, uint64_t floor, struct initramfs *initramfs,
        struct err *err);

#endif
