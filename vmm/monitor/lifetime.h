/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a sandbox may take to boot, to live, to be idle, and to power off. Each limit has a timer of the ring, which
 * does not go on while the host sleeps. Everything is on the loop's thread.
 */
#ifndef WISP_MONITOR_LIFETIME_H
#define WISP_MONITOR_LIFETIME_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/loop.h"

enum lifetime_limit {
	LIFETIME_BOOT,
	LIFETIME_MAX,  /* also of a sandbox that is paused, or a template */
	LIFETIME_IDLE, /* no session runs, nor is the sandbox paused */
	LIFETIME_GRACE,
	LIFETIME_LIMITS,
};

struct lifetime;

struct lifetime_timer {
	struct lifetime *lifetime;
	bool armed;  /* the operation is in flight */
	bool wanted; /* its end counts */
	struct loop_op op;
	struct __kernel_timespec time;
};

struct lifetime {
	struct loop *loop;
	uint64_t ms[LIFETIME_LIMITS]; /* 0: there is no limit */
	/* A limit has passed; `res` is 0, or -errno: the host cannot tell any more. */
	void (*passed)(void *context, enum lifetime_limit limit, int res);
	void *context;
	bool ready, busy, paused;
	uint64_t idle_since_ns;
	struct lifetime_timer timer[LIFETIME_LIMITS];
};

/* The time of a limit begins now: once for each, and not for LIFETIME_IDLE. The caller has filled in what is above. */
void lifetime_start(struct lifetime *lifetime, enum lifetime_limit limit);

/* A limit that has begun has no effect any more. */
void lifetime_cancel(struct lifetime *lifetime, enum lifetime_limit limit);

/* The guest is ready, and idle. */
void lifetime_ready(struct lifetime *lifetime);

/* Whether any session runs, or the sandbox is paused. Each costs no more than a look at the clock. */
void lifetime_set_busy(struct lifetime *lifetime, bool busy);
void lifetime_set_paused(struct lifetime *lifetime, bool paused);

#endif
