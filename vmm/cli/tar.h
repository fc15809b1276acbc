/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of the tar format that wisp cp needs. It writes POSIX ustar with GNU long names, which every tar in a guest
 * reads. It also reads GNU sizes, and pax names and sizes.
 */
#ifndef WISP_CLI_TAR_H
#define WISP_CLI_TAR_H

#include <sys/stat.h>

#include "vmm/cli/command.h"

#define TAR_BLOCK 512

struct tar_entry {
	char *name;
	char *link; /* the target of a symbolic or hard link */
	char type;  /* '0' file, '1' hard link, '2' symbolic link, '3' '4' devices, '5' directory, '6' FIFO */
	mode_t mode;
	uint64_t size;
	int64_t mtime;
};

/* tar_format.c: returns the header of an entry, *length bytes in whole blocks, to be freed. NULL: out of memory. */
char *tar_make_header(const struct tar_entry *entry, size_t *length);

/* Reads an archive through `read`, which returns 0 at its end. */
struct tar_reader {
	size_t (*read)(void *context, void *data, size_t length);
	void *context;
	const char *what; /* what is wrong, after a failure */
	uint64_t left;    /* bytes of the current entry's data that were not read yet */
	unsigned padding; /* bytes that follow the data */
	char *name, *link;
};

/* Skips the rest of the current entry. 1: *entry is the next one, valid until the next call; 0: the end; -1: `what`. */
int tar_next(struct tar_reader *reader, struct tar_entry *entry);
/* Reads some of the entry's data. 0 at its end; -1: `what`. */
ptrdiff_t tar_read(struct tar_reader *reader, void *data, size_t length);
void tar_end(struct tar_reader *reader);

#endif
