/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boot on x86-64: the layout of guest memory, and the tables that Linux's 64-bit boot protocol requires
 * (Documentation/x86/boot.rst, zero-page.rst; Intel's MultiProcessor Specification 1.4).
 */
#ifndef WISP_MONITOR_BOOT_X86_64_H
#define WISP_MONITOR_BOOT_X86_64_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"
#include "vmm/monitor/x86_64/processor.h"

/* Guest physical layout below 1 MiB: boot tables, each with a page or more of its own. */
#define BOOT_GDT_ADDR 0x1000u
#define BOOT_RNG_ADDR 0x2000u    /* setup_data: the seed */
#define BOOT_PARAMS_ADDR 0x7000u /* the zero page */
#define BOOT_PML4_ADDR 0x9000u   /* and its two lower levels in the next pages */
#define BOOT_CMDLINE_ADDR 0x20000u
#define BOOT_CMDLINE_MAX 2048u     /* Linux's COMMAND_LINE_SIZE, with the NUL */
#define BOOT_LOW_END 0xa0000u      /* the end of usable memory below 1 MiB */
#define BOOT_MPTABLE_ADDR 0xf0000u /* in the area of the BIOS, which Linux searches */
#define BOOT_MPTABLE_END 0x100000u
#define BOOT_HIGH_ADDR 0x100000u /* kernels are loaded from here on */

/* Memory-mapped devices, interrupt controllers and firmware live between them. */
#define BOOT_HOLE_START 0xc0000000ull
#define BOOT_HOLE_END 0x100000000ull
#define BOOT_MMIO_ADDR 0xd0000000ull /* virtio-mmio devices, a page for each */

/* The interrupt, and I/O APIC pin, of device n. To Linux, 0 means no interrupt; 4 is the serial port's. */
#define BOOT_IRQ(n) ((n) < 3 ? 1 + (n) : 2 + (n))
#define BOOT_IRQ_SERIAL 4u

struct boot_config {
	int kernel_fd;    /* descriptors stay the caller's; names are for messages */
	int initramfs_fd; /* -1: none */
	const char *kernel_name;
	const char *initramfs_name;
	const char *cmdline;
	unsigned cpus;
	unsigned pins;    /* of the I/O APIC: up to IOAPIC_PINS_MAX */
	bool copy_kernel; /* map no page of its file */
};

/* Loads everything into `gmem`, and fills in where the first vCPU starts. 0, or -errno with `err` and `entry` as it
 * was. */
int boot_load(
        const struct boot_config *config, const struct gmem *gmem, struct processor_entry *entry, struct err *err);

/* After a reset by the guest: whether its kernel panicked, and so left the warm boot flag (reboot=panic_warm). */
bool boot_panicked(const struct gmem *gmem);

/* See arch_symbol. */
uint8_t *boot_symbol(const struct gmem *gmem, uint64_t addr);

/* The parts, for their tests. */
int boot_write_mptable(const struct gmem *gmem, unsigned cpus, unsigned pins, struct err *err);
int boot_write_page_tables(const struct gmem *gmem, struct err *err);

#endif
