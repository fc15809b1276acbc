/* SPDX-License-Identifier: Apache-2.0 */
/* What PID 1 makes of a bare initramfs before it can serve: the root file system, the usual mounts, lo, the host name.
 */
#ifndef WISP_AGENT_INIT_H
#define WISP_AGENT_INIT_H

#include <stdbool.h>

#include "agent/folders.h"
#include "agent/identity.h"

/* From the kernel's command line, after "--". */
struct init_options {
	const char *root;    /* device under /dev, or a folder's tag; NULL: stay in the initramfs */
	const char *overlay; /* device under /dev with a writable ext4 for what changes, NULL: tmpfs */
	const char *host;
	const char *net; /* for net_begin(); NULL: no card */
	const char *net6;
	long cpus;      /* that the machine has; 0: not told */
	bool read_only; /* root is an image: what changes goes to an overlay */
	bool stamps;
	const char *folders[FOLDERS_MAX]; /* of the host: folders.h */
	unsigned folder_count;
};

/*
 * Sets the guest up. 0, or -errno after a line about it on the console. Without a root that can be changed it fails;
 * of the rest what does not work (a kernel without it) is logged and left out. *folders, of zeros, is for
 * folders_refresh(), *over_fd for init_undo().
 */
int init_guest(const struct init_options *options, struct folders *folders, int *over_fd);

/* The guest's own. */
extern const struct identity_files init_identity;

/* Everything unmounted or read-only, and on disk. For the end: no other process is left. */
void init_undo(int over_fd);

/* One line, to the kernel's log. */
void init_log(const char *line);

/* The same for the reason why the guest ends: also to the console, before the call returns. */
void init_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
