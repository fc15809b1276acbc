/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processor that a guest is shown, as a function of what KVM supports on this host.
 *
 * The guest gets KVM's table with these differences: the topology is the machine's own (one package, one thread per
 * core), the TSC-deadline timer is announced (KVM has it, but leaves that to its user), the processor has a name, and
 * features are hidden that a guest could not use, or with which guests could observe one another: nested
 * virtualization, memory encryption, enclaves, performance counters, tracing, and AMX, which needs a permission of the
 * host's kernel and without it is announced inconsistently by Linux before 6.4.
 */
#ifndef WISP_MONITOR_CPUID_X86_64_H
#define WISP_MONITOR_CPUID_X86_64_H

#include <stdbool.h>

#include "vmm/monitor/err.h"

struct kvm_cpuid2;

#define CPUID_ENTRIES_MAX 256u /* KVM's own limit */
#define CPUID_BRAND_SIZE 48u

struct cpuid_options {
	unsigned index; /* of the vCPU, which is its APIC id */
	unsigned count; /* of the machine's vCPUs: 1 to 64 */
	bool stable_tsc;
	char brand[CPUID_BRAND_SIZE]; /* the name, for a table without one; padded with NUL */
};

/*
 * Fills in `guest`, which has room for CPUID_ENTRIES_MAX entries, from `supported`. Pure. 0, or -E2BIG with `err` if
 * the entries do not fit.
 */
int cpuid_build(struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported, const struct cpuid_options *options,
        struct err *err);

#endif
