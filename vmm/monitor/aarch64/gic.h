/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's GICv3: interrupt n of a device is SPI n, an edge. */
#ifndef WISP_MONITOR_AARCH64_GIC_H
#define WISP_MONITOR_AARCH64_GIC_H

#include <stdint.h>

#include "vmm/monitor/err.h"

#define GIC_SPIS 32u /* as few as a GICv3 can have */

/* Creates it, before the first vCPU. Returns its descriptor, or -errno with `err`. */
int gic_create(int vm_fd, struct err *err);

/* Makes it ready for interrupts, after the last vCPU. 0, or -errno with `err`. */
int gic_start(int gic_fd, struct err *err);

/*
 * Its state: the registers of the distributor, and for each vCPU those of its redistributor and of its interface, in
 * the order in which they are restored. All vCPUs are outside KVM_RUN. 0, or -errno with `err`.
 */
#define GIC_DISTRIBUTOR_STATE 81u
#define GIC_REDISTRIBUTOR_STATE 17u
#define GIC_INTERFACE_STATE 15u
int gic_save(int gic_fd, uint32_t state[GIC_DISTRIBUTOR_STATE], struct err *err);
int gic_restore(int gic_fd, const uint32_t state[GIC_DISTRIBUTOR_STATE], struct err *err);
int gic_save_vcpu(int gic_fd, unsigned index, uint32_t redistributor[GIC_REDISTRIBUTOR_STATE],
        uint64_t interface[GIC_INTERFACE_STATE], struct err *err);
int gic_restore_vcpu(int gic_fd, unsigned index, const uint32_t redistributor[GIC_REDISTRIBUTOR_STATE],
        const uint64_t interface[GIC_INTERFACE_STATE], struct err *err);

#endif
