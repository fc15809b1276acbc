/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that a process takes, from the text of /proc/PID/smaps, as it comes piece by piece: of the guest, and of
 * the rest of its monitor.
 */
#ifndef WISP_MONITOR_SMAPS_H
#define WISP_MONITOR_SMAPS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/monitor/gmem.h"
#include "vmm/shared/stats.h"

#define SMAPS_LINE_MAX 128u /* what is longer, a path, is not looked at */

struct smaps {
	const struct gmem *gmem; /* NULL: no mapping is the guest's */
	struct stats_memory guest, monitor;
	bool is_guest; /* the mapping at hand */
	size_t used;
	char line[SMAPS_LINE_MAX];
};

/* The caller has zeroed the object, and set `gmem`. Takes the next piece of the text. */
void smaps_take(struct smaps *smaps, const char *text, size_t length);

#endif
