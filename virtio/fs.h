/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio file system device (virtio 1.2, section 5.11) for one shared folder. The device passes FUSE messages between
 * the guest's memory and wisp-fs (vmm/shared/fs_wire.h), which has the folder; here nothing opens a file.
 */
#ifndef WISP_VIRTIO_FS_H
#define WISP_VIRTIO_FS_H

#include "virtio/device.h"

#define FS_TAG_MAX 36u /* bytes; one that is as long has no NUL */

struct fsdev_options {
	const char *tag;  /* by which the driver finds it; copied */
	const char *path; /* in the guest, for messages; outlives the device */
	int socket;
	int requests; /* the pipe's end for writing, which does not block */
	int replies;
};

/*
 * 0 and `*dev` (ended by virtio_destroy), which then owns the descriptors; or -errno with `err`, and they stay the
 * caller's. Loop's thread.
 */
int fsdev_create(
        struct virtio_dev **dev, const struct virtio_env *env, const struct fsdev_options *opt, struct err *err);

#endif
