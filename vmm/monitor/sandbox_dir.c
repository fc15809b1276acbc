/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/sandbox_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/shared/sandbox_files.h"

int sandbox_dir_show_pid(int lock_fd, struct err *err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(lock_fd, F_SETLK, &lock) < 0)
		return err_set(err, errno, "cannot lock the sandbox's lock file: %s", strerror(errno));
	return 0;
}

int sandbox_dir_take_over_log(int dir_fd, struct err *err)
{
	int fd = openat(dir_fd, SANDBOX_FILES_VMM_LOG, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(err, errno, "cannot create %s: %s", SANDBOX_FILES_VMM_LOG, strerror(errno));
	dup2(fd, STDERR_FILENO);
	close(fd);
	return 0;
}
