/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that make the calls that may wait for a disk, for the epoll engine. They are started when they are first
 * needed, WORKERS_MAX at most: what exceeds that waits in a queue, in order.
 *
 * Threads: all calls are the loop's. An operation is the workers' from workers_start until workers_reap or
 * workers_cancel returns it.
 */
#ifndef WISP_MONITOR_LOOP_WORKERS_H
#define WISP_MONITOR_LOOP_WORKERS_H

#include <pthread.h>

#include "vmm/monitor/loop.h"

#define WORKERS_MAX 4u

struct op_list {
	struct loop_op *first, **end;
};

struct workers {
	int done_fd; /* an eventfd that is written to when there is something to reap */
	int (*confine)(struct err *err);
	pthread_t thread[WORKERS_MAX];
	unsigned threads;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wanted;
	struct op_list queue, done;
	unsigned queued, idle;
	bool ending;
};

/* `done_fd` stays the caller's. */
void workers_init(struct workers *w, int done_fd, int (*confine)(struct err *err));

/* Makes the call that op->sqe describes, sooner or later. False if there is no thread for it. */
bool workers_start(struct workers *w, struct loop_op *op);

/* Takes an operation back that no worker has begun: true. */
bool workers_cancel(struct workers *w, struct loop_op *op);

/* Returns those that are finished, with op->res, linked by `next`. */
struct loop_op *workers_reap(struct workers *w);

/* Waits for the calls that are being made, and makes no others. */
void workers_end(struct workers *w);

/* Makes the call on the calling thread, and returns its result, or -errno. */
int workers_call(const struct io_uring_sqe *sqe);

#endif
