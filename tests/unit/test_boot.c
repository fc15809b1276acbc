/* SPDX-License-Identifier: Apache-2.0 */
/* The ELF loader against files that lie, and the boot tables byte by byte. */
#include <asm/bootparam.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/x86_64/boot.h"
#include "vmm/monitor/x86_64/serial.h"
#include "wisp.h"
#include "vmm/monitor/elf.h"

#define MIB (1ull << 20)
#define RAM (64 * MIB)

struct file {
	Elf64_Ehdr header;
	Elf64_Phdr segment[2];
	uint8_t data[4096];
};

/* A good kernel of one segment at 2 MiB, and a second, empty, one. */
static struct file good_file(void)
{
	struct file f = {0};
	memcpy(f.header.e_ident, ELFMAG, SELFMAG);
	f.header.e_ident[EI_CLASS] = ELFCLASS64;
	f.header.e_ident[EI_DATA] = ELFDATA2LSB;
	f.header.e_type = ET_EXEC;
	f.header.e_machine = EM_X86_64;
	f.header.e_entry = 2 * MIB + 16;
	f.header.e_phoff = offsetof(struct file, segment);
	f.header.e_phentsize = sizeof(Elf64_Phdr);
	f.header.e_phnum = 2;
	f.segment[0] = (Elf64_Phdr){.p_type = PT_LOAD,
	        .p_offset = offsetof(struct file, data),
	        .p_paddr = 2 * MIB,
	        .p_filesz = 4096,
	        .p_memsz = 8192};
	f.segment[1] = (Elf64_Phdr){.p_type = PT_NOTE};
	memset(f.data, 0xab, sizeof(f.data));
	return f;
}

static int load(const struct file *f, size_t size, struct gmem *g, struct elf_image *image, struct err *err)
{
	struct elf_limits limits = {.machine = EM_X86_64, .lowest = MIB, .highest = RAM};
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	if (write(fd, f, size) != (ssize_t)size)
		CHECK(false);
	*err = (struct err){0};
	int ret = elf_load(fd, "k", &limits, g, image, err);
	close(fd);
	return ret;
}

static void a_kernel_is_loaded_where_it_wants(void)
{
	struct gmem g;
	struct err err;
	struct elf_image image;
	struct file f = good_file();
	REQUIRE(gmem_create(&g, RAM, RAM, RAM, NULL) == 0);
	CHECK_EQ(load(&f, sizeof(f), &g, &image, &err), 0);
	CHECK_EQ(image.entry, 2 * MIB + 16);
	CHECK_EQ(image.start, 2 * MIB);
	CHECK_EQ(image.end, 2 * MIB + 8192);
	const uint8_t *p = gmem_ptr(&g, gpa(2 * MIB), 8192);
	CHECK(p && p[0] == 0xab && p[4095] == 0xab && p[4096] == 0);
	gmem_destroy(&g);
}

/* The text of a kernel is the file's own pages, as long as nobody writes to them, and in the guest alone. */
static void large_text_is_mapped_and_stays_the_files(void)
{
	enum { OFFSET = 8192, TEXT = 2 * MIB + 100 };
	struct gmem g;
	struct err err = {0};
	struct elf_image image;
	struct file f = good_file();
	struct elf_limits limits = {.machine = EM_X86_64, .lowest = MIB, .highest = RAM};
	f.segment[0].p_flags = PF_R | PF_X;
	f.segment[0].p_offset = OFFSET;
	f.segment[0].p_filesz = TEXT;
	f.segment[0].p_memsz = TEXT + 8192;
	REQUIRE(gmem_create(&g, RAM, RAM, RAM, NULL) == 0);
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	REQUIRE(ftruncate(fd, OFFSET + TEXT) == 0 && pwrite(fd, &f, sizeof(f), 0) == (ssize_t)sizeof(f));
	CHECK(pwrite(fd, "first", 5, OFFSET) == 5 && pwrite(fd, "last", 4, OFFSET + TEXT - 4) == 4);
	CHECK_EQ(elf_load(fd, "k", &limits, &g, &image, &err), 0);
	uint8_t *p = gmem_ptr(&g, gpa(2 * MIB), TEXT + 8192);
	REQUIRE(p);
	CHECK(memcmp(p, "first", 5) == 0 && memcmp(p + TEXT - 4, "last", 4) == 0 && p[TEXT] == 0);
	/* Mapped: it is the file that is seen. Written to: it is not. */
	char byte;
	CHECK(pwrite(fd, "F", 1, OFFSET) == 1 && p[0] == 'F');
	p[1] = 'X';
	CHECK(pread(fd, &byte, 1, OFFSET + 1) == 1 && byte == 'i');
	/* Copied: nothing of the file is left in it. */
	limits.copy = true;
	CHECK_EQ(elf_load(fd, "k", &limits, &g, &image, &err), 0);
	CHECK(pwrite(fd, "f", 1, OFFSET) == 1 && p[0] == 'F' && memcmp(p + 1, "irst", 4) == 0);
	limits.copy = false;
	/* A file that ends before: refused, not mapped past its end. */
	CHECK_EQ(ftruncate(fd, OFFSET + TEXT / 2), 0);
	CHECK(elf_load(fd, "k", &limits, &g, &image, &err) < 0 && strstr(err.text, "truncated"));
	close(fd);
	gmem_destroy(&g);
}

static void lies_are_refused(void)
{
	struct gmem g;
	REQUIRE(gmem_create(&g, RAM, RAM, RAM, NULL) == 0);
	for (int lie = 0; lie < 18; lie++) {
		struct file f = good_file();
		size_t size = sizeof(f);
		switch (lie) {
		case 0: f.header.e_ident[0] = 0; break;
		case 1: f.header.e_ident[EI_CLASS] = ELFCLASS32; break;
		case 2: f.header.e_machine = EM_AARCH64; break;
		case 3: f.header.e_type = ET_REL; break;
		case 4: f.header.e_phentsize = 1; break;
		case 5: f.header.e_phnum = 0; break;
		case 6: f.header.e_phnum = 0xffff; break;
		case 7: f.header.e_phoff = UINT64_MAX - 8; break;
		case 8: f.header.e_phoff = sizeof(f) - 8; break;
		case 9: f.segment[0].p_filesz = 8193; break;
		case 10: f.segment[0].p_paddr = 0; break;
		case 11: f.segment[0].p_paddr = RAM - 4096; break;
		case 12: f.segment[0].p_paddr = UINT64_MAX - 4095; break;
		case 13: f.segment[0].p_memsz = UINT64_MAX; break;
		case 14: f.segment[0].p_offset = UINT64_MAX - 10; break;
		case 15: size = sizeof(f) - 1; break;
		case 16: f.header.e_entry = 2 * MIB + 4096; break;
		case 17: size = 20; break;
		}
		struct elf_image image;
		struct err err;
		if (load(&f, size, &g, &image, &err) == 0 || err.text[0] == '\0') {
			printf("# lie %d was believed\n", lie);
			CHECK(false);
		}
	}
	gmem_destroy(&g);
}

static void a_bzimage_is_named(void)
{
	struct gmem g;
	struct err err;
	struct elf_image image;
	struct file f = {0};
	memcpy((char *)&f + 0x202, "HdrS", 4);
	REQUIRE(gmem_create(&g, RAM, RAM, RAM, NULL) == 0);
	CHECK(load(&f, sizeof(f), &g, &image, &err) < 0);
	CHECK(strstr(err.text, "bzImage") && strstr(err.text, "vmlinux"));
	gmem_destroy(&g);
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;
	while (len-- > 0)
		s = (uint8_t)(s + *p++);
	return s;
}

static void the_mp_table_adds_up(void)
{
	struct gmem g;
	REQUIRE(gmem_create(&g, RAM, RAM, RAM, NULL) == 0);
	for (unsigned cpus = 1; cpus <= WISP_CPUS_MAX; cpus += WISP_CPUS_MAX - 1) {
		CHECK_EQ(boot_write_mptable(&g, cpus, 4, NULL), 0);
		const uint8_t *p = gmem_ptr(&g, gpa(BOOT_MPTABLE_ADDR), BOOT_MPTABLE_END - BOOT_MPTABLE_ADDR);
		CHECK(memcmp(p, "_MP_", 4) == 0);
		CHECK_EQ(sum(p, 16), 0);
		uint16_t length;
		memcpy(&length, p + 16 + 4, 2);
		CHECK_EQ(sum(p + 16, length), 0);
		/* Processors come first: count them. */
		unsigned found = 0;
		for (const uint8_t *e = p + 16 + 44; *e == 0; e += 20)
			CHECK_EQ(e[1], found++);
		CHECK_EQ(found, cpus);
	}
	struct err err = {0};
	CHECK(boot_write_mptable(&g, 200, 4, &err) < 0);
	CHECK(err.text[0] != '\0');
	gmem_destroy(&g);
}

static void the_first_gib_is_mapped_onto_itself(void)
{
	struct gmem g;
	REQUIRE(gmem_create(&g, RAM, RAM, RAM, NULL) == 0);
	CHECK_EQ(boot_write_page_tables(&g, NULL), 0);
	uint64_t e;
	gmem_read(&g, gpa(BOOT_PML4_ADDR), &e, 8);
	CHECK_EQ(e, (BOOT_PML4_ADDR + 4096) | 3);
	gmem_read(&g, gpa(BOOT_PML4_ADDR + 2 * 4096 + 511 * 8), &e, 8);
	CHECK_EQ(e, 511ull << 21 | 0x83);
	gmem_destroy(&g);
}

/* boot_load with files of its own: the map of memory on both sides of the hole, the initramfs at the top, the limits.
 */
static void the_zero_page_describes_the_machine(void)
{
	char kernel[] = "/tmp/wisp-kernel-XXXXXX", initramfs[] = "/tmp/wisp-initramfs-XXXXXX";
	struct file f = good_file();
	int fd = mkstemp(kernel), fd2 = mkstemp(initramfs);
	CHECK(write(fd, &f, sizeof(f)) == (ssize_t)sizeof(f) && write(fd2, "cpio", 4) == 4);
	struct gmem g;
	REQUIRE(gmem_create(&g, 4096 * MIB, BOOT_HOLE_START, BOOT_HOLE_END, NULL) == 0);
	struct boot_config config = {.kernel_fd = fd,
	        .kernel_name = "kernel",
	        .initramfs_fd = fd2,
	        .initramfs_name = "initramfs",
	        .cmdline = "quiet",
	        .cpus = 2,
	        .pins = 4};
	struct processor_entry entry;
	struct err err = {0};
	CHECK_EQ(boot_load(&config, &g, &entry, &err), 0);
	CHECK_EQ(entry.pc, 2 * MIB + 16);
	struct boot_params *p = gmem_ptr(&g, gpa(BOOT_PARAMS_ADDR), sizeof(*p));
	CHECK_EQ(p->e820_entries, 4);
	CHECK_EQ(p->e820_table[2].addr + p->e820_table[2].size, BOOT_HOLE_START);
	CHECK_EQ(p->e820_table[3].addr, BOOT_HOLE_END);
	CHECK_EQ(p->e820_table[3].size, 1024 * MIB);
	CHECK_EQ(p->hdr.ramdisk_size, 4);
	CHECK_EQ(p->hdr.ramdisk_image, BOOT_HOLE_START - 4096);
	CHECK(memcmp(gmem_ptr(&g, gpa(p->hdr.ramdisk_image), 4), "cpio", 4) == 0);
	CHECK_STR((char *)gmem_ptr(&g, gpa(p->hdr.cmd_line_ptr), 6), "quiet");
	gmem_destroy(&g);

	/* An initramfs that does not fit, an empty one, one that is not a file; a kernel that is not one. */
	REQUIRE(gmem_create(&g, 32 * MIB, BOOT_HOLE_START, BOOT_HOLE_END, NULL) == 0);
	CHECK(ftruncate(fd2, 31 * MIB) == 0);
	CHECK(boot_load(&config, &g, &entry, &err) < 0 && strstr(err.text, "does not fit into memory"));
	err = (struct err){0};
	CHECK(ftruncate(fd2, 0) == 0);
	CHECK(boot_load(&config, &g, &entry, &err) < 0 && strstr(err.text, "empty"));
	err = (struct err){0};
	int null = open("/dev/null", O_RDONLY);
	config.initramfs_fd = null;
	CHECK(boot_load(&config, &g, &entry, &err) < 0 && strstr(err.text, "initramfs is not a regular file"));
	err = (struct err){0};
	config.kernel_fd = null;
	entry = (struct processor_entry){.pc = 1};
	CHECK(boot_load(&config, &g, &entry, &err) < 0 && strstr(err.text, "kernel is not a regular file"));
	CHECK_EQ(entry.pc, 1);
	close(null);
	gmem_destroy(&g);
	close(fd);
	close(fd2);
	unlink(kernel);
	unlink(initramfs);
}

static void ignore(void *context, const void *data, size_t len)
{
	(void)context, (void)data, (void)len;
}

/* Any register, any width: nothing but the eight of them is there. */
static void serial_registers(void)
{
	uint8_t data[8];
	struct serial serial = {.output = ignore};
	for (uint64_t offset = 0; offset < 300; offset++) {
		for (unsigned len = 0; len <= 8; len++) {
			memset(data, 0xa5, sizeof(data));
			serial_access(&serial, offset, data, len, true);
			serial_access(&serial, offset, data, len, false);
			CHECK(len == 8 || data[7] == 0xa5);
		}
	}
}

/* The kernel's command line fills its place to the last byte, and no further. */
static void command_line(void)
{
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr segment;
		uint8_t code[16];
	} kernel = {
	        .header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
	                .e_type = ET_EXEC,
	                .e_machine = EM_X86_64,
	                .e_phnum = 1,
	                .e_phentsize = sizeof(Elf64_Phdr),
	                .e_phoff = sizeof(Elf64_Ehdr),
	                .e_entry = BOOT_HIGH_ADDR},
	        .segment =
	                {.p_type = PT_LOAD, .p_paddr = BOOT_HIGH_ADDR, .p_offset = 120, .p_filesz = 16, .p_memsz = 16},
	};
	char line[BOOT_CMDLINE_MAX + 1];
	struct gmem gmem;
	struct processor_entry entry;
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	REQUIRE(write(fd, &kernel, sizeof(kernel)) == sizeof(kernel));
	REQUIRE(gmem_create(&gmem, 64u << 20, BOOT_HOLE_START, BOOT_HOLE_END, NULL) == 0);
	struct boot_config config = {
	        .kernel_fd = fd, .kernel_name = "kernel", .initramfs_fd = -1, .cmdline = line, .cpus = 1};
	for (size_t len = BOOT_CMDLINE_MAX - 2; len <= BOOT_CMDLINE_MAX; len++) {
		struct err err = {0};
		memset(line, 'x', len);
		line[len] = '\0';
		CHECK_EQ(boot_load(&config, &gmem, &entry, &err), len < BOOT_CMDLINE_MAX ? 0 : -E2BIG);
	}
	gmem_destroy(&gmem);
	close(fd);
}

TEST_MAIN("boot", {"a_kernel_is_loaded_where_it_wants", a_kernel_is_loaded_where_it_wants},
        {"large_text_is_mapped_and_stays_the_files", large_text_is_mapped_and_stays_the_files},
        {"lies_are_refused", lies_are_refused}, {"a_bzimage_is_named", a_bzimage_is_named},
        {"the_mp_table_adds_up", the_mp_table_adds_up},
        {"the_first_gib_is_mapped_onto_itself", the_first_gib_is_mapped_onto_itself},
        {"the_zero_page_describes_the_machine", the_zero_page_describes_the_machine},
        {"serial_registers", serial_registers}, {"command_line", command_line})
