/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/elf.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/monitor/file.h"

#define SEGMENTS_MAX 64

/* A compressed kernel, for a boot loader, has this magic in its setup header. */
static bool is_bzimage(int fd)
{
	char magic[4];
	return file_read(fd, magic, sizeof(magic), 0x202) == 0 && memcmp(magic, "HdrS", 4) == 0;
}

static int fail_to_read(int ret, const char *name, const char *ends, struct err *err)
{
	if (ret == -ENODATA)
		return err_set(err, ENOEXEC, "kernel %s %s", name, ends);
	return err_set(err, -ret, "cannot read kernel %s: %s", name, strerror(-ret));
}

static int check_header(int fd, const char *name, const Elf64_Ehdr *h, const struct elf_limits *limits, struct err *err)
{
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0) {
		if (is_bzimage(fd))
			return err_set(err, ENOEXEC,
			        "kernel %s is a bzImage: give the uncompressed vmlinux of the same build", name);
		return err_set(err, ENOEXEC, "kernel %s is not an ELF file: give a vmlinux", name);
	}
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB)
		return err_set(err, ENOEXEC, "kernel %s is not a 64-bit little-endian ELF file", name);
	if (h->e_machine != limits->machine)
		return err_set(err, ENOEXEC, "kernel %s is for another machine (ELF machine %u, this host runs %u)",
		        name, h->e_machine, limits->machine);
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return err_set(err, ENOEXEC, "kernel %s is not an executable (ELF type %u)", name, h->e_type);
	if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > SEGMENTS_MAX)
		return err_set(err, ENOEXEC, "kernel %s has a damaged ELF header", name);
	return 0;
}

/*
 * The text of a kernel, some 4 MB, is mapped instead of copied: all sandboxes share its pages in the page cache until
 * their guests patch them. For smaller segments, the huge pages of RAM that a mapping breaks up cost more than it
 * saves. Returns how much of the segment is in place.
 */
#define MAP_MIN (1u << 20)

static uint64_t map_text(int fd, const Elf64_Phdr *p, const struct gmem *gmem)
{
	struct stat st;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), len = p->p_filesz & ~(page - 1);
	if (!(p->p_flags & PF_X) || p->p_flags & PF_W || len < MAP_MIN || (p->p_offset | p->p_paddr) & (page - 1))
		return 0;
	if (fstat(fd, &st) < 0 || p->p_offset > (uint64_t)st.st_size || len > (uint64_t)st.st_size - p->p_offset)
		return 0; /* reading reports the error */
	if (gmem_map_file(gmem, gpa(p->p_paddr), len, fd, p->p_offset) < 0)
		return 0;
	gmem_populate(gmem, gpa(p->p_paddr), len); /* a boot runs through most of it */
	return len;
}

static int load_segment(int fd, const char *name, const Elf64_Phdr *p, const struct elf_limits *limits,
        const struct gmem *gmem, struct err *err)
{
	if (p->p_filesz > p->p_memsz)
		return err_set(err, ENOEXEC, "kernel %s has a segment larger in the file than in memory", name);
	if (p->p_paddr < limits->lowest || p->p_paddr > limits->highest || p->p_memsz > limits->highest - p->p_paddr)
		return err_set(err, EFAULT,
		        "kernel %s needs memory from 0x%llx to 0x%llx, which this sandbox does not have (give it more "
		        "with --memory)",
		        name, (unsigned long long)p->p_paddr, (unsigned long long)(p->p_paddr + p->p_memsz));
	uint8_t *to = gmem_ptr(gmem, gpa(p->p_paddr), p->p_memsz);
	if (!to)
		return err_set(err, EFAULT, "kernel %s has a segment outside memory", name);
	/* The rest of the segment is zero already: the memory is new. */
	uint64_t done = limits->copy ? 0 : map_text(fd, p, gmem);
	int ret = file_read(fd, to + done, p->p_filesz - done, p->p_offset + done);
	if (ret < 0)
		return fail_to_read(ret, name, "is truncated", err);
	return 0;
}

int elf_load(int fd, const char *name, const struct elf_limits *limits, const struct gmem *gmem,
        struct elf_image *image, struct err *err)
{
	Elf64_Ehdr header;
	Elf64_Phdr segments[SEGMENTS_MAX];
	int ret = file_read(fd, &header, sizeof(header), 0);
	if (ret < 0)
		return fail_to_read(ret, name, "is too short to be a kernel", err);
	ret = check_header(fd, name, &header, limits, err);
	if (ret < 0)
		return ret;
	ret = file_read(fd, segments, header.e_phnum * sizeof(segments[0]), header.e_phoff);
	if (ret < 0)
		return fail_to_read(ret, name, "is truncated", err);
	*image = (struct elf_image){.entry = header.e_entry, .start = UINT64_MAX};
	bool entry_loaded = false;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		const Elf64_Phdr *p = &segments[i];
		if (p->p_type != PT_LOAD || p->p_memsz == 0)
			continue;
		ret = load_segment(fd, name, p, limits, gmem, err);
		if (ret < 0)
			return ret;
		if (p->p_paddr < image->start)
			image->start = p->p_paddr;
		if (p->p_paddr + p->p_memsz > image->end)
			image->end = p->p_paddr + p->p_memsz;
		if (header.e_entry >= p->p_paddr && header.e_entry - p->p_paddr < p->p_filesz)
			entry_loaded = true;
	}
	if (!entry_loaded)
		return err_set(err, ENOEXEC, "kernel %s has its entry point outside what it loads", name);
	return 0;
}
