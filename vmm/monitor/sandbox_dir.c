/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/sandbox_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/shared/sandbox_files.h"

#define STATE_NEW SANDBOX_FILES_STATE ".new"

int sandbox_dir_show_pid(int lock_fd, struct err *err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(lock_fd, F_SETLK, &lock) < 0)
		return err_set(err, errno, "cannot lock the sandbox's lock file: %s", strerror(errno));
	return 0;
}

/* On a full file system: the old file has a block already. Readers stop at the newline. */
static void overwrite_state(int dir_fd, const char *text, size_t length)
{
	int fd = openat(dir_fd, SANDBOX_FILES_STATE, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (pwrite(fd, text, length, 0) == (ssize_t)length)
		(void)!ftruncate(fd, (off_t)length);
	close(fd);
}

void sandbox_dir_write_state(int dir_fd, const char *line)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "%s\n", line);
	size_t length = n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1;
	text[length - 1] = '\n';
	int fd = openat(dir_fd, STATE_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool written = fd >= 0 && write(fd, text, length) == (ssize_t)length;
	if (fd >= 0)
		close(fd);
	if (written && renameat(dir_fd, STATE_NEW, dir_fd, SANDBOX_FILES_STATE) == 0)
		return;
	unlinkat(dir_fd, STATE_NEW, 0);
	overwrite_state(dir_fd, text, length);
}
