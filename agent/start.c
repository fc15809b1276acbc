/* SPDX-License-Identifier: Apache-2.0 */
/* The beginning of a session: from the request to a program that runs, or to the reason why it does not. */
#include "agent/session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/mirror.h"
#include "agent/restrict.h"
#include "agent/serve.h"

/* ---- The outcome ---- */

static void give_up(struct agent_session *session, int error)
{
	session->start_error = error;
	kill(session->pid, SIGKILL); /* of which SIGCHLD tells, whatever else does not */
}

static void start_timer_fired(struct poller_timer *timer)
{
	give_up(container_of(timer, struct agent_session, start_timer), ETIMEDOUT);
}

static void fail(struct agent_session *session, const struct agent_failure *failure)
{
	struct agent *agent = session->agent;
	/* This leaves the session, which nobody else can have found. */
	agent_client_failed(agent, session->writer, session->id, failure);
	agent_session_free(session);
}

void agent_start_free(struct agent_session *session)
{
	struct agent *agent = session->agent;
	if (session->spawn) {
		agent_spawn_free(session->spawn, &agent->spawn_spare);
		agent->poller.copies--; /* the child has executed the program, or is dead */
	}
	session->spawn = NULL;
	poller_disarm(&session->start_timer);
	poller_close(&agent->poller, &session->start);
}

/* 0, or -1 with *failure. */
static int outcome(struct agent_session *session, struct agent_failure *failure)
{
	int result = agent_spawn_result(session->spawn, failure);
	if (!result && session->start_error == ETIMEDOUT) {
		agent_fail(failure, PROTO_FAILURE_OTHER, PROTO_STAGE_EXEC, 0,
		        "\"%.300s\" did not start in time: something stopped it before it could be executed",
		        session->argv);
		failure->error = ETIMEDOUT;
		result = -1;
	} else if (!result && session->start_error) {
		agent_fail(failure, PROTO_FAILURE_RESOURCE_LIMIT, PROTO_STAGE_PIPE, session->start_error,
		        "cannot watch the program");
		result = -1;
	}
	agent_start_free(session);
	return result;
}

bool agent_start_end(struct agent_session *session)
{
	struct agent *agent = session->agent;
	struct agent_failure failure;
	if (outcome(session, &failure)) {
		fail(session, &failure);
		return false;
	}
	int error = agent_output_begin(session);
	if (error) {
		/* Reaped as any child of no session. */
		kill(session->pid, SIGKILL);
		agent_fail(
		        &failure, PROTO_FAILURE_RESOURCE_LIMIT, PROTO_STAGE_PIPE, -error, "cannot watch the program");
		fail(session, &failure);
		return false;
	}
	list_remove(&session->node);
	list_append(&agent->running, &session->node);
	if (session->writer)
		agent_client_started(session->writer);
	agent_stdin_begin(session);
	agent_mirror_started(session);
	return true;
}

static void start_ready(struct poller_watch *watch, uint32_t events)
{
	if (events)
		agent_start_end(container_of(watch, struct agent_session, start));
}

void agent_start_init(struct agent_session *session)
{
	session->start_timer.fire = start_timer_fired;
	session->start = (struct poller_watch){.fd = -1, .ready = start_ready};
}

/* ---- The attempt ---- */

/* What concerns the request alone. 0, or -1 with *failure. */
static int prepare(struct agent_request *request, uint64_t id, struct agent_user *user, struct agent_failure *failure)
{
	char why[128] = "", own[24];
	const char *name = request->user;
	if (request->exec.flags & PROTO_EXEC_RESTRICTED && !*name) {
		unsigned int uid = RESTRICT_UID_FIRST + (unsigned int)(id % RESTRICT_UID_COUNT);
		snprintf(own, sizeof(own), "%u:%u", uid, uid);
		name = own;
	}
	int error = agent_user_resolve(name, user, why, sizeof(why));
	if (error) {
		agent_fail(failure, PROTO_FAILURE_USER_SETUP_FAILED, PROTO_STAGE_USER, -error, "%s", why);
		return -1;
	}
	error = agent_request_environ(request, user);
	if (error == -ENOMEM) {
		agent_fail(failure, PROTO_FAILURE_OUT_OF_MEMORY, PROTO_STAGE_REQUEST, ENOMEM,
		        "cannot keep the environment");
		return -1;
	}
	if (error) {
		agent_fail(failure, PROTO_FAILURE_BAD_ARGS, PROTO_STAGE_REQUEST, -error,
		        "an environment entry is not of the form NAME=value");
		return -1;
	}
	return 0;
}

/* Takes the child and its descriptors over. */
static void adopt(struct agent_session *session, struct agent_spawn *spawn, const struct agent_spawned *spawned)
{
	struct agent *agent = session->agent;
	session->spawn = spawn;
	agent->poller.copies++;
	session->pid = spawn->pid;
	session->start.fd = spawned->status;
	if (!session->tty)
		session->input.fd = spawned->input;
	for (int i = 0; i < 2; i++)
		session->streams[i].watch.fd = spawned->output[i];
	list_append(&agent->starting, &session->node);
	uint64_t now_ns = poller_now(), timeout_ns = spawn->request.exec.timeout_ns;
	poller_arm(&agent->poller, &session->start_timer, now_ns + agent->start_ns);
	if (timeout_ns && timeout_ns < UINT64_MAX - now_ns)
		poller_arm(&agent->poller, &session->timeout, now_ns + timeout_ns);
	int error = poller_watch(&agent->poller, &session->start, EPOLLIN);
	if (error)
		give_up(session, -error);
}

struct agent_session *agent_session_start(
        struct agent *agent, struct agent_spawn *spawn, uint64_t id, struct agent_failure *failure)
{
	struct agent_spawned spawned;
	struct agent_session *session = NULL;
	spawn->files = agent->files;
	if (spawn->request.exec.flags & PROTO_EXEC_EGRESS)
		agent_egress_open(&agent->egress);
	int result = prepare(&spawn->request, id, &spawn->user, failure);
	if (!result && !(session = agent_session_new(agent, &spawn->request, id))) {
		agent_fail(failure, PROTO_FAILURE_OUT_OF_MEMORY, PROTO_STAGE_REQUEST, ENOMEM, "cannot keep a session");
		result = -1;
	}
	if (!result) {
		agent_cgroup_take(&agent->cgroups, &session->cgroup);
		int cgroup_fd = session->cgroup ? session->cgroup->fd : -1;
		result = agent_spawn(spawn, agent->null_fd, cgroup_fd, &spawned, failure);
	}
	if (!result) {
		adopt(session, spawn, &spawned);
		return session;
	}
	if (session)
		agent_session_free(session);
	agent_spawn_free(spawn, &agent->spawn_spare);
	return NULL;
}
