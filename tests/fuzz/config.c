/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of a sandbox's `config`: any text is read, and what was read is the same after writing and reading again.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/lib/config.h"

static char dir[64];

static void remove_dir(void)
{
	char path[80];
	snprintf(path, sizeof(path), "%s/config", dir);
	unlink(path);
	rmdir(dir);
}

static int open_dir(void)
{
	static int fd = -1;
	if (fd >= 0)
		return fd;
	snprintf(dir, sizeof(dir), "/tmp/wisp-fuzz-config-%d", getpid());
	MUST(mkdir(dir, 0700) == 0);
	atexit(remove_dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(fd >= 0);
	return fd;
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static void check_same(const struct config *a, const struct config *b)
{
	MUST(same(a->image, b->image) && same(a->workdir, b->workdir) && same(a->user, b->user));
	MUST(same(a->shell, b->shell) && same(a->hostname, b->hostname));
	MUST(a->cpus == b->cpus && a->memory_mib == b->memory_mib && a->created_ns == b->created_ns);
	MUST(a->stop_grace_ms == b->stop_grace_ms && a->writable == b->writable && a->detach == b->detach);
	MUST(a->overlay == b->overlay && a->bare == b->bare && a->disk_info_count == b->disk_info_count);
	for (size_t i = 0; i < a->disk_info_count; i++)
		MUST(a->disk_info[i].cache == b->disk_info[i].cache && a->disk_info[i].dev == b->disk_info[i].dev &&
		        a->disk_info[i].ino == b->disk_info[i].ino);
	MUST(a->keep == b->keep && a->env_count == b->env_count && a->disk_count == b->disk_count);
	for (size_t i = 0; i <= a->env_count; i++)
		MUST(same(a->env[i], b->env[i]));
	for (size_t i = 0; i <= a->disk_count; i++)
		MUST(same(a->disks[i], b->disks[i]));
	MUST(a->folder_count == b->folder_count);
	for (size_t i = 0; i < a->folder_count; i++) {
		const struct wisp_folder *one = a->folders[i], *other = b->folders[i];
		MUST(same(one->path, other->path) && same(one->guest, other->guest));
		MUST(one->read_only == other->read_only && one->owners == other->owners && one->cache == other->cache);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config first, second;
	int dir_fd = open_dir();
	int fd = openat(dir_fd, "config", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
	MUST(config_read(dir_fd, &first) == 0);
	unlinkat(dir_fd, "config", 0);
	MUST(config_write(dir_fd, &first) == 0 && config_read(dir_fd, &second) == 0);
	check_same(&first, &second);
	config_free(&first);
	config_free(&second);
	return 0;
}
