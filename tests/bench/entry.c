/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry IN OUT: copies a vmlinux and gives it a PVH entry point that writes "wisp-bench: begin kernel" to the first
 * serial port and goes on to the kernel's own. So a monitor that knows nothing of wisp says when its guest's kernel is
 * entered, in one instruction (rep outsb) and one exit: for wisp bench boot --peer.
 */
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/guest.h"

#define NOTE_PHYS32_ENTRY 18u
/* Memory that every machine has and no kernel is loaded to: above the firmware's first megabyte. */
#define STUB_ADDR 0x100000u
#define PAGE 4096u

static const char line[] = BENCH_GUEST_MARK "begin " BENCH_GUEST_KERNEL "\n";

/* As PVH has it: 32-bit mode, flat segments, no stack; ebx is the kernel's. */
static struct __attribute__((packed)) {
	uint8_t cld, mov_esi;
	uint32_t text;
	uint8_t mov_ecx;
	uint32_t length;
	uint8_t mov_dx[2];
	uint16_t port;
	uint8_t rep_outsb[2], mov_eax;
	uint32_t entry;
	uint8_t jmp_eax[2];
	char bytes[sizeof(line)];
} stub = {
        .cld = 0xfc,
        .mov_esi = 0xbe,
        .mov_ecx = 0xb9,
        .length = sizeof(line) - 1,
        .mov_dx = {0x66, 0xba},
        .port = BENCH_GUEST_SERIAL,
        .rep_outsb = {0xf3, 0x6e},
        .mov_eax = 0xb8,
        .jmp_eax = {0xff, 0xe0},
};

static int fail(const char *path, const char *what)
{
	fprintf(stderr, "entry: %s: %s\n", path, what);
	return 1;
}

static uint8_t *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *image = NULL;
	long end = -1;
	if (file && fseek(file, 0, SEEK_END) == 0 && (end = ftell(file)) > 0 && fseek(file, 0, SEEK_SET) == 0)
		image = malloc((size_t)end);
	if (image && fread(image, 1, (size_t)end, file) != (size_t)end) {
		free(image);
		image = NULL;
	}
	if (file)
		fclose(file);
	*size = (size_t)end;
	return image;
}

/* Puts the stub's address into the note, and the address that was there into the stub. */
static int take_entry(uint8_t *note, size_t size)
{
	Elf64_Nhdr header;
	for (size_t at = 0; size - at >= sizeof(header);) {
		memcpy(&header, note + at, sizeof(header));
		size_t name = at + sizeof(header);
		size_t desc = name + (((size_t)header.n_namesz + 3) & ~(size_t)3);
		size_t end = desc + (((size_t)header.n_descsz + 3) & ~(size_t)3);
		if (end > size)
			break;
		if (header.n_type == NOTE_PHYS32_ENTRY && header.n_namesz == 4 && header.n_descsz >= 4 &&
		        memcmp(note + name, "Xen", 4) == 0) {
			const uint32_t addr = STUB_ADDR;
			memcpy(&stub.entry, note + desc, 4);
			memcpy(note + desc, &addr, 4);
			return 0;
		}
		at = end;
	}
	return -1;
}

int main(int argc, char **argv)
{
	size_t size;
	if (argc != 3) {
		fprintf(stderr, "usage: entry IN OUT\n");
		return 2;
	}
	uint8_t *image = read_file(argv[1], &size);
	if (!image)
		return fail(argv[1], "cannot be read");
	Elf64_Ehdr *header = (Elf64_Ehdr *)image;
	if (size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_machine != EM_X86_64 ||
	        header->e_phoff % 8 != 0 || header->e_phoff > size ||
	        header->e_phnum >= (size - header->e_phoff) / sizeof(Elf64_Phdr))
		return fail(argv[1], "is not an ELF file for x86-64");
	Elf64_Phdr *segments = (Elf64_Phdr *)(image + header->e_phoff);
	uint8_t *room = (uint8_t *)(segments + header->e_phnum);
	int found = -1;
	for (size_t i = 0; i < header->e_phnum; i++) {
		if (segments[i].p_offset > size || segments[i].p_filesz > size - segments[i].p_offset)
			return fail(argv[1], "a segment lies outside the file");
		if (image + segments[i].p_offset < room + sizeof(Elf64_Phdr) && segments[i].p_filesz > 0)
			return fail(argv[1], "has no room for one more program header");
		if (segments[i].p_type == PT_NOTE && found < 0)
			found = take_entry(image + segments[i].p_offset, segments[i].p_filesz);
	}
	if (found < 0)
		return fail(argv[1], "has no PVH entry point");

	const Elf64_Phdr segment = {.p_type = PT_LOAD,
	        .p_flags = PF_R | PF_W | PF_X,
	        .p_offset = (size + PAGE - 1) & ~(size_t)(PAGE - 1),
	        .p_vaddr = STUB_ADDR,
	        .p_paddr = STUB_ADDR,
	        .p_filesz = sizeof(stub),
	        .p_memsz = sizeof(stub),
	        .p_align = PAGE};
	memcpy(room, &segment, sizeof(segment));
	header->e_phnum++;
	memcpy(stub.bytes, line, sizeof(line));
	stub.text = STUB_ADDR + (uint32_t)((uint8_t *)stub.bytes - (uint8_t *)&stub);
	FILE *file = fopen(argv[2], "wb");
	if (!file || fwrite(image, 1, size, file) != size || fseek(file, (long)segment.p_offset, SEEK_SET) != 0 ||
	        fwrite(&stub, sizeof(stub), 1, file) != 1 || fclose(file) != 0)
		return fail(argv[2], "cannot be written");
	return 0;
}
