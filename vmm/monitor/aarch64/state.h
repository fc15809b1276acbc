/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of arm64 vCPUs and of the interrupt controller, as a snapshot has it: plain data, for the same processor
 * model and kernel only.
 */
#ifndef WISP_MONITOR_AARCH64_STATE_H
#define WISP_MONITOR_AARCH64_STATE_H

#include <linux/kvm.h>
#include <stdint.h>

#include "vmm/monitor/aarch64/gic.h"
#include "vmm/monitor/err.h"

#define STATE_REGISTERS_MAX 448u

/* One of those that KVM lists, by KVM's id. The largest that a guest without SVE has is a vector register. */
struct state_register {
	uint64_t id;
	uint64_t value[2];
};

struct state_vcpu {
	struct kvm_mp_state mp;
	uint32_t count;
	struct kvm_vcpu_events events;
	uint32_t redistributor[GIC_REDISTRIBUTOR_STATE];
	uint32_t zero;
	uint64_t interface[GIC_INTERFACE_STATE];
	struct state_register reg[STATE_REGISTERS_MAX];
};

struct state_vm {
	uint32_t distributor[GIC_DISTRIBUTOR_STATE];
	uint32_t zero;
};

_Static_assert(sizeof(struct state_vcpu) % 8 == 0 && sizeof(struct state_vm) % 8 == 0, "as snapshot.c puts them");

/* The vCPU is outside KVM_RUN, with its last exit completed. 0, or -errno with `err`. */
int state_save_vcpu(int gic_fd, int vcpu_fd, unsigned index, struct state_vcpu *state, struct err *err);

/* For a vCPU that has not run, after state_restore_gic. 0, or -errno with `err`. */
int state_restore_vcpu(int gic_fd, int vcpu_fd, unsigned index, const struct state_vcpu *state, struct err *err);

int state_save_gic(int gic_fd, struct state_vm *state, struct err *err);
int state_restore_gic(int gic_fd, const struct state_vm *state, struct err *err);

#endif
