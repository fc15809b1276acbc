/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order matters. What KVM computes from another part of the state comes after that part: the local APIC after the
 * special registers, which have its base; the MSRs after the local APIC, because a TSC deadline is kept only if the
 * APIC's timer is in that mode, and the deadline after the TSC itself; the pending events last.
 */
#include "vmm/monitor/x86_64/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u

static int refuse(struct err *err, const char *what, const char *verb)
{
	return err_set(err, errno, "KVM cannot %s the vCPU's %s: %s", verb, what, strerror(errno));
}

/* --- MSRs --- */

/* Those that KVM would have a VM's user save; the TSC first and its deadline last. */
static int list_msrs(int kvm_fd, struct state_vcpu *state, struct err *err)
{
	struct {
		struct kvm_msr_list head;
		uint32_t index[STATE_MSRS_MAX];
	} list = {.head.nmsrs = STATE_MSRS_MAX - 2};
	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &list) < 0)
		return err_set(err, errno, "cannot list KVM's MSRs: %s", strerror(errno));
	uint32_t count = 0;
	state->msr[count++].index = MSR_TSC;
	for (uint32_t i = 0; i < list.head.nmsrs; i++) {
		if (list.head.indices[i] != MSR_TSC && list.head.indices[i] != MSR_TSC_DEADLINE)
			state->msr[count++].index = list.head.indices[i];
	}
	state->msr[count++].index = MSR_TSC_DEADLINE;
	state->msr_count = count;
	return 0;
}

struct msr_batch {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[STATE_MSRS_MAX];
};

/* KVM lists some that the guest's CPUID does not announce, and refuses to read those: they are left out. */
static int save_msrs(int kvm_fd, int vcpu_fd, struct state_vcpu *state, struct err *err)
{
	struct msr_batch batch;
	int ret = list_msrs(kvm_fd, state, err);
	if (ret < 0)
		return ret;
	uint32_t kept = 0;
	for (uint32_t at = 0; at < state->msr_count;) {
		batch.head = (struct kvm_msrs){.nmsrs = state->msr_count - at};
		memcpy(batch.entry, state->msr + at, batch.head.nmsrs * sizeof(batch.entry[0]));
		int got = ioctl(vcpu_fd, KVM_GET_MSRS, &batch);
		if (got < 0)
			return refuse(err, "MSRs", "read");
		memmove(state->msr + kept, batch.entry, (size_t)got * sizeof(batch.entry[0]));
		kept += (uint32_t)got;
		at += (uint32_t)got + 1;
	}
	state->msr_count = kept;
	memset(state->msr + kept, 0, (STATE_MSRS_MAX - kept) * sizeof(state->msr[0]));
	return 0;
}

/* One that this KVM refuses matters only if the guest has set it. */
static int restore_msrs(int vcpu_fd, const struct state_vcpu *state, struct err *err)
{
	struct msr_batch batch;
	for (uint32_t at = 0; at < state->msr_count;) {
		batch.head = (struct kvm_msrs){.nmsrs = state->msr_count - at};
		memcpy(batch.entry, state->msr + at, batch.head.nmsrs * sizeof(batch.entry[0]));
		int set = ioctl(vcpu_fd, KVM_SET_MSRS, &batch);
		if (set < 0)
			return refuse(err, "MSRs", "set");
		at += (uint32_t)set;
		if (at < state->msr_count && state->msr[at].data != 0)
			return err_set(err, EINVAL, "KVM refused MSR 0x%" PRIx32 " of the snapshot: value 0x%" PRIx64,
			        state->msr[at].index, (uint64_t)state->msr[at].data);
		at++;
	}
	return 0;
}

/*
 * KVM has two meanings for a TSC that is set: a value of its own, or, if it differs by less than a second from what a
 * new VM or the vCPU before has by now, "the same as theirs". So the TSC of a guest that has run for less than a second
 * would begin anew (Linux 5.10 to 6.6). After a value that is far from both, vCPU 0 has its own, and the others, which
 * the snapshot has within microseconds of it, have the same as vCPU 0: their TSCs are to stay synchronized.
 */
static int part_tsc(int vcpu_fd, const struct state_vcpu *state, struct err *err)
{
	struct msr_batch far = {.head.nmsrs = 1};
	if (state->msr_count == 0 || state->msr[0].index != MSR_TSC)
		return 0;
	far.entry[0] = (struct kvm_msr_entry){.index = MSR_TSC, .data = state->msr[0].data + (UINT64_C(1) << 60)};
	return ioctl(vcpu_fd, KVM_SET_MSRS, &far) < 0 ? refuse(err, "TSC", "set") : 0;
}

/* --- a vCPU --- */

int state_save_vcpu(int kvm_fd, int vcpu_fd, struct state_vcpu *state, struct err *err)
{
	const struct {
		unsigned long request;
		void *to;
		const char *what;
	} parts[] = {
	        /* Reading the MP state completes a pending INIT, so it comes first. */
	        {KVM_GET_MP_STATE, &state->mp, "MP state"},
	        {KVM_GET_REGS, &state->regs, "registers"},
	        {KVM_GET_SREGS, &state->sregs, "special registers"},
	        {KVM_GET_XSAVE, &state->xsave, "extended state"},
	        {KVM_GET_XCRS, &state->xcrs, "extended control registers"},
	        {KVM_GET_DEBUGREGS, &state->debug, "debug registers"},
	        {KVM_GET_LAPIC, &state->lapic, "local APIC"},
	        {KVM_GET_VCPU_EVENTS, &state->events, "pending events"},
	};
	memset(state, 0, sizeof(*state));
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (ioctl(vcpu_fd, parts[i].request, parts[i].to) < 0)
			return refuse(err, parts[i].what, "read");
	}
	int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);
	state->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	return save_msrs(kvm_fd, vcpu_fd, state, err);
}

/* KVM ignores a difference that is no more than an error of measurement. */
static int restore_tsc_frequency(int vcpu_fd, uint32_t khz, struct err *err)
{
	int own = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);
	if (khz == 0 || own < 0 || (uint32_t)own == khz || ioctl(vcpu_fd, KVM_SET_TSC_KHZ, (unsigned long)khz) == 0)
		return 0;
	return err_set(err, EINVAL,
	        "the snapshot's processor counted time at %" PRIu32
	        " kHz, this one at %d, and cannot do otherwise: make the snapshot on this host",
	        khz, own);
}

int state_restore_vcpu(int vcpu_fd, unsigned index, const struct state_vcpu *state, struct err *err)
{
	const struct {
		unsigned long request;
		const void *from;
		const char *what;
	} parts[] = {
	        {KVM_SET_MP_STATE, &state->mp, "MP state"},
	        {KVM_SET_REGS, &state->regs, "registers"},
	        {KVM_SET_SREGS, &state->sregs, "special registers"},
	        {KVM_SET_XSAVE, &state->xsave, "extended state"},
	        /* A host without XSAVE has none, and refuses even none. */
	        {state->xcrs.nr_xcrs ? KVM_SET_XCRS : 0, &state->xcrs, "extended control registers"},
	        {KVM_SET_DEBUGREGS, &state->debug, "debug registers"},
	        {KVM_SET_LAPIC, &state->lapic, "local APIC"},
	};
	if (state->msr_count > STATE_MSRS_MAX)
		return err_set(err, EINVAL, "the snapshot has %" PRIu32 " MSRs", state->msr_count);
	int ret = restore_tsc_frequency(vcpu_fd, state->tsc_khz, err);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && ret == 0; i++) {
		if (parts[i].request && ioctl(vcpu_fd, parts[i].request, parts[i].from) < 0)
			ret = refuse(err, parts[i].what, "set");
	}
	if (ret == 0 && index == 0)
		ret = part_tsc(vcpu_fd, state, err);
	if (ret == 0)
		ret = restore_msrs(vcpu_fd, state, err);
	if (ret == 0 && ioctl(vcpu_fd, KVM_SET_VCPU_EVENTS, &state->events) < 0)
		ret = refuse(err, "pending events", "set");
	/* Tells a guest with kvm-clock that it was stopped, so that its watchdogs do not bark. Others have no need. */
	if (ret == 0)
		(void)ioctl(vcpu_fd, KVM_KVMCLOCK_CTRL, 0);
	return ret;
}

/* --- the VM --- */

int state_save_clock(int vm_fd, struct state_vm *state, struct err *err)
{
	struct kvm_clock_data clock;
	if (ioctl(vm_fd, KVM_GET_CLOCK, &clock) < 0)
		return err_set(err, errno, "cannot read the guest's clock: %s", strerror(errno));
	state->clock_ns = clock.clock;
	return 0;
}

/* Without the time that has passed since: the guest's monotonic clock goes on where it was. */
int state_restore_clock(int vm_fd, const struct state_vm *state, struct err *err)
{
	struct kvm_clock_data clock = {.clock = state->clock_ns};
	if (ioctl(vm_fd, KVM_SET_CLOCK, &clock) < 0)
		return err_set(err, errno, "KVM refused the guest's clock: %s", strerror(errno));
	return 0;
}

int state_check_cpuid(const struct state_vm *state, const struct kvm_cpuid2 *own, struct err *err)
{
	uint32_t count = state->cpuid_count < own->nent ? state->cpuid_count : own->nent;
	for (uint32_t i = 0; i < count; i++) {
		const struct kvm_cpuid_entry2 *a = &state->cpuid[i], *b = &own->entries[i];
		if (memcmp(a, b, sizeof(*a)) != 0)
			return err_set(err, EINVAL,
			        "the snapshot was made on another processor or kernel (CPUID leaf 0x%" PRIx32
			        " differs): make it anew on this host",
			        b->function);
	}
	if (state->cpuid_count != own->nent)
		return err_set(err, EINVAL,
		        "the snapshot was made on another processor or kernel (%" PRIu32 " CPUID entries, here %" PRIu32
		        "): make it anew on this host",
		        state->cpuid_count, own->nent);
	return 0;
}
