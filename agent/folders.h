/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of the host, which virtiofs devices serve. */
#ifndef WISP_AGENT_FOLDERS_H
#define WISP_AGENT_FOLDERS_H

#include <stdbool.h>
#include <stddef.h>

struct folder {
	bool read_only;
	bool is_file; /* the folder is there for one file, which is what is wanted */
	char path[256];
};

/* "rw:/PATH", "ro:file:/PATH" and so on, with %XX for what is not plain. False: it is none of these. */
bool folder_parse(const char *word, struct folder *folder);

/* Mounts the folder of the n-th device, unless its word is "/", after the image's own file systems. 0, or -errno after
 * a line on the console.
 */
int folder_mount(unsigned n, const char *word);

/*
 * The machine was restored, and the host may have changed the folder of this word meanwhile: has the kernel drop what
 * it remembers of it, but for what is in use.
 */
void folder_refresh(const char *word);

#endif
