/* SPDX-License-Identifier: Apache-2.0 */
/* The logs of a sandbox, each of bounded size. */
#ifndef WISP_MONITOR_LOGS_H
#define WISP_MONITOR_LOGS_H

#include "vmm/monitor/err.h"
#include "vmm/monitor/logfile.h"

struct logs {
	struct logfile vmm, console, exec;
};

/* Nothing is written before logs_create, whose files are in the directory `dir`. */
void logs_init(struct logs *logs, int dir);
int logs_create(struct logs *logs, struct err *err);

/* Takes what logs_init has filled in. */
void logs_close(struct logs *logs);

#endif
