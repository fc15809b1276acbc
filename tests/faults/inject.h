/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes one call of a program fail. The program's objects are linked with their calls renamed (calls.h), and inject.c
 * passes each on, but for the one that the plan names. The plan is in memory shared with the test.
 *
 * A call is known by its site: which function is called from where. The kth call of a site is the same in every run,
 * even if threads are scheduled in another order.
 */
#ifndef WISP_TESTS_FAULTS_INJECT_H
#define WISP_TESTS_FAULTS_INJECT_H

#include <stdbool.h>
#include <stdint.h>

#define SITES_MAX 2048u
/* The file in the program's own folder that a program started by a path maps as its plan. */
#define PLAN_FILE "plan"

enum fault_how {
	FAULT_NONE, /* only notes the sites */
	FAULT_FAIL,
	FAULT_INTERRUPT, /* EINTR */
	FAULT_SHORTEN,   /* half the bytes */
};

struct site {
	char name[40];
	uint64_t caller; /* an address in the program's file; of an io_uring operation, of its completion's function */
	uint32_t calls;
	bool fails, interrupts, shortens; /* what can be done to it */
};

struct plan {
	enum fault_how how;
	struct site target; /* name and caller; calls: which of its calls, from 1 */
	uint32_t hits;
	uint32_t begun, ended; /* processes that use the plan; those that ended by exit() or _exit() */
	uint32_t leaked;       /* processes in which LeakSanitizer found a leak */
	bool lock;
	uint32_t sites;
	struct site site[SITES_MAX];
};

/* From here on this process's calls are looked up in `plan`; NULL: no longer. */
void fault_use(struct plan *plan);

/* With AddressSanitizer: whether this process has leaked. */
bool fault_leaked(void);

#endif
