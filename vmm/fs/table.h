/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of what a guest knows of a folder, for snapshots and clones: a struct fs_table, its nodes, each with its
 * name, and its handles. A node's parent is the folder itself, or comes before it. Everything is a multiple of 8 bytes.
 *
 * Open files come first, then folders, then the rest, as far as there is room. What a table lacks is stale to the
 * guest, which cannot always find it anew. Nothing here is a path of the host.
 */
#ifndef WISP_FS_TABLE_H
#define WISP_FS_TABLE_H

#include <stdint.h>

#define FS_TABLE_MAGIC 0x33545357u /* "WST3": another layout gets another number */

struct fs_table {
	uint32_t magic;
	uint32_t is_file;    /* 0 or 1: a single file, which has no nodes */
	uint64_t ino;        /* of the folder, or of that file */
	uint64_t born;       /* when it came to be, in ns; 0: not known */
	uint64_t fsid;       /* of its file system (statfs(2)); 0: only the number of its device */
	uint64_t generation; /* greater than that of any node that the guest knew */
	uint32_t nodes;
	uint32_t handles;
};

struct fs_table_node {
	uint64_t id, parent;
	uint64_t dev; /* 0: the folder's own, which may have another number by now */
	uint64_t ino;
	uint64_t lookups;
	uint32_t type; /* S_IFMT */
	uint32_t name; /* bytes of the name that follows, with its NULs, which fill up the last 8 bytes */
};

struct fs_table_handle {
	uint64_t node; /* 0: it has no name any more */
	uint64_t born; /* when the file came to be, in ns; 0: not known. Its inode may be another file's by now */
	uint32_t fh;
	uint32_t flags; /* open(2)'s; O_DIRECTORY: a folder's */
};

#endif
