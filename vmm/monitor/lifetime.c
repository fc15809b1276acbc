/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/lifetime.h"

#include <errno.h>

#include "vmm/shared/container_of.h"

#define NS_PER_MS 1000000u

static void on_time(struct loop_op *op, int res, uint32_t flags);

static void arm(struct lifetime *l, enum lifetime_limit limit, uint64_t ns)
{
	struct lifetime_timer *timer = &l->timer[limit];
	struct io_uring_sqe *sqe = loop_sqe(l->loop);
	timer->lifetime = l;
	timer->armed = timer->wanted = true;
	timer->op.done = on_time;
	timer->time = (struct __kernel_timespec){
	        .tv_sec = (long long)(ns / 1000000000), .tv_nsec = (long long)(ns % 1000000000)};
	io_uring_prep_timeout(sqe, &timer->time, 0, 0);
	loop_start(l->loop, sqe, &timer->op);
}

static bool is_idle(const struct lifetime *l)
{
	return l->ms[LIFETIME_IDLE] > 0 && l->ready && !l->busy && !l->paused;
}

/* The timer stays as it is while sessions come and go: what they change is the time that it finds at its end. */
static void begin_idle(struct lifetime *l)
{
	if (!is_idle(l))
		return;
	l->idle_since_ns = loop_now_ns();
	if (!l->timer[LIFETIME_IDLE].armed)
		arm(l, LIFETIME_IDLE, l->ms[LIFETIME_IDLE] * NS_PER_MS);
}

static void on_idle_time(struct lifetime *l)
{
	uint64_t wanted_ns = l->ms[LIFETIME_IDLE] * NS_PER_MS, idle_ns = loop_now_ns() - l->idle_since_ns;
	if (!is_idle(l))
		return;
	if (idle_ns < wanted_ns)
		arm(l, LIFETIME_IDLE, wanted_ns - idle_ns);
	else
		l->passed(l->context, LIFETIME_IDLE, 0);
}

static void on_time(struct loop_op *op, int res, uint32_t flags)
{
	struct lifetime_timer *timer = container_of(op, struct lifetime_timer, op);
	struct lifetime *l = timer->lifetime;
	enum lifetime_limit limit = (enum lifetime_limit)(timer - l->timer);
	(void)flags;
	timer->armed = false;
	if (!timer->wanted || res == -ECANCELED)
		return;
	if (limit == LIFETIME_IDLE && res == -ETIME)
		on_idle_time(l);
	else
		l->passed(l->context, limit, res == -ETIME ? 0 : res);
}

void lifetime_start(struct lifetime *l, enum lifetime_limit limit)
{
	if (l->ms[limit] > 0)
		arm(l, limit, l->ms[limit] * NS_PER_MS);
}

void lifetime_cancel(struct lifetime *l, enum lifetime_limit limit)
{
	l->timer[limit].wanted = false;
	if (l->timer[limit].armed)
		loop_cancel(l->loop, &l->timer[limit].op);
}

void lifetime_ready(struct lifetime *l)
{
	l->ready = true;
	begin_idle(l);
}

void lifetime_set_busy(struct lifetime *l, bool busy)
{
	bool changed = l->busy != busy;
	l->busy = busy;
	if (changed)
		begin_idle(l);
}

void lifetime_set_paused(struct lifetime *l, bool paused)
{
	l->paused = paused;
	begin_idle(l);
}
