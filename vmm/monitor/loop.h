/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one thread. Devices request operations by filling in io_uring's submission entries, whichever of the
 * two engines carries them out:
 *
 *	io_uring: all requests of a round of completions go to the kernel in one io_uring_enter, which also waits for
 *	the next completion (loop_uring.c).
 *	epoll, for hosts that forbid io_uring or have an old one: the loop's thread waits until a descriptor is ready,
 *	and then makes the call that the entry describes; threads make those that wait for a disk (loop_epoll.c).
 *
 * If the engine fails (the host is out of memory, say), it has failed for good: operations that are started complete no
 * more, and loop_run and loop_step return the error.
 *
 * Threads: only loop_stop, loop_wake and loop_call may be called from a thread other than the one that created the
 * loop.
 */
#ifndef WISP_MONITOR_LOOP_H
#define WISP_MONITOR_LOOP_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/shared/engine.h"

struct loop;

/* One operation in flight. Embedded in its owner, which lives until `done` has been called without CQE_F_MORE. */
struct loop_op {
	/* res: the completion's result, 0.. or -errno; flags: IORING_CQE_F_*. Runs on the loop's thread. */
	void (*done)(struct loop_op *op, int res, uint32_t flags);

	/* The epoll engine's, and zero before the first start. */
	struct loop_op *next;           /* of those that wait for the same */
	struct loop_op *next_completed; /* of those whose `done` is to be called */
	struct io_uring_sqe sqe;
	uint64_t deadline_ns; /* of a timeout */
	uint32_t flags;       /* of the completion, as the next */
	int res;
	uint8_t state;
	bool completed; /* it is in the list of completions; one that is multishot may also wait for more */
};

/*
 * Decides between the engines (enum wisp_engine): replaces AUTO by IO_URING, or, where the host does not have or allow
 * that, by EPOLL. 0, or -errno with `err` set if io_uring is wanted and cannot be had.
 */
int loop_choose_engine(uint32_t *engine, struct err *err);

/*
 * 0 and `*loop`, or -errno with `err` set. The loop has no engine yet: calls from other threads wait, and its own
 * thread may only open, end or destroy it.
 */
int loop_create(struct loop **loop, struct err *err);

struct loop_options {
	unsigned entries;        /* submission entries of a ring; more operations are submitted in rounds */
	enum wisp_engine engine; /* not AUTO */
	/*
	 * Called on each of the epoll engine's threads before all else: leaves it what it needs. Unless it returns 0,
	 * the operations of this thread fail with what it returns. May be NULL.
	 */
	int (*confine)(struct err *err);
};

/*
 * Creates the engine: 0, or -errno with `err` set. A ring takes only the operations that loop_uring.c lists; any other
 * completes with -EACCES.
 */
int loop_open(struct loop *loop, const struct loop_options *options, struct err *err);

/*
 * Closes the engine, if it is open. What is in flight is cancelled, or waited for; its memory must still exist. Takes
 * NULL.
 */
void loop_destroy(struct loop *loop);

/*
 * Returns a cleared submission entry, to be filled in with io_uring_prep_* and passed to loop_start with no other call
 * to the loop in between. Never NULL: a full ring is submitted first.
 *
 * An operation that reads from a pipe, a socket, an eventfd and the like is the only reader of its descriptor. Whoever
 * closes a descriptor cancels the operations on it before.
 */
struct io_uring_sqe *loop_sqe(struct loop *loop);
void loop_start(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op);

/*
 * The same for a regular file or a block device, which is always ready but may keep its caller waiting. `cached`: a
 * read may be tried on the loop's thread, where it finds what the page cache has; of a file open with O_DIRECT it would
 * wait for the disk.
 */
void loop_start_file(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op, bool cached);

/* Asks for the end of `op`. Its `done` is still called, usually with -ECANCELED. */
void loop_cancel(struct loop *loop, struct loop_op *op);

/* Dispatches until loop_stop, then calls loop_end. 0, or -errno if the engine fails. */
int loop_run(struct loop *loop);

/* Takes no more calls from other threads, and returns when those taken have finished. May be repeated. */
void loop_end(struct loop *loop);

/*
 * Runs one round, which waits for at most `timeout_ms` (-1: no limit). For tests and for draining. Returns the number
 * of completions dispatched, or -errno.
 */
int loop_step(struct loop *loop, int timeout_ms);

/*
 * Makes loop_run return after the current round. Any thread; async-signal-safe. Join the threads that may call it
 * before loop_destroy.
 */
void loop_stop(struct loop *loop);

/* Makes a loop_step that waits return. Any thread. */
void loop_wake(struct loop *loop);

/*
 * Runs `task` once, at the end of the current round: for work that the completions of a round share, such as an
 * interrupt. A task that is already queued stays queued. A task deferred by a running task runs in the next round,
 * which then does not wait. `task` outlives the run.
 */
struct loop_task {
	void (*run)(struct loop_task *task);
	struct loop_task *next; /* the loop's */
	bool queued;            /* the loop's */
};
void loop_defer(struct loop *loop, struct loop_task *task);

/*
 * Calls `run` on the loop's thread and waits until it, or something it started, calls loop_call_finish. On the loop's
 * own thread (never inside a `done`), `run` is called at once, and rounds run until it is finished. Returns false, on
 * other threads, if the loop has ended (`run` is not called) or the engine fails in the meantime. Any thread.
 */
struct loop_call {
	void (*run)(struct loop_call *call);
	struct loop_call *next; /* the loop's */
	bool finished;          /* the loop's */
};
bool loop_call(struct loop *loop, struct loop_call *call);
void loop_call_finish(struct loop *loop, struct loop_call *call);

/* CLOCK_MONOTONIC in nanoseconds: the clock of timeout operations. Any thread. */
uint64_t loop_now_ns(void);

#endif
