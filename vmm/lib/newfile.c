/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/shared/checksum.h"

/* Opens the directory of the path. */
static int open_dir(struct newfile *file, struct wisp_error *error)
{
	char *slash = strrchr(file->path, '/'); /* lib_absolute made it so */
	file->base = slash + 1;
	if (!file->base[0] || strcmp(file->base, ".") == 0 || strcmp(file->base, "..") == 0)
		return lib_fail(error, WISP_ERR_INVALID, EISDIR, "%s is a directory: name a file in it", file->path);
	char first = slash[1];
	slash[1] = '\0';
	file->dir_fd = open(file->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = file->dir_fd < 0 ? lib_fail_errno(error, errno, "cannot open the directory %s", file->path) : 0;
	slash[1] = first;
	return r;
}

int newfile_open_unnamed(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

/* It goes through /proc, unless the process has CAP_DAC_READ_SEARCH. */
int newfile_link(int fd, int dir_fd, const char *name)
{
	char proc[32];
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, proc, dir_fd, name, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	return linkat(fd, "", dir_fd, name, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int open_file(struct newfile *file, struct wisp_error *error)
{
	file->fd = newfile_open_unnamed(file->dir_fd);
	/* EISDIR and ENOENT: a kernel or file system that does not know the flag. */
	int r = file->fd;
	if (r == -EOPNOTSUPP || r == -EISDIR || r == -ENOENT || r == -EINVAL) {
		sandbox_files_hide(file->hidden);
		file->fd = openat(file->dir_fd, file->hidden, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (file->fd < 0) {
			file->fd = -errno;
			file->hidden[0] = '\0';
		}
	}
	return file->fd < 0 ? lib_fail_errno(error, -file->fd, "cannot create %s", file->path) : 0;
}

int newfile_create(const char *path, struct newfile *file, struct wisp_error *error)
{
	*file = (struct newfile){.fd = -1, .dir_fd = -1, .path = lib_absolute(path)};
	int r = file->path ? open_dir(file, error) : lib_no_memory(error);
	if (r == 0)
		r = open_file(file, error);
	if (r < 0)
		newfile_close(file);
	return r;
}

/*
 * A link does not replace, and a rename does. The name in between is always the same one for a file, so that what a
 * process left that was killed there does not stay. Another process that does the same may take it away.
 */
static int replace_by(struct newfile *file)
{
	char name[SANDBOX_FILES_HIDDEN_SIZE];
	if (file->hidden[0])
		return renameat(file->dir_fd, file->hidden, file->dir_fd, file->base) < 0 ? -errno : 0;
	snprintf(name, sizeof(name), ".wisp-%016llx", (unsigned long long)checksum(file->base, strlen(file->base), 0));
	for (int tries = 0; tries < 16; tries++) {
		int r = newfile_link(file->fd, file->dir_fd, name);
		if (r == -EEXIST)
			unlinkat(file->dir_fd, name, 0);
		else if (r < 0)
			return r;
		else if (renameat(file->dir_fd, name, file->dir_fd, file->base) == 0)
			return 0;
		else if (errno != ENOENT)
			return -errno;
	}
	return -EBUSY;
}

int newfile_publish(struct newfile *file, bool replace, struct wisp_error *error)
{
	if (fsync(file->fd) < 0)
		return lib_fail_errno(error, errno, "cannot write %s", file->path);
	int r = replace           ? replace_by(file)
	        : file->hidden[0] ? lib_rename_new(file->dir_fd, file->hidden, file->base)
	                          : newfile_link(file->fd, file->dir_fd, file->base);
	if (r == -EEXIST && !replace)
		return r;
	if (r < 0)
		return lib_fail_errno(error, -r, "cannot create %s", file->path);
	file->hidden[0] = '\0';
	fsync(file->dir_fd); /* the name too; not all file systems can */
	return 0;
}

void newfile_withdraw(struct newfile *file)
{
	unlinkat(file->dir_fd, file->base, 0);
}

void newfile_close(struct newfile *file)
{
	if (file->hidden[0])
		unlinkat(file->dir_fd, file->hidden, 0);
	if (file->fd >= 0)
		close(file->fd);
	if (file->dir_fd >= 0)
		close(file->dir_fd);
	free(file->path);
	*file = (struct newfile){.fd = -1, .dir_fd = -1};
}
