/* SPDX-License-Identifier: Apache-2.0 */
#include <asm/bootparam.h>

#include "tests/payload/payload.h"
#include "vmm/shared/platform.h"

__asm__(".section .text.start, \"ax\"\n"
        ".globl _start\n"
        "_start: lea stack_top(%rip), %rsp\n"
        "mov %rsi, %rdi\n"
        "call payload\n"
        "1: hlt\n"
        "jmp 1b\n"
        ".section .bss\n"
        ".balign 16\n"
        ".skip 4096\n"
        "stack_top:\n"
        ".text\n");

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

/* The boot's page tables end at 1 GiB: devices (and a place where there is none) are this program's to map. */
static uint64_t device_pages[512] __attribute__((aligned(4096)));

const char *payload_begin(const void *boot)
{
	const struct boot_params *params = boot;
	volatile uint64_t *pdpt = (volatile uint64_t *)0xa000;
	uint64_t cr4;
	device_pages[(0xd0000000 >> 21) & 511] = 0xd0000000 | 0x83;
	device_pages[(0xe0000000 >> 21) & 511] = 0xe0000000 | 0x83;
	pdpt[3] = (uint64_t)device_pages | 3;
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | 1 << 9)); /* OSFXSR */
	return (const char *)(uint64_t)params->hdr.cmd_line_ptr;
}

bool payload_boot_is_right(const void *boot, const char *cmdline)
{
	const struct boot_params *params = boot;
	uint64_t memory = 0;
	for (unsigned i = 0; i < params->e820_entries; i++)
		if (params->e820_table[i].type == 1)
			memory += params->e820_table[i].size;
	const struct setup_data *seed = (const struct setup_data *)params->hdr.setup_data;
	const char *mp = (const char *)0xf0000;
	return params->hdr.boot_flag == 0xaa55 && params->hdr.header == 0x53726448 && memory > 0x1e00000 &&
	       seed->type == 9 && seed->len == 32 && payload_starts_with(mp, "_MP_") &&
	       payload_starts_with(mp + 16, "PCMP") && payload_find(cmdline, "virtio_mmio.device=4K@0xd0000000:1");
}

uint32_t payload_read_device(uint64_t addr)
{
	return *(volatile uint32_t *)addr;
}

void payload_write_device(uint64_t addr, uint32_t value)
{
	*(volatile uint32_t *)addr = value;
}

void payload_write_power(uint8_t value)
{
	out8(PLATFORM_PORT_POWER, value);
}

void payload_reset(bool after_panic)
{
	if (after_panic)
		*(volatile uint16_t *)0x472 = 0x1234;
	out8(0x64, 0xfe);
}

bool payload_void_is_empty(void)
{
	out8(0x80, 1);
	payload_write_device(0xe0000000, 1);
	return in8(0x2f8) == 0xff && payload_read_device(0xe0000000) == 0xffffffff;
}

bool payload_run_other(const char *name)
{
	/* No interrupt table: the fault's fault is the third. */
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none;
	if (!payload_starts_with(name, "shutdown"))
		return false;
	__asm__ volatile("lidt %0; ud2" : : "m"(none));
	return true;
}

uint64_t payload_read_clock(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* From and to memory: a KVM that emulates kernel mode knows no other form. */
static volatile uint64_t vector[2];

void payload_set_vector(uint64_t value)
{
	vector[0] = value;
	__asm__ volatile("movdqu %0, %%xmm7" : : "m"(vector));
}

uint64_t payload_get_vector(void)
{
	__asm__ volatile("movdqu %%xmm7, %0" : "=m"(vector));
	return vector[0];
}

void payload_relax(void)
{
	__asm__ volatile("pause");
}

/* With interrupts enabled, though none comes: Bochs does not stop a guest that has them disabled (tests/intelhost). */
void payload_spin(void)
{
	__asm__ volatile("sti");
	for (;;)
		__asm__ volatile("" ::: "memory");
}
