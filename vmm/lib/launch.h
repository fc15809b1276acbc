/* SPDX-License-Identifier: Apache-2.0 */
/* Starts a sandbox's monitor, wisp-vmm, as a child process. */
#ifndef WISP_LIB_LAUNCH_H
#define WISP_LIB_LAUNCH_H

#include <sys/types.h>

#include "vmm/lib/lib.h"
#include "vmm/shared/description.h"

/*
 * Starts `helper` with what it has to know. Its standard error is *console_fd, or the sandbox's vmm.log if that is
 * NULL.
 * All descriptors stay the caller's. *pid is the direct child's; *status_fd is the caller's end of its socket. The
 * child has default signal dispositions and a session of its own, so a terminal's ^C does not reach it. 0 or -errno
 * with `error`.
 */
int launch_start(const char *helper, struct description *description, const struct description_fds *fds,
        const int *console_fd, pid_t *pid, int *status_fd, struct wisp_error *error);

/* Reaps a child. Another may have reaped it already. */
void launch_reap(pid_t pid);

#endif
