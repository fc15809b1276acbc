/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/poller.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Tasks may defer others for ever (a program that never stops writing): look at the descriptors now and then. */
#define TASKS_A_ROUND 256

int poller_init(struct poller *poller)
{
	poller->stop = false;
	poller->batch_count = 0;
	poller->copies = 0;
	list_init(&poller->timers);
	list_init(&poller->tasks);
	poller->epoll = epoll_create1(EPOLL_CLOEXEC);
	return poller->epoll < 0 ? -errno : 0;
}

void poller_destroy(struct poller *poller)
{
	if (poller->epoll >= 0)
		close(poller->epoll);
	poller->epoll = -1;
}

uint64_t poller_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* How long a round may sleep: NULL is for ever. */
static const struct timespec *time_to_sleep(struct poller *poller, struct timespec *space)
{
	*space = (struct timespec){0};
	if (!list_empty(&poller->tasks))
		return space;
	if (list_empty(&poller->timers))
		return NULL;
	uint64_t at_ns = container_of(poller->timers.next, struct poller_timer, node)->at_ns;
	uint64_t now_ns = poller_now();
	if (at_ns > now_ns) {
		space->tv_sec = (time_t)((at_ns - now_ns) / 1000000000u);
		space->tv_nsec = (long)((at_ns - now_ns) % 1000000000u);
	}
	return space;
}

static void fire_timers(struct poller *poller)
{
	if (list_empty(&poller->timers))
		return;
	uint64_t now_ns = poller_now();
	while (!list_empty(&poller->timers)) {
		struct poller_timer *timer = container_of(poller->timers.next, struct poller_timer, node);
		if (timer->at_ns > now_ns)
			break;
		list_remove(&timer->node);
		timer->fire(timer);
	}
}

static void run_tasks(struct poller *poller)
{
	for (int i = 0; i < TASKS_A_ROUND && !list_empty(&poller->tasks); i++) {
		struct poller_task *task = container_of(poller->tasks.next, struct poller_task, node);
		list_remove(&task->node);
		task->run(task);
	}
}

int poller_run(struct poller *poller)
{
	while (!poller->stop) {
		/* epoll_wait's milliseconds would round timeouts; neither C library wraps this call everywhere. */
		struct timespec space;
		long count = syscall(SYS_epoll_pwait2, poller->epoll, poller->batch, POLLER_BATCH,
		        time_to_sleep(poller, &space), NULL, 0);
		if (count < 0 && errno != EINTR)
			return -errno;
		poller->batch_count = count > 0 ? (int)count : 0;
		for (int i = 0; i < poller->batch_count; i++) {
			struct poller_watch *watch = poller->batch[i].data.ptr;
			if (watch)
				watch->ready(watch, poller->batch[i].events);
		}
		poller->batch_count = 0;
		fire_timers(poller);
		run_tasks(poller);
	}
	return 0;
}

static int control(struct poller *poller, int operation, struct poller_watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};
	return epoll_ctl(poller->epoll, operation, watch->fd, &event) < 0 ? -errno : 0;
}

int poller_watch(struct poller *poller, struct poller_watch *watch, uint32_t events)
{
	return control(poller, EPOLL_CTL_ADD, watch, events);
}

int poller_rewatch(struct poller *poller, struct poller_watch *watch, uint32_t events)
{
	return control(poller, EPOLL_CTL_MOD, watch, events);
}

/* The owner may be freed before the round is over: no event of it may be left. */
static void forget(struct poller *poller, struct poller_watch *watch)
{
	for (int i = 0; i < poller->batch_count; i++)
		if (poller->batch[i].data.ptr == watch)
			poller->batch[i].data.ptr = NULL;
}

void poller_close(struct poller *poller, struct poller_watch *watch)
{
	if (watch->fd < 0)
		return;
	forget(poller, watch);
	/* Closing it removes it from the epoll set, unless a child has a copy. */
	if (poller->copies)
		control(poller, EPOLL_CTL_DEL, watch, 0);
	close(watch->fd);
	watch->fd = -1;
}

void poller_unwatch(struct poller *poller, struct poller_watch *watch)
{
	forget(poller, watch);
	control(poller, EPOLL_CTL_DEL, watch, 0);
}

void poller_arm(struct poller *poller, struct poller_timer *timer, uint64_t at_ns)
{
	list_remove(&timer->node);
	timer->at_ns = at_ns;
	/* From the end: most timers are of equal length, so the newest is the latest. */
	struct list *after = poller->timers.prev;
	while (after != &poller->timers && container_of(after, struct poller_timer, node)->at_ns > at_ns)
		after = after->prev;
	list_insert_before(after->next, &timer->node);
}
