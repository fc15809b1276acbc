/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WISP_MONITOR_CGROUP_H
#define WISP_MONITOR_CGROUP_H

#include "vmm/monitor/err.h"

/*
 * Puts the process into the cgroup whose cgroup.procs is open as `*fd`, before there is anything that it should count,
 * and closes the descriptor. `*fd` is -1 then, or if there was none. 0 or -errno with `err`.
 */
int cgroup_enter(int *fd, struct err *err);

#endif
