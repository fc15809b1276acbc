/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the monitor writes in the sandbox's directory (vmm/shared/sandbox_files.h) for others to read. All of it goes
 * through descriptors: another sandbox may have the directory's name by now.
 */
#ifndef WISP_MONITOR_SANDBOX_DIR_H
#define WISP_MONITOR_SANDBOX_DIR_H

#include "vmm/monitor/err.h"

/* Writes the pid of this process as a line into the locked file. 0 or -errno with `err`. */
int sandbox_dir_write_pid(int lock_fd, struct err *err);

/* Replaces the file `state` by this line, atomically. A failure is not reported: the lock says whether it runs. */
void sandbox_dir_write_state(int dir_fd, const char *line);

#endif
