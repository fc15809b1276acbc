/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rate of a device, in bytes and operations, both directions together. A device asks before it fetches a chain, and
 * says afterwards what it has moved. When it has to wait, the chains stay in their queues: the driver waits as for a
 * slow device, and loses nothing. One timer then kicks the queues that wait, each of them first in its turn; there is
 * none while tokens are there.
 */
#ifndef WISP_VIRTIO_LIMIT_H
#define WISP_VIRTIO_LIMIT_H

#include "virtio/device.h"

/* In tokens a second; 0: unlimited. Before the device is activated. */
static inline void virtio_set_rate(struct virtio_dev *dev, uint64_t bytes, uint64_t operations)
{
	dev->limit.bytes.rate = bytes;
	dev->limit.operations.rate = operations;
}

static inline bool virtio_is_limited(const struct virtio_dev *dev)
{
	return dev->limit.bytes.rate | dev->limit.operations.rate;
}

/* For virtio_may. */
bool virtio_ask(struct virtio_dev *dev, unsigned queue);

/*
 * Whether the device may start something of `queue` now. If not, it must leave the queue as it is, without virtio_more:
 * the queue is kicked when it may. The loop's thread.
 */
static inline bool virtio_may(struct virtio_dev *dev, unsigned queue)
{
	return !virtio_is_limited(dev) || virtio_ask(dev, queue);
}

/* Counts one operation of `bytes` in one direction, and takes its tokens. The loop's thread. */
void virtio_moved(struct virtio_dev *dev, struct virtio_count *direction, uint64_t bytes);

/* The tokens alone, of an operation that was counted otherwise. */
void virtio_take(struct virtio_dev *dev, uint64_t bytes, uint64_t operations);

#endif
