/* SPDX-License-Identifier: Apache-2.0 */
/* Warm starts: one snapshot for each configuration, made from a fresh boot, in the cache. */
#ifndef WISP_LIB_WARM_H
#define WISP_LIB_WARM_H

#include "vmm/lib/describe.h"

/* The snapshot of a configuration. */
struct warm {
	char *key;        /* the configuration as text, which the snapshot's config repeats */
	int cache_fd;     /* the cache */
	char *path;       /* of the snapshot, for the library's other parts and for messages */
	const char *name; /* the last part of path */
};

/* Refuses options with which a sandbox's state is not in memory alone. */
int warm_check(const struct wisp_create_options *options, struct wisp_error *error);

/* Finds out the place of a described creation's snapshot. Release with warm_close in any case. */
int warm_locate(const struct creation *cold, struct warm *warm, struct wisp_error *error);
void warm_close(struct warm *warm);

/* Opens the snapshot, and locks it so that it stays in the cache. Returns a descriptor to close, or -errno. */
int warm_open(const struct warm *warm);

/*
 * Describes, in an initialised creation, a sandbox that starts from the open snapshot instead of booting as `cold`
 * would. WISP_ERR_SNAPSHOT if the file is damaged or another configuration's.
 */
int warm_describe(const struct warm *warm, int fd, const struct creation *cold, struct creation *creation,
        struct wisp_error *error);

/* Deletes a snapshot that was refused, unless it is not this user's, or another one is there by now. */
void warm_discard(const struct warm *warm, int fd);

#endif
