/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport, version 2 (virtio 1.2, section 4.2): the registers of one device.
 *
 * Threads: vCPUs call read and write concurrently. A mutex guards selectors and negotiation. It is held while an
 * activation or a reset waits for the loop's thread, so the loop's thread must never take it. InterruptStatus and
 * InterruptACK, which the guest accesses for every interrupt, take no lock.
 */
#ifndef WISP_VIRTIO_MMIO_H
#define WISP_VIRTIO_MMIO_H

#include <pthread.h>
#include <stdint.h>

#include "virtio/device.h"

/* The size of a device's registers in guest physical memory, in bytes. */
#define VIRTIO_MMIO_WINDOW 0x1000u

/* The register of kicks: a 4-byte write of the queue's index. Bind the ioeventfds here. */
#define VIRTIO_MMIO_KICK_OFFSET 0x50u

struct virtio_mmio {
	struct virtio_dev *dev;
	pthread_mutex_t lock; /* guards what follows, and the queues' virtq_state of an inactive device */
	uint32_t device_features_sel;
	uint32_t driver_features_sel;
	uint32_t queue_sel;
	uint64_t driver_features;
};

/* `dev` remains its owner's and outlives the transport. */
void virtio_mmio_init(struct virtio_mmio *mmio, struct virtio_dev *dev);
void virtio_mmio_destroy(struct virtio_mmio *mmio);

/*
 * One access of the guest, at `offset` in the window. Any offset, and any length up to 8, is valid. Reads always fill
 * in `data`. A write to Status may wait for the loop's thread. Any thread.
 */
void virtio_mmio_read(struct virtio_mmio *mmio, uint64_t offset, void *data, unsigned len);
void virtio_mmio_write(struct virtio_mmio *mmio, uint64_t offset, const void *data, unsigned len);

#endif
