/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot file, as library and monitor agree on it. docs/internals/snapshot.md describes the format.
 *
 *	0                      the head: struct snapshot_head, then the sandbox's config as text (library)
 *	SNAPSHOT_HEAD_SIZE     the machine's state (monitor)
 *	layout.extents_offset  struct snapshot_extent, in the order of their guest addresses (monitor)
 *	layout.data_offset     the memory of the extents, one after the other (monitor)
 *	head.sums_offset       a checksum for each SNAPSHOT_CHUNK bytes of memory (library)
 *
 * The monitor writes its parts while the machine is paused; the library adds checksums and head when the machine goes
 * on, and gives the file its name. The file is read as hostile: nothing in it is used before it is checked.
 */
#ifndef WISP_SNAPSHOT_H
#define WISP_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_PAGE 4096u
#define SNAPSHOT_HEAD_SIZE (64u << 10)
#define SNAPSHOT_STATE_MAX (1u << 20)
#define SNAPSHOT_EXTENTS_MAX 65536u
#define SNAPSHOT_CHUNK (1u << 20) /* bytes of memory that share a checksum */

/* Guest memory that the file has. What no extent covers is zero. */
struct snapshot_extent {
	uint64_t start; /* guest physical; like `size` a multiple of SNAPSHOT_PAGE */
	uint64_t size;
};

/* Where the monitor's parts are; all offsets are multiples of SNAPSHOT_PAGE. */
struct snapshot_layout {
	uint64_t state_size; /* bytes, from SNAPSHOT_HEAD_SIZE on */
	uint64_t extents_offset;
	uint64_t extent_count;
	uint64_t data_offset;
	uint64_t data_size;
};

/* NULL, or what is wrong with a layout in a file of `file_size` bytes. */
const char *snapshot_check_layout(const struct snapshot_layout *layout, uint64_t file_size);

/*
 * NULL, or what is wrong with `count` extents: their order and alignment, their sum, which must be `data_size`, and
 * whether they lie below `end`, the end of the guest's physical memory.
 */
const char *snapshot_check_extents(
        const struct snapshot_extent *extents, uint64_t count, uint64_t data_size, uint64_t end);

#endif
