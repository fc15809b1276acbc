/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail: what the monitor gives up before the guest's first instruction, so that code that breaks out of a guest is
 * worth little. It needs no root and consists of independent layers. A layer that the host's kernel lacks, or that the
 * host forbids, is left out, and the log says so.
 *
 * The layers hold for the calling thread, the threads and the processes that it creates later, and cannot be taken off:
 * a clone is in its source's jail.
 */
#ifndef WISP_MONITOR_JAIL_H
#define WISP_MONITOR_JAIL_H

#include <stdbool.h>

#include "vmm/monitor/err.h"
#include "vmm/shared/description.h"

#define JAIL_TEXT_SIZE 256
#define JAIL_STATUS 124 /* the exit status of a process that tried a system call that it may not make */

struct jail {
	bool filtered;             /* system calls are: so they have to be in the threads of vCPUs */
	char text[JAIL_TEXT_SIZE]; /* which layers hold, for the log */
};

enum jail_layers {
	JAIL_PRIVILEGES = 1 << 0,
	JAIL_PATHS = 1 << 1,
	JAIL_CALLS = 1 << 2, /* for an ordinary user, only with JAIL_PRIVILEGES */
	JAIL_ALL = (1 << 3) - 1,
};

/*
 * Call it before the process has other threads. With DESCRIPTION_NO_JAIL, it only says so. 0, or -errno with `err` set
 * if a layer fails for want of a resource: then the guest must not run.
 */
int jail_enter(struct jail *jail, unsigned layers, const struct description *description,
        const struct description_fds *fds, struct err *err);

/*
 * Leaves the calling thread only what a vCPU does that runs. Of a jail that is `filtered`. 0, or -errno with `err` set.
 */
int jail_enter_vcpu(struct err *err);

#endif
