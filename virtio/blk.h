/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio block device (virtio 1.2, section 5.2) over a raw file or block device. */
#ifndef WISP_VIRTIO_BLK_H
#define WISP_VIRTIO_BLK_H

#include <stdbool.h>

#include "virtio/device.h"

struct blk_options {
	int fd; /* a regular file or a block device, always taken as raw sectors */
	bool readonly;
	bool padded;         /* to 4096 bytes: file systems read whole blocks, beyond the end of an image too */
	bool direct;         /* `fd` was opened with O_DIRECT: requests bypass the page cache */
	bool ignore_flushes; /* the guest's flushes do nothing: for data that may be lost with the host */
	unsigned queues;     /* 0: one; at most VIRTIO_QUEUES_MAX */
	char id[20];         /* the serial number; not terminated if all 20 bytes are used */
};

/*
 * 0 and `*dev` (ended by virtio_destroy), which then owns opt->fd; or -errno with `err`, and fd stays the caller's. The
 * disk has the file's size at this moment, rounded up to whole sectors. Loop's thread.
 */
int blk_create(struct virtio_dev **dev, const struct virtio_env *env, const struct blk_options *opt, struct err *err);

/*
 * Reads the size again, and tells the driver if it has changed. Requests beyond the new end fail. 0, or -errno with
 * `err` and the size as it was. Loop's thread.
 */
int blk_resized(struct virtio_dev *dev, struct err *err);

#endif
