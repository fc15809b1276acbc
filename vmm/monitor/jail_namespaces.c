/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/monitor/jail_layers.h"

/*
 * No process namespace: its first process takes all others with it at its end, but a clone outlives its source. No
 * mount namespace: see docs/internals/security.md.
 */
#define NAMESPACES (CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

static int write_to(int proc, const char *name, const char *text)
{
	int fd = openat(proc, name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* Each id is mapped to itself, so that files and peers look as they did. */
static int map_ids(int proc, unsigned uid, unsigned gid)
{
	char map[40];
	int ret = write_to(proc, "setgroups", "deny"); /* without which nobody may map a group */
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	if (ret == 0)
		ret = write_to(proc, "uid_map", map);
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return ret < 0 ? ret : write_to(proc, "gid_map", map);
}

/* All of them, or, after an error that errno tells, none. */
static int enter_with_user(bool *entered, struct err *err)
{
	unsigned uid = geteuid(), gid = getegid();
	int ret = 0, proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	*entered = proc >= 0 && unshare(CLONE_NEWUSER | NAMESPACES) == 0;
	int error = errno;
	if (*entered && (ret = map_ids(proc, uid, gid)) < 0)
		err_set(err, -ret, "the monitor cannot map its user into a user namespace: %s", strerror(-ret));
	if (proc >= 0)
		close(proc);
	errno = error;
	return ret;
}

int jail_enter_namespaces(struct jail *jail, bool needs_others, struct err *err)
{
	bool entered = unshare(NAMESPACES) == 0, by_user = !entered && errno == EPERM && !needs_others;
	int ret = by_user ? enter_with_user(&entered, err) : 0;
	if (ret < 0)
		return ret;
	if (entered) {
		jail_holds(jail, WISP_LAYER_NAMESPACES, by_user ? " (of a user namespace)" : "");
		return 0;
	}
	if (errno == ENOMEM)
		return err_set(err, errno, "the monitor cannot create namespaces: %s", strerror(errno));
	jail_lacks(jail, WISP_LAYER_NAMESPACES, errno);
	return 0;
}
