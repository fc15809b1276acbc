/* SPDX-License-Identifier: Apache-2.0 */
/* x86-64's side of the machine: I/O APIC, I/O ports and CPUID in one object, and the command line of its kernels. */
#include "vmm/monitor/arch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/monitor/kvm_arch.h"
#include "vmm/monitor/x86_64/boot.h"
#include "vmm/monitor/x86_64/ioapic.h"
#include "vmm/monitor/x86_64/kernel_args.h"
#include "vmm/monitor/x86_64/platform.h"
#include "vmm/monitor/x86_64/processor.h"
#include "vmm/monitor/x86_64/state.h"

#define DEVICE_WINDOW 4096u

_Static_assert(BOOT_IRQ(ARCH_DEVICES_MAX - 1) < IOAPIC_PINS_MAX, "a pin for every device");

struct arch {
	struct arch_options options;
	struct kvm_cpuid2 *cpuid;
	struct cpuid_options processor; /* but for the index */
	struct processor_entry entry;
	struct bus ports;
	struct platform platform;
	struct ioapic ioapic;
	const struct gmem *gmem;
	unsigned devices;
	int vm_fd;
};

const uint8_t arch_breakpoint[TRACE_INSTRUCTION_SIZE] = {0xe6, 0x7e}; /* outb %al, $0x7e */

static void on_reset(void *context)
{
	struct arch *arch = context;
	arch->options.event(arch->options.context, boot_panicked(arch->gmem) ? ARCH_PANIC : ARCH_REBOOT);
}

static void on_power(void *context, bool failed)
{
	struct arch *arch = context;
	arch->options.event(arch->options.context, failed ? ARCH_BOOT_FAILED : ARCH_POWEROFF);
}

static void on_route(void *context, const uint64_t *entry, unsigned pins)
{
	struct arch *arch = context;
	if (processor_route(arch->vm_fd, entry, pins) < 0)
		arch->options.failed(arch->options.context, "KVM refused to route the guest's interrupts");
}

/* What a device signalled while its pin was masked is lost. */
static void on_unmasked(void *context, unsigned pin)
{
	struct arch *arch = context;
	for (unsigned i = 0; i < arch->devices; i++) {
		if (BOOT_IRQ(i) == pin)
			arch->options.interrupt_again(arch->options.context, i);
	}
}

const char *const arch_host_files[] = {HOST_CLOCKSOURCE, NULL};

int arch_create(struct arch **out, const struct arch_options *options, struct err *err)
{
	struct arch *arch = calloc(1, sizeof(*arch));
	if (!arch)
		return err_set(err, ENOMEM, "out of memory for the machine");
	arch->options = *options;
	arch->processor.count = options->cpus;
	arch->processor.stable_tsc = tsc_is_stable(options->cpus, HOST_CLOCKSOURCE);
	arch->ioapic.route = on_route;
	arch->ioapic.unmasked = on_unmasked;
	arch->ioapic.context = arch;
	ioapic_init(&arch->ioapic, 1);
	arch->platform.reset = on_reset;
	arch->platform.signal = (struct guest_signal){.power = on_power, .context = arch, .trace = options->trace};
	int ret = platform_init(
	        &arch->platform, &arch->ports, options->early_console, options->console, options->console_context, err);
	if (ret == 0 && bus_add(options->memory_bus, IOAPIC_ADDR, IOAPIC_SIZE, ioapic_access, &arch->ioapic) < 0)
		ret = err_set(err, ENOSPC, "too many devices");
	if (ret < 0) {
		arch_destroy(arch);
		return ret;
	}
	*out = arch;
	return 0;
}

void arch_destroy(struct arch *arch)
{
	if (!arch)
		return;
	ioapic_destroy(&arch->ioapic);
	free(arch->cpuid);
	free(arch);
}

int arch_create_memory(struct gmem *gmem, uint64_t bytes, struct err *err)
{
	return gmem_create(gmem, bytes, BOOT_HOLE_START, BOOT_HOLE_END, err);
}

gpa_t arch_device_addr(unsigned index)
{
	return gpa(BOOT_MMIO_ADDR + (uint64_t)index * DEVICE_WINDOW);
}

uint32_t arch_device_gsi(unsigned index)
{
	return BOOT_IRQ(index);
}

int arch_read_host(struct arch *arch, const struct kvm *kvm, struct err *err)
{
	return processor_read_cpuid(kvm->dev_fd, &arch->cpuid, err);
}

int arch_inherit_host(struct arch *arch, const struct arch *source, struct err *err)
{
	memcpy(arch->processor.brand, source->processor.brand, sizeof(arch->processor.brand));
	arch->cpuid = processor_copy_cpuid(source->cpuid);
	return arch->cpuid ? 0 : err_set(err, ENOMEM, "out of memory for the vCPUs' CPUID");
}

int arch_furnish_vm(struct arch *arch, const struct kvm *kvm, struct err *err)
{
	arch->vm_fd = kvm->vm_fd;
	/* Slow in a nested host. This thread waits for arch_read_host anyway. */
	if (arch->processor.brand[0] == '\0')
		processor_read_brand(arch->processor.brand);
	return processor_set_up_vm(kvm->vm_fd, err);
}

int arch_complete_vm(struct arch *arch, struct err *err)
{
	(void)arch, (void)err;
	return 0;
}

int arch_set_processor(struct arch *arch, int vcpu_fd, unsigned index, struct err *err)
{
	struct cpuid_options options = arch->processor;
	options.index = index;
	return processor_set_cpuid(vcpu_fd, arch->cpuid, &options, err);
}

static int make_cmdline(const struct arch *arch, const struct arch_boot *boot, char *to, size_t size, struct err *err)
{
	int used = snprintf(to, size, "%s %s", arch_kernel_args(arch->processor.stable_tsc, arch->gmem->count > 1),
	        arch->options.early_console ? "console=ttyS0 earlyprintk=ttyS0 8250.nr_uarts=1" : "console=hvc0");
	for (unsigned i = 0; i < boot->devices && used < (int)size; i++)
		used += snprintf(to + used, size - (size_t)used, " virtio_mmio.device=4K@0x%" PRIx64 ":%u",
		        arch_device_addr(i).addr, arch_device_gsi(i));
	if (used < (int)size)
		used += snprintf(to + used, size - (size_t)used, " %s%s%s", boot->kernel_args,
		        *boot->init_args ? " -- " : "", boot->init_args);
	if (used >= (int)size)
		return err_set(err, E2BIG,
		        "the kernel's command line would have %d bytes, but only %zu fit: use fewer kernel parameters, "
		        "or folders with shorter paths in the guest",
		        used, size - 1);
	return 0;
}

void arch_adopt(struct arch *arch, const struct gmem *gmem, unsigned devices)
{
	unsigned last = devices > 0 ? BOOT_IRQ(devices - 1) : 0;
	if (arch->options.early_console && last < BOOT_IRQ_SERIAL)
		last = BOOT_IRQ_SERIAL;
	arch->ioapic.pins = last + 1;
	arch->gmem = gmem;
	arch->devices = devices;
}

int arch_load(struct arch *arch, const struct gmem *gmem, const struct arch_boot *boot, struct err *err)
{
	char cmdline[BOOT_CMDLINE_MAX];
	arch_adopt(arch, gmem, boot->devices);
	int ret = make_cmdline(arch, boot, cmdline, sizeof(cmdline), err);
	if (ret < 0)
		return ret;
	struct boot_config config = {.kernel_fd = boot->kernel_fd,
	        .copy_kernel = boot->copy_kernel,
	        .initramfs_fd = boot->initramfs_fd,
	        .kernel_name = boot->kernel_name,
	        .initramfs_name = boot->initramfs_name,
	        .cmdline = cmdline,
	        .cpus = arch->options.cpus,
	        .pins = arch->ioapic.pins};
	return boot_load(&config, gmem, &arch->entry, err);
}

int arch_set_entry(struct arch *arch, int vcpu_fd, struct err *err)
{
	return processor_set_entry(vcpu_fd, &arch->entry, err);
}

/* --- snapshots --- */

size_t arch_vm_state_size(void)
{
	return sizeof(struct state_vm);
}

size_t arch_vcpu_state_size(void)
{
	return sizeof(struct state_vcpu);
}

struct cpuid_table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[CPUID_ENTRIES_MAX];
};

int arch_save_vm(struct arch *arch, const struct kvm *kvm, void *to, struct err *err)
{
	struct state_vm *state = to;
	struct cpuid_table table = {0};
	memset(state, 0, sizeof(*state));
	ioapic_save(&arch->ioapic, &state->ioapic);
	int ret = cpuid_build(&table.head, arch->cpuid, &arch->processor, err);
	if (ret < 0)
		return ret;
	state->cpuid_count = table.head.nent;
	memcpy(state->cpuid, table.entry, table.head.nent * sizeof(table.entry[0]));
	return state_save_clock(kvm->vm_fd, state, err);
}

int arch_restore_vm(struct arch *arch, const struct kvm *kvm, const void *from, struct err *err)
{
	const struct state_vm *state = from;
	struct cpuid_table table = {0};
	int ret = cpuid_build(&table.head, arch->cpuid, &arch->processor, err);
	if (ret == 0)
		ret = state_check_cpuid(state, &table.head, err);
	if (ret == 0 && ioapic_restore(&arch->ioapic, &state->ioapic) < 0)
		ret = err_set(err, EINVAL, "the snapshot's I/O APIC has %" PRIu32 " pins, this machine's %u",
		        state->ioapic.pins, arch->ioapic.pins);
	return ret < 0 ? ret : state_restore_clock(kvm->vm_fd, state, err);
}

int arch_save_vcpu(struct arch *arch, const struct kvm *kvm, int vcpu_fd, unsigned index, void *state, struct err *err)
{
	(void)arch, (void)index;
	return state_save_vcpu(kvm->dev_fd, vcpu_fd, state, err);
}

int arch_restore_vcpu(struct arch *arch, int vcpu_fd, unsigned index, const void *state, struct err *err)
{
	(void)arch;
	return state_restore_vcpu(vcpu_fd, index, state, err);
}

uint8_t *arch_symbol(const struct gmem *gmem, uint64_t addr)
{
	return boot_symbol(gmem, addr);
}

bool kvm_arch_handle_exit(const struct arch *arch, struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_X86_BUS_LOCK || processor_port_io(run, &arch->ports);
}
