/* SPDX-License-Identifier: Apache-2.0 */
/* A file of the host that receives what is copied out of a sandbox. */
#ifndef WISP_CLI_CP_FILE_H
#define WISP_CLI_CP_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cp_file {
	int parent, fd;
	int signals;      /* a signalfd that ends a wait, or -1 */
	bool in_place;    /* written to as it is: a device, a pipe, or the target of a link */
	bool seekable;    /* a regular file; its size is set at the end */
	const char *last; /* its name in `parent` */
	const char *show; /* what messages call it */
	off_t at;
	char temporary[32];
};

/*
 * Every function returns 0, or an exit code after a message; a wait that a signal ends, 128 and its number.
 *
 * A new file, under a temporary name until cp_file_commit puts it in the place of `last`.
 */
int cp_file_create(struct cp_file *file, int parent, const char *last, const char *show);
/* Opens the existing `path` and follows links, as cp(1) does. Waits for the reader of a FIFO. */
int cp_file_open(struct cp_file *file, const char *path, int signals);
int cp_file_write(struct cp_file *file, const char *data, size_t length);
int cp_file_commit(struct cp_file *file, mode_t mode, int64_t mtime);
/* Removes the temporary name, if the file was not committed, and closes it. */
void cp_file_destroy(struct cp_file *file);

/* Whether a file or a link may take the place of `last`: nothing but a file or a link may be there. */
bool cp_may_replace(int parent, const char *last);
/* Waits until `fd` has one of these events, or one of the signals is pending. 0, or the number of the signal. */
int cp_wait(int fd, short events, int signals);

#endif
