/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio console of one port (virtio 1.2, section 5.3), for output only: the guest's hvc0. */
#ifndef WISP_VIRTIO_CONSOLE_H
#define WISP_VIRTIO_CONSOLE_H

#include <stddef.h>

#include "virtio/device.h"

struct console_options {
	/*
	 * Called with what the guest prints; `data` is a copy, valid for the call. Usually on the loop's thread.
	 * Emergency writes, of one byte each, come on vCPU threads, possibly at the same time. Must not block.
	 */
	void (*output)(void *context, const void *data, size_t len);
	void *context;
};

/* 0 and `*dev` (ended by virtio_destroy), or -errno with `err`. Loop's thread. */
int console_create(
        struct virtio_dev **dev, const struct virtio_env *env, const struct console_options *opt, struct err *err);

#endif
