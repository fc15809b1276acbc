/* SPDX-License-Identifier: Apache-2.0 */
/* Its memory is uncached, and accesses to it must be aligned, because the MMU stays off. */
#include <stddef.h>

#include "tests/payload/payload.h"
#include "vmm/shared/platform.h"

#define DISTRIBUTOR 0xc0000000ull
#define NOTHING 0xe0000000ull
#define SECOND_CONTEXT 0x5ec04dull

/* The header of an Image (Documentation/arm64/booting.rst), then the start of each processor. */
__asm__(".section .head, \"ax\"\n"
        ".globl payload_head\n"
        "payload_head: b start\n"
        ".word 0\n"
        ".quad 0\n"
        ".quad payload_end - payload_head\n"
        ".quad 2\n" /* little-endian, pages of 4 KiB */
        ".quad 0, 0, 0\n"
        ".ascii \"ARM\\x64\"\n"
        ".word 0\n"
        "start: adr x1, stack_top\n"
        "mov sp, x1\n"
        "bl payload\n"
        "1: wfi\n"
        "b 1b\n"
        ".globl payload_second\n"
        "payload_second: adr x1, second_stack_top\n"
        "mov sp, x1\n"
        "bl payload_run_second\n"
        ".section .bss\n"
        ".balign 16\n"
        ".skip 4096\n"
        "stack_top:\n"
        ".skip 4096\n"
        "second_stack_top:\n"
        ".text\n");

void payload_second(void);
void payload_run_second(uint64_t context);

/* --- devices: by instructions of which the processor tells KVM what they do --- */

uint32_t payload_read_device(uint64_t addr)
{
	uint32_t value;
	__asm__ volatile("ldr %w0, [%1]" : "=r"(value) : "r"(addr) : "memory");
	return value;
}

void payload_write_device(uint64_t addr, uint32_t value)
{
	__asm__ volatile("str %w0, [%1]" : : "r"(value), "r"(addr) : "memory");
}

void payload_write_power(uint8_t value)
{
	__asm__ volatile("strb %w0, [%1]" : : "r"(value), "r"((uint64_t)PLATFORM_PAGE) : "memory");
}

bool payload_void_is_empty(void)
{
	uint64_t byte, half, word;
	payload_write_device(NOTHING, 1);
	__asm__ volatile("ldrb %w0, [%3]\n"
	                 "ldrh %w1, [%3]\n"
	                 "ldr %2, [%3]"
	                 : "=&r"(byte), "=&r"(half), "=&r"(word)
	                 : "r"(NOTHING)
	                 : "memory");
	return byte == 0xff && half == 0xffff && word == UINT64_MAX && payload_read_device(NOTHING) == UINT32_MAX;
}

/* --- PSCI (Arm DEN 0022) --- */

enum psci_function {
	PSCI_VERSION = 0x84000000,
	PSCI_CPU_OFF = 0x84000002,
	PSCI_SYSTEM_OFF = 0x84000008,
	PSCI_SYSTEM_RESET = 0x84000009,
	PSCI_FEATURES = 0x8400000a,
};
#define PSCI_CPU_ON 0xc4000003ull
#define PSCI_AFFINITY_INFO 0xc4000004ull
#define PSCI_SYSTEM_RESET2 0xc4000012ull

enum psci_error { PSCI_NOT_SUPPORTED = -1, PSCI_INVALID_PARAMETERS = -2, PSCI_ALREADY_ON = -4 };

static int64_t psci(uint64_t function, uint64_t first, uint64_t second, uint64_t third)
{
	register uint64_t x0 __asm__("x0") = function;
	register uint64_t x1 __asm__("x1") = first;
	register uint64_t x2 __asm__("x2") = second;
	register uint64_t x3 __asm__("x3") = third;
	__asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) : : "memory");
	return (int32_t)x0;
}

void payload_reset(bool after_panic)
{
	psci(after_panic ? PSCI_SYSTEM_RESET2 : PSCI_SYSTEM_RESET, 0, 0, 0);
}

static volatile uint64_t second_context;

void payload_run_second(uint64_t context)
{
	second_context = context;
	psci(PSCI_CPU_OFF, 0, 0, 0);
}

/* For a machine with two processors: the second one starts with what it is given, and ends. */
static bool processors_start_and_stop(void)
{
	const uint64_t entry = (uint64_t)payload_second;
	if (psci(PSCI_VERSION, 0, 0, 0) < 0x10000 || psci(PSCI_FEATURES, PSCI_SYSTEM_RESET2, 0, 0) != 0 ||
	        psci(PSCI_FEATURES, 0x84001234, 0, 0) != PSCI_NOT_SUPPORTED ||
	        psci(PSCI_CPU_ON, 0, entry, 0) != PSCI_ALREADY_ON ||
	        psci(PSCI_CPU_ON, 2, entry, 0) != PSCI_INVALID_PARAMETERS ||
	        psci(PSCI_CPU_ON, 1, entry, SECOND_CONTEXT) != 0)
		return false;
	while (second_context != SECOND_CONTEXT)
		payload_relax();
	while (psci(PSCI_AFFINITY_INFO, 1, 0, 0) != 1)
		payload_relax();
	return true;
}

bool payload_run_other(const char *name)
{
	if (payload_starts_with(name, "system-off"))
		psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	else if (payload_starts_with(name, "cpu-off"))
		psci(PSCI_CPU_OFF, 0, 0, 0);
	else if (payload_starts_with(name, "processors"))
		payload_finish(processors_start_and_stop());
	else if (payload_starts_with(name, "pair")) /* of which the processor does not tell KVM what it does */
		__asm__ volatile("ldp x0, x1, [%0]" : : "r"(NOTHING) : "x0", "x1", "memory");
	else
		return false;
	return true;
}

/* --- the device tree (Devicetree Specification, chapter 5) --- */

enum { BEGIN_NODE = 1, END_NODE = 2, PROPERTY = 3 };

struct tree {
	uint32_t magic, total, nodes_at, names_at;
};

static uint32_t cell(const void *at)
{
	return __builtin_bswap32(*(const volatile uint32_t *)at);
}

static bool is(const char *a, const char *b)
{
	return payload_starts_with(a, b) && payload_starts_with(b, a);
}

static uint32_t padded(uint32_t size)
{
	return (size + 3) & ~3u;
}

/* A property of a node at the root; NULL if it has none. */
static const void *find_property(const void *tree, const char *node, const char *name, uint32_t *size)
{
	const struct tree *head = tree;
	const char *names = (const char *)tree + cell(&head->names_at);
	const char *at = (const char *)tree + cell(&head->nodes_at);
	unsigned depth = 0;
	bool inside = false;
	for (;;) {
		uint32_t token = cell(at), length = 0;
		at += 4;
		if (token == BEGIN_NODE) {
			while (at[length++])
				;
			inside = ++depth == 2 && is(at, node);
		} else if (token == END_NODE) {
			depth--;
			inside = false;
		} else if (token == PROPERTY) {
			length = cell(at);
			const char *found = names + cell(at + 4);
			at += 8;
			*size = length;
			if (inside && depth == 2 && is(found, name))
				return at;
		} else {
			return NULL;
		}
		at += padded(length);
	}
}

static bool has_text(const void *tree, const char *node, const char *name, const char *wanted)
{
	uint32_t size;
	const char *text = find_property(tree, node, name, &size);
	return text && is(text, wanted);
}

static bool has_cells(const void *tree, const char *node, const char *name, const uint32_t *wanted, uint32_t count)
{
	uint32_t size;
	const uint32_t *cells = find_property(tree, node, name, &size);
	if (!cells || size != count * sizeof(*cells))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (cell(cells + i) != wanted[i])
			return false;
	return true;
}

const char *payload_begin(const void *boot)
{
	uint32_t size;
	const char *cmdline = find_property(boot, "chosen", "bootargs", &size);
	__asm__ volatile("msr cpacr_el1, %0\n"
	                 "isb"
	                 :
	                 : "r"(3ull << 20)); /* vector registers do not trap */
	return cmdline ? cmdline : "";
}

static uint64_t processor_state(void)
{
	uint64_t level, masked, control;
	__asm__ volatile("mrs %0, CurrentEL" : "=r"(level));
	__asm__ volatile("mrs %0, daif" : "=r"(masked));
	__asm__ volatile("mrs %0, sctlr_el1" : "=r"(control));
	return level | masked | (control & 1);
}

bool payload_boot_is_right(const void *boot, const char *cmdline)
{
	static const uint32_t memory[] = {0, 0, 0, 32 << 20}, device[] = {0, 0xd0000000, 0, 0x1000},
	                      interrupt[] = {0, 0, 1};
	static const char device_name[] = "virtio_mmio@d0000000", controller[] = "interrupt-controller@c0000000";
	const struct tree *head = boot;
	uint32_t seed = 0;
	return processor_state() == (1 << 2 | 0x3c0) /* EL1, every interrupt masked, no MMU */ &&
	       (uint64_t)boot % 8 == 0 && cell(&head->magic) == 0xd00dfeed && cell(&head->total) <= 2 << 20 &&
	       has_cells(boot, "memory@0", "reg", memory, 4) && has_cells(boot, device_name, "reg", device, 4) &&
	       has_cells(boot, device_name, "interrupts", interrupt, 3) && has_text(boot, "psci", "method", "hvc") &&
	       has_text(boot, controller, "compatible", "arm,gic-v3") &&
	       find_property(boot, "chosen", "rng-seed", &seed) && seed == 32 &&
	       payload_find(cmdline, "payload=boot") &&
	       (payload_read_device(DISTRIBUTOR + 0xffe8) >> 4 & 0xf) == 3; /* GICD_PIDR2: the architecture */
}

/* --- what is saved and restored --- */

uint64_t payload_read_clock(void)
{
	uint64_t now;
	__asm__ volatile("isb\n"
	                 "mrs %0, cntvct_el0"
	                 : "=r"(now)
	                 :
	                 : "memory");
	return now;
}

void payload_set_vector(uint64_t value)
{
	__asm__ volatile(".arch_extension simd\n"
	                 "ins v31.d[1], %0"
	                 :
	                 : "r"(value));
}

uint64_t payload_get_vector(void)
{
	uint64_t value;
	__asm__ volatile(".arch_extension simd\n"
	                 "umov %0, v31.d[1]"
	                 : "=r"(value));
	return value;
}

void payload_relax(void)
{
	__asm__ volatile("yield");
}

void payload_spin(void)
{
	for (;;)
		__asm__ volatile("" ::: "memory");
}
