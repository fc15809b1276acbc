/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox's directory, from the VMM's side: its state for others to read, the pid in the lock that it holds, its
 * removal. The host library (vmm/lib) made the directory and reads these files.
 */
#ifndef WISP_MONITOR_SANDBOX_DIR_H
#define WISP_MONITOR_SANDBOX_DIR_H

#include "vmm/monitor/err.h"

/* The pid of this process as a line in the locked file (lock_fd < 0: nothing). 0 or -errno with `err`. */
int sandbox_dir_write_pid(int lock_fd, struct err *err);

/* Replaces DIR/state by this line, atomically. Its failure is nobody's: the lock says whether the sandbox lives. */
void sandbox_dir_write_state(const char *dir, const char *line);

/* Removes the directory and the files in it (a flat directory of ours; never follows a link). */
void sandbox_dir_remove(const char *dir);

#endif
