/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/kvm.h>

#include "vmm/monitor/jail_rules.h"

/* The numbers of x32 are above all of these, so they are refused. */
const struct jail_rule jail_arch_rules[] = {
        /* --- a vCPU before its start --- */
        IOCTL(KVM_GET_SUPPORTED_CPUID, LOOP), IOCTL(KVM_SET_CPUID2, LOOP), IOCTL(KVM_SET_IDENTITY_MAP_ADDR, LOOP),
        IOCTL(KVM_SET_TSS_ADDR, LOOP), IOCTL(KVM_GET_SREGS, LOOP), IOCTL(KVM_SET_SREGS, LOOP),
        IOCTL(KVM_SET_MSRS, LOOP),
        /* --- a vCPU that runs --- */
        IOCTL(KVM_SET_GSI_ROUTING, BOTH),                     /* the guest wrote to the I/O APIC */
        IOCTL(KVM_GET_REGS, BOTH), IOCTL(KVM_SET_REGS, BOTH), /* where the guest is; past a breakpoint */
        /* --- snapshots --- */
        IOCTL(KVM_GET_CLOCK, LOOP), IOCTL(KVM_SET_CLOCK, LOOP), IOCTL(KVM_GET_MSRS, LOOP),
        IOCTL(KVM_GET_MSR_INDEX_LIST, LOOP), IOCTL(KVM_GET_XSAVE, LOOP), IOCTL(KVM_SET_XSAVE, LOOP),
        IOCTL(KVM_GET_XCRS, LOOP), IOCTL(KVM_SET_XCRS, LOOP), IOCTL(KVM_GET_DEBUGREGS, LOOP),
        IOCTL(KVM_SET_DEBUGREGS, LOOP), IOCTL(KVM_GET_LAPIC, LOOP), IOCTL(KVM_SET_LAPIC, LOOP),
        IOCTL(KVM_GET_TSC_KHZ, LOOP), IOCTL(KVM_SET_TSC_KHZ, LOOP), IOCTL(KVM_KVMCLOCK_CTRL, LOOP),
        /* --- calls that newer processors do not have, and libc uses on this one --- */
        CALL(open, ALL), CALL(stat, LOOP), CALL(lstat, LOOP), CALL(unlink, BOTH), CALL(rename, BOTH), CALL(chmod, LOOP),
        CALL(poll, LOOP), CALL(dup2, LOOP), /* a clone takes over its descriptors */
        CALL(fork, LOOP),                   /* a clone */
};
const size_t jail_arch_rule_count = sizeof(jail_arch_rules) / sizeof(jail_arch_rules[0]);
