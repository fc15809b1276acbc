/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/sandbox_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int sandbox_dir_show_pid(int lock_fd, struct err *err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(lock_fd, F_SETLK, &lock) < 0)
		return err_set(err, errno, "cannot lock the sandbox's lock file: %s", strerror(errno));
	return 0;
}

void sandbox_dir_write_state(int dir_fd, const char *line)
{
	int fd = openat(dir_fd, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	int n = dprintf(fd, "%s\n", line);
	close(fd);
	if (n < 0 || renameat(dir_fd, "state.new", dir_fd, "state") < 0)
		unlinkat(dir_fd, "state.new", 0);
}
