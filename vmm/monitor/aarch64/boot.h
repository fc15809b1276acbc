/* SPDX-License-Identifier: Apache-2.0 */
/* Boot on arm64: the layout of guest memory, and what Linux expects there (Documentation/arm64/booting.rst). */
#ifndef WISP_MONITOR_AARCH64_BOOT_H
#define WISP_MONITOR_AARCH64_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/aarch64/fdt.h"
#include "vmm/monitor/aarch64/image.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"

/* RAM begins at 0. The first 2 MiB have the device tree and are otherwise free; the kernel comes next. */
#define BOOT_FDT_ADDR 0x10000u
#define BOOT_KERNEL_ADDR 0x200000u
#define BOOT_CMDLINE_MAX 2048u /* Linux's COMMAND_LINE_SIZE, with the NUL */

/* Devices and the interrupt controller live between them. */
#define BOOT_HOLE_START 0xc0000000ull
#define BOOT_HOLE_END 0x100000000ull
#define BOOT_GIC_DISTRIBUTOR 0xc0000000u
#define BOOT_GIC_DISTRIBUTOR_SIZE 0x10000u
#define BOOT_GIC_REDISTRIBUTORS 0xc0100000u
#define BOOT_GIC_REDISTRIBUTOR_SIZE 0x20000u /* of each vCPU */
#define BOOT_MMIO_ADDR 0xd0000000u           /* virtio-mmio devices, a page for each */
#define BOOT_MMIO_SIZE 0x1000u
#define BOOT_PL011_ADDR 0xd1001000u

struct boot_config {
	int kernel_fd; /* descriptors stay the caller's; names are for messages */
	int initramfs_fd;
	const char *kernel_name;
	const char *initramfs_name;
	const char *cmdline;
	unsigned cpus;
	unsigned devices; /* device n has SPI n */
	bool copy_kernel; /* map no page of its file */
};

/* Loads everything into `gmem`; `entry` is where the first vCPU starts. 0, or -errno with `err`. */
int boot_load(const struct boot_config *config, const struct gmem *gmem, uint64_t *entry, struct err *err);

/* The affinity of vCPU `index`, as in its MPIDR: KVM puts 16 vCPUs into a cluster. */
uint64_t boot_affinity(unsigned index);

#endif
