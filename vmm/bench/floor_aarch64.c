/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payloads of floor, and of fork and restore with --bare: an Image (Documentation/arm64/booting.rst) that runs
 * wherever it is loaded, with the MMU off.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/bench.h"
#include "vmm/bench/guest.h"

/*
 * With a peer, `say` begins: it writes the line to wisp's early console and to the first serial port of QEMU's machine
 * virt. Where one of them is not, such a write changes nothing. Without a peer, `signal` begins.
 */
__asm__(".section .rodata\n"
        ".balign 8\n"
        "floor_image: b floor_signal\n"
        ".word 0\n"
        ".quad 0\n"
        ".quad floor_image_end - floor_image\n"
        ".quad 2\n" /* little-endian, pages of 4 KiB */
        ".quad 0, 0, 0\n"
        ".ascii \"ARM\\x64\"\n"
        ".word 0\n"
        "floor_say:\n"
        "adr x1, 5f\n"
        "movz x3, #0xd100, lsl #16\n"
        "movk x3, #0x1000\n"
        "movz x4, #0x0900, lsl #16\n"
        "1: ldrb w2, [x1]\n"
        "cbz w2, floor_signal\n"
        "strb w2, [x3]\n"
        "strb w2, [x4]\n"
        "add x1, x1, #1\n"
        "b 1b\n"
        "floor_signal:\n"
        "movz x1, #0xd100, lsl #16\n" /* the platform page (vmm/shared/platform.h) */
        "mov w0, #0x20\n"             /* the stamp "entered" */
        "strb w0, [x1, #4]\n"
        "mov w0, #1\n" /* power off */
        "strb w0, [x1]\n"
        "2: wfi\n"
        "b 2b\n"
        "floor_fill:\n" /* for clones: touches pages from 16 MiB on, and then signals again and again */
        "ldr w2, floor_pages\n"
        "movz x3, #0x100, lsl #16\n"
        "cbz w2, 4f\n"
        "3: str w2, [x3]\n"
        "add x3, x3, #1, lsl #12\n"
        "sub w2, w2, #1\n"
        "cbnz w2, 3b\n"
        "4: movz x1, #0xd100, lsl #16\n"
        "mov w0, #0x20\n"
        "6: strb w0, [x1, #4]\n"
        "b 6b\n"
        "floor_pages: .word 0\n"
        "5: .asciz \"" BENCH_GUEST_MARK "begin " BENCH_GUEST_KERNEL "\\n\"\n"
        "floor_image_end:\n"
        ".text\n");

#define IN_IMAGE extern const uint8_t __attribute__((visibility("hidden")))
IN_IMAGE floor_image[], floor_image_end[], floor_say[], floor_signal[], floor_fill[], floor_pages[];

/* `begin` is where it begins. */
static int write_image(const char *path, const uint8_t *begin, uint32_t pages)
{
	size_t size = (size_t)(floor_image_end - floor_image);
	const uint32_t branch = 0x14000000u | (uint32_t)(begin - floor_image) / 4;
	uint8_t *image = malloc(size);
	if (!image)
		return cli_fail("out of memory");
	memcpy(image, floor_image, size);
	memcpy(image, &branch, sizeof(branch));
	memcpy(image + (floor_pages - floor_image), &pages, sizeof(pages));
	int code = bench_write_file(path, image, size);
	free(image);
	return code;
}

int bench_write_payload(const char *path, bool says)
{
	return write_image(path, says ? floor_say : floor_signal, 0);
}

int bench_write_filler(const char *path, uint32_t pages)
{
	return write_image(path, floor_fill, pages);
}
