/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of some hundred instructions, without a kernel: it runs on any /dev/kvm, natively, even where guest kernel
 * mode is emulated an instruction at a time. "payload=NAME" on the command line chooses what it does; test_machine.c
 * says what must come of it. It speaks through the virtio console's emergency write, and ends through the power port.
 */
#include <asm/bootparam.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/shared/platform.h"

#define MMIO_BASE 0xd0000000ull
#define MMIO_STEP 0x1000ull
#define MMIO_MAGIC 0x000
#define MMIO_DEVICE_ID 0x008
#define MMIO_CONSOLE_EMERGENCY (0x100 + 8)
#define DEVICE_CONSOLE 3

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

void payload(const struct boot_params *params);

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

static volatile uint32_t *mmio(unsigned device, unsigned offset)
{
	return (volatile uint32_t *)(MMIO_BASE + device * MMIO_STEP + offset);
}

/* The boot's page tables end at 1 GiB: devices (and a place where there is none) are this program's to map. */
static uint64_t device_pages[512] __attribute__((aligned(4096)));

static void map_devices(void)
{
	volatile uint64_t *pdpt = (volatile uint64_t *)0xa000;
	device_pages[(0xd0000000 >> 21) & 511] = 0xd0000000 | 0x83;
	device_pages[(0xe0000000 >> 21) & 511] = 0xe0000000 | 0x83;
	pdpt[3] = (uint64_t)device_pages | 3;
}

static bool starts_with(const char *text, const char *prefix)
{
	while (*prefix)
		if (*text++ != *prefix++)
			return false;
	return true;
}

static const char *find(const char *text, const char *what)
{
	for (; *text; text++)
		if (starts_with(text, what))
			return text;
	return NULL;
}

static void print(const char *text)
{
	for (unsigned i = 0; i < 10; i++) {
		if (*mmio(i, MMIO_DEVICE_ID) != DEVICE_CONSOLE)
			continue;
		while (*text)
			*mmio(i, MMIO_CONSOLE_EMERGENCY) = (uint8_t)*text++;
		return;
	}
}

static void finish(bool good)
{
	out8(PLATFORM_PORT_POWER, good ? PLATFORM_POWER_OFF : PLATFORM_POWER_FAILED);
}

/* What the boot protocol promises, seen from the inside. */
static bool boot_is_right(const struct boot_params *params, const char *cmdline)
{
	uint64_t memory = 0;
	for (unsigned i = 0; i < params->e820_entries; i++)
		if (params->e820_table[i].type == 1)
			memory += params->e820_table[i].size;
	const struct setup_data *seed = (const struct setup_data *)params->hdr.setup_data;
	const char *mp = (const char *)0xf0000;
	return params->hdr.boot_flag == 0xaa55 && params->hdr.header == 0x53726448 && memory > 0x1e00000 &&
	       seed->type == 9 && seed->len == 32 && starts_with(mp, "_MP_") && starts_with(mp + 16, "PCMP") &&
	       find(cmdline, "virtio_mmio.device=4K@0xd0000000:1");
}

static uint64_t number(const char *text)
{
	uint64_t value = 0;
	for (; text && *text >= '0' && *text <= '9'; text++)
		value = value * 10 + (uint64_t)(*text - '0');
	return value;
}

static void print_number(const char *name, uint64_t value)
{
	char text[] = "x=0000000000000000\n";
	text[0] = *name;
	for (unsigned i = 0; i < 16; i++)
		text[17 - i] = "0123456789abcdef"[value >> 4 * i & 15];
	print(text);
}

static uint64_t read_tsc(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/*
 * Counts for ever, in memory, in a general register and in an SSE register, and says so when they differ, when memory
 * that it filled has changed, or when the TSC has gone back: for machines that are saved, restored and forked.
 */
static void count(const char *cmdline)
{
	volatile uint64_t *filled = (volatile uint64_t *)0x1000000;
	uint64_t pages = number(find(cmdline, "fill=") ? find(cmdline, "fill=") + 5 : "") << 8, last = read_tsc();
	static volatile uint64_t in_memory;
	static volatile uint64_t to_sse[2], from_sse[2];
	for (uint64_t i = 0; i < pages; i++)
		filled[i * 512] = i * 0x9e3779b97f4a7c15;
	uint64_t cr4;
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | 1 << 9)); /* OSFXSR */
	for (uint64_t n = 1;; n++) {
		in_memory = to_sse[0] = n;
		/* From and to memory: a KVM that emulates kernel mode knows no other form. */
		__asm__ volatile("movdqu %0, %%xmm7" : : "m"(to_sse));
		print_number("n", n);
		__asm__ volatile("movdqu %%xmm7, %0" : "=m"(from_sse));
		uint64_t page = pages ? n % pages : 0, now = read_tsc();
		if (in_memory != n || from_sse[0] != n || (pages && filled[page * 512] != page * 0x9e3779b97f4a7c15))
			print("BAD memory or register\n");
		if (now < last)
			print("BAD time\n");
		last = now;
		for (unsigned i = 0; i < 1000; i++)
			__asm__ volatile("pause");
	}
}

void payload(const struct boot_params *params)
{
	const char *cmdline = (const char *)(uint64_t)params->hdr.cmd_line_ptr;
	const char *name = find(cmdline, "payload=");
	name = name ? name + 8 : "";
	map_devices();
	if (starts_with(name, "poweroff")) {
		finish(true);
	} else if (starts_with(name, "boot")) {
		finish(boot_is_right(params, cmdline));
	} else if (starts_with(name, "reboot")) {
		out8(0x64, 0xfe);
	} else if (starts_with(name, "panic")) {
		*(volatile uint16_t *)0x472 = 0x1234;
		out8(0x64, 0xfe);
	} else if (starts_with(name, "print")) {
		print("hello from CPL 0\n");
		finish(true);
	} else if (starts_with(name, "void")) {
		/* Nobody is there: reads give ones, writes go nowhere. */
		out8(0x80, 1);
		*(volatile uint32_t *)0xe0000000 = 1;
		finish(in8(0x2f8) == 0xff && *(volatile uint32_t *)0xe0000000 == 0xffffffff &&
		        *mmio(0, MMIO_MAGIC) == 0x74726976);
	} else if (starts_with(name, "shutdown")) {
		/* No interrupt table: the fault's fault is the third. */
		struct {
			uint16_t limit;
			uint64_t base;
		} __attribute__((packed)) none = {0};
		__asm__ volatile("lidt %0; ud2" : : "m"(none));
	} else if (starts_with(name, "count")) {
		count(cmdline);
	} else if (starts_with(name, "spin")) {
		for (;;)
			__asm__ volatile("" ::: "memory");
	}
}
