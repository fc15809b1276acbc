/* SPDX-License-Identifier: Apache-2.0 */
/* A creation under way: the caller's options, and the description and descriptors that they become. */
#ifndef WISP_LIB_DESCRIBE_H
#define WISP_LIB_DESCRIBE_H

#include "vmm/lib/lib.h"
#include "vmm/shared/description.h"

struct creation {
	struct wisp_create_options options; /* checked, defaults filled in */
	struct lib_cancel cancel;
	struct description description;
	struct description_fds fds;
	char *helper;
	char *image;                                 /* the file that is the image, absolute */
	char *disk_names[DESCRIPTION_DISKS_MAX + 1]; /* "ro PATH" or "rw PATH" of each disk, for the config */
};

/*
 * Opens, checks and locks every file that the options name, and fills in the description, but for what depends on the
 * sandbox's name. 0 or -errno with `error`; release with creation_free either way.
 */
int creation_describe(struct creation *creation, struct wisp_error *error);

void creation_init(struct creation *creation);
void creation_free(struct creation *creation);

#endif
