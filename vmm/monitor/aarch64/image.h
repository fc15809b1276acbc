/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a Linux Image: the kernel with arm64's header of 64 bytes, without compression
 * (Documentation/arm64/booting.rst). The header is checked before it is used: the file may lie.
 */
#ifndef WISP_MONITOR_AARCH64_IMAGE_H
#define WISP_MONITOR_AARCH64_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"

struct image {
	uint64_t entry; /* guest physical */
	uint64_t end;   /* past the memory that the kernel needs before it knows what memory there is */
};

/*
 * Loads the Image open as `fd` where its header wants it, counted from `base`, a multiple of 2 MiB. With `copy`, no
 * page of the file is mapped. `name` is for messages. 0, or -ENOEXEC (not such a file), -EFAULT (does not fit), -EIO
 * (truncated, unreadable) with `err`.
 */
int image_load(int fd, const char *name, uint64_t base, bool copy, const struct gmem *gmem, struct image *image,
        struct err *err);

#endif
