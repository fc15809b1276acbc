/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of x86-64 vCPUs and of the VM outside guest memory, as a snapshot has it: plain data, in KVM's own
 * structures, for the same processor model and kernel only.
 */
#ifndef WISP_MONITOR_X86_64_STATE_H
#define WISP_MONITOR_X86_64_STATE_H

#include <linux/kvm.h>
#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/x86_64/cpuid.h"
#include "vmm/monitor/x86_64/ioapic.h"

#define STATE_MSRS_MAX 256u

struct state_vcpu {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	uint32_t tsc_khz;
	uint32_t msr_count;
	uint32_t zero;
	struct kvm_msr_entry msr[STATE_MSRS_MAX];
};

struct state_vm {
	uint64_t clock_ns; /* of kvm-clock */
	struct ioapic_state ioapic;
	uint32_t cpuid_count;
	uint32_t zero;
	struct kvm_cpuid_entry2 cpuid[CPUID_ENTRIES_MAX]; /* of vCPU 0 */
};

/* The vCPU is outside KVM_RUN, with its last exit completed. `kvm_fd` is /dev/kvm. 0, or -errno with `err`. */
int state_save_vcpu(int kvm_fd, int vcpu_fd, struct state_vcpu *state, struct err *err);

/* For a vCPU that has its CPUID, and has not run; vCPU 0 before the others. 0, or -errno with `err`. */
int state_restore_vcpu(int vcpu_fd, unsigned index, const struct state_vcpu *state, struct err *err);

int state_save_clock(int vm_fd, struct state_vm *state, struct err *err);
int state_restore_clock(int vm_fd, const struct state_vm *state, struct err *err);

/* 0, or -EINVAL with `err` if this host would show the guest another processor than `state` has. */
int state_check_cpuid(const struct state_vm *state, const struct kvm_cpuid2 *own, struct err *err);

#endif
