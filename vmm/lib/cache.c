/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/shared/sandbox_files.h"

#define FRESH_S 60 /* found by somebody who has not opened it yet */
#define LOCK_PAUSE_MS 20
#define ABANDONED_S (60 * 60) /* nobody writes so slowly */

#define HEX "0123456789abcdef"
#define PREFIX_LENGTH 16
#define IMAGE_LENGTH (PREFIX_LENGTH + 1 + 32)

struct entry {
	char name[IMAGE_LENGTH + sizeof(".squashfs")];
	uint64_t bytes;
	struct timespec used;
};

struct cache {
	int fd;
	struct entry *entries;
	size_t count;
	uint64_t bytes;
};

int cache_open(const char *cache_dir, int *fd, struct wisp_error *error)
{
	struct stat st;
	*fd = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		return lib_fail_errno(error, errno, "cannot open the cache %s", cache_dir);
	if (fstat(*fd, &st) < 0) {
		int r = lib_fail_errno(error, errno, "cannot stat the cache %s", cache_dir);
		close(*fd);
		*fd = -1;
		return r;
	}
	if ((st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & 022))
		return 0;
	close(*fd);
	*fd = -1;
	return lib_fail(error, WISP_ERR_INVALID, EPERM,
	        "the cache %s belongs to another user, or others may write to it: chmod go-w it or choose another",
	        cache_dir);
}

int cache_try_lock(int cache_fd, const char *name)
{
	for (;;) {
		struct stat st;
		int fd = openat(cache_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			int r = -errno;
			close(fd);
			return r;
		}
		/* It may have been deleted before this process had the lock. */
		if (fstat(fd, &st) < 0 || st.st_nlink > 0)
			return fd;
		close(fd);
	}
}

int cache_lock(int cache_fd, const char *name, const struct lib_cancel *cancel)
{
	for (;;) {
		int fd = cache_try_lock(cache_fd, name);
		if (fd != -EWOULDBLOCK && fd != -EINTR)
			return fd;
		int r = lib_poll(cancel, NULL, 0, lib_now_ns() + LOCK_PAUSE_MS * NS_PER_MS);
		if (r < 0 && r != -ETIMEDOUT)
			return r;
	}
}

/* The length of what the entries and the lock of one directory, snapshot or configuration begin with; 0: another file.
 */
static size_t prefix_length(const char *name)
{
	size_t kind = strncmp(name, CACHE_WARM, sizeof(CACHE_WARM) - 1) == 0 ? sizeof(CACHE_WARM) - 1 : 0;
	return strspn(name + kind, HEX) == PREFIX_LENGTH ? kind + PREFIX_LENGTH : 0;
}

static bool is_entry(const char *name, const char *end)
{
	return strspn(name, HEX) == PREFIX_LENGTH && name[PREFIX_LENGTH] == '-' &&
	       strspn(name + PREFIX_LENGTH + 1, HEX) == IMAGE_LENGTH - PREFIX_LENGTH - 1 &&
	       strcmp(name + IMAGE_LENGTH, end) == 0;
}

bool cache_is_image(const char *path)
{
	const char *slash = strrchr(path, '/');
	return is_entry(slash ? slash + 1 : path, ".squashfs");
}

static int64_t age_s(const struct timespec *used)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec - used->tv_sec;
}

/* What a process that died while packing left: a file that nobody has written to for long. */
static void remove_leftover(int cache_fd, const char *name, const struct stat *st)
{
	static const char *const ends[] = {".squashfs.new", ".squashfs.said"};
	if (sandbox_files_is_hidden(name) && age_s(&st->st_mtim) >= ABANDONED_S)
		unlinkat(cache_fd, name, 0);
	if (strspn(name, HEX) != PREFIX_LENGTH || strlen(name) < IMAGE_LENGTH || age_s(&st->st_mtim) < ABANDONED_S)
		return;
	for (size_t i = 0; i < 2; i++) {
		if (strcmp(name + IMAGE_LENGTH, ends[i]) == 0)
			unlinkat(cache_fd, name, 0);
	}
}

static int add_entry(struct cache *cache, const char *name)
{
	struct stat st;
	if (fstatat(cache->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0;
	size_t prefix = prefix_length(name);
	bool warm = prefix > PREFIX_LENGTH && strcmp(name + prefix, ".snap") == 0;
	if (!warm && !is_entry(name, ".squashfs") && !is_entry(name, ".snapshot")) {
		remove_leftover(cache->fd, name, &st);
		return 0;
	}
	struct entry *grown = reallocarray(cache->entries, cache->count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	cache->entries = grown;
	struct entry *entry = &grown[cache->count++];
	snprintf(entry->name, sizeof(entry->name), "%s", name);
	entry->bytes = (uint64_t)st.st_blocks * 512;
	entry->used = st.st_mtim;
	cache->bytes += entry->bytes;
	return 0;
}

static int read_entries(struct cache *cache)
{
	int fd = openat(cache->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (entry = readdir(dir)))
		r = add_entry(cache, entry->d_name);
	closedir(dir);
	return r;
}

static int oldest_first(const void *a, const void *b)
{
	const struct entry *left = a, *right = b;
	if (left->used.tv_sec != right->used.tv_sec)
		return left->used.tv_sec < right->used.tv_sec ? -1 : 1;
	if (left->used.tv_nsec != right->used.tv_nsec)
		return left->used.tv_nsec < right->used.tv_nsec ? -1 : 1;
	return strcmp(left->name, right->name);
}

/* Only asks for the lock: nobody is turned away in between. A file that is opened after that keeps its contents. */
static bool in_use(int cache_fd, const char *name)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = openat(cache_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	bool used = fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
	if (fd >= 0)
		close(fd);
	return used;
}

/* Lock files whose directory has no image any more, nobody packing it. */
static void remove_locks(const struct cache *cache)
{
	int fd = openat(cache->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *found;
	if (!dir && fd >= 0)
		close(fd);
	while (dir && (found = readdir(dir))) {
		const char *name = found->d_name;
		size_t prefix = prefix_length(name);
		bool needed = prefix == 0 || strcmp(name + prefix, ".lock") != 0;
		for (size_t i = 0; i < cache->count && !needed; i++)
			needed = strncmp(cache->entries[i].name, name, prefix) == 0;
		int lock = needed ? -1 : openat(cache->fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (lock < 0)
			continue;
		if (flock(lock, LOCK_EX | LOCK_NB) == 0)
			unlinkat(cache->fd, name, 0);
		close(lock);
	}
	if (dir)
		closedir(dir);
}

int cache_trim(int cache_fd, const struct cache_limits *limits)
{
	struct cache cache = {.fd = cache_fd};
	int removed = 0, r = read_entries(&cache);
	if (cache.count > 0)
		qsort(cache.entries, cache.count, sizeof(*cache.entries), oldest_first);
	size_t left = cache.count, kept = 0;
	for (size_t i = 0; r == 0 && i < cache.count; i++) {
		struct entry *entry = &cache.entries[i];
		int64_t age = age_s(&entry->used);
		bool over = left > limits->images || cache.bytes > limits->bytes || age > limits->age_s;
		if (over && age >= FRESH_S && !in_use(cache_fd, entry->name) &&
		        unlinkat(cache_fd, entry->name, 0) == 0) {
			cache.bytes -= entry->bytes;
			left--;
			removed++;
		} else {
			cache.entries[kept++] = *entry;
		}
	}
	cache.count = kept;
	if (r == 0)
		remove_locks(&cache);
	free(cache.entries);
	return r < 0 ? r : removed;
}

int wisp_prune_cache(const char *cache_dir, uint64_t max_bytes, struct wisp_error *error)
{
	const struct cache_limits limits = {.images = SIZE_MAX, .bytes = max_bytes, .age_s = INT64_MAX};
	int fd;
	if (lib_is_null(cache_dir, "cache_dir", error))
		return -EINVAL;
	if (access(cache_dir, F_OK) < 0 && errno == ENOENT)
		return 0;
	int r = cache_open(cache_dir, &fd, error);
	if (r < 0)
		return r;
	r = cache_trim(fd, &limits);
	close(fd);
	return r < 0 ? lib_fail_errno(error, -r, "cannot read the cache %s", cache_dir) : r;
}
