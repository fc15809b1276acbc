/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/aarch64/state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>

static int refuse(struct err *err, const char *what, const char *verb)
{
	return err_set(err, errno, "KVM cannot %s the vCPU's %s: %s", verb, what, strerror(errno));
}

/* --- registers --- */

static int list_registers(int vcpu_fd, struct state_vcpu *state, struct err *err)
{
	struct {
		uint64_t count; /* struct kvm_reg_list */
		uint64_t id[STATE_REGISTERS_MAX];
	} list = {.count = STATE_REGISTERS_MAX};
	if (ioctl(vcpu_fd, KVM_GET_REG_LIST, &list) < 0)
		return refuse(err, "registers", "list");
	for (uint64_t i = 0; i < list.count; i++)
		state->reg[i].id = list.id[i];
	state->count = (uint32_t)list.count;
	return 0;
}

static uint64_t size_of(uint64_t id)
{
	return 1ull << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}

static int save_registers(int vcpu_fd, struct state_vcpu *state, struct err *err)
{
	int ret = list_registers(vcpu_fd, state, err);
	for (uint32_t i = 0; i < state->count && ret == 0; i++) {
		struct kvm_one_reg reg = {.id = state->reg[i].id, .addr = (uintptr_t)state->reg[i].value};
		if (size_of(reg.id) > sizeof(state->reg[i].value))
			return err_set(
			        err, ENOTSUP, "a register of the vCPU is too large: 0x%" PRIx64, (uint64_t)reg.id);
		if (ioctl(vcpu_fd, KVM_GET_ONE_REG, &reg) < 0)
			ret = err_set(err, errno, "KVM cannot read register 0x%" PRIx64 " of the vCPU: %s",
			        (uint64_t)reg.id, strerror(errno));
	}
	return ret;
}

/*
 * KVM refuses another value of a register that describes the processor. The counter is one of the registers: the
 * guest's clock goes on where it was.
 */
static int restore_registers(int vcpu_fd, const struct state_vcpu *state, struct err *err)
{
	if (state->count > STATE_REGISTERS_MAX)
		return err_set(err, EINVAL, "the snapshot is damaged: a vCPU has too many registers");
	for (uint32_t i = 0; i < state->count; i++) {
		struct kvm_one_reg reg = {.id = state->reg[i].id, .addr = (uintptr_t)state->reg[i].value};
		if (size_of(reg.id) > sizeof(state->reg[i].value))
			return err_set(err, EINVAL, "the snapshot is damaged: a register of a vCPU is too large");
		if (ioctl(vcpu_fd, KVM_SET_ONE_REG, &reg) < 0)
			return err_set(err, EINVAL,
			        "the snapshot was made on another processor or kernel (KVM refuses register 0x%" PRIx64
			        ": %s): make it anew on this host",
			        (uint64_t)reg.id, strerror(errno));
	}
	return 0;
}

/* --- a vCPU --- */

int state_save_vcpu(int gic_fd, int vcpu_fd, unsigned index, struct state_vcpu *state, struct err *err)
{
	memset(state, 0, sizeof(*state));
	if (ioctl(vcpu_fd, KVM_GET_MP_STATE, &state->mp) < 0)
		return refuse(err, "MP state", "read");
	if (ioctl(vcpu_fd, KVM_GET_VCPU_EVENTS, &state->events) < 0)
		return refuse(err, "pending events", "read");
	int ret = save_registers(vcpu_fd, state, err);
	return ret < 0 ? ret : gic_save_vcpu(gic_fd, index, state->redistributor, state->interface, err);
}

int state_restore_vcpu(int gic_fd, int vcpu_fd, unsigned index, const struct state_vcpu *state, struct err *err)
{
	int ret = restore_registers(vcpu_fd, state, err);
	if (ret == 0)
		ret = gic_restore_vcpu(gic_fd, index, state->redistributor, state->interface, err);
	if (ret == 0 && ioctl(vcpu_fd, KVM_SET_VCPU_EVENTS, &state->events) < 0)
		ret = refuse(err, "pending events", "set");
	if (ret == 0 && ioctl(vcpu_fd, KVM_SET_MP_STATE, &state->mp) < 0)
		ret = refuse(err, "MP state", "set");
	return ret;
}

/* --- the VM --- */

int state_save_gic(int gic_fd, struct state_vm *state, struct err *err)
{
	memset(state, 0, sizeof(*state));
	return gic_save(gic_fd, state->distributor, err);
}

int state_restore_gic(int gic_fd, const struct state_vm *state, struct err *err)
{
	return gic_restore(gic_fd, state->distributor, err);
}
