/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of the host, which virtiofs devices serve. */
#ifndef WISP_AGENT_FOLDERS_H
#define WISP_AGENT_FOLDERS_H

#include <stdbool.h>
#include <stddef.h>

#define FOLDERS_MAX 8

struct folder {
	bool read_only;
	bool is_file; /* the folder is there for one file, which is what is wanted */
	char path[256];
};

/* "rw:/PATH", "ro:file:/PATH" and so on, with %XX for what is not plain. False: it is none of these. */
bool folder_parse(const char *word, struct folder *folder);

/*
 * For each one that is mounted, a mount that is in no namespace: programs may unmount the folder, or mount something
 * over it or above it that does not answer.
 */
struct folders {
	unsigned count;
	int mounts[FOLDERS_MAX]; /* O_PATH */
};

/*
 * Mounts the folder of the n-th device, unless its word is "/", after the image's own file systems. 0, or -errno after
 * a line on the console.
 */
int folder_mount(struct folders *folders, unsigned n, const char *word);

/*
 * The machine was restored, and the host may have changed the folders meanwhile: has the kernel drop what it remembers
 * of those that are mounted, but for what is in use. Waits for no program of the guest. Linux before 5.2 lacks the
 * calls for it; it then forgets within 0.9 s.
 */
void folders_refresh(const struct folders *folders);

#endif
