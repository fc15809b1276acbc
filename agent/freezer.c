/* SPDX-License-Identifier: Apache-2.0 */
/* Freezing all that programs of the guest have started, by cgroup2's freezer. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cgroup.h"

/* A cgroup that was frozen here. One that a program has frozen itself is not ours to thaw. */
struct frozen {
	struct list node;
	int freeze_fd; /* its cgroup.freeze */
	int events_fd; /* its cgroup.events */
};

static void forget(struct frozen *frozen)
{
	list_remove(&frozen->node);
	if (frozen->freeze_fd >= 0)
		close(frozen->freeze_fd);
	if (frozen->events_fd >= 0)
		close(frozen->events_fd);
	free(frozen);
}

/* The cgroup was removed meanwhile. */
static bool is_gone(int error)
{
	return error == -ENOENT || error == -ENODEV;
}

/* Freezes the cgroup at `folder`, unless it is frozen. 1: it was not; 0 or -errno. */
static int freeze_one(struct agent_cgroups *cgroups, int folder)
{
	char state = '0';
	struct frozen *frozen = calloc(1, sizeof(*frozen));
	if (!frozen)
		return -ENOMEM;
	frozen->freeze_fd = openat(folder, "cgroup.freeze", O_RDWR | O_CLOEXEC);
	frozen->events_fd = frozen->freeze_fd < 0 ? -1 : openat(folder, "cgroup.events", O_RDONLY | O_CLOEXEC);
	int error = frozen->events_fd < 0 || pread(frozen->freeze_fd, &state, 1, 0) != 1 ? -errno : 0;
	bool already = !error && state == '1';
	if (!error && !already && pwrite(frozen->freeze_fd, "1", 1, 0) != 1)
		error = -errno;
	if (error || already)
		forget(frozen);
	else
		list_append(&cgroups->frozen, &frozen->node);
	return error ? error : !already;
}

/* Freezes every cgroup below the root: so many, or -errno. */
static int freeze_all(struct agent_cgroups *cgroups)
{
	int count = 0, error = 0;
	int root = openat(cgroups->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = root < 0 ? NULL : fdopendir(root);
	struct dirent *entry;
	if (!directory) {
		error = -errno;
		if (root >= 0)
			close(root);
		return error;
	}
	while (error >= 0 && (errno = 0, entry = readdir(directory))) {
		if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		int folder = openat(root, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		error = folder < 0 ? -errno : freeze_one(cgroups, folder);
		if (folder >= 0)
			close(folder);
		if (is_gone(error))
			error = 0;
		count += error > 0;
	}
	if (!entry && errno)
		error = -errno;
	closedir(directory);
	return error < 0 ? error : count;
}

/* Does cgroup.events say so? An empty cgroup needs no wait, whatever it says. 1, 0 or -errno. */
static int is_frozen(const struct frozen *frozen)
{
	char text[128];
	ssize_t length = pread(frozen->events_fd, text, sizeof(text) - 1, 0);
	if (length < 0)
		return is_gone(-errno) ? 1 : -errno;
	text[length] = '\0';
	return strstr(text, "frozen 1\n") || strstr(text, "populated 0\n");
}

/* 0, -ETIMEDOUT or another -errno. */
static int await(const struct frozen *frozen, uint64_t until_ns)
{
	for (;;) {
		uint64_t now_ns = poller_now();
		if (now_ns >= until_ns)
			return -ETIMEDOUT;
		int result = is_frozen(frozen);
		if (result)
			return result < 0 ? result : 0;
		/* A change since the read ends this at once. */
		struct pollfd events = {.fd = frozen->events_fd, .events = POLLPRI};
		if (poll(&events, 1, (int)((until_ns - now_ns) / 1000000) + 1) < 0 && errno != EINTR)
			return -errno;
	}
}

/* 0 is a process of another PID namespace. The kernel's threads are in no process group. */
static bool is_program(long pid)
{
	return pid == 0 || (pid != getpid() && getpgid((pid_t)pid) > 0);
}

/* The root cannot be frozen: -EBUSY when a program is in it. 0 or another -errno. */
static int check_root(struct agent_cgroups *cgroups)
{
	char text[512];
	ssize_t length;
	long pid = 0;
	int error = 0;
	int fd = openat(cgroups->root, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (!error && (length = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < length; i++) {
			if (text[i] != '\n') {
				pid = 10 * pid + text[i] - '0';
				continue;
			}
			if (is_program(pid))
				error = -EBUSY;
			pid = 0;
		}
	if (!error && length < 0)
		error = -errno;
	close(fd);
	return error;
}

/* 0 or -errno. */
static int await_all(struct agent_cgroups *cgroups, uint64_t until_ns)
{
	int error = 0;
	for (struct list *node = cgroups->frozen.next; node != &cgroups->frozen && !error; node = node->next)
		error = await(container_of(node, struct frozen, node), until_ns);
	return error;
}

int agent_cgroups_freeze(struct agent_cgroups *cgroups, uint64_t until_ns)
{
	int count, error;
	if (cgroups->root < 0)
		return -EOPNOTSUPP;
	/* Until a round finds nothing new: before it was frozen, a program may have made another cgroup. */
	do {
		count = freeze_all(cgroups);
		error = count < 0 ? count : await_all(cgroups, until_ns);
	} while (!error && count > 0);
	if (!error)
		error = check_root(cgroups);
	if (error)
		agent_cgroups_thaw(cgroups);
	return error;
}

void agent_cgroups_thaw(struct agent_cgroups *cgroups)
{
	list_for_each_safe(node, next, &cgroups->frozen)
	{
		struct frozen *frozen = container_of(node, struct frozen, node);
		/* It fails for a cgroup that is gone only. */
		ssize_t written = pwrite(frozen->freeze_fd, "0", 1, 0);
		(void)written;
		forget(frozen);
	}
}
