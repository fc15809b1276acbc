/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/aarch64/image.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/monitor/file.h"

#define MAGIC 0x644d5241u /* "ARM\x64" */
#define BIG_ENDIAN_KERNEL 1u
#define BASE_ALIGN (2ull << 20)

/* All of it is little-endian. */
struct header {
	uint32_t code[2];
	uint64_t text_offset;
	uint64_t image_size;
	uint64_t flags;
	uint64_t reserved[3];
	uint32_t magic;
	uint32_t pe_offset;
};
_Static_assert(sizeof(struct header) == 64, "the header of an Image");

static int fail_to_read(int ret, const char *name, const char *ends, struct err *err)
{
	if (ret == -ENODATA)
		return err_set(err, ENOEXEC, "kernel %s %s", name, ends);
	return err_set(err, -ret, "cannot read kernel %s: %s", name, strerror(-ret));
}

static int check_header(const char *name, const struct header *h, uint64_t file_size, struct err *err)
{
	uint8_t start[4];
	memcpy(start, h, sizeof(start));
	if (start[0] == 0x1f && start[1] == 0x8b)
		return err_set(err, ENOEXEC, "kernel %s is compressed: give the Image of the same build", name);
	if (memcmp(start, "\177ELF", 4) == 0)
		return err_set(err, ENOEXEC, "kernel %s is an ELF file: give the Image of the same build", name);
	if (le32toh(h->magic) != MAGIC)
		return err_set(err, ENOEXEC, "kernel %s is not an Image for arm64", name);
	if (le64toh(h->flags) & BIG_ENDIAN_KERNEL)
		return err_set(err, ENOEXEC, "kernel %s is big-endian", name);
	if (le64toh(h->image_size) < file_size || le64toh(h->text_offset) >= BASE_ALIGN)
		return err_set(err, ENOEXEC, "kernel %s has a damaged header", name);
	return 0;
}

/*
 * The file is mapped instead of copied: all sandboxes share its pages in the page cache until their guests write to
 * them. Returns how much of it is in place.
 */
static uint64_t map_file(int fd, uint64_t file_size, gpa_t addr, const struct gmem *gmem)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), len = file_size & ~(page - 1);
	if (len == 0 || addr.addr & (page - 1) || gmem_map_file(gmem, addr, len, fd, 0) < 0)
		return 0;
	gmem_populate(gmem, addr, len);
	return len;
}

int image_load(int fd, const char *name, uint64_t base, bool copy, const struct gmem *gmem, struct image *image,
        struct err *err)
{
	struct header header;
	struct stat st;
	int ret = file_check(fd, "kernel", name, &st, err);
	if (ret < 0)
		return ret;
	ret = file_read(fd, &header, sizeof(header), 0);
	if (ret < 0)
		return fail_to_read(ret, name, "is too short to be a kernel", err);
	uint64_t file_size = (uint64_t)st.st_size, size = le64toh(header.image_size);
	ret = check_header(name, &header, file_size, err);
	if (ret < 0)
		return ret;
	gpa_t addr = gpa(base + le64toh(header.text_offset));
	uint8_t *to = gmem_ptr(gmem, addr, size);
	if (!to)
		return err_set(err, EFAULT,
		        "kernel %s needs %llu MiB of memory, which this sandbox does not have (give it more with "
		        "--memory)",
		        name, (unsigned long long)size >> 20);
	/* The rest is zero already: the memory is new. */
	uint64_t done = copy ? 0 : map_file(fd, file_size, addr, gmem);
	ret = file_read(fd, to + done, file_size - done, done);
	if (ret < 0)
		return fail_to_read(ret, name, "is truncated", err);
	*image = (struct image){.entry = addr.addr, .end = addr.addr + size};
	return 0;
}
