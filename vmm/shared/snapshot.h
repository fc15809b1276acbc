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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_PAGE 4096u
#define SNAPSHOT_HEAD_SIZE (64u << 10)
/* Of the machine's state: what each shared folder may take (FS_TABLE_MAX), and what the rest may. */
#define SNAPSHOT_FOLDER_MAX (128u << 20)
#define SNAPSHOT_DEVICES_MAX (4u << 20)
#define SNAPSHOT_STATE_MAX (SNAPSHOT_DEVICES_MAX + 8u * SNAPSHOT_FOLDER_MAX)
/* Each takes two mappings, with the memory behind it, and Linux allows a process 65530 (vm.max_map_count). */
#define SNAPSHOT_EXTENTS_MAX 16384u
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

#define SNAPSHOT_MAGIC "wisp snapshot\n"
#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_DISKS_MAX 10u
#define SNAPSHOT_MEMORY_MIB_MAX (1u << 20)
#if defined(__x86_64__)
#define SNAPSHOT_ARCH "x86_64"
#elif defined(__aarch64__)
#define SNAPSHOT_ARCH "aarch64"
#endif

enum snapshot_flags {
	SNAPSHOT_IMAGE = 1 << 0,   /* the first disk is the root file system */
	SNAPSHOT_OVERLAY = 1 << 1, /* the second takes the changes to it */
	SNAPSHOT_BARE = 1 << 2,    /* of a payload without an agent */
	SNAPSHOT_STOPPED = 1 << 3, /* the sandbox ended with it: nobody has written to its disks since */
	SNAPSHOT_FLAGS_ALL = (1 << 4) - 1,
};

enum snapshot_disk_flags {
	SNAPSHOT_DISK_READ_ONLY = 1 << 0,
	SNAPSHOT_DISK_COPIED = 1 << 1, /* the snapshot's own copy: nobody else may write to it */
	SNAPSHOT_DISK_FLAGS_ALL = (1 << 2) - 1,
};

/* A disk as it was at the moment of the snapshot. Its path is the config's. */
struct snapshot_disk {
	uint32_t flags; /* enum snapshot_disk_flags */
	uint32_t cache; /* enum wisp_cache */
	uint64_t size;
	int64_t mtime_ns;
	uint64_t dev;
	uint64_t ino;
};

/* Followed by config_size bytes of text: the sandbox's config, as in its directory. The rest of the head is zero. */
struct snapshot_head {
	char magic[16];        /* SNAPSHOT_MAGIC */
	uint32_t version;      /* SNAPSHOT_VERSION */
	uint32_t size;         /* of this structure */
	char arch[16];         /* SNAPSHOT_ARCH */
	char wisp_version[32]; /* the state's format is that version's */
	uint32_t flags;        /* enum snapshot_flags */
	uint32_t page_size;    /* SNAPSHOT_PAGE */
	uint32_t cpus;
	uint32_t memory_mib;
	int64_t created_ns; /* CLOCK_REALTIME */
	struct snapshot_layout layout;
	uint64_t sums_offset; /* a multiple of 8; the checksums end the file */
	uint64_t sums_count;
	uint64_t state_sum; /* of the machine's state, then of the extents */
	uint64_t sums_sum;  /* of the checksums */
	uint32_t disk_count;
	uint32_t config_size;
	struct snapshot_disk disk[SNAPSHOT_DISKS_MAX];
	uint64_t head_sum; /* of SNAPSHOT_HEAD_SIZE bytes, this one being 0 */
};

#define SNAPSHOT_CONFIG_MAX (SNAPSHOT_HEAD_SIZE - sizeof(struct snapshot_head))

/* The number of checksums for `data_size` bytes of memory. */
uint64_t snapshot_count_sums(uint64_t data_size);

/* Fills in magic, version, sizes and architecture; all else is zero. */
void snapshot_init_head(struct snapshot_head *head);

/* Sets head->head_sum of a head whose other bytes, config included, stand in `bytes`, and stores it there. */
void snapshot_seal_head(uint8_t bytes[SNAPSHOT_HEAD_SIZE], struct snapshot_head *head);

/* Whether a file of which `bytes` are the first is a snapshot, of any version. */
bool snapshot_is_head(const void *bytes, size_t size);

/*
 * Checks the first `size` bytes of a file of `file_size`, and copies them to *head. 0, or -errno, and then `why` has
 * what is wrong, in one line of at most `why_size` bytes: -ENODATA for another kind of file, -EPROTO for a snapshot of
 * another version or processor, -EBADMSG for a damaged one. The config is text without a NUL that ends with a newline;
 * what it says is not checked.
 */
int snapshot_decode_head(
        const void *bytes, size_t size, uint64_t file_size, struct snapshot_head *head, char *why, size_t why_size);

/*
 * NULL, or what is wrong with `count` extents: their order and alignment, their sum, which must be `data_size`, and
 * whether they lie below `end`, the end of the guest's physical memory.
 */
const char *snapshot_check_extents(
        const struct snapshot_extent *extents, uint64_t count, uint64_t data_size, uint64_t end);

#endif
