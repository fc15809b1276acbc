/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of some hundred instructions, without a kernel: it runs on any /dev/kvm, natively, even where guest kernel
 * mode is emulated an instruction at a time. "payload=NAME" on the command line chooses what it does; test_machine.c
 * says what must come of it. It speaks through the virtio console's emergency write, and ends through the power
 * register.
 */
#include "tests/payload/payload.h"

#include <stddef.h>

#include "vmm/shared/platform.h"

#define MMIO_BASE 0xd0000000ull
#define MMIO_STEP 0x1000ull
#define MMIO_MAGIC 0x000
#define MMIO_DEVICE_ID 0x008
#define MMIO_CONSOLE_EMERGENCY (0x100 + 8)
#define MAGIC 0x74726976
#define DEVICE_CONSOLE 3

bool payload_starts_with(const char *text, const char *prefix)
{
	while (*prefix)
		if (*text++ != *prefix++)
			return false;
	return true;
}

const char *payload_find(const char *text, const char *what)
{
	for (; *text; text++)
		if (payload_starts_with(text, what))
			return text;
	return NULL;
}

static uint64_t device(unsigned index, unsigned offset)
{
	return MMIO_BASE + index * MMIO_STEP + offset;
}

static void print(const char *text)
{
	for (unsigned i = 0; i < 10; i++) {
		if (payload_read_device(device(i, MMIO_DEVICE_ID)) != DEVICE_CONSOLE)
			continue;
		while (*text)
			payload_write_device(device(i, MMIO_CONSOLE_EMERGENCY), (uint8_t)*text++);
		return;
	}
}

void payload_finish(bool good)
{
	payload_write_power(good ? PLATFORM_POWER_OFF : PLATFORM_POWER_FAILED);
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

/*
 * Counts for ever, in memory, in a general register and in a vector register, and says so when they differ, when memory
 * that it filled has changed, or when the clock has gone back: for machines that are saved, restored and forked.
 */
static void count(const char *cmdline)
{
	volatile uint64_t *filled = (volatile uint64_t *)0x1000000;
	const char *fill = payload_find(cmdline, "fill=");
	uint64_t pages = number(fill ? fill + 5 : "") << 8, last = payload_read_clock();
	static volatile uint64_t in_memory;
	for (uint64_t i = 0; i < pages; i++)
		filled[i * 512] = i * 0x9e3779b97f4a7c15;
	for (uint64_t n = 1;; n++) {
		in_memory = n;
		payload_set_vector(n);
		print_number("n", n);
		uint64_t page = pages ? n % pages : 0, now = payload_read_clock();
		if (in_memory != n || payload_get_vector() != n ||
		        (pages && filled[page * 512] != page * 0x9e3779b97f4a7c15))
			print("BAD memory or register\n");
		if (now < last)
			print("BAD time\n");
		last = now;
		for (unsigned i = 0; i < 1000; i++)
			payload_relax();
	}
}

void payload(const void *boot)
{
	const char *cmdline = payload_begin(boot);
	const char *name = payload_find(cmdline, "payload=");
	name = name ? name + 8 : "";
	if (payload_run_other(name))
		return;
	if (payload_starts_with(name, "poweroff")) {
		payload_finish(true);
	} else if (payload_starts_with(name, "boot")) {
		payload_finish(payload_boot_is_right(boot, cmdline));
	} else if (payload_starts_with(name, "reboot")) {
		payload_reset(false);
	} else if (payload_starts_with(name, "panic")) {
		payload_reset(true);
	} else if (payload_starts_with(name, "print")) {
		print("hello from the payload\n");
		payload_finish(true);
	} else if (payload_starts_with(name, "void")) {
		payload_finish(payload_void_is_empty() && payload_read_device(device(0, MMIO_MAGIC)) == MAGIC);
	} else if (payload_starts_with(name, "count")) {
		count(cmdline);
	} else if (payload_starts_with(name, "spin")) {
		payload_spin();
	}
}
