/* SPDX-License-Identifier: Apache-2.0 */
/* Why the sandbox ends: the first reason that any thread gives. */
#ifndef WISP_MONITOR_ENDING_H
#define WISP_MONITOR_ENDING_H

#include <pthread.h>
#include <stdbool.h>

#include "vmm/shared/end.h"

struct ending {
	pthread_mutex_t lock;
	bool ended;
	enum wisp_end end;
	char text[256];
	enum wisp_end limit; /* that has passed, or WISP_END_UNKNOWN: the guest powers off because of it */
	char limit_text[96];
};

void ending_init(struct ending *ending);

/* Whether that is the first reason. Any thread. */
bool ending_set(struct ending *ending, enum wisp_end end, const char *text);

/* The guest is asked to power off because of this limit. Any thread. */
void ending_expect(struct ending *ending, enum wisp_end limit, const char *text);

#endif
