/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a processor's folder (vmm/monitor/x86_64) provides to the machine: where things lie in guest memory, interrupt
 * controllers, platform devices, the guest's software loaded as its boot protocol demands. kvm_arch.h has what it
 * provides to a vCPU. A port to another processor is another folder that implements these two headers.
 */
#ifndef WISP_MONITOR_ARCH_H
#define WISP_MONITOR_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/monitor/bus.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"
#include "vmm/monitor/kvm.h"
#include "vmm/monitor/trace.h"

#define ARCH_DEVICES_MAX 22u /* virtio-mmio devices */

struct arch;

enum arch_event {
	ARCH_POWEROFF,
	ARCH_REBOOT,
	ARCH_PANIC,       /* the guest's kernel asked for a reset because it panicked */
	ARCH_BOOT_FAILED, /* the agent could not set up the guest */
};

struct arch_options {
	unsigned cpus;
	bool early_console;     /* a serial port that works from the kernel's first message on */
	struct bus *memory_bus; /* gets the interrupt controllers; outlives the object */
	struct trace *trace;    /* NULL: not traced */
	/* All are called on vCPU threads, possibly at once. A guest can cause them as often as it likes. */
	void (*event)(void *context, enum arch_event event);
	void (*failed)(void *context, const char *text);              /* the machine cannot go on */
	void (*interrupt_again)(void *context, unsigned device);      /* an interrupt of this device was lost */
	void (*console)(void *context, const void *data, size_t len); /* output of the early console */
	void *context;
	void *console_context;
};

/* 0 or -errno with `err`. Release with arch_destroy. */
int arch_create(struct arch **arch, const struct arch_options *options, struct err *err);

/* Takes NULL. No vCPU may still run. */
void arch_destroy(struct arch *arch);

/* Creates guest memory with the hole for devices where this processor's guests expect it. 0 or -errno with `err`. */
int arch_create_memory(struct gmem *gmem, uint64_t bytes, struct err *err);

/* The guest physical address of virtio-mmio device `index`, and the KVM interrupt line (GSI) of the device. */
gpa_t arch_device_addr(unsigned index);
uint32_t arch_device_gsi(unsigned index);

/* Reads what KVM can give a guest on this host. Needs no VM; any thread. 0 or -errno with `err`. */
int arch_read_host(struct arch *arch, const struct kvm *kvm, struct err *err);

/*
 * The same for a clone, from its source's object, which is only read: KVM takes 0.3 ms for the answer. Before
 * another thread uses `arch`. 0 or -errno with `err`.
 */
int arch_inherit_host(struct arch *arch, const struct arch *source, struct err *err);

/* Gives the VM its interrupt controllers, after its memory and before its vCPUs. 0 or -errno with `err`. */
int arch_furnish_vm(struct arch *arch, const struct kvm *kvm, struct err *err);

/* What has to wait until all vCPUs are created, and comes before the devices' interrupts. 0 or -errno with `err`. */
int arch_complete_vm(struct arch *arch, struct err *err);

/* Makes a vCPU the processor that the guest is shown; after arch_read_host. 0 or -errno with `err`. */
int arch_set_processor(struct arch *arch, int vcpu_fd, unsigned index, struct err *err);

/* What the guest runs. Descriptors stay the caller's; names are for messages. */
struct arch_boot {
	int kernel_fd;
	int initramfs_fd; /* -1: none */
	const char *kernel_name;
	const char *initramfs_name;
	const char *kernel_args; /* in addition to those that this processor needs */
	const char *init_args;   /* what the kernel passes to PID 1; may be "" */
	unsigned devices;        /* virtio-mmio devices, 0 to this */
	bool copy_kernel;        /* map no page of its file */
};

/* Loads it into guest memory, with all tables that the kernel expects. 0 or -errno with `err`. */
int arch_load(struct arch *arch, const struct gmem *gmem, const struct arch_boot *boot, struct err *err);

/* Sets the registers with which the first vCPU begins; after arch_load. 0 or -errno with `err`. */
int arch_set_entry(struct arch *arch, int vcpu_fd, struct err *err);

/*
 * Snapshots. The state of the VM and of each vCPU is plain data of a fixed size. What is restored may come from a
 * file, and is checked. All vCPUs are outside KVM_RUN.
 *
 * arch_adopt stands in for arch_load where guest memory has its contents already. arch_restore_vm comes after
 * arch_read_host and arch_furnish_vm, arch_restore_vcpu after that and after arch_set_processor. 0 or -errno with
 * `err`.
 */
size_t arch_vm_state_size(void);
size_t arch_vcpu_state_size(void);
int arch_save_vm(struct arch *arch, const struct kvm *kvm, void *state, struct err *err);
int arch_save_vcpu(struct arch *arch, const struct kvm *kvm, int vcpu_fd, unsigned index, void *state, struct err *err);
void arch_adopt(struct arch *arch, const struct gmem *gmem, unsigned devices);
int arch_restore_vm(struct arch *arch, const struct kvm *kvm, const void *state, struct err *err);
int arch_restore_vcpu(struct arch *arch, int vcpu_fd, unsigned index, const void *state, struct err *err);

/*
 * Where an instruction of the kernel at a virtual address lies in host memory; NULL outside RAM. Holds for kernels that
 * do not relocate themselves. ARCH_BREAKPOINT replaces it: kvm_arch_breakpoint says how.
 */
uint8_t *arch_symbol(const struct gmem *gmem, uint64_t addr);
extern const uint8_t arch_breakpoint[TRACE_INSTRUCTION_SIZE];

/* The files of the host that arch_create reads by path, up to NULL. */
extern const char *const arch_host_files[];

#endif
