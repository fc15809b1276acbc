/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/file.h"

#include <errno.h>
#include <unistd.h>

int file_read(int fd, void *to, uint64_t len, uint64_t offset)
{
	uint8_t *p = to;
	while (len > 0) {
		if (offset > INT64_MAX)
			return -ENODATA;
		ssize_t n = pread(fd, p, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}
