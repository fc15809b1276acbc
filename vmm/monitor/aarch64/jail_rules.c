/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/kvm.h>

#include "vmm/monitor/jail_rules.h"

const struct jail_rule jail_arch_rules[] = {
        /* --- the interrupt controller, a vCPU before its start --- */
        IOCTL(KVM_CREATE_DEVICE, LOOP),
        IOCTL(KVM_SET_DEVICE_ATTR, LOOP),
        IOCTL(KVM_ARM_PREFERRED_TARGET, LOOP),
        IOCTL(KVM_ARM_VCPU_INIT, LOOP),
        IOCTL(KVM_SET_ONE_REG, LOOP),
        /* --- where the guest is, for messages --- */
        IOCTL(KVM_GET_ONE_REG, BOTH),
        /* --- snapshots --- */
        IOCTL(KVM_GET_DEVICE_ATTR, LOOP),
        IOCTL(KVM_GET_REG_LIST, LOOP),
        /* --- calls that libc uses where the processor does not have their predecessors --- */
        CALL(ppoll, LOOP),
        CALL(dup3, LOOP), /* a clone takes over its descriptors */
        CALL(fchmodat, LOOP),
};
const size_t jail_arch_rule_count = sizeof(jail_arch_rules) / sizeof(jail_arch_rules[0]);
