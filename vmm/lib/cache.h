/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache of packed directories and expanded snapshots: <16 hex digits of the path>-<32 of the contents>, then
 * .squashfs or .snapshot; and of the snapshots for warm starts: warm-<16 hex digits of the configuration>.snap. An
 * entry's time is when it was last used. A running sandbox has a lock on its image, as on any disk, and on its
 * snapshot.
 */
#ifndef WISP_LIB_CACHE_H
#define WISP_LIB_CACHE_H

#include "vmm/lib/lib.h"

struct cache_limits {
	size_t images;
	uint64_t bytes; /* on the disk */
	int64_t age_s;  /* since the last use */
};

#define CACHE_WARM "warm-"

/* What a cache is held to whenever an entry is added. */
#define CACHE_LIMITS ((struct cache_limits){.images = 32, .bytes = 8ull << 30, .age_s = 30 * 24 * 60 * 60})

/*
 * Deletes images until the limits hold, those first that were not used for longest, and what dead processes left
 * behind. Spares images that a sandbox uses, or that somebody has found in the last minute and may not have opened yet.
 * Returns the number of deleted images.
 */
int cache_trim(int cache_fd, const struct cache_limits *limits);

/* Opens the cache, whose images are trusted. Refuses one in which other users could have put some. */
int cache_open(const char *cache_dir, int *fd, struct wisp_error *error);

/* Whether the file's path is that of a packed directory in a cache: its contents never change, and its time does. */
bool cache_is_image(const char *path);

/* Locks the directory's part of the cache, so that one process packs it. Returns a descriptor to close, or -errno,
 * that of lib_poll among them. */
int cache_lock(int cache_fd, const char *name, const struct lib_cancel *cancel);
/* The same without waiting: -EWOULDBLOCK if another process has the lock. */
int cache_try_lock(int cache_fd, const char *name);

#endif
