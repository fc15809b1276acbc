/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio block device (virtio 1.2, section 5.2) over a raw file or block device. One object a disk. */
#ifndef WISP_VIRTIO_BLK_H
#define WISP_VIRTIO_BLK_H

#include <stdbool.h>

#include "virtio/device.h"

enum blk_cache {
	BLK_WRITEBACK, /* the host's page cache; a flush of the guest reaches stable storage (fdatasync) */
	BLK_DIRECT,    /* the same promise, past the page cache: `fd` was opened with O_DIRECT */
	BLK_UNSAFE,    /* the host's page cache, and flushes do nothing: for disks that do not outlive the VM */
};

struct blk_options {
	int fd; /* a regular file or a block device; never anything but raw sectors */
	bool readonly;
	enum blk_cache cache;
	unsigned queues; /* 0: one; at most VIRTIO_QUEUES_MAX */
	char id[20];     /* the serial number; not terminated when all 20 bytes are used */
};

/*
 * 0 and `*dev` (ended by virtio_destroy), which owns opt->fd from then on; or -errno with `err`, and fd is still the
 * caller's. The disk is as large as the file is now, in whole sectors of 512 bytes. Loop's thread.
 */
int blk_create(struct virtio_dev **dev, const struct virtio_env *env, const struct blk_options *opt, struct err *err);

#endif
