/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/freeze.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "agent/client.h"
#include "agent/mirror.h"
#include "agent/serve.h"
#include "agent/session.h"

/* The descriptor's events are passed on as epoll would. */
_Static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR && POLLHUP == EPOLLHUP &&
                       POLLRDHUP == EPOLLRDHUP,
        "poll and epoll agree");

/* ---- FREEZE ---- */

/* A program of a session without a cgroup cannot be frozen. */
static bool all_in_cgroups(struct agent *agent)
{
	struct list *const lists[] = {&agent->starting, &agent->running};
	for (int i = 0; i < 2; i++)
		list_for_each_safe(node, next, lists[i])
		{
			struct agent_session *session = container_of(node, struct agent_session, node);
			if (!session->cgroup && !session->reaped)
				return false;
		}
	return true;
}

/* Sends what is queued for the host, so that nothing of a frame is left to be sent by a restored machine. 0 or -errno.
 */
static int send_queue(struct agent_client *control, uint64_t until_ns)
{
	int error;
	while ((error = agent_client_send(control)) == -EAGAIN) {
		uint64_t now_ns = poller_now();
		struct pollfd room = {.fd = control->watch.fd, .events = POLLOUT};
		if (now_ns >= until_ns)
			return -ETIMEDOUT;
		if (poll(&room, 1, (int)((until_ns - now_ns) / 1000000) + 1) < 0 && errno != EINTR)
			return -errno;
	}
	return error;
}

/*
 * A program that is being started is in its cgroup from the beginning, so it is frozen on its way to execve() or behind
 * it. 0, or -errno and nothing is frozen.
 */
static int freeze(struct agent *agent)
{
	uint64_t until_ns = poller_now() + agent->freeze.limit_ns;
	if (agent->stopping)
		return -ESHUTDOWN;
	int error = all_in_cgroups(agent) ? agent_cgroups_freeze(&agent->cgroups, until_ns) : -EBUSY;
	if (!error && (error = send_queue(agent->control, until_ns)))
		agent_cgroups_thaw(&agent->cgroups);
	return error;
}

static void answer(struct agent_client *control, int error)
{
	struct proto_frozen frozen = {.error = (uint32_t)-error};
	agent_client_queue(control, PROTO_FROZEN, &frozen, sizeof(frozen));
}

/* ---- Frozen ---- */

/* The task of the connection, which the loop would run at the end of its round. */
static void flush(struct agent *agent)
{
	struct poller_task *task = agent->control ? &agent->control->flush : NULL;
	if (!task || !list_linked(&task->node))
		return;
	list_remove(&task->node);
	task->run(task);
}

static void reconnect(struct agent *agent)
{
	static const struct timespec pause = {.tv_nsec = FREEZE_RECONNECT_NS};
	int fd = agent->hooks->reconnect(agent);
	if (fd < 0 || agent_serve_control(agent, fd))
		nanosleep(&pause, NULL);
}

static void serve_control(struct agent *agent)
{
	struct poller_watch *watch = &agent->control->watch;
	struct pollfd events = {
	        .fd = watch->fd, .events = POLLIN | POLLRDHUP | (agent->control->awaits_room ? POLLOUT : 0)};
	if (poll(&events, 1, -1) > 0)
		watch->ready(watch, (uint32_t)(uint16_t)events.revents);
}

static void freeze_task(struct poller_task *task)
{
	struct agent *agent = container_of(task, struct agent, freeze.task);
	if (!agent->control)
		return;
	int error = freeze(agent);
	answer(agent->control, error);
	agent->freeze.frozen = !error;
	flush(agent);
	while (agent->freeze.frozen && (agent->control || agent->hooks->reconnect)) {
		if (agent->control)
			serve_control(agent);
		else
			reconnect(agent);
		flush(agent);
	}
	/* Where nobody can thaw it any more, it goes on by itself. */
	agent_unfreeze(agent);
}

void agent_freeze_init(struct agent_freeze *freeze)
{
	freeze->task.run = freeze_task;
	freeze->limit_ns = FREEZE_LIMIT_NS;
}

void agent_freeze(struct agent *agent)
{
	poller_defer(&agent->poller, &agent->freeze.task);
}

/* ---- THAW ---- */

void agent_unfreeze(struct agent *agent)
{
	agent->freeze.frozen = false;
	agent_cgroups_thaw(&agent->cgroups);
}

void agent_thaw(struct agent_client *control, const struct proto_thaw *thaw)
{
	struct agent *agent = control->agent;
	bool clone = thaw->flags & PROTO_THAW_CLONE;
	if (agent->hooks->step_clock)
		agent->hooks->step_clock(agent, thaw->realtime_ns);
	if (clone && agent->hooks->renew && agent->hooks->renew(agent, thaw)) {
		/* Better no clone than one that has the random numbers of another. */
		agent_client_refuse(control, PROTO_ERROR_PROTOCOL, "THAW: the random generator takes no seed");
		return;
	}
	agent_unfreeze(agent);
	agent_client_queue(control, PROTO_THAWED, NULL, 0);
	if (clone)
		agent_mirror_again(agent);
	agent_mirror_room(agent);
}
