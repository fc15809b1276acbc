/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's state and memory, out of a machine that is paused and into one that is being built.
 *
 * The state is one block of plain data: a head with the sizes of all parts, the VM's, the vCPUs', the devices'. It is
 * hostile where it comes from a file: what its head says is checked here, each part by whom it belongs to.
 */
#ifndef WISP_MONITOR_SNAPSHOT_H
#define WISP_MONITOR_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/mmio.h"
#include "vmm/monitor/arch.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"
#include "vmm/monitor/kvm.h"
#include "vmm/monitor/vcpu.h"
#include "vmm/shared/snapshot.h"

/* What a machine consists of. */
struct snapshot_parts {
	const struct gmem *gmem;
	struct kvm *kvm;
	struct arch *arch;
	struct vcpu *vcpu;
	unsigned cpus;
	struct virtio_mmio *transport;
	unsigned devices;
};

/*
 * Where a restored machine comes from. The memory is mapped already; machine_create takes it over. The state is only
 * read, and may be used again.
 */
struct snapshot_origin {
	void *state; /* from malloc */
	size_t state_size;
	struct gmem gmem;
	const struct arch *source; /* of a clone: the machine's that was saved, of which it is a copy. Else NULL */
};

/*
 * Reads the parts' state: no vCPU runs, no device is busy. 0 or -errno with `err`. The caller frees origin->state;
 * origin->gmem is the machine's own.
 */
int snapshot_save(const struct snapshot_parts *parts, struct snapshot_origin *origin, struct err *err);

/* Writes the monitor's parts of a snapshot file. 0 with `layout` filled in, or -errno with `err`. */
int snapshot_write(int fd, const struct snapshot_origin *origin, struct snapshot_layout *layout, struct err *err);

/*
 * Reads the state out of a snapshot file, and the memory of a machine of `memory` bytes and so many folders: with
 * `prefetch` into memory of its own, else it is mapped, and the pages are those of the host's page cache until the
 * guest writes to them. Writes do not reach the file. 0, or -errno with `err`.
 */
int snapshot_read(int fd, const struct snapshot_layout *layout, uint64_t memory, unsigned folders, bool prefetch,
        struct snapshot_origin *origin, struct err *err);

/* Releases both. Takes a zeroed object. */
void snapshot_destroy(struct snapshot_origin *origin);

/* How many devices the saved machine has, as its state says it. */
unsigned snapshot_devices(const struct snapshot_origin *origin);

/* 0, or -EINVAL with `err`: the state is not of a machine of these parts. Before the other two. */
int snapshot_check(const struct snapshot_parts *parts, const struct snapshot_origin *origin, struct err *err);

/* On the loop's thread, before it has a ring. 0, or -errno with `err`. */
int snapshot_restore_devices(const struct snapshot_parts *parts, const struct snapshot_origin *origin, struct err *err);

/* The VM and its vCPUs, which have their CPUID and have not run. 0, or -errno with `err`. */
int snapshot_restore_vm(const struct snapshot_parts *parts, const struct snapshot_origin *origin, struct err *err);

#endif
