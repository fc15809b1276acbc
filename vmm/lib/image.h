/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root images. A disk image's format is read from its first bytes only to say clearly what is no image and what
 * cannot be written to; the guest mounts it by itself. A directory becomes a squashfs in a cache.
 */
#ifndef WISP_LIB_IMAGE_H
#define WISP_LIB_IMAGE_H

#include "vmm/lib/lib.h"

enum image_format { IMAGE_UNKNOWN, IMAGE_SQUASHFS, IMAGE_EROFS, IMAGE_EXT4 };

/*
 * Opens an image, for writing too if `writable`, and refuses what is not one or is shorter than its own header says.
 * *fd is the caller's. 0 or -errno with `error`.
 */
int image_open(const char *path, bool writable, int *fd, enum image_format *format, struct wisp_error *error);

/* The path of mksquashfs, NULL if it is not installed. */
const char *image_find_packer(void);

/* The path of the packed directory, to be freed by the caller; packs it if it changed. */
int image_pack(const char *dir, const char *cache_dir, char **path, struct wisp_error *error);

#endif
