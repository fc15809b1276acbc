/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's one loop: descriptors, timers, and work put off to the end of a round.
 *
 * A round is one epoll_pwait2 and what it reported, the timers that are due, then the tasks. Tasks are what makes
 * several causes cost one system call: whoever changes what a connection has to send puts its flush off, and by then
 * the output, the exit and the final frame go out together.
 *
 * Nothing here allocates but the epoll instance: watches, timers and tasks are part of what they serve, and must be
 * removed before that is freed.
 */
#ifndef WISP_AGENT_POLLER_H
#define WISP_AGENT_POLLER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "agent/list.h"

#define POLLER_BATCH 64

struct poller_watch {
	int fd; /* -1: none. Closing it is its owner's business, after poller_unwatch() */
	void (*ready)(struct poller_watch *watch, uint32_t events);
};

struct poller_timer {
	struct list node;
	uint64_t at_ns; /* CLOCK_MONOTONIC */
	void (*fire)(struct poller_timer *timer);
};

struct poller_task {
	struct list node;
	void (*run)(struct poller_task *task);
};

struct poller {
	int epoll;
	bool stop;          /* set to leave poller_run() at the end of the round */
	struct list timers; /* soonest first */
	struct list tasks;
	struct epoll_event batch[POLLER_BATCH];
	int batch_count;
	unsigned int copies; /* children that may still hold copies of what is watched */
};

/* 0 or -errno. */
int poller_init(struct poller *poller);
void poller_destroy(struct poller *poller);

/* Rounds until poller->stop. 0, or -errno when waiting itself failed. */
int poller_run(struct poller *poller);

uint64_t poller_now(void);

/* Watches watch->fd for events (EPOLL*). 0 or -errno. */
int poller_watch(struct poller *poller, struct poller_watch *watch, uint32_t events);
int poller_rewatch(struct poller *poller, struct poller_watch *watch, uint32_t events);

/* Forgets a watch whose descriptor is about to be closed, with what this round still holds for it, and closes it. */
void poller_close(struct poller *poller, struct poller_watch *watch);
/* The same for a descriptor that stays open. */
void poller_unwatch(struct poller *poller, struct poller_watch *watch);

/* (Re)arms a timer to fire once at at_ns. */
void poller_arm(struct poller *poller, struct poller_timer *timer, uint64_t at_ns);
static inline void poller_disarm(struct poller_timer *timer)
{
	list_remove(&timer->node);
}

/* Runs the task once after this round's events; again after it was run, if asked again. */
static inline void poller_defer(struct poller *poller, struct poller_task *task)
{
	if (!list_linked(&task->node))
		list_append(&poller->tasks, &task->node);
}

#endif
