/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/expand.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/cache.h"
#include "vmm/lib/newfile.h"
#include "vmm/shared/checksum.h"

/*
 * What identifies a file: its path, its head, and what the host says of it. The latter because the checksum is no proof
 * against somebody who makes a file to have another's.
 */
struct key {
	char lock[64];
	char name[64];
};

static int make_key(const struct snapfile *file, struct key *key, struct wisp_error *error)
{
	struct stat st;
	char *real = realpath(file->path, NULL);
	if (!real || fstat(file->fd, &st) < 0) {
		free(real);
		return lib_fail_errno(error, errno, "cannot resolve the snapshot %s", file->path);
	}
	const uint64_t facts[] = {
	        st.st_dev,
	        st.st_ino,
	        (uint64_t)st.st_size,
	        (uint64_t)st.st_mtim.tv_sec,
	        (uint64_t)st.st_mtim.tv_nsec,
	        (uint64_t)st.st_ctim.tv_sec,
	        (uint64_t)st.st_ctim.tv_nsec,
	};
	unsigned long long path = checksum(real, strlen(real), 0);
	snprintf(key->lock, sizeof(key->lock), "%016llx.lock", path);
	snprintf(key->name, sizeof(key->name), "%016llx-%016llx%016llx.snapshot", path,
	        (unsigned long long)file->head.head_sum, (unsigned long long)checksum(facts, sizeof(facts), 0));
	free(real);
	return 0;
}

/* Opens an entry that has this file's head. A monitor that uses it has a lock on it, as on a disk. */
static int open_entry(int cache_fd, const char *name, const struct snapfile *file)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	struct snapfile entry;
	int fd = openat(cache_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (copy < 0 || snapfile_open_fd(copy, name, &entry, NULL) < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	bool same = !entry.compressed && memcmp(entry.bytes, file->bytes, SNAPSHOT_HEAD_SIZE) == 0;
	snapfile_close(&entry);
	if (!same) {
		close(fd);
		return -1;
	}
	fcntl(fd, F_OFD_SETLK, &lock);
	futimens(fd, NULL);
	return fd;
}

static int write_content(struct snapfile *file, int to, const struct lib_cancel *cancel,
        const struct lib_progress *progress, struct wisp_error *error)
{
	uint8_t *buffer = malloc(FRAMES_CONTENT);
	int r = buffer ? 0 : lib_no_memory(error);
	for (uint64_t at = 0; at < file->size && r == 0;) {
		const char *why = NULL;
		ssize_t n = frames_read(&file->frames, buffer, FRAMES_CONTENT, at, &why);
		if (n == -EBADMSG && why)
			r = lib_fail(
			        error, WISP_ERR_SNAPSHOT, EBADMSG, "cannot use the snapshot %s: %s", file->path, why);
		else if (n <= 0)
			r = lib_fail_errno(error, n < 0 ? (int)-n : EIO, "cannot read the snapshot %s", file->path);
		if (r < 0)
			break;
		r = lib_write_all(to, buffer, (size_t)n);
		if (r < 0)
			r = lib_fail_errno(error, -r, "cannot expand the snapshot %s into the cache", file->path);
		at += (uint64_t)n;
		lib_report(progress, at, file->size);
		int cancelled = r == 0 ? lib_check_cancel(cancel) : 0;
		if (cancelled < 0)
			r = lib_fail_wait(error, cancelled);
	}
	free(buffer);
	return r;
}

/* Reads back what was written, which is in memory still. */
static int verify(int fd, const char *path, const struct lib_cancel *cancel, struct wisp_error *error)
{
	struct snapfile entry;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return lib_fail_errno(error, errno, "cannot verify the snapshot %s", path);
	int r = snapfile_open_fd(copy, path, &entry, error);
	if (r < 0)
		return r;
	r = snapfile_check_state(&entry, error);
	if (r == 0)
		r = snapfile_check_memory(&entry, cancel, &(struct lib_progress){0}, error);
	snapfile_close(&entry);
	return r;
}

static int expand(struct snapfile *file, const char *cache_dir, const char *name, const struct lib_cancel *cancel,
        const struct lib_progress *progress, struct wisp_error *error)
{
	struct newfile entry;
	char *path;
	if (asprintf(&path, "%s/%s", cache_dir, name) < 0)
		return lib_no_memory(error);
	int r = newfile_create(path, &entry, error);
	free(path);
	if (r < 0)
		return r;
	r = write_content(file, entry.fd, cancel, progress, error);
	if (r == 0)
		r = verify(entry.fd, file->path, cancel, error);
	if (r == 0)
		r = newfile_publish(&entry, true, error);
	newfile_close(&entry);
	return r;
}

/* One process expands; the others wait for the lock and find the result. */
static int expand_locked(struct snapfile *file, int cache_fd, const char *cache_dir, const struct key *key,
        const struct lib_cancel *cancel, const struct lib_progress *progress, int *fd, struct wisp_error *error)
{
	int lock_fd = cache_lock(cache_fd, key->lock, cancel);
	if (lock_fd == -ECANCELED || lock_fd == -EINTR)
		return lib_fail_wait(error, lock_fd);
	if (lock_fd < 0)
		return lib_fail_errno(error, -lock_fd, "cannot open %s/%s", cache_dir, key->lock);
	int r = 0;
	*fd = open_entry(cache_fd, key->name, file);
	if (*fd < 0)
		r = expand(file, cache_dir, key->name, cancel, progress, error);
	if (*fd < 0 && r == 0 && (*fd = open_entry(cache_fd, key->name, file)) < 0)
		r = lib_fail_errno(error, EIO, "cannot open the expanded snapshot %s/%s", cache_dir, key->name);
	close(lock_fd);
	const struct cache_limits limits = CACHE_LIMITS;
	cache_trim(cache_fd, &limits); /* what it cannot delete now is deleted later */
	return r;
}

int expand_snapshot(struct snapfile *file, const char *cache_dir, const struct lib_cancel *cancel,
        const struct lib_progress *progress, int *fd, struct wisp_error *error)
{
	struct key key;
	int cache_fd;
	*fd = -1;
	if (!cache_dir)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the snapshot %s is compressed, and cache_dir is not set: name a directory for expanded "
		        "snapshots",
		        file->path);
	int r = lib_make_dirs(cache_dir, error);
	if (r == 0)
		r = make_key(file, &key, error);
	if (r == 0)
		r = cache_open(cache_dir, &cache_fd, error);
	if (r < 0)
		return r;
	*fd = open_entry(cache_fd, key.name, file);
	if (*fd < 0)
		r = expand_locked(file, cache_fd, cache_dir, &key, cancel, progress, fd, error);
	close(cache_fd);
	return r;
}
