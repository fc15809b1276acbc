/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox's directory, from the monitor's side: its state for others to read, the pid in the lock that it holds,
 * its removal. The host library (vmm/lib) made the directory and reads these files. All of it goes through descriptors:
 * another sandbox may have the directory's name by now.
 */
#ifndef WISP_MONITOR_SANDBOX_DIR_H
#define WISP_MONITOR_SANDBOX_DIR_H

#include "vmm/monitor/err.h"

/* Writes the pid of this process as a line into the locked file. 0 or -errno with `err`. */
int sandbox_dir_write_pid(int lock_fd, struct err *err);

/* Replaces the file `state` by this line, atomically. A failure is not reported: the lock says whether it runs. */
void sandbox_dir_write_state(int dir_fd, const char *line);

/*
 * Removes the files in the directory, and the directory itself where `root_fd` still has it as `name`. It is flat and
 * holds nothing but the sandbox's own files; links are not followed.
 */
void sandbox_dir_remove(int root_fd, int dir_fd, const char *name);

#endif
