/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root images. The format of a disk image is read from its first bytes, only to refuse what is not an image or cannot
 * be written to; the guest mounts it on its own. A directory is packed into a squashfs in a cache.
 */
#ifndef WISP_LIB_IMAGE_H
#define WISP_LIB_IMAGE_H

#include "vmm/lib/lib.h"

enum image_format { IMAGE_UNKNOWN, IMAGE_SQUASHFS, IMAGE_EROFS, IMAGE_EXT4 };

/*
 * Opens an image, also for writing if `writable`, and stores the descriptor in *fd, which the caller closes. Refuses a
 * file that is not an image, or is shorter than its superblock says.
 */
int image_open(const char *path, bool writable, int *fd, enum image_format *format, struct wisp_error *error);

/* Returns the path of mksquashfs, or NULL if it is not installed. */
const char *image_find_packer(void);

/* Packs the directory if it has changed, and stores the path of the image in *path. The caller frees it. */
int image_pack(const char *dir, const char *cache_dir, char **path, struct wisp_error *error);

#endif
