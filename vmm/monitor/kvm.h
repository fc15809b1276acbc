/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM calls that are the same on every architecture: the VM, its memory slots, interrupts and doorbells as
 * eventfds. What is particular to a processor is in arch.h and kvm_arch.h.
 */
#ifndef WISP_MONITOR_KVM_H
#define WISP_MONITOR_KVM_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"

struct kvm {
	int dev_fd;      /* /dev/kvm */
	int vm_fd;       /* -1 until created */
	size_t run_size; /* bytes of a vCPU's shared struct kvm_run */
};

/* Opens /dev/kvm: 0, or -errno with `err` saying what the host lacks. */
int kvm_open(struct kvm *kvm, struct err *err);

/* Creates a VM, as yet of nothing. On any thread; others may read dev_fd meanwhile. 0, or -errno with `err`. */
int kvm_create_vm(struct kvm *kvm, struct err *err);

/*
 * Gives the VM `gmem` as its memory. Before it has interrupt controllers: a memory slot that is set later waits for an
 * SRCU grace period, 6 ms instead of 0.1 ms. 0, or -errno with `err`. `gmem` must outlive the VM.
 */
int kvm_set_memory(struct kvm *kvm, const struct gmem *gmem, struct err *err);

/* Closes everything. Takes a zeroed (never opened) or destroyed object; no vCPU of it may still run. */
void kvm_destroy(struct kvm *kvm);

/* An interrupt line that the eventfd raises (an edge): 0 or -errno. */
int kvm_bind_irq(struct kvm *kvm, int event_fd, uint32_t gsi);

/* A 4-byte guest write of `value` at `addr` signals the eventfd and does not exit to the host's user mode. */
int kvm_bind_doorbell(struct kvm *kvm, int event_fd, gpa_t addr, uint32_t value);

#endif
