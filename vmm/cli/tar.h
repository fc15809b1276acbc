/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Just enough of tar for cp: POSIX ustar with GNU's long names, which every tar in a guest reads; and those, GNU's
 * sizes and pax's names and sizes when reading.
 */
#ifndef WISP_CLI_TAR_H
#define WISP_CLI_TAR_H

#include <sys/stat.h>

#include "vmm/cli/cli.h"

#define TAR_BLOCK 512

struct tar_entry {
	char *name;
	char *link; /* of symbolic and hard links */
	char type;  /* '0' file, '1' hard link, '2' symbolic link, '3' '4' devices, '5' directory, '6' FIFO */
	mode_t mode;
	uint64_t size;
	int64_t mtime;
};

/* tar_format.c: the header of an entry as one string of blocks, to be freed; *length in bytes. NULL: out of memory. */
char *tar_make_header(const struct tar_entry *entry, size_t *length);

/* Reads from `read`, which returns 0 at the end. */
struct tar_reader {
	size_t (*read)(void *context, void *data, size_t length);
	void *context;
	const char *what; /* is wrong, after a failure */
	uint64_t left;    /* of the present entry's data */
	unsigned padding; /* after it */
	char *name, *link;
};

/* 1: *entry, whose strings live until the next call; 0: the end; -1: `what`. Skips what is left of the entry before. */
int tar_next(struct tar_reader *reader, struct tar_entry *entry);
/* Some of the entry's data: 0 at its end, -1: `what`. */
ptrdiff_t tar_read(struct tar_reader *reader, void *data, size_t length);
void tar_end(struct tar_reader *reader);

#endif
