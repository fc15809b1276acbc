/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/session.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "agent/client.h"
#include "agent/mirror.h"
#include "agent/pty.h"
#include "agent/serve.h"

/* ---- The end ---- */

void agent_session_free(struct agent_session *session)
{
	list_remove(&session->node);
	list_remove(&session->mirror_node);
	poller_disarm(&session->timeout);
	poller_disarm(&session->grace);
	agent_start_free(session);
	agent_cgroup_disown(session->cgroup);
	agent_stdin_close(session);
	agent_output_close(session);
	free(session);
}

void agent_session_check_exit(struct agent_session *session)
{
	if (!session->reaped || session->exited || !agent_output_complete(session))
		return;
	struct agent *agent = session->agent;
	session->exited = true;
	session->exit_position = session->ring.head;
	poller_disarm(&session->grace);
	agent_stdin_close(session);
	list_for_each_safe(node, next, &session->clients)
	        agent_client_wake(container_of(node, struct agent_client, session_node));
	agent_mirror_exited(session);
	list_remove(&session->node);
	list_append(&agent->ended, &session->node);
	agent->ended_count++;
	agent_session_evict(agent);
}

static void grace_over(struct poller_timer *timer)
{
	struct agent_session *session = container_of(timer, struct agent_session, grace);
	session->grace_over = true;
	agent_session_check_exit(session);
}

/* ---- Control ---- */

static void signal_group(const struct agent_session *session, int signal)
{
	/* A child that is not its group's leader yet keeps the signal until it unblocks all, just before the program.
	 */
	if (!session->reaped)
		kill(session->spawn ? session->pid : -session->pid, signal);
}

void agent_session_kill(struct agent_session *session)
{
	if (!session->cgroup || agent_cgroup_kill(session->cgroup))
		signal_group(session, SIGKILL);
}

void agent_session_signal(struct agent_session *session, int signal)
{
	if (signal != SIGKILL)
		signal_group(session, signal);
	else if (!session->reaped)
		agent_session_kill(session);
}

void agent_session_resize(struct agent_session *session, uint16_t rows, uint16_t cols)
{
	if (session->tty && session->streams[0].watch.fd >= 0)
		agent_pty_resize(session->streams[0].watch.fd, rows, cols);
}

static void timed_out(struct poller_timer *timer)
{
	struct agent_session *session = container_of(timer, struct agent_session, timeout);
	session->timed_out = true;
	agent_session_kill(session);
}

void agent_session_reaped(struct agent_session *session, int status)
{
	if (session->spawn && !agent_start_end(session))
		return;
	session->reaped = true;
	session->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	session->signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
	/* It may have ended by itself just before. */
	session->timed_out &= session->signal == SIGKILL;
	poller_disarm(&session->timeout);
	if (session->cgroup)
		agent_cgroup_retire(session->cgroup);
	agent_output_reaped(session);
	if (agent_output_open(session))
		poller_arm(&session->agent->poller, &session->grace, poller_now() + SESSION_GRACE_NS);
	agent_output_pump(session);
}

/* ---- The beginning ---- */

struct agent_session *agent_session_new(struct agent *agent, const struct agent_request *request, uint64_t id)
{
	size_t argv_bytes = request->argv_bytes - 1; /* the last NUL separates nothing */
	if (argv_bytes > PROTO_STRING_MAX)
		argv_bytes = PROTO_STRING_MAX;
	struct agent_session *session = calloc(1, sizeof(*session) + argv_bytes + 1);
	if (!session || outring_init(&session->ring)) {
		free(session);
		return NULL;
	}
	session->agent = agent;
	session->id = id;
	session->started_ns = agent_realtime();
	session->tty = request->exec.flags & PROTO_EXEC_TTY;
	session->has_stdin = request->exec.flags & (PROTO_EXEC_TTY | PROTO_EXEC_STDIN);
	session->timeout.fire = timed_out;
	session->grace.fire = grace_over;
	agent_start_init(session);
	agent_stdin_init(session);
	agent_output_init(session);
	list_init(&session->clients);
	session->argv_bytes = argv_bytes;
	memcpy(session->argv, request->argv[0], argv_bytes);
	return session;
}

/* ---- What can be seen of it ---- */

uint32_t agent_session_flags(const struct agent_session *session)
{
	uint32_t flags = session->tty ? PROTO_SESSION_TTY : 0;
	if (agent_session_stdin_open(session))
		flags |= PROTO_SESSION_STDIN;
	if (session->exited)
		flags |= PROTO_SESSION_EXITED;
	if (session->exited && session->timed_out)
		flags |= PROTO_SESSION_TIMEOUT;
	return flags;
}

struct proto_exited agent_session_exited(const struct agent_session *session)
{
	return (struct proto_exited){.code = session->code,
	        .signal = session->signal,
	        .flags = session->timed_out ? PROTO_SESSION_TIMEOUT : 0};
}

/* ended is in another order than that of ids. */
struct agent_session *agent_session_next(struct agent *agent, uint64_t id)
{
	struct agent_session *best = NULL;
	struct list *const lists[] = {&agent->ended, &agent->running};
	for (int i = 0; i < 2; i++)
		list_for_each_safe(node, next, lists[i])
		{
			struct agent_session *session = container_of(node, struct agent_session, node);
			if (session->id >= id && (!best || session->id < best->id))
				best = session;
		}
	return best;
}

struct agent_session *agent_session_find(struct agent *agent, uint64_t id)
{
	struct agent_session *session = agent_session_next(agent, id);
	return session && session->id == id ? session : NULL;
}
