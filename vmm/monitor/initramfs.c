/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/initramfs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/monitor/file.h"

#define PAGE_SIZE 4096u

int initramfs_load(
        int fd, const char *name, const struct gmem *gmem, uint64_t floor, struct initramfs *initramfs, struct err *err)
{
	struct stat st;
	*initramfs = (struct initramfs){0};
	if (fd < 0)
		return 0;
	int ret = file_check(fd, "initramfs", name, &st, err);
	if (ret < 0)
		return ret;
	if (st.st_size == 0)
		return err_set(err, EINVAL, "initramfs %s is empty", name);
	uint64_t top = gmem->region[0].size, size = (uint64_t)st.st_size;
	uint64_t need = (size + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
	if (size > UINT32_MAX || need > top || top - need < floor)
		return err_set(err, E2BIG,
		        "initramfs %s (%llu KiB) does not fit into memory with the kernel: give the sandbox more with "
		        "--memory",
		        name, (unsigned long long)size >> 10);
	*initramfs = (struct initramfs){.start = top - need, .size = size};
	uint8_t *to = gmem_ptr(gmem, gpa(initramfs->start), size);
	ret = to ? file_read(fd, to, size, 0) : 0;
	if (ret == -ENODATA)
		return err_set(err, EIO, "cannot read initramfs %s: it became shorter", name);
	return ret < 0 ? err_set(err, -ret, "cannot read initramfs %s: %s", name, strerror(-ret)) : 0;
}
