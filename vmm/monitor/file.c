/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
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

int file_check(int fd, const char *what, const char *name, struct stat *st, struct err *err)
{
	if (fstat(fd, st) < 0)
		return err_set(err, errno, "cannot stat %s %s: %s", what, name, strerror(errno));
	if (!S_ISREG(st->st_mode))
		return err_set(err, EINVAL, "%s %s is not a regular file", what, name);
	return 0;
}
