/* SPDX-License-Identifier: Apache-2.0 */
/* Which ended sessions are kept: the newest, within SESSION_ENDED_MAX and SESSION_ENDED_BYTES. */
#include "agent/session.h"

#include "agent/mirror.h"
#include "agent/serve.h"

/*
 * An evicted session is gone for clients. What still holds its output, a daemon that it started, must not be killed by
 * SIGPIPE for that: it is read on, for the log.
 */
bool agent_session_release(struct agent_session *session)
{
	if (!session->evicted || !list_empty(&session->clients))
		return false;
	outring_free(&session->ring);
	if (agent_output_open(session))
		return false;
	agent_mirror_forget(session);
	agent_session_free(session);
	return true;
}

void agent_session_evict(struct agent *agent)
{
	uint64_t retained = 0;
	list_for_each_safe(node, next, &agent->ended)
	{
		const struct agent_session *session = container_of(node, struct agent_session, node);
		retained += session->ring.head - session->ring.tail;
	}
	while (agent->ended_count > SESSION_ENDED_MAX || retained > SESSION_ENDED_BYTES) {
		struct agent_session *oldest = container_of(agent->ended.next, struct agent_session, node);
		retained -= oldest->ring.head - oldest->ring.tail;
		agent->ended_count--;
		list_remove(&oldest->node);
		list_append(&agent->orphaned, &oldest->node);
		oldest->evicted = true;
		agent_session_release(oldest);
	}
}

void agent_session_left(struct agent_session *session)
{
	if (!agent_session_release(session))
		agent_session_room(session);
}
