/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cgroup (v2) for one monitor, where this process may make one: beneath the root for root; for others, beneath the
 * nearest cgroup above their own that is delegated to them and has no process itself, as systemd's user manager makes
 * them. The monitor enters it by itself, so that nothing of it is ever outside.
 *
 * The cgroup has the limits; the monitor is in a second one within it, "monitor". systemd disables the controllers of a
 * slice that no unit in it requires any more, and the limits with them. It cannot do so while the first cgroup has them
 * enabled for the second.
 */
#ifndef WISP_LIB_CGROUP_H
#define WISP_LIB_CGROUP_H

#include "vmm/lib/lib.h"

#define CGROUP_MEMORY_MIB_MIN 16u
#define CGROUP_PIDS_SPARE 16u /* threads and processes of a monitor, apart from those of its virtual CPUs */

struct cgroup_limits {
	uint32_t memory_mib; /* 0: no limit, as the others */
	uint32_t cpu_milli;  /* thousandths of a processor */
	uint32_t pids;
};

/* Whether there is any limit, and so a cgroup. */
bool cgroup_is_wanted(const struct cgroup_limits *limits);

/* Checks them for a sandbox with so many virtual CPUs. */
int cgroup_check(const struct cgroup_limits *limits, uint32_t cpus, struct wisp_error *error);

/*
 * Makes a cgroup with these limits. Stores its absolute path, which the caller frees, and cgroup.procs of the one
 * within it, open for writing: as long as this open file exists, or a process is in it, cgroup_sweep does not remove
 * the cgroup.
 */
int cgroup_create(const struct cgroup_limits *limits, char **path, int *procs_fd, struct wisp_error *error);

/*
 * Why the monitor in it died without a record, if its limit tells: NULL, or a sentence. It is known until the next
 * cgroup_sweep. Takes NULL.
 */
const char *cgroup_explain_death(const char *path);

/* Removes it if no process is in it, and it is one that cgroup_create has made. Takes NULL. */
void cgroup_remove(const char *path);

/* Removes those next to `path` that nobody uses: of sandboxes that removed themselves. */
void cgroup_sweep(const char *path);

/*
 * For cgroup_create, and for its test: the directory in which it makes cgroups, below `mount`, for a process in the
 * cgroup `own`, such as "/user.slice/a.scope". Allocated; or NULL with errno set, ENOENT if there is none.
 */
char *cgroup_find_parent(const char *mount, const char *own, bool root, const struct cgroup_limits *limits);

#endif
