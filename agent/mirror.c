/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mirror.h"

#include <string.h>

#include "agent/client.h"
#include "agent/serve.h"
#include "agent/session.h"

/* An EVENT frame is bounded as all are. */
#define EVENT_DATA_MAX (PROTO_DATA_MAX - (uint32_t)sizeof(struct proto_event))

/* Queues one EVENT whose data is in up to two slices. False when it does not fit. */
static bool queue(struct agent *agent, uint64_t id, uint8_t type, const struct iovec *slices, int count, size_t bound)
{
	struct agent_client *control = agent->control;
	size_t length = 0;
	for (int i = 0; i < count; i++)
		length += slices[i].iov_len;
	struct proto_frame frame = proto_frame(PROTO_EVENT, sizeof(struct proto_event) + length);
	struct proto_event event = {.session = id, .realtime_ns = agent_realtime(), .type = type};
	if (control->out.length + sizeof(frame) + frame.length > bound)
		return false;
	uint8_t *room = bytes_reserve(&control->out, sizeof(frame) + frame.length);
	if (!room)
		return false;
	memcpy(room, &frame, sizeof(frame));
	memcpy(room + sizeof(frame), &event, sizeof(event));
	room += sizeof(frame) + sizeof(event);
	for (int i = 0; i < count; i++) {
		memcpy(room, slices[i].iov_base, slices[i].iov_len);
		room += slices[i].iov_len;
	}
	control->out.length += sizeof(frame) + frame.length;
	return true;
}

static struct proto_started started_of(const struct agent_session *session)
{
	return (struct proto_started){
	        .session = session->id, .pid = (uint32_t)session->pid, .flags = agent_session_flags(session)};
}

enum step {
	STEP_DONE, /* the session has nothing to say */
	STEP_MORE,
	STEP_FULL, /* the queue has no room for the next event */
};

/* Queues the next event of those that the session has still to tell, in their order. */
static enum step step(struct agent *agent, struct agent_session *session)
{
	const struct outring *ring = &session->ring;
	if (session->mirror_start) {
		struct proto_started started = started_of(session);
		struct iovec slice = {&started, sizeof(started)};
		if (!queue(agent, session->id, PROTO_STARTED, &slice, 1, MIRROR_QUEUE_MAX))
			return STEP_FULL;
		session->mirror_start = false;
		return STEP_MORE;
	}
	if (session->mirror_position < ring->tail) {
		session->mirror_lost += ring->tail - session->mirror_position;
		session->mirror_missed = true;
		session->mirror_position = ring->tail;
	}
	if (session->mirror_missed) {
		struct proto_dropped dropped = {.bytes = session->mirror_lost};
		struct iovec slice = {&dropped, sizeof(dropped)};
		if (!queue(agent, session->id, PROTO_DROPPED, &slice, 1, MIRROR_QUEUE_MAX))
			return STEP_FULL;
		session->mirror_lost = 0;
		session->mirror_missed = false;
		return STEP_MORE;
	}
	uint64_t limit = session->mirror_exit ? session->exit_position : ring->head;
	if (session->mirror_position < limit) {
		unsigned int stream;
		struct iovec slices[2];
		uint32_t length = outring_run(ring, session->mirror_position, &stream);
		if (length > limit - session->mirror_position)
			length = (uint32_t)(limit - session->mirror_position);
		if (length > EVENT_DATA_MAX)
			length = EVENT_DATA_MAX;
		int count = outring_slices(ring, session->mirror_position, length, slices);
		if (!queue(agent, session->id, stream ? PROTO_STDERR : PROTO_STDOUT, slices, count,
		            MIRROR_QUEUE_MAX - MIRROR_QUEUE_RESERVE))
			return STEP_FULL;
		session->mirror_position += length;
		return STEP_MORE;
	}
	if (session->mirror_exit) {
		struct proto_exited exited = agent_session_exited(session);
		struct iovec slice = {&exited, sizeof(exited)};
		if (!queue(agent, session->id, PROTO_EXITED, &slice, 1, MIRROR_QUEUE_MAX))
			return STEP_FULL;
		session->mirror_exit = false;
		return STEP_MORE;
	}
	return STEP_DONE;
}

/* What the control connection gets to send is sent soon; while its socket is full, that wakes it. */
static void wake(struct agent *agent, bool now)
{
	if (agent->control->awaits_room)
		return;
	if (now || agent->control->out.length >= MIRROR_QUEUE_MAX / 8) {
		poller_disarm(&agent->mirror_timer);
		agent_client_wake(agent->control);
	} else if (!list_linked(&agent->mirror_timer.node)) {
		poller_arm(&agent->poller, &agent->mirror_timer, poller_now() + MIRROR_DELAY_NS);
	}
}

/* All that it has to say, if those that wait for room are not before it. */
static void tell(struct agent *agent, struct agent_session *session)
{
	enum step result = STEP_FULL;
	if (list_linked(&session->mirror_node))
		return;
	while (list_empty(&agent->mirror_behind) && (result = step(agent, session)) == STEP_MORE)
		;
	if (result == STEP_FULL)
		list_append(&agent->mirror_behind, &session->mirror_node);
}

void agent_mirror_failed(struct agent *agent, uint64_t id, const void *payload, size_t length)
{
	struct iovec slice = {(void *)(uintptr_t)payload, length};
	if (!agent->control)
		return;
	queue(agent, id, PROTO_FAILED, &slice, 1, MIRROR_QUEUE_MAX);
	wake(agent, true);
}

void agent_mirror_started(struct agent_session *session)
{
	struct agent *agent = session->agent;
	if (!agent->control)
		return;
	session->mirror_start = true;
	tell(agent, session);
	wake(agent, false);
}

void agent_mirror_again(struct agent *agent)
{
	list_for_each_safe(node, next, &agent->running)
	        agent_mirror_started(container_of(node, struct agent_session, node));
	list_for_each_safe(node, next, &agent->ended)
	{
		struct agent_session *session = container_of(node, struct agent_session, node);
		if (list_linked(&session->mirror_node))
			agent_mirror_started(session);
	}
}

void agent_mirror_output(struct agent_session *session)
{
	if (!session->agent->control)
		return;
	tell(session->agent, session);
	wake(session->agent, false);
}

void agent_mirror_late(struct agent_session *session, uint8_t type, const void *data, size_t length)
{
	struct agent *agent = session->agent;
	if (!agent->control)
		return;
	for (size_t done = 0; done < length;) {
		struct iovec part = {(uint8_t *)(uintptr_t)data + done, length - done};
		if (part.iov_len > EVENT_DATA_MAX)
			part.iov_len = EVENT_DATA_MAX;
		if (list_linked(&session->mirror_node) || session->mirror_missed ||
		        !queue(agent, session->id, type, &part, 1, MIRROR_QUEUE_MAX - MIRROR_QUEUE_RESERVE)) {
			session->mirror_lost += part.iov_len;
			session->mirror_missed = true;
		}
		done += part.iov_len;
	}
	tell(agent, session);
	wake(agent, false);
}

void agent_mirror_exited(struct agent_session *session)
{
	if (!session->agent->control)
		return;
	session->mirror_exit = true;
	tell(session->agent, session);
	wake(session->agent, true);
}

void agent_mirror_forget(struct agent_session *session)
{
	if (!session->agent->control || !list_linked(&session->mirror_node))
		return;
	while (step(session->agent, session) == STEP_MORE)
		;
	wake(session->agent, true);
}

void agent_mirror_room(struct agent *agent)
{
	/* What it would queue now could be cut by a snapshot. */
	if (agent->freeze.frozen)
		return;
	/* Not at the first byte that is free: each would be followed by one event and another loss. */
	if (agent->control->out.length > MIRROR_QUEUE_MAX / 2)
		return;
	bool told = false;
	/* In turns: a flood must not keep the others' ends from the log. */
	while (!list_empty(&agent->mirror_behind)) {
		struct list *node = agent->mirror_behind.next;
		enum step result = step(agent, container_of(node, struct agent_session, mirror_node));
		if (result == STEP_FULL)
			break;
		told = true;
		list_remove(node);
		if (result == STEP_MORE)
			list_append(&agent->mirror_behind, node);
	}
	if (told)
		agent_client_wake(agent->control);
}
