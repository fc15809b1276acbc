/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells when the host's clock jumps: it was set, or the host has slept, during which the guest's clock stood still.
 * Nothing wakes for that in the meantime.
 */
#ifndef WISP_MONITOR_CLOCK_H
#define WISP_MONITOR_CLOCK_H

#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/loop.h"

struct clock {
	struct loop *loop;
	void (*set)(void *context); /* on the loop's thread */
	void *context;

	int fd;
	uint64_t expired;
	struct loop_op op;
};

/*
 * The caller has filled in the first part. 0, or -errno with `err`. The operation lasts until the loop's end, and the
 * descriptor until the process's.
 */
int clock_watch(struct clock *clock, struct err *err);

#endif
