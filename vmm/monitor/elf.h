/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a kernel from an ELF file into guest memory. Every header is checked before it is used: the file may lie.
 */
#ifndef WISP_MONITOR_ELF_H
#define WISP_MONITOR_ELF_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"

struct elf_limits {
	uint16_t machine; /* EM_* that the file must be for */
	uint64_t lowest;  /* guest physical bounds of what may be loaded */
	uint64_t highest;
	bool copy; /* all of it; else text is mapped, and its pages are those of the file until the guest writes */
};

struct elf_image {
	uint64_t entry; /* physical */
	uint64_t start; /* of the lowest segment */
	uint64_t end;   /* past the highest */
};

/*
 * Loads the 64-bit executable open as `fd` at its segments' physical addresses. `name` is for the error's text.
 * 0, or -ENOEXEC (not such a file), -EFAULT (does not fit), -EIO (truncated, unreadable) with `err` set.
 */
int elf_load(int fd, const char *name, const struct elf_limits *limits, const struct gmem *gmem,
        struct elf_image *image, struct err *err);

#endif
