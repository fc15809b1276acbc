/* SPDX-License-Identifier: Apache-2.0 */
/* The two directions of wisp cp. */
#ifndef WISP_CLI_CP_H
#define WISP_CLI_CP_H

#include <sys/stat.h>

#include "vmm/cli/guest.h"
#include "vmm/cli/progress.h"

struct copy {
	struct wisp_sandbox *sandbox;
	const char *user;
	bool quiet;
	bool changed; /* a file changed while it was copied; it was reported */
	int signals;  /* a signalfd: signals that interrupt the copy */
	struct progress progress;
};

/* Makes a path of the guest absolute, relative to /, without a slash at its end. To be freed. */
char *cp_guest_path(const char *path);
/* Returns the directory of a path, to be freed, and its last component, which points into `path`. */
char *cp_split(const char *path, const char **last);

/* cp_send.c, cp_receive.c: 0, or an exit code after a message. `into`: the destination is a directory that exists. */
int cp_send(struct copy *copy, const char *source, const char *guest_path, bool into);
int cp_receive(struct copy *copy, const char *guest_path, const char *destination, bool into);

/*
 * cp_source.c: opens a file of the host and tells how many bytes it holds. A file that reports a size of 0, or is of
 * /proc or /sys, is read into memory first. `follow`: it may be a link. -1 with an exit code in *code after a message.
 */
int cp_open_source(struct copy *copy, const char *source, bool follow, uint64_t *size, int *code);
/* Says that a file shrank or grew (`how`) while it was copied: the copy goes on, and wisp fails at its end. */
void cp_report_change(struct copy *copy, const char *source, const char *how);

/* cp_stream.c: the bytes of one file, from standard input or another descriptor, or to standard output. */

int cp_stream_in(struct copy *copy, int fd, const char *show, const char *guest_path);
int cp_stream_out(struct copy *copy, const char *guest_path);

/* cp_sparse.c */

bool cp_is_sparse(const struct stat *st);
/* Sends the data of a file with holes to `path` of the guest. `follow` as above. 0, or an exit code after a message. */
int cp_send_sparse(struct copy *copy, const char *source, bool follow, const char *path);

#endif
