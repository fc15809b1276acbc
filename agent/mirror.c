/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mirror.h"

#include <string.h>

#include "agent/client.h"
#include "agent/proto.h"
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
	struct proto_frame frame = {.length = (uint32_t)(sizeof(struct proto_event) + length), .type = PROTO_EVENT};
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

/* Says what was left out before. False when even that does not fit. */
static bool tell_loss(struct agent *agent, struct agent_session *session)
{
	if (!list_linked(&session->mirror_node))
		return true;
	struct proto_dropped dropped = {.bytes = session->mirror_lost};
	struct iovec slice = {&dropped, sizeof(dropped)};
	if (!queue(agent, session->id, PROTO_DROPPED, &slice, 1, MIRROR_QUEUE_MAX))
		return false;
	session->mirror_lost = 0;
	list_remove(&session->mirror_node);
	return true;
}

static void lose(struct agent *agent, struct agent_session *session, size_t bytes)
{
	session->mirror_lost += bytes;
	if (!list_linked(&session->mirror_node))
		list_append(&agent->mirror_lost, &session->mirror_node);
}

static void wake(struct agent *agent, bool now)
{
	if (now || agent->control->out.length >= MIRROR_QUEUE_MAX / 8) {
		poller_disarm(&agent->mirror_timer);
		agent_client_wake(agent->control);
	} else if (!list_linked(&agent->mirror_timer.node)) {
		poller_arm(&agent->poller, &agent->mirror_timer, poller_now() + MIRROR_DELAY_NS);
	}
}

void agent_mirror_event(struct agent *agent, struct agent_session *session, uint64_t id, uint8_t type,
        const void *payload, size_t length)
{
	if (!agent->control)
		return;
	struct iovec slice = {(void *)(uintptr_t)payload, length};
	if (session && !tell_loss(agent, session))
		lose(agent, session, 0);
	else if (!queue(agent, id, type, &slice, 1, MIRROR_QUEUE_MAX) && session)
		lose(agent, session, 0);
	wake(agent, type == PROTO_EXITED || type == PROTO_FAILED);
}

void agent_mirror_output(struct agent_session *session, uint8_t type, const struct iovec *slices, int count)
{
	struct agent *agent = session->agent;
	if (!agent->control)
		return;
	for (int i = 0; i < count; i++) {
		for (size_t done = 0; done < slices[i].iov_len;) {
			struct iovec part = {(uint8_t *)slices[i].iov_base + done, slices[i].iov_len - done};
			if (part.iov_len > EVENT_DATA_MAX)
				part.iov_len = EVENT_DATA_MAX;
			if (!tell_loss(agent, session) ||
			        !queue(agent, session->id, type, &part, 1, MIRROR_QUEUE_MAX - MIRROR_QUEUE_RESERVE))
				lose(agent, session, part.iov_len);
			done += part.iov_len;
		}
	}
	wake(agent, false);
}

void agent_mirror_room(struct agent *agent)
{
	/* Not at the first byte that is free: each would be followed by one event and another loss. */
	if (agent->control->out.length > MIRROR_QUEUE_MAX / 2)
		return;
	bool told = false;
	list_for_each_safe(node, next, &agent->mirror_lost) told |=
	        tell_loss(agent, list_entry(node, struct agent_session, mirror_node));
	if (told)
		agent_client_wake(agent->control);
}
