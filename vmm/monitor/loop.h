/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one io_uring, one thread. Devices ask for operations by filling in submission entries; everything
 * that one round of completions asked for goes to the kernel in one io_uring_enter, which also waits for the next.
 *
 * Threads: everything is for the loop's own thread (the one that created it) but loop_stop and loop_call.
 */
#ifndef WISP_MONITOR_LOOP_H
#define WISP_MONITOR_LOOP_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/err.h"

struct loop;

/* One operation in flight. Embedded in its owner, which outlives it: until `done` was called without CQE_F_MORE. */
struct loop_op {
	/* res: the completion's result, 0.. or -errno; flags: IORING_CQE_F_*. Runs on the loop's thread. */
	void (*done)(struct loop_op *op, int res, uint32_t flags);
};

/*
 * 0 and `*loop`, or -errno with `err` set. It has no ring yet: what other threads ask of it waits, and its own thread
 * may do nothing with it but open, end or destroy it.
 */
int loop_create(struct loop **loop, struct err *err);

/* Makes the ring, of `entries` submission entries (more are batched in rounds): 0, or -errno with `err` set. */
int loop_open(struct loop *loop, unsigned entries, struct err *err);

/*
 * Closes the ring, if it was opened; the kernel cancels what is in flight. Takes NULL. Memory that operations point to
 * must still live.
 */
void loop_destroy(struct loop *loop);

/*
 * A cleared submission entry to fill in with io_uring_prep_*, then loop_start. Never NULL: a full ring is submitted
 * first. The two belong together: no other loop call in between.
 */
struct io_uring_sqe *loop_sqe(struct loop *loop);
void loop_start(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op);

/* Asks the kernel to cancel `op`; its `done` still comes (usually with -ECANCELED). */
void loop_cancel(struct loop *loop, struct loop_op *op);

/* Dispatches until loop_stop, then loop_end. 0, or -errno when the ring itself fails. */
int loop_run(struct loop *loop);

/* No more calls are taken from other threads; returns when those that were are finished. May be repeated. */
void loop_end(struct loop *loop);

/* One round, for tests and for draining: waits at most `timeout_ms` (-1: for ever). Completions dispatched, or -errno.
 */
int loop_step(struct loop *loop, int timeout_ms);

/*
 * Makes loop_run return after its present round. Any thread; async-signal-safe. It must have returned before
 * loop_destroy is called: join the threads that may call it.
 */
void loop_stop(struct loop *loop);

/*
 * Runs `task` once, at the end of the present round: for work that all completions of a round share, such as one
 * interrupt. A task that is queued already stays as it is. A task deferred by a running task comes in the next round,
 * which then does not wait. `task` outlives the run.
 */
struct loop_task {
	void (*run)(struct loop_task *task);
	struct loop_task *next; /* the loop's */
	bool queued;            /* the loop's */
};
void loop_defer(struct loop *loop, struct loop_task *task);

/*
 * Runs `run` on the loop's thread and waits until it, or something it started, calls loop_call_finish. From the loop's
 * own thread (never from inside a `done`) it runs at once, and rounds are stepped until it is finished. After the loop
 * ended, other threads get false, and nothing is run; so, too, if the ring fails meanwhile. Any thread.
 */
struct loop_call {
	void (*run)(struct loop_call *call);
	struct loop_call *next; /* the loop's */
	bool finished;          /* the loop's */
};
bool loop_call(struct loop *loop, struct loop_call *call);
void loop_call_finish(struct loop *loop, struct loop_call *call);

/* Nanoseconds of CLOCK_MONOTONIC, by which the timeouts of operations go. Any thread. */
uint64_t loop_now_ns(void);

#endif
