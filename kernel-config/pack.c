/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack IN OUT: rewrites a vmlinux so that a loader copies only what the kernel needs.
 *
 * The kernel's linker script aligns text, entry code and read-only data to 2 MiB, and the padding is part of the
 * segments: about half of all the bytes that a loader copies. OUT has the same entry point and the same memory at the
 * same addresses, but its segments leave out the padding. In the guest the padding reads as zero instead of 0xcc;
 * nothing executes it, and the kernel frees most of it. Section headers and symbols are left out as well. The notes
 * stay, because one of them is the PVH entry point.
 */
#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u
#define HOLE_PAGES 16u /* a smaller hole is not worth a program header and a second copy */
#define SEGMENTS_MAX 64u

struct image {
	const char *path;
	uint8_t *bytes;
	size_t size;
	Elf64_Ehdr header;
};

struct packed {
	unsigned count;
	Elf64_Phdr segment[SEGMENTS_MAX];
	size_t source[SEGMENTS_MAX]; /* where the segment's bytes are in IN */
};

static _Noreturn void fail(const char *path, const char *why)
{
	fprintf(stderr, "kernel-config/pack: %s: %s\n", path, why);
	exit(1);
}

static void read_image(struct image *image, const char *path)
{
	FILE *file = fopen(path, "rb");
	long size;
	image->path = path;
	if (!file || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) != 0)
		fail(path, "cannot be read");
	image->size = (size_t)size;
	image->bytes = malloc(image->size + 1);
	if (!image->bytes || fread(image->bytes, 1, image->size, file) != image->size)
		fail(path, "cannot be read");
	fclose(file);
}

static void check_header(struct image *image)
{
	Elf64_Ehdr *h = &image->header;
	if (image->size < sizeof(*h))
		fail(image->path, "is not an ELF file");
	memcpy(h, image->bytes, sizeof(*h));
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_machine != EM_X86_64 || h->e_phoff > image->size ||
	        h->e_phnum > (image->size - h->e_phoff) / sizeof(Elf64_Phdr))
		fail(image->path, "is not an ELF file for x86-64");
}

static bool is_padding(const uint8_t *bytes, size_t size)
{
	return (bytes[0] == 0x00 || bytes[0] == 0xcc) && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static void add_segment(struct packed *packed, const Elf64_Phdr *from, size_t start, size_t end, size_t memory_end)
{
	if (packed->count == SEGMENTS_MAX)
		fail("vmlinux", "has more pieces than this program has room for");
	packed->source[packed->count] = from->p_offset + start;
	Elf64_Phdr *segment = &packed->segment[packed->count++];
	*segment = *from;
	segment->p_vaddr += start;
	segment->p_paddr += start;
	segment->p_filesz = end - start;
	segment->p_memsz = memory_end - start;
	if (from->p_type == PT_LOAD)
		segment->p_align = PAGE;
}

/*
 * Splits a PT_LOAD at its holes. The memory of a piece extends to the next piece, so that a loader that must clear
 * memory clears the holes.
 */
static void split_segment(struct packed *packed, const struct image *image, const Elf64_Phdr *from)
{
	const uint8_t *bytes = image->bytes + from->p_offset;
	size_t size = from->p_filesz, start = 0, at = 0;
	while (at < size) {
		size_t hole = at;
		while (hole + PAGE <= size && is_padding(bytes + hole, PAGE))
			hole += PAGE;
		if (hole - at >= HOLE_PAGES * PAGE) {
			if (at > start)
				add_segment(packed, from, start, at, hole);
			start = hole;
		}
		at = hole > at ? hole : at + PAGE;
	}
	if (from->p_memsz > start)
		add_segment(packed, from, start, size, from->p_memsz);
}

static void pack(struct packed *packed, const struct image *image)
{
	for (unsigned i = 0; i < image->header.e_phnum; i++) {
		Elf64_Phdr segment;
		memcpy(&segment, image->bytes + image->header.e_phoff + i * sizeof(segment), sizeof(segment));
		if (segment.p_offset > image->size || segment.p_filesz > image->size - segment.p_offset)
			fail(image->path, "has a segment outside the file");
		if (segment.p_type == PT_LOAD)
			split_segment(packed, image, &segment);
		else if (segment.p_type == PT_NOTE)
			add_segment(packed, &segment, 0, segment.p_filesz, segment.p_memsz);
	}
}

static void write_packed(struct packed *packed, const struct image *image, const char *path)
{
	size_t offset = PAGE;
	FILE *file = fopen(path, "wb");
	if (!file)
		fail(path, "cannot be created");
	for (unsigned i = 0; i < packed->count; i++) {
		Elf64_Phdr *segment = &packed->segment[i];
		segment->p_offset = offset;
		if (fseek(file, (long)offset, SEEK_SET) != 0 ||
		        fwrite(image->bytes + packed->source[i], 1, segment->p_filesz, file) != segment->p_filesz)
			fail(path, "cannot be written");
		offset += (segment->p_filesz + PAGE - 1) & ~(size_t)(PAGE - 1);
	}
	Elf64_Ehdr header = image->header;
	header.e_phoff = sizeof(header);
	header.e_phnum = (Elf64_Half)packed->count;
	header.e_shoff = header.e_shnum = header.e_shstrndx = 0;
	if (fseek(file, 0, SEEK_SET) != 0 || fwrite(&header, sizeof(header), 1, file) != 1 ||
	        fwrite(packed->segment, sizeof(packed->segment[0]), packed->count, file) != packed->count ||
	        fclose(file) != 0)
		fail(path, "cannot be written");
}

int main(int argc, char **argv)
{
	struct image image = {0};
	struct packed packed = {0};
	if (argc != 3) {
		fprintf(stderr, "usage: pack IN OUT\n");
		return 2;
	}
	read_image(&image, argv[1]);
	check_header(&image);
	pack(&packed, &image);
	write_packed(&packed, &image, argv[2]);
	return 0;
}
