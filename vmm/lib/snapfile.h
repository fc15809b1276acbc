/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's file (vmm/shared/snapshot.h), plain or compressed. What is read of it is hostile until it is checked. */
#ifndef WISP_LIB_SNAPFILE_H
#define WISP_LIB_SNAPFILE_H

#include "vmm/lib/config.h"
#include "vmm/lib/frames.h"
#include "vmm/shared/snapshot.h"

struct snapfile {
	int fd;
	bool compressed;
	struct frames frames; /* if it is compressed */
	uint64_t size;        /* of the content */
	uint8_t *bytes;       /* the head, SNAPSHOT_HEAD_SIZE bytes */
	struct snapshot_head head;
	struct config config;
	const char *path; /* the caller's, for messages */
};

/* Opens a file, reads its head and checks it. Release with snapfile_close if it succeeds. */
int snapfile_open(const char *path, struct snapfile *file, struct wisp_error *error);
/* The same of an open file, which it takes over, even if it fails. */
int snapfile_open_fd(int fd, const char *path, struct snapfile *file, struct wisp_error *error);
void snapfile_close(struct snapfile *file);

/* Compares the machine's state and the extents with their checksum, and checks the extents. */
int snapfile_check_state(struct snapfile *file, struct wisp_error *error);
/* Compares the memory with its checksums. */
int snapfile_check_memory(struct snapfile *file, const struct lib_cancel *cancel, const struct lib_progress *progress,
        struct wisp_error *error);

/* Whether the file open as `fd` is a snapshot, whole or not: one that may be replaced by another. */
bool snapfile_is_one(int fd);

/*
 * Completes a file to which a monitor has written its parts: checks head->layout, adds the checksums, and the head with
 * the config's text. `path` is for messages.
 */
int snapfile_finish(int fd, const char *path, struct snapshot_head *head, const struct lib_string *config,
        const struct lib_cancel *cancel, const struct lib_progress *progress, struct wisp_error *error);

#endif
