/* SPDX-License-Identifier: Apache-2.0 */
/* KVM calls that only arm64 has: a vCPU's model, its registers one by one. */
#ifndef WISP_MONITOR_AARCH64_PROCESSOR_H
#define WISP_MONITOR_AARCH64_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/err.h"

/*
 * Makes vCPU `index` a processor like the host's, without its performance counters, SVE and pointer authentication. All
 * but the first wait for the guest to start them (PSCI). 0, or -errno with `err`.
 */
int processor_init(int vm_fd, int vcpu_fd, unsigned index, struct err *err);

/* The registers with which the first vCPU begins; `fdt` is the address of the device tree. 0, or -errno with `err`. */
int processor_set_entry(int vcpu_fd, uint64_t entry, uint64_t fdt, struct err *err);

#endif
