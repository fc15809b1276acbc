/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the host whose sizes are not to be trusted. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/cli/cp.h"
#include "vmm/cli/cp_file.h"

#define SPOOL_MAX (64u << 20)

void cp_report_change(struct copy *copy, const char *source, const char *how)
{
	copy->changed = true;
	cli_fail("%s %s while it was copied; copy it again", source, how);
}

static bool has_true_size(int fd, const struct stat *st)
{
	struct statfs fs;
	if (st->st_size == 0)
		return false;
	return fstatfs(fd, &fs) < 0 || (fs.f_type != PROC_SUPER_MAGIC && fs.f_type != SYSFS_MAGIC);
}

/* Reads all of `fd` into `to`. */
static int spool(struct copy *copy, int fd, int to, const char *source, uint64_t *size)
{
	char buffer[65536];
	ssize_t n = 1;
	for (*size = 0; n != 0 && *size <= SPOOL_MAX;) {
		n = read(fd, buffer, sizeof(buffer));
		int number = n < 0 && errno == EAGAIN ? cp_wait(fd, POLLIN, copy->signals) : 0;
		if (number)
			return CLI_EXIT_SIGNAL + number;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return cli_fail("cannot read %s: %s", source, strerror(errno));
		if (n > 0 && write(to, buffer, (size_t)n) != n)
			return cli_fail("cannot hold %s in memory: %s", source, strerror(errno));
		*size += n > 0 ? (uint64_t)n : 0;
	}
	if (*size > SPOOL_MAX)
		return cli_fail(
		        "%s reports no size and holds more than 64 MiB; use: wisp cp - NAME:PATH <%s", source, source);
	return lseek(to, 0, SEEK_SET) < 0 ? cli_fail("cannot read %s: %s", source, strerror(errno)) : 0;
}

int cp_open_source(struct copy *copy, const char *source, bool follow, uint64_t *size, int *code)
{
	struct stat st;
	int fd = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW));
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		*code = cli_fail("cannot open %s: %s", source, fd < 0 ? strerror(errno) : "it is not a file any more");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	*size = (uint64_t)st.st_size;
	if (has_true_size(fd, &st))
		return fd;
	int copied = memfd_create("wisp-cp", MFD_CLOEXEC);
	*code = copied < 0 ? cli_fail("out of memory") : spool(copy, fd, copied, source, size);
	close(fd);
	if (*code == 0)
		return copied;
	if (copied >= 0)
		close(copied);
	return -1;
}
