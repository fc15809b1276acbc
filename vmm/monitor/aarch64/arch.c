/* SPDX-License-Identifier: Apache-2.0 */
/* arm64's side of the machine: KVM's GICv3 and PSCI, the platform page and the early console, the command line. */
#include "vmm/monitor/arch.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/monitor/aarch64/boot.h"
#include "vmm/monitor/aarch64/gic.h"
#include "vmm/monitor/aarch64/pl011.h"
#include "vmm/monitor/aarch64/processor.h"
#include "vmm/monitor/aarch64/state.h"
#include "vmm/monitor/guest_signal.h"
#include "vmm/monitor/kvm_arch.h"
#include "vmm/shared/platform.h"

_Static_assert(ARCH_DEVICES_MAX <= GIC_SPIS, "an interrupt for every device");
_Static_assert(BOOT_MMIO_ADDR + ARCH_DEVICES_MAX * BOOT_MMIO_SIZE <= PLATFORM_PAGE, "room for every device");

/* panic_warm: a reset after a panic is a warm one, by which kvm_arch_handle_exit tells it from a reboot. */
#define KERNEL_ARGS "reboot=panic_warm console=hvc0"

struct arch {
	struct arch_options options;
	struct guest_signal signal;
	struct pl011 uart;
	uint64_t entry;
	int vm_fd;
	int gic_fd; /* -1: none yet */
};

/* arch_symbol finds no place for one. */
const uint8_t arch_breakpoint[TRACE_INSTRUCTION_SIZE] = {0};

const char *const arch_host_files[] = {NULL};

static void on_power(void *context, bool failed)
{
	struct arch *arch = context;
	arch->options.event(arch->options.context, failed ? ARCH_BOOT_FAILED : ARCH_POWEROFF);
}

static int add_platform(struct arch *arch, struct bus *bus)
{
	int ret = bus_add(bus, PLATFORM_PAGE, 1, guest_signal_power, &arch->signal);
	if (ret == 0 && arch->options.trace)
		ret = bus_add(bus, PLATFORM_PAGE + PLATFORM_PORT_STAMP - PLATFORM_PORT_POWER, 1, guest_signal_stamp,
		        &arch->signal);
	if (ret == 0 && arch->options.early_console)
		ret = bus_add(bus, BOOT_PL011_ADDR, PL011_SIZE, pl011_access, &arch->uart);
	return ret;
}

int arch_create(struct arch **out, const struct arch_options *options, struct err *err)
{
	struct arch *arch = calloc(1, sizeof(*arch));
	if (!arch)
		return err_set(err, ENOMEM, "out of memory for the machine");
	arch->options = *options;
	arch->gic_fd = -1;
	arch->signal = (struct guest_signal){.power = on_power, .context = arch, .trace = options->trace};
	arch->uart = (struct pl011){.output = options->console, .context = options->console_context};
	if (add_platform(arch, options->memory_bus) < 0) {
		arch_destroy(arch);
		return err_set(err, ENOSPC, "too many devices");
	}
	*out = arch;
	return 0;
}

void arch_destroy(struct arch *arch)
{
	if (!arch)
		return;
	if (arch->gic_fd >= 0)
		close(arch->gic_fd);
	free(arch);
}

int arch_create_memory(struct gmem *gmem, uint64_t bytes, struct err *err)
{
	return gmem_create(gmem, bytes, BOOT_HOLE_START, BOOT_HOLE_END, err);
}

gpa_t arch_device_addr(unsigned index)
{
	return gpa(BOOT_MMIO_ADDR + (uint64_t)index * BOOT_MMIO_SIZE);
}

uint32_t arch_device_gsi(unsigned index)
{
	return index;
}

/* The processor is as KVM makes it: there is nothing to read. */
int arch_read_host(struct arch *arch, const struct kvm *kvm, struct err *err)
{
	(void)arch, (void)kvm, (void)err;
	return 0;
}

int arch_inherit_host(struct arch *arch, const struct arch *source, struct err *err)
{
	(void)arch, (void)source, (void)err;
	return 0;
}

int arch_furnish_vm(struct arch *arch, const struct kvm *kvm, struct err *err)
{
	arch->vm_fd = kvm->vm_fd;
	int fd = gic_create(kvm->vm_fd, err);
	if (fd < 0)
		return fd;
	arch->gic_fd = fd;
	return 0;
}

int arch_complete_vm(struct arch *arch, struct err *err)
{
	return gic_start(arch->gic_fd, err);
}

int arch_set_processor(struct arch *arch, int vcpu_fd, unsigned index, struct err *err)
{
	return processor_init(arch->vm_fd, vcpu_fd, index, err);
}

static int make_cmdline(const struct arch *arch, const struct arch_boot *boot, char *to, size_t size, struct err *err)
{
	char early[48] = "";
	if (arch->options.early_console)
		snprintf(early, sizeof(early), " earlycon=pl011,0x%x", BOOT_PL011_ADDR);
	int used = snprintf(to, size, "%s%s %s%s%s", KERNEL_ARGS, early, boot->kernel_args,
	        *boot->init_args ? " -- " : "", boot->init_args);
	if (used >= (int)size)
		return err_set(err, E2BIG,
		        "the kernel's command line would have %d bytes, but only %zu fit: use fewer kernel parameters, "
		        "or folders with shorter paths in the guest",
		        used, size - 1);
	return 0;
}

int arch_load(struct arch *arch, const struct gmem *gmem, const struct arch_boot *boot, struct err *err)
{
	char cmdline[BOOT_CMDLINE_MAX];
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
	        .devices = boot->devices};
	return boot_load(&config, gmem, &arch->entry, err);
}

int arch_set_entry(struct arch *arch, int vcpu_fd, struct err *err)
{
	return processor_set_entry(vcpu_fd, arch->entry, BOOT_FDT_ADDR, err);
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

int arch_save_vm(struct arch *arch, const struct kvm *kvm, void *state, struct err *err)
{
	(void)kvm;
	return state_save_gic(arch->gic_fd, state, err);
}

int arch_restore_vm(struct arch *arch, const struct kvm *kvm, const void *state, struct err *err)
{
	(void)kvm;
	return state_restore_gic(arch->gic_fd, state, err);
}

int arch_save_vcpu(struct arch *arch, const struct kvm *kvm, int vcpu_fd, unsigned index, void *state, struct err *err)
{
	(void)kvm;
	return state_save_vcpu(arch->gic_fd, vcpu_fd, index, state, err);
}

int arch_restore_vcpu(struct arch *arch, int vcpu_fd, unsigned index, const void *state, struct err *err)
{
	return state_restore_vcpu(arch->gic_fd, vcpu_fd, index, state, err);
}

void arch_adopt(struct arch *arch, const struct gmem *gmem, unsigned devices)
{
	(void)arch, (void)gmem, (void)devices;
}

/* An Image does not tell where its kernel maps itself. */
uint8_t *arch_symbol(const struct gmem *gmem, uint64_t addr)
{
	(void)gmem, (void)addr;
	return NULL;
}

/* --- exits: calls of PSCI --- */

bool kvm_arch_handle_exit(const struct arch *arch, struct kvm_run *run)
{
	enum arch_event event = ARCH_POWEROFF;
	if (run->exit_reason != KVM_EXIT_SYSTEM_EVENT)
		return false;
	switch (run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN: event = ARCH_POWEROFF; break;
	case KVM_SYSTEM_EVENT_RESET: {
		bool warm = run->system_event.ndata > 0 &&
		            run->system_event.data[0] & KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2;
		event = warm ? ARCH_PANIC : ARCH_REBOOT;
		break;
	}
	case KVM_SYSTEM_EVENT_CRASH: event = ARCH_PANIC; break;
	default: return false;
	}
	arch->options.event(arch->options.context, event);
	return true;
}
