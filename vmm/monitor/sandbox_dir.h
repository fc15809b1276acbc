/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the monitor writes in the sandbox's directory (vmm/shared/sandbox_files.h) for others to read. All of it goes
 * through descriptors: another sandbox may have the directory's name by now.
 */
#ifndef WISP_MONITOR_SANDBOX_DIR_H
#define WISP_MONITOR_SANDBOX_DIR_H

#include "vmm/monitor/err.h"

/*
 * Takes a record lock on the lock file, by which others learn this process's pid as their own pid namespace has it
 * (F_GETLK). 0 or -errno with `err`. Closing any descriptor of that file in this process would end the lock.
 */
int sandbox_dir_show_pid(int lock_fd, struct err *err);

/* Makes vmm.log standard error. A clone writes to its source's log until then. 0 or -errno with `err`. */
int sandbox_dir_take_over_log(int dir_fd, struct err *err);

#endif
