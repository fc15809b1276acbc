/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/diskcopy.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/shared/zero.h"

#define PIECE ((size_t)1 << 20)
#define BLOCK ((size_t)64 << 10) /* what is all zero is left out by these */

/* Writes the blocks that are not zero. */
static int write_piece(int to, const uint8_t *data, size_t size, off_t offset)
{
	int r = 0;
	for (size_t at = 0; at < size && r == 0; at += BLOCK) {
		size_t length = size - at < BLOCK ? size - at : BLOCK;
		if (!is_zero(data + at, length))
			r = lib_pwrite_all(to, data + at, length, offset + (off_t)at);
	}
	return r;
}

static int copy_range(int from, int to, off_t at, off_t end, uint8_t *buffer, const struct lib_cancel *cancel)
{
	int r = 0;
	while (at < end && r == 0) {
		size_t size = end - at < (off_t)PIECE ? (size_t)(end - at) : PIECE;
		ssize_t n = lib_pread(from, buffer, size, at);
		if (n <= 0)
			return n < 0 ? (int)n : -EIO; /* it has become shorter */
		r = write_piece(to, buffer, (size_t)n, at);
		if (r == 0)
			r = lib_check_cancel(cancel);
		at += n;
	}
	return r;
}

static int copy_data(int from, int to, off_t size, uint8_t *buffer, const struct lib_cancel *cancel)
{
	int r = 0;
	for (off_t at = 0; at < size && r == 0;) {
		off_t data = lseek(from, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
		if (data < 0 || hole < 0) { /* the file system does not tell */
			data = at;
			hole = size;
		}
		r = copy_range(from, to, data, hole < size ? hole : size, buffer, cancel);
		at = hole;
	}
	return r;
}

int diskcopy(int from, int to, const struct lib_cancel *cancel)
{
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	off_t size = lseek(from, 0, SEEK_END);
	if (size < 0)
		return -errno;
	int r = lib_truncate(to, size);
	if (r < 0)
		return r;
	uint8_t *buffer = malloc(PIECE);
	if (!buffer)
		return -ENOMEM;
	r = copy_data(from, to, size, buffer, cancel);
	free(buffer);
	return r;
}
