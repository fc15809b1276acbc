/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/aarch64/processor.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/monitor/kvm_arch.h"

/* A 64-bit core register: where it is in struct kvm_regs, in units of 32 bits. */
#define CORE(field)                                            \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | \
	        (uint64_t)(offsetof(struct kvm_regs, field) / sizeof(uint32_t)))

static int set_register(int vcpu_fd, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)&value};
	return ioctl(vcpu_fd, KVM_SET_ONE_REG, &reg) < 0 ? -errno : 0;
}

int processor_init(int vm_fd, int vcpu_fd, unsigned index, struct err *err)
{
	struct kvm_vcpu_init init;
	if (ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init) < 0)
		return err_set(err, errno, "KVM does not tell which processor it offers: %s", strerror(errno));
	init.features[0] = 1u << KVM_ARM_VCPU_PSCI_0_2 | (index > 0 ? 1u << KVM_ARM_VCPU_POWER_OFF : 0);
	if (ioctl(vcpu_fd, KVM_ARM_VCPU_INIT, &init) < 0)
		return err_set(err, errno, "KVM refused the processor of vCPU %u: %s", index, strerror(errno));
	return 0;
}

/* At EL1 with interrupts off, as KVM_ARM_VCPU_INIT leaves it. */
int processor_set_entry(int vcpu_fd, uint64_t entry, uint64_t fdt, struct err *err)
{
	int ret = set_register(vcpu_fd, CORE(regs.pc), entry);
	if (ret == 0)
		ret = set_register(vcpu_fd, CORE(regs.regs[0]), fdt);
	return ret < 0 ? err_set(err, -ret, "KVM refused the vCPU's registers: %s", strerror(-ret)) : 0;
}

bool kvm_arch_locked_bus(const struct kvm_run *run)
{
	(void)run;
	return false;
}

/* None is ever set: arch_symbol finds no place for one. */
uint64_t kvm_arch_breakpoint(const struct kvm_run *run, int vcpu_fd)
{
	(void)run, (void)vcpu_fd;
	return 0;
}

int kvm_arch_go_to(int vcpu_fd, uint64_t pc)
{
	return set_register(vcpu_fd, CORE(regs.pc), pc);
}

const char kvm_arch_pc_name[] = "pc";

uint64_t kvm_arch_pc(int vcpu_fd)
{
	uint64_t pc = 0;
	struct kvm_one_reg reg = {.id = CORE(regs.pc), .addr = (uintptr_t)&pc};
	return ioctl(vcpu_fd, KVM_GET_ONE_REG, &reg) < 0 ? 0 : pc;
}
