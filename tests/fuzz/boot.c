/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel's file and an initramfs may be: anything. Memory is small, so most addresses are outside. */
#include <stdio.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/monitor/x86_64/boot.h"

#define RAM_BYTES (0x100000u + 0x40000u) /* what lies below a kernel, and 256 KiB for it */

static uint8_t *ram(void)
{
	static uint8_t *bytes;
	if (!bytes)
		bytes = malloc(RAM_BYTES);
	MUST(bytes);
	return bytes;
}

/* Headers that are right but for what the script changes: else most inputs end at the magic. */
static size_t build(struct input *in, uint8_t *file, size_t room)
{
	Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
	        .e_type = ET_EXEC,
	        .e_machine = EM_X86_64,
	        .e_phentsize = sizeof(Elf64_Phdr),
	        .e_phoff = sizeof(Elf64_Ehdr),
	        .e_entry = 0x100000};
	uint8_t kind = in8(in);
	header.e_phnum = kind & 1 ? in16(in) : in8(in) % 4 + 1u;
	if (kind & 2)
		header.e_phoff = in64(in);
	if (kind & 4)
		header.e_entry = in64(in);
	memcpy(file, &header, sizeof(header));
	size_t used = sizeof(header);
	for (unsigned i = 0; i < 4; i++) {
		uint8_t how = in8(in);
		Elf64_Phdr segment = {
		        .p_type = how & 1 ? in8(in) : PT_LOAD, .p_paddr = 0x100000, .p_memsz = 64, .p_filesz = 64};
		if (how & 2)
			segment.p_paddr = how & 4 ? in64(in) : 0x100000ull + in32(in) % 0x80000;
		if (how & 8)
			segment.p_memsz = how & 16 ? in64(in) : in32(in) % 0x80000;
		if (how & 32)
			segment.p_filesz = how & 64 ? in64(in) : in32(in) % 0x1000;
		if (how & 128)
			segment.p_offset = in64(in);
		memcpy(file + used, &segment, sizeof(segment));
		used += sizeof(segment);
	}
	in_bytes(in, file + used, 128 < room - used ? 128 : room - used);
	return used + 128;
}

static int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	MUST(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct gmem gmem = {.count = 1, .region[0] = {0, RAM_BYTES, ram()}};
	struct processor_entry entry;
	struct err err = {0};
	uint8_t built[1024];
	char cmdline[2100];
	uint8_t kind = in8(&in);
	size_t cmdline_len = kind & 1 ? in16(&in) % sizeof(cmdline) : 20,
	       initramfs_len = kind & 2 ? in32(&in) % 0x60000 : 0;
	memset(cmdline, 'x', sizeof(cmdline));
	cmdline[cmdline_len] = '\0';
	int kernel_fd;
	if (kind & 4)
		kernel_fd = file_of(in.at, in.left); /* raw */
	else
		kernel_fd = file_of(built, build(&in, built, sizeof(built)));
	if (kind & 32) /* whatever the headers say, there are bytes for it */
		MUST(ftruncate(kernel_fd, 65536) == 0);
	int initramfs_fd = file_of("", 0);
	MUST(ftruncate(initramfs_fd, (off_t)initramfs_len) == 0);
	struct boot_config config = {.kernel_fd = kernel_fd,
	        .kernel_name = "kernel",
	        .initramfs_fd = kind & 8 ? initramfs_fd : -1,
	        .initramfs_name = "initramfs",
	        .cmdline = cmdline,
	        .cpus = kind & 16 ? in8(&in) : 1,
	        .pins = 4};
	int ret = boot_load(&config, &gmem, &entry, &err);
	MUST(ret <= 0 && (ret == 0) == (err.text[0] == '\0'));
	/* One line for a person, whatever the file holds. */
	MUST(!strchr(err.text, '\n'));
	if (ret == 0)
		MUST(entry.pc >= BOOT_HIGH_ADDR && entry.pc < RAM_BYTES);
	close(kernel_fd);
	close(initramfs_fd);
	return 0;
}
