/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does what firmware and a boot loader would: loads the kernel and the initramfs, and writes a device tree with the
 * processors, the memory, the interrupt controller, the timer, the devices, and a seed for the random number generator.
 */
#include "vmm/monitor/aarch64/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/monitor/aarch64/image.h"
#include "vmm/monitor/initramfs.h"

#define RNG_SEED_BYTES 32u
#define GIC_PHANDLE 1u

/* The cells of an interrupt. */
enum { SPI = 0, PPI = 1 };
enum { EDGE_RISING = 1, LEVEL_HIGH = 4 };

uint64_t boot_affinity(unsigned index)
{
	return (index & 0xf) | (uint64_t)(index >> 4 & 0xff) << 8 | (uint64_t)(index >> 12) << 16;
}

static void add_cell(struct fdt *fdt, const char *name, uint32_t value)
{
	fdt_add_cells(fdt, name, &value, 1);
}

static int add_chosen(
        struct fdt *fdt, const struct boot_config *config, const struct initramfs *initramfs, struct err *err)
{
	uint8_t seed[RNG_SEED_BYTES];
	const uint64_t end = initramfs->start + initramfs->size;
	if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return err_set(err, EIO, "the host has no random bytes for the guest: %s", strerror(errno));
	fdt_begin_node(fdt, "chosen");
	fdt_add_text(fdt, "bootargs", config->cmdline);
	fdt_add(fdt, "rng-seed", seed, sizeof(seed));
	if (initramfs->size > 0) {
		fdt_add_wide(fdt, "linux,initrd-start", &initramfs->start, 1);
		fdt_add_wide(fdt, "linux,initrd-end", &end, 1);
	}
	fdt_end_node(fdt);
	return 0;
}

static void add_memory(struct fdt *fdt, const struct gmem *gmem)
{
	for (unsigned i = 0; i < gmem->count; i++) {
		const struct gmem_region *r = &gmem->region[i];
		char name[32];
		snprintf(name, sizeof(name), "memory@%" PRIx64, r->start);
		fdt_begin_node(fdt, name);
		fdt_add_text(fdt, "device_type", "memory");
		fdt_add_wide(fdt, "reg", (const uint64_t[]){r->start, r->size}, 2);
		fdt_end_node(fdt);
	}
}

static void add_cpus(struct fdt *fdt, unsigned cpus)
{
	fdt_begin_node(fdt, "cpus");
	add_cell(fdt, "#address-cells", 1);
	add_cell(fdt, "#size-cells", 0);
	for (unsigned i = 0; i < cpus; i++) {
		char name[32];
		uint32_t affinity = (uint32_t)boot_affinity(i);
		snprintf(name, sizeof(name), "cpu@%" PRIx32, affinity);
		fdt_begin_node(fdt, name);
		fdt_add_text(fdt, "device_type", "cpu");
		fdt_add_text(fdt, "compatible", "arm,armv8");
		fdt_add_text(fdt, "enable-method", "psci");
		add_cell(fdt, "reg", affinity);
		fdt_end_node(fdt);
	}
	fdt_end_node(fdt);
}

/* Starts and stops processors, powers off and resets: KVM answers these calls. */
static void add_psci(struct fdt *fdt)
{
	static const char compatible[] = "arm,psci-1.0\0arm,psci-0.2";
	fdt_begin_node(fdt, "psci");
	fdt_add(fdt, "compatible", compatible, sizeof(compatible));
	fdt_add_text(fdt, "method", "hvc");
	fdt_end_node(fdt);
}

/* Its interrupts, of which a guest uses the third: secure and other physical, virtual, hypervisor's. */
static void add_timer(struct fdt *fdt)
{
	static const uint32_t interrupts[] = {
	        PPI, 13, LEVEL_HIGH, PPI, 14, LEVEL_HIGH, PPI, 11, LEVEL_HIGH, PPI, 10, LEVEL_HIGH};
	fdt_begin_node(fdt, "timer");
	fdt_add_text(fdt, "compatible", "arm,armv8-timer");
	fdt_add_cells(fdt, "interrupts", interrupts, sizeof(interrupts) / sizeof(interrupts[0]));
	fdt_add(fdt, "always-on", NULL, 0);
	fdt_end_node(fdt);
}

static void add_gic(struct fdt *fdt, unsigned cpus)
{
	const uint64_t reg[] = {BOOT_GIC_DISTRIBUTOR, BOOT_GIC_DISTRIBUTOR_SIZE, BOOT_GIC_REDISTRIBUTORS,
	        (uint64_t)cpus * BOOT_GIC_REDISTRIBUTOR_SIZE};
	fdt_begin_node(fdt, "interrupt-controller@c0000000");
	fdt_add_text(fdt, "compatible", "arm,gic-v3");
	add_cell(fdt, "#interrupt-cells", 3);
	fdt_add(fdt, "interrupt-controller", NULL, 0);
	fdt_add_wide(fdt, "reg", reg, sizeof(reg) / sizeof(reg[0]));
	add_cell(fdt, "phandle", GIC_PHANDLE);
	fdt_end_node(fdt);
}

/* Linux probes them in this order. */
static void add_devices(struct fdt *fdt, unsigned devices)
{
	for (unsigned i = 0; i < devices; i++) {
		char name[32];
		uint64_t addr = BOOT_MMIO_ADDR + (uint64_t)i * BOOT_MMIO_SIZE;
		snprintf(name, sizeof(name), "virtio_mmio@%" PRIx64, addr);
		fdt_begin_node(fdt, name);
		fdt_add_text(fdt, "compatible", "virtio,mmio");
		fdt_add_wide(fdt, "reg", (const uint64_t[]){addr, BOOT_MMIO_SIZE}, 2);
		fdt_add_cells(fdt, "interrupts", (const uint32_t[]){SPI, i, EDGE_RISING}, 3);
		fdt_add(fdt, "dma-coherent", NULL, 0);
		fdt_end_node(fdt);
	}
}

static int make_tree(struct fdt *fdt, const struct boot_config *config, const struct gmem *gmem,
        const struct initramfs *initramfs, struct err *err)
{
	fdt_init(fdt);
	fdt_begin_node(fdt, "");
	fdt_add_text(fdt, "compatible", "linux,dummy-virt");
	add_cell(fdt, "#address-cells", 2);
	add_cell(fdt, "#size-cells", 2);
	add_cell(fdt, "interrupt-parent", GIC_PHANDLE);
	int ret = add_chosen(fdt, config, initramfs, err);
	add_memory(fdt, gmem);
	add_cpus(fdt, config->cpus);
	add_psci(fdt);
	add_timer(fdt);
	add_gic(fdt, config->cpus);
	add_devices(fdt, config->devices);
	fdt_end_node(fdt);
	return ret;
}

static int write_tree(
        const struct boot_config *config, const struct gmem *gmem, const struct initramfs *initramfs, struct err *err)
{
	struct fdt *fdt = malloc(sizeof(*fdt));
	if (!fdt)
		return err_set(err, ENOMEM, "out of memory for the device tree");
	int ret = make_tree(fdt, config, gmem, initramfs, err);
	size_t size = ret == 0 ? fdt_finish(fdt) : 0;
	if (ret == 0 && size == 0)
		ret = err_set(err, ENOSPC, "the machine does not fit the device tree");
	if (ret == 0 && gmem_write(gmem, gpa(BOOT_FDT_ADDR), fdt->bytes, size) < 0)
		ret = err_set(err, EFAULT, "the sandbox has too little memory for the device tree");
	free(fdt);
	return ret;
}

int boot_load(const struct boot_config *config, const struct gmem *gmem, uint64_t *entry, struct err *err)
{
	struct image kernel;
	struct initramfs initramfs;
	int ret = image_load(
	        config->kernel_fd, config->kernel_name, BOOT_KERNEL_ADDR, config->copy_kernel, gmem, &kernel, err);
	if (ret == 0)
		ret = initramfs_load(config->initramfs_fd, config->initramfs_name, gmem, kernel.end, &initramfs, err);
	if (ret == 0)
		ret = write_tree(config, gmem, &initramfs, err);
	if (ret == 0)
		*entry = kernel.entry;
	return ret;
}
