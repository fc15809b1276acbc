/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/sandbox_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int sandbox_dir_write_pid(int lock_fd, struct err *err)
{
	char text[24];
	if (lock_fd < 0)
		return 0;
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(lock_fd, 0) < 0 || pwrite(lock_fd, text, (size_t)n, 0) != n)
		return err_set(err, errno, "cannot write the sandbox's lock file: %s", strerror(errno));
	return 0;
}

void sandbox_dir_write_state(const char *dir, const char *line)
{
	char path[256], fresh[264];
	snprintf(path, sizeof(path), "%s/state", dir);
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	int n = dprintf(fd, "%s\n", line);
	close(fd);
	if (n < 0 || rename(fresh, path) < 0)
		unlink(fresh);
}

void sandbox_dir_remove(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	if (!list)
		return;
	for (struct dirent *entry; (entry = readdir(list));)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(fd, entry->d_name, 0);
	closedir(list);
	rmdir(dir);
}
