/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root images and overlays. Their superblocks are read only to refuse, by name, what the guest would fail to mount; the
 * guest finds out on its own what it mounts. A directory is packed into a squashfs in a cache.
 */
#ifndef WISP_LIB_IMAGE_H
#define WISP_LIB_IMAGE_H

#include "vmm/lib/lib.h"
#include "vmm/lib/superblock.h"

struct image_use {
	bool writable;     /* the guest writes to the image itself */
	bool overlay;      /* it is no image, but keeps the changes to one */
	bool other_kernel; /* the caller's: nobody knows what it mounts */
};

/*
 * Opens an image, also for writing if `writable`, and stores the descriptor in *fd, which the caller closes. Refuses
 * what image_check refuses.
 */
int image_open(
        const char *path, const struct image_use *use, int *fd, enum image_format *format, struct wisp_error *error);
/* Refuses a file that is not an image, that is shorter than its superblock says, or that the guest cannot mount. */
int image_check(
        int fd, const char *path, const struct image_use *use, enum image_format *format, struct wisp_error *error);

/* Packs the directory if it has changed, and stores the path of the image in *path. The caller frees it. */
int image_pack(
        const char *dir, const char *cache_dir, const struct lib_cancel *cancel, char **path, struct wisp_error *error);

#endif
