/* SPDX-License-Identifier: Apache-2.0 */
/* x86-64 vCPUs: MSRs, the registers of a 64-bit Linux entry, and port I/O exits. CPUID is in cpuid.c. */
#include "vmm/monitor/x86_64/processor.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/monitor/kvm_arch.h"
#include "vmm/monitor/x86_64/cpuid.h"
#include "vmm/monitor/x86_64/ioapic.h"
#include "vmm/monitor/x86_64/kernel_args.h"

/* Intel needs three pages for real mode and one for its identity map; both below the 32-bit top, away from devices. */
#define IDENTITY_MAP_ADDR 0xfffbc000ull
#define TSS_ADDR 0xfffbd000ul

#define MSR_IA32_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING 1ull
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLE (1ull << 11)
#define MTRR_WRITE_BACK 6ull

#define CR0_PE (1ull << 0)
#define CR0_ET (1ull << 4)
#define CR0_PG (1ull << 31)
#define CR4_PAE (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

/*
 * AMD's legacy counters, which no CPUID leaf announces, are emulated unless the VM has no PMU. A KVM without the
 * capability (Linux before 5.18) keeps them.
 */
static int disable_pmu(int vm_fd, struct err *err)
{
	struct kvm_enable_cap no_pmu = {.cap = KVM_CAP_PMU_CAPABILITY, .args = {KVM_PMU_CAP_DISABLE}};
	int supported = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_PMU_CAPABILITY);
	if (supported <= 0 || !(supported & KVM_PMU_CAP_DISABLE))
		return 0;
	if (ioctl(vm_fd, KVM_ENABLE_CAP, &no_pmu) < 0)
		return err_set(err, errno, "KVM cannot disable the performance counters: %s", strerror(errno));
	return 0;
}

/*
 * Against a guest that slows its neighbours: exits for locks of the memory bus, which vcpu.c rations, and, with the
 * processor's default window, for code that keeps the processor from taking interrupts. Not every processor has them.
 */
static void watch_hogs(int vm_fd)
{
	struct kvm_enable_cap bus = {.cap = KVM_CAP_X86_BUS_LOCK_EXIT, .args = {KVM_BUS_LOCK_DETECTION_EXIT}};
	struct kvm_enable_cap notify = {.cap = KVM_CAP_X86_NOTIFY_VMEXIT, .args = {KVM_X86_NOTIFY_VMEXIT_ENABLED}};
	int modes = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_BUS_LOCK_EXIT);
	if (modes > 0 && modes & KVM_BUS_LOCK_DETECTION_EXIT)
		(void)ioctl(vm_fd, KVM_ENABLE_CAP, &bus);
	if (ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_NOTIFY_VMEXIT) > 0)
		(void)ioctl(vm_fd, KVM_ENABLE_CAP, &notify);
}

int processor_set_up_vm(int vm_fd, struct err *err)
{
	__u64 identity = IDENTITY_MAP_ADDR;
	if (ioctl(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 || ioctl(vm_fd, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
		return err_set(err, errno, "KVM refused its reserved pages: %s", strerror(errno));
	/* The local APICs are KVM's; the I/O APIC is ours, and there are no 8259s: x86_64/ioapic.h says why. */
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {IOAPIC_PINS_MAX}};
	if (ioctl(vm_fd, KVM_ENABLE_CAP, &split) < 0)
		return err_set(err, errno, "KVM cannot create the interrupt controllers: %s", strerror(errno));
	watch_hogs(vm_fd);
	return disable_pmu(vm_fd, err);
}

/* What an I/O APIC would send: Intel's SDM volume 3, sections 10.11 (messages) and 11.12.10 (redirection entries). */
static struct kvm_irq_routing_msi message(uint64_t entry)
{
	enum { LOGICAL = 1 << 2, VECTOR_AND_MODE = 0x7ff };
	return (struct kvm_irq_routing_msi){
	        .address_lo = 0xfee00000u | (uint32_t)(entry >> 56) << 12 | (entry >> 11 & 1 ? LOGICAL : 0),
	        .data = (uint32_t)entry & VECTOR_AND_MODE,
	};
}

int processor_route(int vm_fd, const uint64_t *entry, unsigned pins)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry[IOAPIC_PINS_MAX];
	} routes = {0};
	for (unsigned i = 0; i < pins && i < IOAPIC_PINS_MAX; i++) {
		if (entry[i] & IOAPIC_MASKED)
			continue;
		routes.entry[routes.head.nr++] = (struct kvm_irq_routing_entry){
		        .gsi = i, .type = KVM_IRQ_ROUTING_MSI, .u.msi = message(entry[i])};
	}
	return ioctl(vm_fd, KVM_SET_GSI_ROUTING, &routes) < 0 ? -errno : 0;
}

struct kvm_cpuid2 *processor_copy_cpuid(const struct kvm_cpuid2 *cpuid)
{
	size_t size = sizeof(*cpuid) + cpuid->nent * sizeof(cpuid->entries[0]);
	struct kvm_cpuid2 *copy = malloc(size);
	if (copy)
		memcpy(copy, cpuid, size);
	return copy;
}

int processor_read_cpuid(int kvm_fd, struct kvm_cpuid2 **out, struct err *err)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return err_set(err, ENOMEM, "out of memory for the vCPUs' CPUID");
	cpuid->nent = CPUID_ENTRIES_MAX;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0) {
		int ret = errno == E2BIG
		                  ? err_set(err, E2BIG, "KVM supports more than %u CPUID entries on this host",
		                            CPUID_ENTRIES_MAX)
		                  : err_set(err, errno, "cannot read the CPUID that KVM supports: %s", strerror(errno));
		free(cpuid);
		return ret;
	}
	*out = cpuid;
	return 0;
}

static int set_msrs(int vcpu_fd, unsigned index, struct err *err)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[2];
	} msrs = {
	        .head.nmsrs = 2,
	        .entry = {{.index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING},
	                {.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | MTRR_WRITE_BACK}},
	};
	int set = ioctl(vcpu_fd, KVM_SET_MSRS, &msrs);
	if (set != (int)msrs.head.nmsrs)
		return err_set(err, set < 0 ? errno : EINVAL, "KVM refused an MSR of vCPU %u: %s", index,
		        set < 0 ? strerror(errno) : "not supported by this host");
	return 0;
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){
	        .base = 0,
	        .limit = 0xffffffff,
	        .selector = selector,
	        .type = type,
	        .present = 1,
	        .s = 1,
	        .l = code,
	        .db = !code,
	        .g = 1,
	};
}

void processor_read_brand(char brand[CPUID_BRAND_SIZE])
{
	unsigned part[4], last = __get_cpuid_max(0x80000000, NULL);
	memset(brand, 0, CPUID_BRAND_SIZE);
	for (unsigned i = 0; i < 3 && last >= 0x80000004; i++) {
		__cpuid(0x80000002 + i, part[0], part[1], part[2], part[3]);
		memcpy(brand + sizeof(part) * i, part, sizeof(part));
	}
}

int processor_set_cpuid(
        int vcpu_fd, const struct kvm_cpuid2 *supported, const struct cpuid_options *options, struct err *err)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[CPUID_ENTRIES_MAX];
	} guest;
	guest.head = (struct kvm_cpuid2){0};
	int ret = cpuid_build(&guest.head, supported, options, err);
	if (ret < 0)
		return ret;
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, &guest) < 0)
		return err_set(err, errno, "KVM refused the CPUID of vCPU %u: %s", options->index, strerror(errno));
	return set_msrs(vcpu_fd, options->index, err);
}

/* Long mode, paging on, flat segments, interrupts off: Linux's 64-bit boot protocol. */
int processor_set_entry(int vcpu_fd, const struct processor_entry *entry, struct err *err)
{
	struct kvm_sregs sregs;
	if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return err_set(err, errno, "cannot read the vCPU's registers: %s", strerror(errno));
	sregs.cs = flat_segment(0x10, 0xb, true);
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = flat_segment(0x18, 0x3, false);
	sregs.tr = (struct kvm_segment){.limit = 0x67, .selector = 0x20, .type = 0xb, .present = 1};
	sregs.gdt.base = entry->gdt;
	sregs.gdt.limit = 5 * 8 - 1;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	sregs.cr3 = entry->page_table;
	sregs.cr4 |= CR4_PAE;
	sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs.efer |= EFER_LME | EFER_LMA;
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
		return err_set(err, errno, "KVM refused the vCPU's segment registers: %s", strerror(errno));
	struct kvm_regs regs = {.rip = entry->pc, .rsi = entry->boot_params, .rflags = 2};
	if (ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0)
		return err_set(err, errno, "KVM refused the vCPU's registers: %s", strerror(errno));
	return 0;
}

bool processor_port_io(struct kvm_run *run, const struct bus *ports)
{
	if (run->exit_reason != KVM_EXIT_IO)
		return false;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
		bus_access(ports, run->io.port, data, run->io.size, run->io.direction == KVM_EXIT_IO_OUT);
	return true;
}

bool kvm_arch_locked_bus(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_X86_BUS_LOCK || run->flags & KVM_RUN_X86_BUS_LOCK;
}

/*
 * The breakpoint is `outb %al, $0x7e`. KVM has already moved past it when it exits for that port (its quirk
 * KVM_X86_QUIRK_OUT_7E_INC_RIP, on by default), so that no pending state conflicts with setting the program counter.
 */
uint64_t kvm_arch_breakpoint(const struct kvm_run *run, int vcpu_fd)
{
	bool ours = run->exit_reason == KVM_EXIT_IO && run->io.port == 0x7e && run->io.direction == KVM_EXIT_IO_OUT &&
	            run->io.size == 1;
	return ours ? kvm_arch_pc(vcpu_fd) - 2 : 0;
}

int kvm_arch_go_to(int vcpu_fd, uint64_t pc)
{
	struct kvm_regs regs;
	if (ioctl(vcpu_fd, KVM_GET_REGS, &regs) < 0)
		return -errno;
	regs.rip = pc;
	return ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0 ? -errno : 0;
}

const char kvm_arch_pc_name[] = "rip";

uint64_t kvm_arch_pc(int vcpu_fd)
{
	struct kvm_regs regs;
	return ioctl(vcpu_fd, KVM_GET_REGS, &regs) < 0 ? 0 : regs.rip;
}
