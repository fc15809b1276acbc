/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every architecture gives the rest of the VMM: interrupt controllers, a vCPU ready to run, its exits decoded.
 * x86_64/kvm_arch.c is the one there is.
 */
#ifndef WISP_MONITOR_KVM_ARCH_H
#define WISP_MONITOR_KVM_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/bus.h"
#include "vmm/monitor/err.h"

struct kvm_cpuid2;
struct kvm_run;

int kvm_arch_create_irqchip(int vm_fd, struct err *err);

/* Leads interrupt line i to where I/O APIC entry i says; a masked one to nowhere. 0 or -errno. */
int kvm_arch_route(int vm_fd, const uint64_t *entry, unsigned pins);

/* Where the first vCPU begins. The others wait for it to start them (on x86-64: INIT, SIPI). */
struct kvm_entry {
	uint64_t pc;
	uint64_t boot_data; /* guest physical address that the entry expects in a register */
	uint64_t page_table;
	uint64_t descriptors; /* x86-64: the GDT */
};

/* What KVM supports on this host, to be freed with free(). Wants no VM. 0, or -errno with `err`. */
int kvm_arch_read_cpuid(int kvm_fd, struct kvm_cpuid2 **cpuid, struct err *err);

/*
 * Makes vCPU `index` of `count` the processor that the guest is shown; what is particular to the vCPU is written into
 * `cpuid`, which serves the next one as well. 0, or -errno with `err`.
 */
int kvm_arch_set_processor(int vcpu_fd, struct kvm_cpuid2 *cpuid, unsigned index, unsigned count, struct err *err);

/* The registers with which the first vCPU begins. 0, or -errno with `err`. */
int kvm_arch_set_entry(int vcpu_fd, const struct kvm_entry *entry, struct err *err);

/* Does the exit in `run` belong to the architecture (port I/O)? Then it is carried out on `ports`. */
bool kvm_arch_handle_exit(struct kvm_run *run, const struct bus *ports);

/*
 * Where the breakpoint instruction is that `run`'s exit comes from, 0 if it does not; and how the vCPU goes back to it.
 * On x86-64 the instruction is `outb %al, $0x7e`: KVM has moved past it already when it leaves for that port (its quirk
 * KVM_X86_QUIRK_OUT_7E_INC_RIP, on by default), so nothing is pending that would spoil setting the program counter.
 */
uint64_t kvm_arch_breakpoint(const struct kvm_run *run, int vcpu_fd);
int kvm_arch_go_to(int vcpu_fd, uint64_t pc);

/* For an error's text: where the vCPU stands. */
uint64_t kvm_arch_pc(int vcpu_fd);

#endif
