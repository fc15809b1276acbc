/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a virtio device and its transport, for snapshots and forks.
 *
 * The machine parks its vCPUs, so that none accesses a device. On the loop's thread it then runs rounds of the loop
 * until no device is busy, and saves all devices with no round in between. The devices that were saved lose nothing:
 * they go on as if nothing had happened. A new machine creates its devices with the same options, restores their state
 * before its loop has a ring and its vCPUs run, and resumes them once the loop has one.
 *
 * Chains that the driver made available, and that no device has fetched, are in guest memory and belong to whoever has
 * that memory: virtio_resume kicks every queue. Interrupts may get lost on the way, and are raised again.
 *
 * Connections of the host to a socket device are not part of its state. The restored device tells the driver that all
 * connections are gone.
 */
#ifndef WISP_VIRTIO_STATE_H
#define WISP_VIRTIO_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/mmio.h"

/* Plain data without padding. virtio_restore trusts none of it. */
struct virtio_state {
	uint32_t id;          /* the device type's */
	uint32_t queue_count; /* the device's; the other queues are zeros */
	uint64_t driver_features, negotiated;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint32_t status, interrupt_status, config_generation;
	uint32_t active, started; /* 0 or 1, as in struct virtio_dev */
	uint64_t own[2];          /* the device's: see its `save` */
	struct virtq_state queue[VIRTIO_QUEUES_MAX];
};

/*
 * Whether operations are in flight that access guest memory or a disk. Each ends without help of the guest or of a
 * client, so a round of the loop may wait for it. Loop's thread.
 */
bool virtio_busy(const struct virtio_dev *dev);

/*
 * Shows the driver all completions, raises the interrupt if it wants one, and fills in `state`. The device is not busy.
 * Interrupts raised here belong to the state of the machine's interrupt controllers. Loop's thread; no vCPU runs.
 */
void virtio_save(struct virtio_mmio *mmio, struct virtio_state *state);

/*
 * Gives a new device a saved state, which is checked like a driver's writes to the registers. Guest memory is that of
 * the save. An active device is active again, but serves nothing before virtio_resume (device.h). 0, or -errno with
 * `err`: the device is then good for virtio_destroy only. Loop's thread, whose loop need not be open; no vCPU runs.
 */
int virtio_restore(struct virtio_mmio *mmio, const struct virtio_state *state, struct err *err);

/*
 * What a device has to save beyond struct virtio_state, of any size. The caller frees *data, which is NULL if there is
 * nothing. After virtio_save. 0, or -errno with `err`.
 */
int virtio_save_more(struct virtio_dev *dev, void **data, size_t *size, struct err *err);

/* Whether virtio_save_more returns something, and virtio_restore_more is to follow virtio_restore. */
bool virtio_has_more(const struct virtio_dev *dev);
int virtio_restore_more(struct virtio_dev *dev, const void *data, size_t size, struct err *err);

#endif
