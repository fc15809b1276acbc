/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/tally.h"

#include <linux/virtio_ids.h>
#include <stdio.h>

_Static_assert((unsigned)STATS_EXIT_KINDS <= KVM_STATS_MAX, "a place for every counter");

static void find(struct kvm_stats *stats)
{
	char text[STATS_EXIT_KINDS][32];
	const char *names[STATS_EXIT_KINDS];
	for (unsigned kind = 0; kind < STATS_EXIT_KINDS; kind++) {
		const char *name = stats_exit_name(kind);
		snprintf(text[kind], sizeof(text[kind]), "%s%sexits", name ? name : "", name ? "_" : "");
		names[kind] = text[kind];
	}
	kvm_stats_find(stats, names, STATS_EXIT_KINDS);
}

void tally_vcpus(struct stats *stats, struct vcpu *vcpu, unsigned count)
{
	uint64_t value[KVM_STATS_MAX];
	bool known[KVM_STATS_MAX];
	stats->cpus = count;
	for (unsigned i = 0; i < count && i < WISP_CPUS_MAX; i++) {
		stats->vcpu_ns[i] = vcpu_cpu_ns(&vcpu[i]);
		if (vcpu[i].stats.count == 0)
			find(&vcpu[i].stats);
		kvm_stats_read(&vcpu[i].stats, value, known);
		for (unsigned kind = 0; kind < STATS_EXIT_KINDS; kind++) {
			stats->exits[kind] += value[kind];
			stats->exits_known |= (uint32_t)known[kind] << kind;
		}
	}
}

static struct stats_device describe(const struct virtio_dev *dev)
{
	return (struct stats_device){.bytes_to_guest = dev->to_guest.bytes,
	        .bytes_from_guest = dev->from_guest.bytes,
	        .operations_to_guest = dev->to_guest.operations,
	        .operations_from_guest = dev->from_guest.operations,
	        .operations_other = dev->other_operations};
}

void tally_devices(struct stats *stats, struct virtio_dev *const *device, unsigned count)
{
	unsigned disks = 0, folders = 0;
	for (unsigned i = 0; i < count && i < STATS_DEVICES_MAX; i++) {
		struct stats_device *to = &stats->device[stats->device_count++];
		*to = describe(device[i]);
		if (device[i]->type->id == VIRTIO_ID_BLOCK)
			snprintf(to->name, sizeof(to->name), "vd%c", (char)('a' + disks++));
		else if (device[i]->type->id == VIRTIO_ID_FS)
			snprintf(to->name, sizeof(to->name), "folder%u", folders++);
		else
			snprintf(to->name, sizeof(to->name), "%s", device[i]->type->name);
	}
}
