/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/cache.h"
#include "vmm/lib/image.h"
#include "vmm/lib/pack.h"

int image_check(
        int fd, const char *path, const struct image_use *use, enum image_format *format, struct wisp_error *error)
{
	struct stat st;
	uint8_t head[SUPERBLOCK_HEAD] = {0};
	char why[200];
	uint64_t bytes;
	if (fstat(fd, &st) < 0)
		return lib_fail_errno(error, errno, "cannot stat the image %s", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return lib_fail(error, WISP_ERR_IMAGE, EINVAL,
		        "the image %s is not a file, block device or directory: give one of these", path);
	ssize_t got = lib_pread(fd, head, sizeof(head), 0);
	if (got < 0)
		return lib_fail_errno(error, (int)-got, "cannot read the image %s", path);
	off_t size = lseek(fd, 0, SEEK_END);
	*format = superblock_read(head, &bytes);
	if (use->overlay && *format != IMAGE_EXT4)
		return lib_fail(error, WISP_ERR_IMAGE, EINVAL,
		        "the overlay %s is not an ext4 file system: it %s: format it with mkfs.ext4", path,
		        *format == IMAGE_UNKNOWN ? "has none that is known" : "has a squashfs or erofs");
	if (*format == IMAGE_UNKNOWN)
		return lib_fail(error, WISP_ERR_IMAGE, EINVAL,
		        "%s is not an image: it is %s, without a squashfs, erofs or ext4 file system", path,
		        size == 0 ? "empty" : "a file of another kind");
	if (!use->other_kernel && superblock_refuse(head, use->writable || use->overlay, why, sizeof(why)))
		return lib_fail(error, WISP_ERR_IMAGE, EINVAL, "the guest cannot mount %s: %s", path, why);
	if (size < 0 || (uint64_t)size < bytes)
		return lib_fail(error, WISP_ERR_IMAGE, EINVAL,
		        "the image %s is truncated: it has %lld bytes, its file system %llu: copy it again", path,
		        (long long)size, (unsigned long long)bytes);
	return 0;
}

int image_open(
        const char *path, const struct image_use *use, int *fd, enum image_format *format, struct wisp_error *error)
{
	*fd = open(path, (use->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return lib_fail(error, WISP_ERR_IMAGE, errno, "there is no image %s", path);
	if (*fd < 0)
		return lib_fail_errno(
		        error, errno, "cannot open the image %s%s", path, use->writable ? " for writing" : "");
	int r = image_check(*fd, path, use, format, error);
	if (r < 0) {
		close(*fd);
		*fd = -1;
	}
	return r;
}

/* ---- Directories ---- */

/* Sums of the hashes of all entries, so that the order of readdir does not matter. */
struct fingerprint {
	uint64_t a, b;
};

static uint64_t mix(uint64_t hash, const void *data, size_t length)
{
	const unsigned char *bytes = data;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull; /* FNV-1a */
	return hash;
}

static uint64_t finish(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull; /* splitmix64 */
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static void add_entry(struct fingerprint *print, uint64_t parent, const char *name, const struct stat *st, uint64_t *id)
{
	const uint64_t facts[] = {
	        st->st_mode,
	        st->st_uid,
	        st->st_gid,
	        S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size,
	        st->st_ino,
	        st->st_rdev,
	        (uint64_t)st->st_mtim.tv_sec,
	        (uint64_t)st->st_mtim.tv_nsec,
	        (uint64_t)st->st_ctim.tv_sec,
	        (uint64_t)st->st_ctim.tv_nsec,
	};
	uint64_t hash = mix(0xcbf29ce484222325ull ^ parent, name, strlen(name) + 1);
	*id = finish(hash);
	hash = mix(hash, facts, sizeof(facts));
	print->a += finish(hash);
	print->b += finish(hash ^ 0x9e3779b97f4a7c15ull);
}

static int walk(int parent, const char *name, uint64_t id, int depth, struct fingerprint *print)
{
	if (depth > 200)
		return -ELOOP;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth ? O_NOFOLLOW : 0));
	if (fd < 0)
		return -errno;
	DIR *dir = fdopendir(fd);
	if (!dir) {
		int errnum = errno;
		close(fd);
		return -errnum;
	}
	int r = 0;
	struct dirent *entry;
	while (r == 0 && (entry = readdir(dir))) {
		struct stat st;
		uint64_t child;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			r = errno == ENOENT ? 0 : -errno;
			continue;
		}
		add_entry(print, id, entry->d_name, &st, &child);
		if (S_ISDIR(st.st_mode))
			r = walk(fd, entry->d_name, child, depth + 1, print);
	}
	closedir(dir);
	return r;
}

static int pack_locked(int cache_fd, const char *dir, const char *cache_dir, const char *name,
        const struct lib_cancel *cancel, struct wisp_error *error)
{
	char *out = NULL, *said = NULL;
	int r = 0;
	if (asprintf(&out, "%s/%s.new", cache_dir, name) < 0)
		out = NULL;
	if (asprintf(&said, "%s/%s.said", cache_dir, name) < 0)
		said = NULL;
	if (!out || !said)
		r = lib_no_memory(error);
	if (r == 0) {
		unlink(out);
		r = pack_run(dir, out, said, cancel, error);
	}
	if (r == 0 && renameat(AT_FDCWD, out, cache_fd, name) < 0)
		r = lib_fail_errno(error, errno, "cannot keep the packed directory as %s/%s", cache_dir, name);
	if (r < 0 && out)
		unlink(out);
	if (said)
		unlink(said);
	free(out);
	free(said);
	return r;
}

/* One process packs; the others wait for the lock and find the result. */
static int pack(int cache_fd, const char *dir, const char *cache_dir, const char *prefix, const char *name,
        const struct lib_cancel *cancel, struct wisp_error *error)
{
	if (utimensat(cache_fd, name, NULL, 0) == 0)
		return 0;
	char lock_name[64];
	snprintf(lock_name, sizeof(lock_name), "%s.lock", prefix);
	int lock_fd = cache_lock(cache_fd, lock_name, cancel);
	if (lock_fd == -ECANCELED || lock_fd == -EINTR)
		return lib_fail_wait(error, lock_fd);
	if (lock_fd < 0)
		return lib_fail_errno(error, -lock_fd, "cannot open %s/%s", cache_dir, lock_name);
	int r = 0;
	if (faccessat(cache_fd, name, R_OK, 0) < 0)
		r = pack_locked(cache_fd, dir, cache_dir, name, cancel, error);
	close(lock_fd);
	const struct cache_limits limits = CACHE_LIMITS;
	cache_trim(cache_fd, &limits); /* what it cannot delete today is deleted another day */
	return r;
}

int image_pack(
        const char *dir, const char *cache_dir, const struct lib_cancel *cancel, char **path, struct wisp_error *error)
{
	*path = NULL;
	if (!cache_dir)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the image %s is a directory, and cache_dir is not set: name a directory for packed images",
		        dir);
	char *real = realpath(dir, NULL);
	if (!real)
		return lib_fail_errno(error, errno, "cannot resolve the image %s", dir);
	int cache_fd = -1;
	struct stat st;
	struct fingerprint print = {0};
	int r = lib_make_dirs(cache_dir, error);
	if (r == 0)
		r = cache_open(cache_dir, &cache_fd, error);
	if (r == 0 && stat(real, &st) < 0)
		r = lib_fail_errno(error, errno, "cannot stat the image %s", real);
	if (r == 0) {
		uint64_t id;
		add_entry(&print, 0, "", &st, &id);
		r = walk(AT_FDCWD, real, id, 0, &print);
		if (r < 0)
			lib_fail_errno(error, -r, "cannot read the directory %s", real);
	}
	if (r == 0) {
		char prefix[32], name[96];
		snprintf(prefix, sizeof(prefix), "%016llx",
		        (unsigned long long)finish(mix(0xcbf29ce484222325ull, real, strlen(real))));
		snprintf(name, sizeof(name), "%s-%016llx%016llx.squashfs", prefix, (unsigned long long)print.a,
		        (unsigned long long)print.b);
		r = pack(cache_fd, real, cache_dir, prefix, name, cancel, error);
		if (r == 0 && asprintf(path, "%s/%s", cache_dir, name) < 0)
			r = lib_no_memory(error);
	}
	if (cache_fd >= 0)
		close(cache_fd);
	free(real);
	return r;
}
