/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

int blk_file_size(int fd, uint64_t *bytes, struct err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "cannot examine the disk's file: %s", strerror(errno));
	if (S_ISREG(st.st_mode))
		*bytes = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return err_set(err, EINVAL, "a disk must be a regular file or a block device");
	else if (ioctl(fd, BLKGETSIZE64, bytes) < 0)
		return err_set(err, errno, "cannot read the size of the block device: %s", strerror(errno));
	return 0;
}

uint32_t blk_file_block(int fd)
{
	struct stat st;
	int size = 0;
	if (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode) || ioctl(fd, BLKSSZGET, &size) < 0 || size < 512)
		return 512;
	return size < (int)BLK_BLOCK_MAX ? (uint32_t)size : BLK_BLOCK_MAX;
}

int blk_file_reopen(int fd, bool readonly, struct err *err)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int buffered = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	return buffered >= 0 ? buffered
	                     : err_set(err, errno, "cannot reopen the disk without O_DIRECT: %s", strerror(errno));
}
