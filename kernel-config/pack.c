/*
 * pack IN OUT - rewrites a vmlinux so that a loader copies only what the kernel needs.
 *
 * The kernel's linker script aligns text, entry code and read-only data to 2 MiB, and
 * the padding is part of the segments: about half of all bytes that a loader copies.
 * OUT has the same entry point and the same memory at the same addresses, but its
 * segments leave the padding out. The padding reads as zero in the guest instead of as
 * 0xcc; nothing executes it, and the kernel frees most of it. Section headers and
 * symbols are left out too; the notes stay, because one of them is the PVH entry point.
 */
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u
/* A hole in a segment costs a program header and splits one copy into two. */
#define HOLE_PAGES 16u
#define MAX_SEGMENTS 64u

static uint8_t *image;
static size_t image_size;
static Elf64_Phdr segments[MAX_SEGMENTS];
static size_t segment_count;
/* Where in IN each segment's bytes are. */
static size_t sources[MAX_SEGMENTS];

static void fail(const char *what, const char *object)
{
	fprintf(stderr, "kernel-config/pack: %s: %s\n", object, what);
	exit(1);
}

static void read_image(const char *path)
{
	FILE *file = fopen(path, "rb");
	long size;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET))
		fail("cannot be read", path);
	image_size = (size_t)size;
	image = malloc(image_size + 1);
	if (!image || fread(image, 1, image_size, file) != image_size)
		fail("cannot be read", path);
	fclose(file);
}

static int is_padding(const uint8_t *bytes, size_t size)
{
	return (bytes[0] == 0x00 || bytes[0] == 0xcc) && !memcmp(bytes, bytes + 1, size - 1);
}

static void add_segment(const Elf64_Phdr *from, size_t start, size_t end, size_t memory_end)
{
	Elf64_Phdr *segment = &segments[segment_count];

	if (segment_count == MAX_SEGMENTS)
		fail("more pieces than this program has room for", "vmlinux");
	sources[segment_count++] = from->p_offset + start;
	*segment = *from;
	segment->p_vaddr += start;
	segment->p_paddr += start;
	segment->p_filesz = end - start;
	segment->p_memsz = memory_end - start;
	if (from->p_type == PT_LOAD)
		segment->p_align = PAGE;
}

/*
 * Splits one PT_LOAD at its holes. The memory of a piece reaches to the next piece, so
 * that a loader that must clear memory clears the holes.
 */
static void split_segment(const Elf64_Phdr *from)
{
	const uint8_t *bytes = image + from->p_offset;
	size_t size = from->p_filesz, start = 0, at = 0;

	while (at < size) {
		size_t hole = at;

		while (hole + PAGE <= size && is_padding(bytes + hole, PAGE))
			hole += PAGE;
		if (hole - at >= HOLE_PAGES * PAGE) {
			if (at > start)
				add_segment(from, start, at, hole);
			start = hole;
		}
		at = hole > at ? hole : at + PAGE;
	}
	if (from->p_memsz > start)
		add_segment(from, start, size, from->p_memsz);
}

static void write_packed(const char *path, Elf64_Ehdr header)
{
	size_t offset = PAGE, i;
	FILE *file = fopen(path, "wb");

	if (!file)
		fail("cannot be created", path);
	for (i = 0; i < segment_count; i++) {
		segments[i].p_offset = offset;
		if (fseek(file, (long)offset, SEEK_SET) ||
		        fwrite(image + sources[i], 1, segments[i].p_filesz, file) != segments[i].p_filesz)
			fail("cannot be written", path);
		offset += (segments[i].p_filesz + PAGE - 1) & ~(size_t)(PAGE - 1);
	}
	header.e_phoff = sizeof(header);
	header.e_phnum = (Elf64_Half)segment_count;
	header.e_shoff = header.e_shnum = header.e_shstrndx = 0;
	if (fseek(file, 0, SEEK_SET) || fwrite(&header, sizeof(header), 1, file) != 1 ||
	        fwrite(segments, sizeof(*segments), segment_count, file) != segment_count || fclose(file))
		fail("cannot be written", path);
}

int main(int argc, char **argv)
{
	Elf64_Ehdr header;
	size_t i;

	if (argc != 3) {
		fprintf(stderr, "usage: pack IN OUT\n");
		return 2;
	}
	read_image(argv[1]);
	if (image_size < sizeof(header))
		fail("is not an ELF file", argv[1]);
	memcpy(&header, image, sizeof(header));
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) || header.e_machine != EM_X86_64 || header.e_phoff > image_size ||
	        header.e_phnum > (image_size - header.e_phoff) / sizeof(Elf64_Phdr))
		fail("is not an ELF file for x86-64", argv[1]);

	for (i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr segment;

		memcpy(&segment, image + header.e_phoff + i * sizeof(segment), sizeof(segment));
		if (segment.p_offset > image_size || segment.p_filesz > image_size - segment.p_offset)
			fail("a segment lies outside the file", argv[1]);
		if (segment.p_type == PT_LOAD)
			split_segment(&segment);
		else if (segment.p_type == PT_NOTE)
			add_segment(&segment, 0, segment.p_filesz, segment.p_memsz);
	}
	write_packed(argv[2], header);
	return 0;
}
