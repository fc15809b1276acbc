/* SPDX-License-Identifier: Apache-2.0 */
/* What carries out the operations of a loop: for loop.c. All calls are made on the loop's thread. */
#ifndef WISP_MONITOR_LOOP_ENGINE_H
#define WISP_MONITOR_LOOP_ENGINE_H

#include "vmm/monitor/loop.h"

struct loop_engine {
	const struct loop_engine_type *type;
};

/* sqe, start, start_file, cancel, destroy: as loop.h's, but an engine is there. */
struct loop_engine_type {
	struct io_uring_sqe *(*sqe)(struct loop_engine *engine);
	void (*start)(struct loop_engine *engine, struct io_uring_sqe *sqe, struct loop_op *op);
	void (*start_file)(struct loop_engine *engine, struct io_uring_sqe *sqe, struct loop_op *op, bool cached);
	void (*cancel)(struct loop_engine *engine, struct loop_op *op);
	/*
	 * Waits for a completion, for at most `timeout_ms` (-1: no limit), and calls `done` of those that are there.
	 * Returns their number, or -errno if the engine has failed.
	 */
	int (*step)(struct loop_engine *engine, int timeout_ms);
	void (*destroy)(struct loop_engine *engine);
};

/* 0 and `*engine`, or -errno with `err` set. */
int loop_uring_create(struct loop_engine **engine, const struct loop_options *options, struct err *err);
int loop_epoll_create(struct loop_engine **engine, const struct loop_options *options, struct err *err);

#endif
