/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed files: independent zstd frames, each of FRAMES_CONTENT bytes but the last, and a table of their sizes in a
 * skippable frame at the end (zstd's "seekable format", version 0.1.0). `zstd -d` expands such a file, too. The reader
 * takes it as hostile.
 */
#ifndef WISP_LIB_FRAMES_H
#define WISP_LIB_FRAMES_H

#include "vmm/lib/lib.h"
#include "vmm/shared/snapshot.h"

#define FRAMES_CONTENT SNAPSHOT_CHUNK

struct frames {
	int fd;
	uint32_t count;
	uint64_t *offsets;     /* of the frames, and of the table; count + 1 */
	uint64_t content_size; /* of all frames */
	uint8_t *in;
	uint8_t *out; /* the frame that was expanded last */
	int64_t current;
};

/* Whether `bytes` may be the first of such a file. */
bool frames_is_start(const void *bytes, size_t size);
/* Reads the table of the file `fd`, which stays the caller's. 0, -ENOMEM, another -errno, or -EBADMSG with *why. */
int frames_open(int fd, struct frames *frames, const char **why);
/* Reads of the content. Returns how much, less than `size` only at its end, or as above. */
ssize_t frames_read(struct frames *frames, void *to, size_t size, uint64_t offset, const char **why);
void frames_close(struct frames *frames);

/* Compresses the first `size` bytes of `from` to the empty file `to`. 0 or -errno, that of lib_poll among them. */
int frames_write(int from, uint64_t size, int to, const struct lib_cancel *cancel, const struct lib_progress *progress);

#endif
