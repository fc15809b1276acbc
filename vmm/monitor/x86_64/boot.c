/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds in guest memory what firmware and a boot loader would: the kernel at its own addresses, the initramfs at the
 * top of low memory, the zero page with the memory map, a seed for the random number generator, an MP table with the
 * processors and the I/O APIC, and the page tables and descriptors that 64-bit code requires.
 */
#include "vmm/monitor/x86_64/boot.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/monitor/elf.h"
#include "vmm/monitor/file.h"
#include "vmm/monitor/initramfs.h"
#include "vmm/monitor/x86_64/ioapic.h"

#define PAGE_SIZE 4096u
#define SETUP_RNG_SEED_TYPE 9u /* SETUP_RNG_SEED: Debian 12's headers do not have it yet */
#define RNG_SEED_BYTES 32u
#define KERNEL_MAP 0xffffffff80000000ull /* __START_KERNEL_map: where Linux sees physical address 0 in its image */
#define WARM_BOOT_FLAG_ADDR 0x472u
#define WARM_BOOT_FLAG 0x1234u

#define LAPIC_ADDR 0xfee00000u

/* Writes `len` bytes at an address of boot.h, which is RAM in any machine that is large enough to boot. */
static int put(const struct gmem *gmem, uint64_t addr, const void *from, size_t len, struct err *err)
{
	if (gmem_write(gmem, gpa(addr), from, len) < 0)
		return err_set(err, EFAULT, "the sandbox has too little memory for the boot tables");
	return 0;
}

/* --- MP table --- */

struct mp_pointer {
	char signature[4];
	uint32_t table;
	uint8_t length, revision, checksum, features[5];
} __attribute__((packed));

struct mp_table {
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char oem[8], product[12];
	uint32_t oem_table;
	uint16_t oem_length, entries;
	uint32_t lapic;
	uint16_t extended_length;
	uint8_t extended_checksum, zero;
} __attribute__((packed));

struct mp_cpu {
	uint8_t type, apic_id, apic_version, flags;
	uint32_t signature, features, zero[2];
} __attribute__((packed));

struct mp_bus {
	uint8_t type, id;
	char name[6];
} __attribute__((packed));

struct mp_ioapic {
	uint8_t type, id, version, flags;
	uint32_t addr;
} __attribute__((packed));

struct mp_interrupt {
	uint8_t type, kind;
	uint16_t flags;
	uint8_t bus, bus_irq, apic, pin;
} __attribute__((packed));

enum { MP_CPU = 0, MP_BUS = 1, MP_IOAPIC = 2, MP_IO_INTERRUPT = 3, MP_LOCAL_INTERRUPT = 4 };
enum { MP_KIND_INT = 0, MP_KIND_NMI = 1 };

struct mp_builder {
	uint8_t bytes[4096];
	size_t used;
	unsigned entries;
};

static int mp_add(struct mp_builder *b, const void *entry, size_t len)
{
	if (len > sizeof(b->bytes) - b->used)
		return -ENOSPC;
	memcpy(b->bytes + b->used, entry, len);
	b->used += len;
	b->entries++;
	return 0;
}

static uint8_t mp_checksum(const void *from, size_t len)
{
	const uint8_t *p = from;
	uint8_t sum = 0;
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	return (uint8_t)-sum;
}

/* In the order of the specification: processors, buses, I/O APICs, interrupts. */
static int mp_fill(struct mp_builder *b, unsigned cpus, unsigned pins)
{
	int ret = 0;
	uint8_t ioapic_id = (uint8_t)cpus;
	for (unsigned i = 0; i < cpus; i++) {
		struct mp_cpu cpu = {.type = MP_CPU,
		        .apic_id = (uint8_t)i,
		        .apic_version = 0x14,
		        .flags = (uint8_t)(1 | (i == 0 ? 2 : 0)), /* enabled; the boot processor */
		        .signature = 0x600,
		        .features = 0x201}; /* FPU, APIC */
		ret |= mp_add(b, &cpu, sizeof(cpu));
	}
	struct mp_bus isa = {.type = MP_BUS, .id = 0, .name = "ISA   "};
	ret |= mp_add(b, &isa, sizeof(isa));
	struct mp_ioapic ioapic = {
	        .type = MP_IOAPIC, .id = ioapic_id, .version = 0x11, .flags = 1, .addr = IOAPIC_ADDR};
	ret |= mp_add(b, &ioapic, sizeof(ioapic));
	for (unsigned i = 1; i < pins; i++) {
		struct mp_interrupt irq = {.type = MP_IO_INTERRUPT,
		        .kind = MP_KIND_INT,
		        .bus_irq = (uint8_t)i,
		        .apic = ioapic_id,
		        .pin = (uint8_t)i};
		ret |= mp_add(b, &irq, sizeof(irq));
	}
	struct mp_interrupt lint1 = {.type = MP_LOCAL_INTERRUPT, .kind = MP_KIND_NMI, .apic = 0xff, .pin = 1};
	ret |= mp_add(b, &lint1, sizeof(lint1));
	return ret;
}

int boot_write_mptable(const struct gmem *gmem, unsigned cpus, unsigned pins, struct err *err)
{
	struct mp_builder b = {.used = sizeof(struct mp_pointer) + sizeof(struct mp_table)};
	if (mp_fill(&b, cpus, pins) < 0)
		return err_set(err, ENOSPC, "%u vCPUs do not fit the MP table", cpus);
	struct mp_table table = {.signature = "PCMP",
	        .length = (uint16_t)(b.used - sizeof(struct mp_pointer)),
	        .revision = 4,
	        .oem = "WISP    ",
	        .product = "MICROVM     ",
	        .entries = (uint16_t)b.entries,
	        .lapic = LAPIC_ADDR};
	memcpy(b.bytes + sizeof(struct mp_pointer), &table, sizeof(table));
	b.bytes[sizeof(struct mp_pointer) + offsetof(struct mp_table, checksum)] =
	        mp_checksum(b.bytes + sizeof(struct mp_pointer), table.length);
	struct mp_pointer pointer = {
	        .signature = "_MP_", .table = BOOT_MPTABLE_ADDR + sizeof(pointer), .length = 1, .revision = 4};
	pointer.checksum = mp_checksum(&pointer, sizeof(pointer));
	memcpy(b.bytes, &pointer, sizeof(pointer));
	return put(gmem, BOOT_MPTABLE_ADDR, b.bytes, b.used, err);
}

/* --- what the processor needs to run 64-bit code --- */

int boot_write_page_tables(const struct gmem *gmem, struct err *err)
{
	/* Maps the first GiB onto itself in 2 MiB pages. Linux maps the rest in its early fault handler. */
	enum { PRESENT_WRITABLE = 3, LARGE = 0x80 };
	uint64_t pml4 = (BOOT_PML4_ADDR + PAGE_SIZE) | PRESENT_WRITABLE;
	uint64_t pdpt = (BOOT_PML4_ADDR + 2 * PAGE_SIZE) | PRESENT_WRITABLE;
	uint64_t pd[512];
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = (i << 21) | LARGE | PRESENT_WRITABLE;
	int ret = put(gmem, BOOT_PML4_ADDR, &pml4, sizeof(pml4), err);
	if (ret == 0)
		ret = put(gmem, BOOT_PML4_ADDR + PAGE_SIZE, &pdpt, sizeof(pdpt), err);
	if (ret == 0)
		ret = put(gmem, BOOT_PML4_ADDR + 2 * PAGE_SIZE, pd, sizeof(pd), err);
	return ret;
}

static int write_gdt(const struct gmem *gmem, struct err *err)
{
	/* Selectors 0x10 and 0x18 are Linux's __BOOT_CS and __BOOT_DS; 0x20 is an unused task segment. */
	static const uint64_t gdt[5] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00008b0000000067};
	return put(gmem, BOOT_GDT_ADDR, gdt, sizeof(gdt), err);
}

/* --- the zero page --- */

static void add_memory(struct boot_params *params, uint64_t start, uint64_t end, uint32_t type)
{
	params->e820_table[params->e820_entries++] =
	        (struct boot_e820_entry){.addr = start, .size = end - start, .type = type};
}

static void fill_memory_map(struct boot_params *params, const struct gmem *gmem)
{
	enum { E820_RAM = 1, E820_RESERVED = 2 };
	add_memory(params, 0, BOOT_LOW_END, E820_RAM);
	add_memory(params, BOOT_LOW_END, BOOT_HIGH_ADDR, E820_RESERVED);
	for (unsigned i = 0; i < gmem->count; i++) {
		uint64_t start = gmem->region[i].start < BOOT_HIGH_ADDR ? BOOT_HIGH_ADDR : gmem->region[i].start;
		add_memory(params, start, gmem->region[i].start + gmem->region[i].size, E820_RAM);
	}
}

static int write_seed(const struct gmem *gmem, struct err *err)
{
	struct {
		struct setup_data head;
		uint8_t seed[RNG_SEED_BYTES];
	} data = {.head = {.type = SETUP_RNG_SEED_TYPE, .len = RNG_SEED_BYTES}};
	if (getrandom(data.seed, sizeof(data.seed), 0) != (ssize_t)sizeof(data.seed))
		return err_set(err, EIO, "the host has no random bytes for the guest: %s", strerror(errno));
	return put(gmem, BOOT_RNG_ADDR, &data, sizeof(data.head) + sizeof(data.seed), err);
}

static int write_boot_params(
        const struct boot_config *config, const struct gmem *gmem, const struct initramfs *initramfs, struct err *err)
{
	struct boot_params params = {0};
	size_t cmdline_len = strlen(config->cmdline);
	if (cmdline_len >= BOOT_CMDLINE_MAX)
		return err_set(err, E2BIG,
		        "the kernel's command line has %zu bytes, at most %u fit: use fewer disks or options",
		        cmdline_len, BOOT_CMDLINE_MAX - 1);
	params.hdr.type_of_loader = 0xff;
	params.hdr.boot_flag = 0xaa55;
	params.hdr.header = 0x53726448; /* "HdrS" */
	params.hdr.version = 0x020f;
	params.hdr.loadflags = 1; /* the kernel is high */
	params.hdr.kernel_alignment = 0x1000000;
	params.hdr.cmd_line_ptr = BOOT_CMDLINE_ADDR;
	params.hdr.cmdline_size = (uint32_t)cmdline_len;
	params.hdr.setup_data = BOOT_RNG_ADDR;
	params.hdr.ramdisk_image = (uint32_t)initramfs->start;
	params.hdr.ramdisk_size = (uint32_t)initramfs->size;
	fill_memory_map(&params, gmem);
	int ret = put(gmem, BOOT_CMDLINE_ADDR, config->cmdline, cmdline_len + 1, err);
	return ret < 0 ? ret : put(gmem, BOOT_PARAMS_ADDR, &params, sizeof(params), err);
}

int boot_load(const struct boot_config *config, const struct gmem *gmem, struct processor_entry *entry, struct err *err)
{
	struct elf_limits limits = {.machine = EM_X86_64,
	        .lowest = BOOT_HIGH_ADDR,
	        .highest = gmem->region[0].size,
	        .copy = config->copy_kernel};
	struct elf_image kernel;
	struct initramfs initramfs;
	struct stat st;
	int ret = file_check(config->kernel_fd, "kernel", config->kernel_name, &st, err);
	if (ret == 0)
		ret = elf_load(config->kernel_fd, config->kernel_name, &limits, gmem, &kernel, err);
	if (ret == 0)
		ret = initramfs_load(config->initramfs_fd, config->initramfs_name, gmem, kernel.end, &initramfs, err);
	if (ret == 0)
		ret = write_boot_params(config, gmem, &initramfs, err);
	if (ret == 0)
		ret = write_seed(gmem, err);
	if (ret == 0)
		ret = boot_write_mptable(gmem, config->cpus, config->pins, err);
	if (ret == 0)
		ret = boot_write_page_tables(gmem, err);
	if (ret == 0)
		ret = write_gdt(gmem, err);
	if (ret == 0)
		*entry = (struct processor_entry){.pc = kernel.entry,
		        .boot_params = BOOT_PARAMS_ADDR,
		        .page_table = BOOT_PML4_ADDR,
		        .gdt = BOOT_GDT_ADDR};
	return ret;
}

bool boot_panicked(const struct gmem *gmem)
{
	uint16_t flag = 0;
	return gmem_read(gmem, gpa(WARM_BOOT_FLAG_ADDR), &flag, sizeof(flag)) == 0 && flag == WARM_BOOT_FLAG;
}

uint8_t *boot_symbol(const struct gmem *gmem, uint64_t addr)
{
	return gmem_ptr(gmem, gpa(addr - KERNEL_MAP), 2);
}
