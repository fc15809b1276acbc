/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/shared/sandbox_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STATE_NEW SANDBOX_FILES_STATE ".new"
#define HIDDEN_PREFIX ".wisp-"

void sandbox_files_hide(char name[SANDBOX_FILES_HIDDEN_SIZE])
{
	uint64_t number;
	if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number)) {
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		number = (uint64_t)now.tv_sec << 32 ^ (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 16;
	}
	snprintf(name, SANDBOX_FILES_HIDDEN_SIZE, HIDDEN_PREFIX "%016llx", (unsigned long long)number);
}

bool sandbox_files_is_hidden(const char *name)
{
	size_t prefix = strlen(HIDDEN_PREFIX);
	return strncmp(name, HIDDEN_PREFIX, prefix) == 0 && strlen(name) == prefix + 16 &&
	       strspn(name + prefix, "0123456789abcdef") == 16;
}

/* Unlinks what `entries`, from getdents64, name, but for the config. Returns how many there were, or -errno. */
static int unlink_entries(int dir_fd, const char *entries, size_t size)
{
	int count = 0;
	for (size_t at = 0; at < size;) {
		const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);
		const char *name = entry->d_name;
		at += entry->d_reclen;
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, SANDBOX_FILES_CONFIG) == 0)
			continue;
		if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
			return -errno;
		count++;
	}
	return count;
}

/*
 * Unlinks all but the config. The directory is flat: what cannot be unlinked is not the sandbox's. Takes neither memory
 * nor a descriptor, for want of which the sandbox may be ending. Nobody else reads the directory by this descriptor.
 */
static int empty(int dir_fd)
{
	_Alignas(struct dirent64) char entries[4096];
	int unlinked;
	do { /* until a round finds nothing: unlinking may move what is not read yet */
		long n;
		unlinked = 0;
		if (lseek(dir_fd, 0, SEEK_SET) < 0)
			return -errno;
		while ((n = syscall(SYS_getdents64, dir_fd, entries, sizeof(entries))) > 0) {
			int ret = unlink_entries(dir_fd, entries, (size_t)n);
			if (ret < 0)
				return ret;
			unlinked += ret;
		}
		if (n < 0)
			return -errno;
	} while (unlinked > 0);
	return 0;
}

int sandbox_files_remove(int root_fd, int dir_fd, const char *name)
{
	char hidden[SANDBOX_FILES_HIDDEN_SIZE];
	struct stat named, own;
	if (fstat(dir_fd, &own) < 0 || fstatat(root_fd, name, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* As long as it has the name and the lock is held, nobody gives the name to another. */
	if (own.st_dev != named.st_dev || own.st_ino != named.st_ino)
		return -ESTALE;
	if (sandbox_files_is_hidden(name))
		snprintf(hidden, sizeof(hidden), "%s", name);
	else
		sandbox_files_hide(hidden);
	if (strcmp(hidden, name) != 0 && renameat(root_fd, name, root_fd, hidden) < 0)
		return -errno;
	int ret = empty(dir_fd);
	if (ret == 0 && unlinkat(dir_fd, SANDBOX_FILES_CONFIG, 0) < 0 && errno != ENOENT)
		ret = -errno;
	if (ret == 0 && unlinkat(root_fd, hidden, AT_REMOVEDIR) < 0)
		ret = -errno;
	return ret;
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

void sandbox_files_write_state(int dir_fd, const char *line)
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
