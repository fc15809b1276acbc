/* SPDX-License-Identifier: Apache-2.0 */
/* KVM calls that only x86 has: the split interrupt controllers, CPUID, MSRs, the registers of a 64-bit Linux entry. */
#ifndef WISP_MONITOR_X86_64_PROCESSOR_H
#define WISP_MONITOR_X86_64_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/bus.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/x86_64/cpuid.h"

struct kvm_cpuid2;
struct kvm_run;

/* Gives the VM its interrupt controllers and takes away its PMU. Before the first vCPU. 0 or -errno with `err`. */
int processor_set_up_vm(int vm_fd, struct err *err);

/* Routes interrupt line i as I/O APIC entry i says; a masked one nowhere. 0 or -errno. */
int processor_route(int vm_fd, const uint64_t *entry, unsigned pins);

/* Where the first vCPU begins. The others wait for it to start them (INIT, SIPI). */
struct processor_entry {
	uint64_t pc;
	uint64_t boot_params; /* guest physical, as the others; goes to RSI */
	uint64_t page_table;
	uint64_t gdt;
};

/* To be freed with free(); NULL without memory. */
struct kvm_cpuid2 *processor_copy_cpuid(const struct kvm_cpuid2 *cpuid);

/* What KVM supports on this host, to be freed with free(). Needs no VM. 0, or -errno with `err`. */
int processor_read_cpuid(int kvm_fd, struct kvm_cpuid2 **cpuid, struct err *err);

/* The host's name of its processor; empty on a host that has none. */
void processor_read_brand(char brand[CPUID_BRAND_SIZE]);

/* Makes vCPU `options->index` the processor that the guest is shown. 0, or -errno with `err`. */
int processor_set_cpuid(
        int vcpu_fd, const struct kvm_cpuid2 *supported, const struct cpuid_options *options, struct err *err);

/* The registers with which the first vCPU begins. 0, or -errno with `err`. */
int processor_set_entry(int vcpu_fd, const struct processor_entry *entry, struct err *err);

/* Carries out the port I/O of an exit on `ports`; false if the exit is another. */
bool processor_port_io(struct kvm_run *run, const struct bus *ports);

#endif
