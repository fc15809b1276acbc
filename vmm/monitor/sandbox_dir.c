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
