/* SPDX-License-Identifier: Apache-2.0 */
/* Adds what vCPUs and devices have counted to struct stats. On the loop's thread, while the guest may run. */
#ifndef WISP_MONITOR_TALLY_H
#define WISP_MONITOR_TALLY_H

#include "virtio/device.h"
#include "vmm/monitor/vcpu.h"
#include "vmm/shared/stats.h"

/* Finds KVM's counters at its first call. */
void tally_vcpus(struct stats *stats, struct vcpu *vcpu, unsigned count);

/* Disks get the names that the guest gives them, by their order. */
void tally_devices(struct stats *stats, struct virtio_dev *const *device, unsigned count);

#endif
