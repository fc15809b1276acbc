/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/aarch64/gic.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/monitor/aarch64/boot.h"

#define PRIVATE_INTERRUPTS 32u

static int get(int gic_fd, uint32_t group, uint64_t attribute, void *value)
{
	struct kvm_device_attr attr = {.group = group, .attr = attribute, .addr = (uintptr_t)value};
	return ioctl(gic_fd, KVM_GET_DEVICE_ATTR, &attr) < 0 ? -errno : 0;
}

static int set(int gic_fd, uint32_t group, uint64_t attribute, const void *value)
{
	struct kvm_device_attr attr = {.group = group, .attr = attribute, .addr = (uintptr_t)value};
	return ioctl(gic_fd, KVM_SET_DEVICE_ATTR, &attr) < 0 ? -errno : 0;
}

int gic_create(int vm_fd, struct err *err)
{
	struct kvm_create_device device = {.type = KVM_DEV_TYPE_ARM_VGIC_V3};
	const uint64_t distributor = BOOT_GIC_DISTRIBUTOR, redistributors = BOOT_GIC_REDISTRIBUTORS;
	const uint32_t interrupts = PRIVATE_INTERRUPTS + GIC_SPIS;
	if (ioctl(vm_fd, KVM_CREATE_DEVICE, &device) < 0)
		return err_set(err, errno,
		        "KVM cannot create a GICv3: %s (guests need a host with such an interrupt controller)",
		        strerror(errno));
	int fd = (int)device.fd;
	int ret = set(fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &distributor);
	if (ret == 0)
		ret = set(fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, &redistributors);
	if (ret == 0)
		ret = set(fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts);
	if (ret == 0)
		return fd;
	close(fd);
	return err_set(err, -ret, "KVM refused the layout of the interrupt controller: %s", strerror(-ret));
}

int gic_start(int gic_fd, struct err *err)
{
	int ret = set(gic_fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
	return ret < 0 ? err_set(err, -ret, "KVM cannot start the interrupt controller: %s", strerror(-ret)) : 0;
}

/* --- snapshots: Arm's GIC architecture specification (IHI 0069), chapter 12 --- */

/* Registers that follow one another. For those that a write sets bits of, `clears` is the first that clears them. */
struct span {
	uint32_t at, count, clears;
};

static const struct span distributor_spans[] = {
        {0x0008, 1, 0},      /* GICD_IIDR: which revision of KVM's controller it is, before all others */
        {0x0000, 1, 0},      /* GICD_CTLR */
        {0x0084, 1, 0},      /* GICD_IGROUPR1, as all others of the SPIs */
        {0x6100, 64, 0},     /* GICD_IROUTER32 to 63, two halves each */
        {0x0c08, 2, 0},      /* GICD_ICFGR2, 3 */
        {0x0420, 8, 0},      /* GICD_IPRIORITYR8 to 15 */
        {0x0204, 1, 0},      /* GICD_ISPENDR1: KVM's access sets and clears */
        {0x0304, 1, 0x0384}, /* GICD_ISACTIVER1, ICACTIVER1 */
        {0x0104, 1, 0x0184}, /* GICD_ISENABLER1, ICENABLER1 */
        {0x0010, 1, 0},      /* GICD_STATUSR */
};

#define SGI_FRAME 0x10000u

static const struct span redistributor_spans[] = {
        {0x0000, 1, 0},                              /* GICR_CTLR */
        {0x0014, 1, 0},                              /* GICR_WAKER */
        {SGI_FRAME + 0x0080, 1, 0},                  /* GICR_IGROUPR0 */
        {SGI_FRAME + 0x0c00, 2, 0},                  /* GICR_ICFGR0, 1 */
        {SGI_FRAME + 0x0400, 8, 0},                  /* GICR_IPRIORITYR0 to 7 */
        {SGI_FRAME + 0x0200, 1, 0},                  /* GICR_ISPENDR0 */
        {SGI_FRAME + 0x0300, 1, SGI_FRAME + 0x0380}, /* GICR_ISACTIVER0, ICACTIVER0 */
        {SGI_FRAME + 0x0100, 1, SGI_FRAME + 0x0180}, /* GICR_ISENABLER0, ICENABLER0 */
        {0x0010, 1, 0},                              /* GICR_STATUSR */
};

#define SPANS(spans) spans, sizeof(spans) / sizeof((spans)[0])

static int save_spans(int gic_fd, uint32_t group, uint64_t vcpu, const struct span *span, size_t count, uint32_t *state)
{
	int ret = 0;
	for (size_t i = 0; i < count; i++) {
		for (uint32_t n = 0; n < span[i].count && ret == 0; n++)
			ret = get(gic_fd, group, vcpu | (span[i].at + 4 * n), state++);
	}
	return ret;
}

static int restore_spans(
        int gic_fd, uint32_t group, uint64_t vcpu, const struct span *span, size_t count, const uint32_t *state)
{
	static const uint32_t all = ~0u;
	int ret = 0;
	for (size_t i = 0; i < count; i++) {
		if (span[i].clears && ret == 0)
			ret = set(gic_fd, group, vcpu | span[i].clears, &all);
		for (uint32_t n = 0; n < span[i].count && ret == 0; n++)
			ret = set(gic_fd, group, vcpu | (span[i].at + 4 * n), state++);
	}
	return ret;
}

#define SYSREG(crn, crm, op2) (3u << 14 | (crn) << 7 | (crm) << 3 | (op2))

/* The last three of each group of active priorities exist only with more than 5 bits of priority. */
static const uint32_t interface_register[GIC_INTERFACE_STATE] = {
        SYSREG(12, 12, 5), /* ICC_SRE_EL1 */
        SYSREG(12, 12, 4), /* ICC_CTLR_EL1: KVM refuses that of another host */
        SYSREG(12, 12, 6), /* ICC_IGRPEN0_EL1 */
        SYSREG(12, 12, 7), /* ICC_IGRPEN1_EL1 */
        SYSREG(4, 6, 0),   /* ICC_PMR_EL1 */
        SYSREG(12, 8, 3),  /* ICC_BPR0_EL1 */
        SYSREG(12, 12, 3), /* ICC_BPR1_EL1 */
        SYSREG(12, 8, 4), SYSREG(12, 8, 5), SYSREG(12, 8, 6), SYSREG(12, 8, 7), /* ICC_AP0R<n>_EL1 */
        SYSREG(12, 9, 0), SYSREG(12, 9, 1), SYSREG(12, 9, 2), SYSREG(12, 9, 3), /* ICC_AP1R<n>_EL1 */
};

static bool is_optional(unsigned i)
{
	return i >= 7 && interface_register[i] & 3;
}

/* The vCPU, as attributes name it. */
static uint64_t vcpu_of(unsigned index)
{
	return boot_affinity(index) << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT;
}

static int fail(struct err *err, const char *verb, int ret)
{
	return err_set(err, -ret, "KVM cannot %s the interrupt controller's state: %s", verb, strerror(-ret));
}

int gic_save(int gic_fd, uint32_t state[GIC_DISTRIBUTOR_STATE], struct err *err)
{
	int ret = save_spans(gic_fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0, SPANS(distributor_spans), state);
	return ret < 0 ? fail(err, "read", ret) : 0;
}

int gic_restore(int gic_fd, const uint32_t state[GIC_DISTRIBUTOR_STATE], struct err *err)
{
	int ret = restore_spans(gic_fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0, SPANS(distributor_spans), state);
	return ret < 0 ? fail(err, "set", ret) : 0;
}

int gic_save_vcpu(int gic_fd, unsigned index, uint32_t redistributor[GIC_REDISTRIBUTOR_STATE],
        uint64_t interface[GIC_INTERFACE_STATE], struct err *err)
{
	uint64_t vcpu = vcpu_of(index);
	int ret = save_spans(gic_fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, vcpu, SPANS(redistributor_spans), redistributor);
	for (unsigned i = 0; i < GIC_INTERFACE_STATE && ret == 0; i++) {
		interface[i] = 0;
		ret = get(gic_fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, vcpu | interface_register[i], &interface[i]);
		if (is_optional(i))
			ret = 0;
	}
	return ret < 0 ? fail(err, "read", ret) : 0;
}

int gic_restore_vcpu(int gic_fd, unsigned index, const uint32_t redistributor[GIC_REDISTRIBUTOR_STATE],
        const uint64_t interface[GIC_INTERFACE_STATE], struct err *err)
{
	uint64_t vcpu = vcpu_of(index);
	int ret = restore_spans(
	        gic_fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, vcpu, SPANS(redistributor_spans), redistributor);
	for (unsigned i = 0; i < GIC_INTERFACE_STATE && ret == 0; i++) {
		if (!is_optional(i) || interface[i])
			ret = set(
			        gic_fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, vcpu | interface_register[i], &interface[i]);
	}
	return ret < 0 ? fail(err, "set", ret) : 0;
}
