/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's disks: opened, locked, and for a restored machine or a clone, known again or copied. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/describe.h"
#include "vmm/lib/diskcopy.h"
#include "vmm/lib/sandbox.h"
#include "vmm/lib/state.h"

/* True if the sandbox of this config uses the file, and the two may not use it at once. */
static bool clashes(const struct config *config, int dir_fd, const struct stat *file, bool read_only)
{
	for (const char **disk = config->disks; *disk; disk++) {
		struct stat st;
		bool other_reads = strncmp(*disk, "ro ", 3) == 0;
		if (strlen(*disk) > 3 && fstatat(dir_fd, *disk + 3, &st, 0) == 0 && st.st_dev == file->st_dev &&
		        st.st_ino == file->st_ino && !(read_only && other_reads))
			return true;
	}
	return false;
}

/* The name of the running sandbox that holds the lock, for the message; false if it is of another state directory. */
static bool find_holder(const char *state_root, int fd, bool read_only, char name[WISP_NAME_MAX + 1])
{
	struct wisp_sandbox_info **list;
	struct stat st;
	bool found = false;
	if (fstat(fd, &st) < 0 || wisp_list_sandboxes(state_root, &list, NULL) < 0)
		return false;
	for (size_t i = 0; list[i] && !found; i++) {
		struct config config;
		int dir_fd = open(list[i]->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir_fd >= 0 && config_read(dir_fd, &config) == 0) {
			found = list[i]->pid != 0 && clashes(&config, dir_fd, &st, read_only);
			config_free(&config);
		}
		if (found)
			snprintf(name, WISP_NAME_MAX + 1, "%s", list[i]->name);
		if (dir_fd >= 0)
			close(dir_fd);
	}
	wisp_free_sandbox_list(list);
	return found;
}

/*
 * A lock of the open file description, which the monitor gets and holds to its end: shared by those that read,
 * exclusive for one that writes. A file system without locks cannot protect its files; they are used all the same.
 */
static int lock_disk(struct creation *creation, int fd, const char *path, bool read_only, struct wisp_error *error)
{
	struct flock lock = {.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
	char name[WISP_NAME_MAX + 1];
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0 || (errno != EAGAIN && errno != EACCES))
		return 0;
	if (find_holder(creation->options.state_root, fd, read_only, name))
		return lib_fail(error, WISP_ERR_DISK_BUSY, EBUSY,
		        "cannot use the disk %s: it is in use by the sandbox '%s': stop that sandbox, or use the disk "
		        "read-only in both",
		        path, name);
	return lib_fail(error, WISP_ERR_DISK_BUSY, EBUSY,
	        "cannot use the disk %s: it is in use, and one of its users writes to it: use it read-only in both",
	        path);
}

int creation_add_disk(struct creation *creation, int fd, const char *path, bool read_only, enum wisp_cache cache,
        struct wisp_error *error)
{
	struct stat st;
	uint32_t i = creation->description.disk_count++;
	creation->fds.disk[i] = fd;
	creation->description.disk[i] = (struct description_disk){.read_only = read_only, .cache = cache};
	creation->disk_info[i] = (struct config_disk){.cache = cache};
	if (fstat(fd, &st) == 0) {
		creation->disk_info[i].dev = st.st_dev;
		creation->disk_info[i].ino = st.st_ino;
	}
	char *absolute = lib_absolute(path);
	if (!absolute || asprintf(&creation->disk_names[i], "%s %s", read_only ? "ro" : "rw", absolute) < 0)
		creation->disk_names[i] = NULL;
	free(absolute);
	return creation->disk_names[i] ? lock_disk(creation, fd, path, read_only, error) : lib_no_memory(error);
}

int creation_open_disk(
        struct creation *creation, const char *path, bool read_only, enum wisp_cache cache, struct wisp_error *error)
{
	struct stat st;
	int fd = open(path,
	        (read_only ? O_RDONLY : O_RDWR) | (cache == WISP_CACHE_DIRECT ? O_DIRECT : 0) | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == EINVAL && cache == WISP_CACHE_DIRECT)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "cannot use %s past the page cache: its file system has no O_DIRECT: use writeback or unsafe",
		        path);
	if (fd < 0)
		return lib_fail_errno(error, errno, "cannot use %s as a %sdisk", path, read_only ? "read-only " : "");
	if (fstat(fd, &st) < 0) {
		int r = lib_fail_errno(error, errno, "cannot stat the disk %s", path);
		close(fd);
		return r;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		close(fd);
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "%s cannot be a disk: it is not a regular file or a block device", path);
	}
	return creation_add_disk(creation, fd, path, read_only, cache, error);
}

/* ---- Disks that a machine knows already ---- */

/* The guest has parts of the disk in its memory: a disk that differs would be corrupted. */
static int check_known(const struct known_disk *disk, int fd, struct wisp_error *error)
{
	struct stat st;
	off_t size = lseek(fd, 0, SEEK_END);
	if (size < 0 || fstat(fd, &st) < 0)
		return lib_fail_errno(error, errno, "cannot stat the disk %s", disk->path);
	if (disk->check_file && (st.st_ino != disk->ino || st.st_dev != disk->dev))
		return lib_fail(error, WISP_ERR_SNAPSHOT, ESTALE,
		        "cannot use the disk %s: it is another file than the one that the guest knows: put that one "
		        "back",
		        disk->path);
	if (disk->check_size && (uint64_t)size != disk->size)
		return lib_fail(error, WISP_ERR_SNAPSHOT, ESTALE,
		        "cannot use the disk %s: it has %lld bytes, and the guest knows one of %llu", disk->path,
		        (long long)size, (unsigned long long)disk->size);
	if (disk->check_time && st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec != disk->mtime_ns)
		return lib_fail(error, WISP_ERR_SNAPSHOT, ESTALE,
		        "cannot use the disk %s: it was written to after the snapshot was made: put back the disk as "
		        "it "
		        "was, or make a new snapshot",
		        disk->path);
	return 0;
}

/* Where the copy is, and what it has, is known when the sandbox has a directory. */
static int add_copy(struct creation *creation, const struct known_disk *disk, struct wisp_error *error)
{
	uint32_t i = creation->description.disk_count;
	int fd = openat(disk->dir, disk->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return lib_fail_errno(error, errno, "cannot open the disk %s to copy it", disk->path);
	creation->copy_from[i] = fd;
	creation->description.disk_count++;
	creation->description.disk[i] = (struct description_disk){.cache = disk->cache};
	creation->disk_info[i] = (struct config_disk){.cache = disk->cache};
	if (asprintf(&creation->disk_names[i], "rw disk%u.img", i) < 0) {
		creation->disk_names[i] = NULL;
		return lib_no_memory(error);
	}
	return disk->in_use ? 0 : lock_disk(creation, fd, disk->path, true, error);
}

int creation_add_known_disk(struct creation *creation, const struct known_disk *disk, struct wisp_error *error)
{
	uint32_t i = creation->description.disk_count;
	int r = disk->copy ? add_copy(creation, disk, error)
	                   : creation_open_disk(creation, disk->path, disk->read_only, disk->cache, error);
	return r < 0 ? r : check_known(disk, disk->copy ? creation->copy_from[i] : creation->fds.disk[i], error);
}

/* Copying needs no O_DIRECT, and would have to obey its rules. */
static int reopen_direct(int dir_fd, const char *name, int *fd)
{
	int direct = openat(dir_fd, name, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (direct < 0)
		return -errno;
	close(*fd);
	*fd = direct;
	return 0;
}

int creation_copy_disks(struct creation *creation, const struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	int dir_fd = sandbox->dir_fd;
	for (uint32_t i = 0; i < creation->description.disk_count; i++) {
		char name[16];
		if (creation->copy_from[i] < 0)
			continue;
		snprintf(name, sizeof(name), "disk%u.img", i);
		int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		int r = fd < 0 ? -errno : state_give(sandbox->root_fd, dir_fd, name);
		if (r == 0)
			r = diskcopy(creation->copy_from[i], fd, &creation->cancel);
		if (r == 0 && creation->description.disk[i].cache == WISP_CACHE_DIRECT)
			r = reopen_direct(dir_fd, name, &fd);
		creation->fds.disk[i] = fd;
		if (r == -ECANCELED || r == -EINTR)
			return lib_fail_wait(error, r);
		if (r < 0)
			return lib_fail_errno(
			        error, -r, "cannot copy a disk into the sandbox's directory, as %s", name);
		close(creation->copy_from[i]);
		creation->copy_from[i] = -1;
		r = lock_disk(creation, fd, name, false, error);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A copy is in the sandbox's directory: its path is relative. */
bool wisp_writes_disks(const struct wisp_sandbox *sandbox)
{
	bool writes = false;
	for (size_t i = 0; sandbox && i < sandbox->config.disk_count; i++)
		writes |= strncmp(sandbox->config.disks[i], "rw /", 4) == 0;
	return writes;
}
