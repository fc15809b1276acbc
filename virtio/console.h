/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio console of one port (virtio 1.2, section 5.3): the guest's hvc0. */
#ifndef WISP_VIRTIO_CONSOLE_H
#define WISP_VIRTIO_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include "virtio/device.h"

/* Input that the device keeps for a guest that does not take it, in bytes. */
#define CONSOLE_INPUT_MAX 4096u

struct console_options {
	/*
	 * What the guest prints; `data` is a copy, valid for the call. Usually on the loop's thread; emergency writes
	 * (a byte each) come on a vCPU's, possibly at the same time. Must not block; what it has no room for is lost.
	 */
	void (*output)(void *context, const void *data, size_t len);
	/* The guest took input, so there is room for more. Loop's thread. May be NULL. */
	void (*input_room)(void *context);
	void *context;
	uint16_t cols, rows; /* 0: size unknown */
};

/* 0 and `*dev` (ended by virtio_destroy), or -errno with `err`. Loop's thread. */
int console_create(
        struct virtio_dev **dev, const struct virtio_env *env, const struct console_options *opt, struct err *err);

/*
 * Bytes typed: queued until the guest takes them. Returns how many were accepted, which is less than `len` when the
 * guest is slow. Loop's thread.
 */
size_t console_input(struct virtio_dev *dev, const void *data, size_t len);

/* The terminal has another size now. Loop's thread. */
void console_resize(struct virtio_dev *dev, uint16_t cols, uint16_t rows);

#endif
