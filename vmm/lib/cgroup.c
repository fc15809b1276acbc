/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MOUNT "/sys/fs/cgroup"
#define PREFIX "wisp-"
#define LEAF "monitor"
#define FILE_MAX 65536u
#define PERIOD_US 100000u
#define TRIES 4

bool cgroup_is_wanted(const struct cgroup_limits *limits)
{
	return limits->memory_mib || limits->cpu_milli || limits->pids;
}

int cgroup_check(const struct cgroup_limits *limits, uint32_t cpus, struct wisp_error *error)
{
	if (limits->memory_mib > 0 && limits->memory_mib < CGROUP_MEMORY_MIB_MIN)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "memory_max_mib is %u: a monitor cannot work with less than %u", limits->memory_mib,
		        CGROUP_MEMORY_MIB_MIN);
	if (limits->cpu_milli > 0 && limits->cpu_milli < 10)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "cpu_max_milli is %u: give at least 10, a hundredth of a processor", limits->cpu_milli);
	if (limits->pids > 0 && limits->pids < cpus + CGROUP_PIDS_SPARE)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "pids_max is %u: the monitor of a sandbox with %u cpus needs %u", limits->pids, cpus,
		        cpus + CGROUP_PIDS_SPARE);
	return 0;
}

/* ---- Where ---- */

static int write_file(int dir_fd, const char *name, const char *text)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, strlen(text));
	int r = n < 0 ? -errno : 0;
	close(fd);
	return r;
}

static bool has_word(int dir_fd, const char *name, const char *word)
{
	char *text = lib_read_file(dir_fd, name, FILE_MAX, NULL), *rest = text, *one;
	bool has = false;
	while (!has && rest && (one = strsep(&rest, " \n")))
		has = strcmp(one, word) == 0;
	free(text);
	return has;
}

static bool enable(int dir_fd, const char *controller)
{
	char word[32];
	snprintf(word, sizeof(word), "+%s", controller);
	return has_word(dir_fd, "cgroup.controllers", controller) &&
	       (has_word(dir_fd, "cgroup.subtree_control", controller) ||
	               write_file(dir_fd, "cgroup.subtree_control", word) == 0);
}

static bool enable_wanted(int dir_fd, const struct cgroup_limits *limits)
{
	return (limits->memory_mib == 0 || enable(dir_fd, "memory")) &&
	       (limits->cpu_milli == 0 || enable(dir_fd, "cpu")) && (limits->pids == 0 || enable(dir_fd, "pids"));
}

/*
 * Such a cgroup cannot have domains within it, except the root of the tree, which has no type. The kernel would let it
 * have cpu and pids, and the monitor could then not enter.
 */
static bool has_process(int dir_fd)
{
	char byte;
	if (faccessat(dir_fd, "cgroup.type", F_OK, 0) < 0)
		return false;
	int fd = openat(dir_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	bool has = fd < 0 || read(fd, &byte, 1) != 0;
	if (fd >= 0)
		close(fd);
	return has;
}

static bool is_usable(const char *path, const struct cgroup_limits *limits)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool usable = fd >= 0 && faccessat(fd, ".", W_OK, AT_EACCESS) == 0 &&
	              faccessat(fd, "cgroup.procs", W_OK, AT_EACCESS) == 0 && !has_process(fd) &&
	              enable_wanted(fd, limits);
	if (fd >= 0)
		close(fd);
	return usable;
}

char *cgroup_find_parent(const char *mount, const char *own, bool root, const struct cgroup_limits *limits)
{
	char *path, *slash;
	if (asprintf(&path, "%s%s", mount, root ? "" : own) < 0) {
		errno = ENOMEM;
		return NULL;
	}
	size_t least = strlen(mount);
	for (slash = path + strlen(path); slash > path && slash[-1] == '/'; slash--)
		slash[-1] = '\0';
	while (!is_usable(path, limits)) {
		slash = strrchr(path, '/');
		if (!slash || (size_t)(slash - path) < least) {
			free(path);
			errno = ENOENT;
			return NULL;
		}
		*slash = '\0';
	}
	return path;
}

/* "0::/user.slice/..." of /proc/self/cgroup, or NULL. */
static char *find_own(void)
{
	char *text = lib_read_file(AT_FDCWD, "/proc/self/cgroup", FILE_MAX, NULL), *rest = text, *line, *own = NULL;
	while (rest && !own && (line = strsep(&rest, "\n")))
		own = strncmp(line, "0::/", 4) == 0 ? strdup(line + 3) : NULL;
	free(text);
	return own;
}

static int find_parent(const struct cgroup_limits *limits, char **parent, struct wisp_error *error)
{
	struct statfs fs;
	if (statfs(MOUNT, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
		return lib_fail(error, WISP_ERR_SETUP, EOPNOTSUPP,
		        "memory, processor time and processes cannot be limited: " MOUNT
		        " is not cgroup v2; boot the host with it, or omit the limits");
	char *own = find_own();
	*parent = own ? cgroup_find_parent(MOUNT, own, geteuid() == 0, limits) : NULL;
	int r = own && *parent ? 0 : -errno;
	if (r < 0)
		r = lib_fail(error, WISP_ERR_SETUP, EACCES,
		        "memory, processor time and processes cannot be limited: no cgroup above %s is delegated to "
		        "this user, with its controllers; start the program with systemd-run --user --scope, or omit "
		        "the limits",
		        own ? own : "this process");
	free(own);
	return r;
}

/* ---- What ---- */

static int set_limits(int fd, const struct cgroup_limits *limits)
{
	char text[64];
	int r = 0;
	if (limits->memory_mib > 0) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)limits->memory_mib << 20);
		r = write_file(fd, "memory.max", text);
	}
	if (r == 0 && limits->cpu_milli > 0) {
		snprintf(text, sizeof(text), "%llu %u", (unsigned long long)limits->cpu_milli * PERIOD_US / 1000,
		        PERIOD_US);
		r = write_file(fd, "cpu.max", text);
	}
	if (r == 0 && limits->pids > 0) {
		snprintf(text, sizeof(text), "%u", limits->pids);
		r = write_file(fd, "pids.max", text);
	}
	return r;
}

static void remove_both(int dir_fd, const char *name)
{
	char leaf[300];
	snprintf(leaf, sizeof(leaf), "%.280s/" LEAF, name);
	if (unlinkat(dir_fd, leaf, AT_REMOVEDIR) == 0 || errno == ENOENT)
		unlinkat(dir_fd, name, AT_REMOVEDIR);
}

/* -ENOENT or -EWOULDBLOCK if somebody swept it away in between. */
static int make(const char *path, const struct cgroup_limits *limits, int *procs_fd)
{
	if (mkdir(path, 0755) < 0)
		return -errno;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 || mkdirat(fd, LEAF, 0755) < 0 ? -errno : 0;
	*procs_fd = r == 0 ? openat(fd, LEAF "/cgroup.procs", O_WRONLY | O_CLOEXEC) : -1;
	if (r == 0 && (*procs_fd < 0 || flock(*procs_fd, LOCK_SH | LOCK_NB) < 0))
		r = -errno;
	if (r == 0)
		r = set_limits(fd, limits);
	/* A controller that a child has enabled in turn cannot be disabled above it. */
	if (r == 0 && !enable_wanted(fd, limits))
		r = -EACCES;
	if (fd >= 0)
		close(fd);
	if (r < 0) {
		if (*procs_fd >= 0)
			close(*procs_fd);
		*procs_fd = -1;
		remove_both(AT_FDCWD, path);
	}
	return r;
}

int cgroup_create(const struct cgroup_limits *limits, char **path, int *procs_fd, struct wisp_error *error)
{
	char *parent = NULL;
	int r = find_parent(limits, &parent, error);
	if (r < 0)
		return r;
	for (int tries = 0; tries < TRIES; tries++) {
		uint64_t number;
		lib_random(&number, sizeof(number));
		if (asprintf(path, "%s/" PREFIX "%016llx", parent, (unsigned long long)number) < 0) {
			*path = NULL;
			r = lib_no_memory(error);
			break;
		}
		r = make(*path, limits, procs_fd);
		if (r == 0) {
			cgroup_sweep(*path);
			break;
		}
		if (tries == TRIES - 1 || (r != -ENOENT && r != -EWOULDBLOCK && r != -EEXIST))
			tries = TRIES, lib_fail_errno(error, -r, "cannot make the cgroup %s", *path);
		free(*path);
		*path = NULL;
	}
	free(parent);
	return r;
}

/* ---- The end ---- */

const char *cgroup_explain_death(const char *path)
{
	int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	char *events = fd >= 0 ? lib_read_file(fd, "memory.events", FILE_MAX, NULL) : NULL;
	const char *kills = events ? strstr(events, "\noom_kill ") : NULL;
	bool killed = kills && strtoull(kills + strlen("\noom_kill "), NULL, 10) > 0;
	free(events);
	if (fd >= 0)
		close(fd);
	return killed ? "the host's kernel killed the monitor, which needed more than memory_max_mib" : NULL;
}

static bool is_own(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0 && strlen(name) == strlen(PREFIX) + 16 &&
	       strspn(name + strlen(PREFIX), "0123456789abcdef") == 16;
}

void cgroup_remove(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	if (slash && strncmp(path, MOUNT "/", sizeof(MOUNT)) == 0 && !strstr(path, "/../") && is_own(slash + 1))
		remove_both(AT_FDCWD, path);
}

void cgroup_sweep(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	char *parent = slash ? strndup(path, (size_t)(slash - path)) : NULL;
	DIR *dir = parent ? opendir(parent) : NULL;
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		char procs[64];
		if (!is_own(entry->d_name))
			continue;
		snprintf(procs, sizeof(procs), "%.30s/" LEAF "/cgroup.procs", entry->d_name);
		int fd = openat(dirfd(dir), procs, O_RDONLY | O_CLOEXEC);
		/* One that has a process is not removed; one whose lock is held will have one soon. */
		if (fd < 0 ? errno == ENOENT : flock(fd, LOCK_EX | LOCK_NB) == 0)
			remove_both(dirfd(dir), entry->d_name);
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
	free(parent);
}
