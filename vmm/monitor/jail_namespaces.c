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

/* Maps each id to itself, so that files and peers look the same. Returns whether the host allows it. */
static bool map_ids(int proc, unsigned uid, unsigned gid)
{
	char map[40];
	int ret = write_to(proc, "setgroups", "deny"); /* without which nobody may map a group */
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	if (ret == 0)
		ret = write_to(proc, "uid_map", map);
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return ret == 0 && write_to(proc, "gid_map", map) == 0;
}

/* Returns the layer's remark, or NULL: none was entered, as errno tells. */
static const char *enter_with_user(void)
{
	unsigned uid = geteuid(), gid = getegid();
	int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return NULL;
	int ret = unshare(CLONE_NEWUSER | NAMESPACES), error = errno;
	/*
	 * AppArmor's rule for user namespaces lets a process create them, and then refuses the maps. The namespaces
	 * isolate just as well without maps: files are still accessed as the host's user, and only seem to have another
	 * owner.
	 */
	bool mapped = ret == 0 && map_ids(proc, uid, gid);
	close(proc);
	errno = error;
	if (ret < 0)
		return NULL;
	return mapped ? " (of a user namespace)" : " (of a user namespace without ids)";
}

int jail_enter_namespaces(struct jail *jail, bool needs_others, struct err *err)
{
	const char *remark = unshare(NAMESPACES) == 0 ? "" : NULL;
	if (!remark && errno == EPERM && !needs_others)
		remark = enter_with_user();
	if (remark) {
		jail_holds(jail, WISP_LAYER_NAMESPACES, remark);
		return 0;
	}
	if (errno == ENOMEM)
		return err_set(err, errno, "the monitor cannot create namespaces: %s", strerror(errno));
	jail_lacks(jail, WISP_LAYER_NAMESPACES, errno);
	return 0;
}
