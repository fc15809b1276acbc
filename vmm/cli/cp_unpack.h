/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a guest's archive, written beneath a directory of the host. */
#ifndef WISP_CLI_CP_UNPACK_H
#define WISP_CLI_CP_UNPACK_H

#include "vmm/cli/cp_file.h"
#include "vmm/cli/progress.h"
#include "vmm/cli/tar.h"

struct unpack_dir;

struct unpack {
	struct tar_reader reader;
	struct progress *progress;
	int root_fd;             /* the directory that everything goes into */
	const char *from;        /* the archive's first component, which becomes ... */
	const char *to;          /* ... this name */
	struct cp_file *through; /* not NULL: the archive must be one file, whose bytes go here */
	/* Directories that the archive is in, outermost first. Their modes and times are set when it leaves them. */
	struct unpack_dir *dirs;
	size_t dir_count;
	size_t entries;
	struct tar_entry last; /* without its names */
};

/* Returns 0, an exit code after a message, or -1 if the archive ends early or is broken: reader.what. */
int unpack_archive(struct unpack *unpack);
/* Bits of a mode that a guest may set: neither set-user-ID nor set-group-ID. */
mode_t unpack_mode(mode_t mode);

#endif
