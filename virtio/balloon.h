/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balloon device (section 5.5), for free page reporting alone: the driver names memory that the guest has freed,
 * and the host takes it back. The host never asks for memory, so the balloon stays empty.
 */
#ifndef WISP_VIRTIO_BALLOON_H
#define WISP_VIRTIO_BALLOON_H

#include "virtio/device.h"

/* 0, and *dev is to be destroyed with virtio_destroy; or -errno with `err`. */
int balloon_create(struct virtio_dev **dev, const struct virtio_env *env, struct err *err);

#endif
