/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport, version 2 (virtio 1.2, section 4.2): the registers of one device.
 *
 * Threads: vCPUs call read and write at the same time. A mutex guards selectors and negotiation. It is held while
 * an activation or a reset waits for the loop's thread, so the loop's thread never takes it. InterruptStatus and
 * InterruptACK, which each interrupt of the guest goes through, take no lock.
 */
#ifndef WISP_VIRTIO_MMIO_H
#define WISP_VIRTIO_MMIO_H

#include <pthread.h>
#include <stdint.h>

#include "virtio/device.h"

/* Bytes of guest-physical space that one device answers for. */
#define VIRTIO_MMIO_WINDOW 0x1000u

/* Where the driver kicks: a 4-byte write of the queue's index. The place for the ioeventfds. */
#define VIRTIO_MMIO_KICK_OFFSET 0x50u

struct virtio_mmio {
	struct virtio_dev *dev;
	pthread_mutex_t lock; /* guards what follows, and the queues' virtq_state of an inactive device */
	uint32_t device_features_sel;
	uint32_t driver_features_sel;
	uint32_t queue_sel;
	uint64_t driver_features;
};

/* `dev` stays its owner's and outlives the transport. */
void virtio_mmio_init(struct virtio_mmio *mmio, struct virtio_dev *dev);
void virtio_mmio_destroy(struct virtio_mmio *mmio);

/*
 * One access of the guest, `offset` bytes into the window. Any offset and length up to 8 may come. Reads always fill
 * in `data`. A write to Status may wait for the loop's thread. Any thread.
 */
void virtio_mmio_read(struct virtio_mmio *mmio, uint64_t offset, void *data, unsigned len);
void virtio_mmio_write(struct virtio_mmio *mmio, uint64_t offset, const void *data, unsigned len);

#endif
