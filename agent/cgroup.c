/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define DEPTH_MAX 16 /* of cgroups that a program makes below its own */

static void events_ready(struct poller_watch *watch, uint32_t events);

static void forget(struct agent_cgroup *cgroup)
{
	if (cgroup->owner)
		*cgroup->owner = NULL;
	list_remove(&cgroup->node);
	poller_close(cgroup->all->poller, &cgroup->events);
	close(cgroup->fd);
	if (cgroup->state_fd >= 0)
		close(cgroup->state_fd);
	free(cgroup);
}

static struct agent_cgroup *make(struct agent_cgroups *cgroups)
{
	struct agent_cgroup *cgroup = calloc(1, sizeof(*cgroup));
	if (!cgroup)
		return NULL;
	cgroup->all = cgroups;
	cgroup->events = (struct poller_watch){.fd = -1, .ready = events_ready};
	cgroup->fd = -1;
	snprintf(cgroup->name, sizeof(cgroup->name), "wisp-%llu", (unsigned long long)cgroups->next++);
	if (mkdirat(cgroups->root, cgroup->name, 0755) == 0)
		cgroup->fd = openat(cgroups->root, cgroup->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Without this one, it is not used again. */
	cgroup->state_fd = cgroup->fd < 0 ? -1 : openat(cgroup->fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (cgroup->fd >= 0)
		return cgroup;
	unlinkat(cgroups->root, cgroup->name, AT_REMOVEDIR);
	free(cgroup);
	return NULL;
}

/* ---- Removal ---- */

/* With the cgroups below it: 0 or -errno; -EBUSY while there is a process in one. */
static int remove_tree(int parent, const char *name, int depth)
{
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY || depth == DEPTH_MAX)
		return -errno;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	if (!directory) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		return -error;
	}
	struct dirent *entry;
	bool removed = false;
	while ((entry = readdir(directory)))
		if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			removed |= remove_tree(fd, entry->d_name, depth + 1) == 0;
	closedir(directory);
	return removed && unlinkat(parent, name, AT_REMOVEDIR) == 0 ? 0 : -EBUSY;
}

/* True when it is gone; else the end of its last process will be told. */
static bool try_remove(struct agent_cgroup *cgroup)
{
	int error = remove_tree(cgroup->all->root, cgroup->name, 0);
	if (error == -EBUSY && cgroup->events.fd < 0) {
		cgroup->events.fd = openat(cgroup->fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
		if (cgroup->events.fd >= 0 && poller_watch(cgroup->all->poller, &cgroup->events, EPOLLPRI) == 0)
			error = remove_tree(cgroup->all->root, cgroup->name, 0); /* the end may have come before */
	}
	if (error == -EBUSY)
		return false;
	forget(cgroup);
	return true;
}

static void events_ready(struct poller_watch *watch, uint32_t events)
{
	struct agent_cgroup *cgroup = container_of(watch, struct agent_cgroup, events);
	char text[128];
	(void)events;
	/* Without a read, the event would be told again at once. */
	if (pread(watch->fd, text, sizeof(text), 0) >= 0)
		try_remove(cgroup);
}

/* Without processes and without cgroups below it, a cgroup is as new. */
static bool is_empty(const struct agent_cgroup *cgroup)
{
	static const char empty[] = "populated 0\nfrozen 0\n";
	char text[64];
	struct stat status;
	ssize_t length = pread(cgroup->state_fd, text, sizeof(text), 0);
	return length == sizeof(empty) - 1 && memcmp(text, empty, sizeof(empty) - 1) == 0 &&
	       fstat(cgroup->fd, &status) == 0 && status.st_nlink == 2;
}

/* For the next session: to make and to remove one costs a third of what an exec takes. */
static void keep(struct agent_cgroups *cgroups, struct agent_cgroup *cgroup)
{
	if (cgroup->owner)
		*cgroup->owner = NULL;
	cgroup->owner = NULL;
	list_remove(&cgroup->node);
	cgroups->spare = cgroup;
}

static void work(struct poller_task *task)
{
	struct agent_cgroups *cgroups = container_of(task, struct agent_cgroups, work);
	list_for_each_safe(node, next, &cgroups->retired)
	{
		struct agent_cgroup *cgroup = container_of(node, struct agent_cgroup, node);
		/* One that is populated is tried when it says that it is not. */
		if (cgroup->events.fd >= 0)
			continue;
		if (!cgroups->spare && is_empty(cgroup))
			keep(cgroups, cgroup);
		else
			try_remove(cgroup);
	}
	if (!cgroups->spare)
		cgroups->spare = make(cgroups);
}

/* ---- For sessions ---- */

void agent_cgroups_init(struct agent_cgroups *cgroups, struct poller *poller)
{
	*cgroups = (struct agent_cgroups){.root = -1, .poller = poller, .work.run = work, .next = 1};
	list_init(&cgroups->retired);
	list_init(&cgroups->frozen);
}

int agent_cgroups_use(struct agent_cgroups *cgroups, const char *path)
{
	struct statfs kind;
	cgroups->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroups->root < 0)
		return -errno;
	if (fstatfs(cgroups->root, &kind) == 0 && kind.f_type == CGROUP2_SUPER_MAGIC) {
		cgroups->spare = make(cgroups);
		if (cgroups->spare && faccessat(cgroups->spare->fd, "cgroup.kill", W_OK, 0) == 0)
			return 0;
	}
	agent_cgroups_destroy(cgroups);
	return -EOPNOTSUPP;
}

void agent_cgroups_destroy(struct agent_cgroups *cgroups)
{
	list_remove(&cgroups->work.node);
	agent_cgroups_thaw(cgroups);
	if (cgroups->spare) {
		remove_tree(cgroups->root, cgroups->spare->name, 0);
		forget(cgroups->spare);
	}
	cgroups->spare = NULL;
	list_for_each_safe(node, next, &cgroups->retired)
	{
		struct agent_cgroup *cgroup = container_of(node, struct agent_cgroup, node);
		if (!try_remove(cgroup))
			forget(cgroup);
	}
	if (cgroups->root >= 0)
		close(cgroups->root);
	cgroups->root = -1;
}

void agent_cgroup_take(struct agent_cgroups *cgroups, struct agent_cgroup **owner)
{
	*owner = NULL;
	if (cgroups->root < 0)
		return;
	*owner = cgroups->spare ? cgroups->spare : make(cgroups);
	cgroups->spare = NULL;
	if (*owner)
		(*owner)->owner = owner;
}

int agent_cgroup_kill(const struct agent_cgroup *cgroup)
{
	int fd = openat(cgroup->fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = write(fd, "1", 1) == 1 ? 0 : -errno;
	close(fd);
	return error;
}

void agent_cgroup_retire(struct agent_cgroup *cgroup)
{
	struct agent_cgroups *cgroups = cgroup->all;
	if (!list_linked(&cgroup->node))
		list_append(&cgroups->retired, &cgroup->node);
	poller_defer(cgroups->poller, &cgroups->work);
}

void agent_cgroup_disown(struct agent_cgroup *cgroup)
{
	if (!cgroup)
		return;
	cgroup->owner = NULL;
	agent_cgroup_retire(cgroup);
}
