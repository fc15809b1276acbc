/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects what stats.h in vmm/shared describes. Each count is a plain number of the thread that owns it; collecting
 * only reads. The memory that the process takes is known to the kernel alone, which walks page tables to tell it, for
 * up to many milliseconds: a thread of the loop's engine reads that, while the loop goes on.
 */
#ifndef WISP_MONITOR_COUNTS_H
#define WISP_MONITOR_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/loop.h"
#include "vmm/monitor/smaps.h"
#include "vmm/shared/stats.h"

struct machine;

/* Someone who asks. Embedded in its owner, which lives until `done` has been called, or counts_close. */
struct counts_request {
	void (*done)(struct counts_request *request, const struct stats *stats); /* on the loop's thread */
	struct counts_request *next;                                             /* the collector's */
};

#define COUNTS_PIECE 8192u

struct counts {
	struct loop *loop;
	struct machine *machine; /* NULL: a template */
	const struct gmem *gmem; /* the guest's memory */
	int smaps_fd;            /* /proc/self/smaps, of counts_open_smaps; -1: the memory is not known */
	uint64_t begun_ns;       /* CLOCK_MONOTONIC */
	uint64_t sessions_started, sessions_ended, sessions_failed;

	struct counts_request *asked;
	bool reading; /* the operation is in flight */
	bool closing;
	uint64_t position;
	struct smaps smaps;
	struct loop_op op;
	char piece[COUNTS_PIECE];
};

/*
 * Opens /proc/self/smaps, before the jail forbids it: a descriptor, or -1. It tells of the process that opened it, so
 * that a clone has none.
 */
int counts_open_smaps(void);

/* An event of a session, by its type (enum proto_type). */
void counts_note(struct counts *counts, uint8_t type);

/* Calls request->done when all is collected, or at once. On the loop's thread, as the others. */
void counts_collect(struct counts *counts, struct counts_request *request);

/* Calls `done` of nobody any more, and waits until nothing is in flight. Takes a zeroed object. */
void counts_close(struct counts *counts);

#endif
