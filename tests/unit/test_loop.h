/* SPDX-License-Identifier: Apache-2.0 */
/* A loop for tests, with the engine that they run with. */
#ifndef WISP_TEST_LOOP_H
#define WISP_TEST_LOOP_H

#include "tests/unit/engine.h"
#include "vmm/monitor/loop.h"

/* 0, or -errno with `err`, which may be NULL. */
static inline int open_engine(struct loop *loop, unsigned entries, struct err *err)
{
	struct loop_options options = {.entries = entries, .engine = test_engine()};
	return loop_open(loop, &options, err);
}

static inline bool open_loop(struct loop **loop, unsigned entries, struct err *err)
{
	*loop = NULL;
	return loop_create(loop, err) == 0 && open_engine(*loop, entries, err) == 0;
}

#endif
