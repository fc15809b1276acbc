/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection receives. Nothing here waits: every frame is dealt with as soon as it is whole. */
#include "agent/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/mirror.h"
#include "agent/request.h"
#include "agent/serve.h"
#include "agent/session.h"

/* PONGs and the like that a client does not read. */
#define UNREAD_MAX (64u * 1024)

/* What comes in which states, by enum client_state. */
enum {
	ONCE_GREETING = 1 << CLIENT_GREETING,
	ONCE_REQUEST = 1 << CLIENT_REQUEST,
	WHEN_ASKED = 1 << CLIENT_REQUEST | 1 << CLIENT_IDLE,
	ALWAYS = WHEN_ASKED | 1 << CLIENT_SESSION | 1 << CLIENT_LIST | 1 << CLIENT_ENDING,
	/* A client of a kept connection may send these before it learns of the session's end. */
	IN_SESSION = 1 << CLIENT_SESSION | 1 << CLIENT_ENDING | 1 << CLIENT_IDLE,
};

static const struct rule {
	uint8_t type;
	uint8_t states;
} rules[] = {
        {PROTO_HELLO, ONCE_GREETING},
        {PROTO_KEEP, ONCE_REQUEST},
        {PROTO_PING, ALWAYS},
        {PROTO_PONG, ALWAYS},
        {PROTO_EXEC, WHEN_ASKED},
        {PROTO_OPEN, WHEN_ASKED},
        {PROTO_LIST, WHEN_ASKED},
        {PROTO_POWEROFF, WHEN_ASKED},
        {PROTO_KILL, WHEN_ASKED},
        {PROTO_FREEZE, WHEN_ASKED},
        {PROTO_THAW, WHEN_ASKED},
        {PROTO_CLOCK, WHEN_ASKED},
        {PROTO_STDIN, IN_SESSION},
        {PROTO_STDIN_EOF, IN_SESSION},
        {PROTO_SIGNAL, IN_SESSION},
        {PROTO_RESIZE, IN_SESSION},
};

static void protocol_error(struct agent_client *client, const char *what)
{
	agent_client_refuse(client, PROTO_ERROR_PROTOCOL, what);
}

/* ---- Requests ---- */

static void follow_clock(struct agent *agent, uint64_t realtime_ns, uint64_t slack_ns)
{
	uint64_t now_ns = agent_realtime();
	uint64_t away_ns = realtime_ns > now_ns ? realtime_ns - now_ns : now_ns - realtime_ns;
	if (realtime_ns && away_ns > slack_ns && agent->hooks->step_clock)
		agent->hooks->step_clock(agent, realtime_ns);
}

static void hello(struct agent_client *client, const uint8_t *payload)
{
	struct agent *agent = client->agent;
	struct proto_hello hello;
	memcpy(&hello, payload, sizeof(hello));
	if (hello.magic != PROTO_MAGIC || hello.zero) {
		protocol_error(client, "HELLO: this is another protocol");
		return;
	}
	if (hello.version != PROTO_VERSION) {
		char message[64];
		snprintf(message, sizeof(message), "this agent speaks version %u of the protocol", PROTO_VERSION);
		agent_client_refuse(client, PROTO_ERROR_VERSION, message);
		return;
	}
	client->state = CLIENT_REQUEST;
	follow_clock(agent, hello.realtime_ns, AGENT_CLOCK_SLACK_NS);
}

/* Takes part from a position on. */
static void join(struct agent_client *client, struct agent_session *session, bool writer, uint64_t position)
{
	client->state = CLIENT_SESSION;
	poller_disarm(&client->hold);
	poller_disarm(&client->patience);
	client->session = session;
	client->writer = writer;
	client->position = position;
	client->window = PROTO_WINDOW_INITIAL;
	if (writer)
		session->writer = client;
	list_append(&session->clients, &client->session_node);
}

/* STARTED is queued, and wakes nobody yet. */
static void append_started(struct agent_client *client)
{
	const struct agent_session *session = client->session;
	struct proto_started started = {.session = session->id,
	        .pid = (uint32_t)session->pid,
	        .flags = agent_session_flags(session) | (client->writer ? PROTO_SESSION_WRITER : 0),
	        .replay = session->ring.head - client->position};
	agent_client_append(client, PROTO_STARTED, &started, sizeof(started));
}

void agent_client_started(struct agent_client *client)
{
	append_started(client);
	if (client->collect)
		agent_client_defer(client);
	else
		agent_client_wake(client);
}

void agent_client_failed(
        struct agent *agent, struct agent_client *client, uint64_t id, const struct agent_failure *failure)
{
	struct {
		struct proto_failed failed;
		char message[sizeof(failure->message)];
	} payload = {.failed = {.session = id,
	                     .error = (uint32_t)failure->error,
	                     .kind = failure->kind,
	                     .stage = failure->stage}};
	size_t length = strlen(failure->message);
	memcpy(payload.message, failure->message, length);
	length += sizeof(payload.failed);
	if (client) {
		agent_client_queue(client, PROTO_FAILED, &payload, length);
		agent_client_queue(client, PROTO_DONE, NULL, 0);
		agent_client_end(client);
	}
	agent_mirror_failed(agent, id, &payload, length);
}

static void fail_without_memory(struct agent_client *client, uint64_t id)
{
	struct agent_failure failure;
	agent_fail(&failure, PROTO_FAILURE_OUT_OF_MEMORY, PROTO_STAGE_REQUEST, ENOMEM, "cannot read the request");
	agent_client_failed(client->agent, client, id, &failure);
}

bool agent_client_starve(struct agent_client *client, const uint8_t *data, size_t length)
{
	struct proto_frame frame = {0};
	if (length >= sizeof(frame))
		memcpy(&frame, data, sizeof(frame));
	/* Whole headers were checked: this is one that may come now. */
	if (frame.type != PROTO_EXEC)
		return false;
	bytes_free(&client->in);
	client->keep = false; /* where the next frame begins is not known any more */
	if (client->state == CLIENT_IDLE && !agent_client_resume(client))
		return true;
	fail_without_memory(client, client->agent->next_session++);
	return true;
}

static void exec(struct agent_client *client, const uint8_t *payload, size_t length)
{
	struct agent *agent = client->agent;
	struct agent_failure failure;
	const char *why = "";
	struct agent_spawn *spawn = agent_spawn_new(&agent->spawn_spare);
	int error = spawn ? agent_request_parse(&spawn->request, payload, length, &why) : -ENOMEM;
	if (error == -EPROTO) {
		agent_spawn_free(spawn, &agent->spawn_spare);
		protocol_error(client, why);
		return;
	}
	uint64_t id = agent->next_session++;
	if (error) {
		agent_spawn_free(spawn, &agent->spawn_spare);
		fail_without_memory(client, id);
		return;
	}
	if (agent->stopping) {
		agent_spawn_free(spawn, &agent->spawn_spare);
		agent_fail(&failure, PROTO_FAILURE_OTHER, PROTO_STAGE_REQUEST, ESHUTDOWN, "the guest is being stopped");
		agent_client_failed(agent, client, id, &failure);
		return;
	}
	client->collect = spawn->request.exec.flags & PROTO_EXEC_COLLECT;
	struct agent_session *session = agent_session_start(agent, spawn, id, &failure);
	if (session)
		join(client, session, true, 0);
	else
		agent_client_failed(agent, client, id, &failure);
}

static void open_session(struct agent_client *client, const uint8_t *payload)
{
	struct proto_open open;
	memcpy(&open, payload, sizeof(open));
	bool write = open.flags & PROTO_OPEN_WRITE;
	if (open.zero || open.flags & ~(uint32_t)(PROTO_OPEN_REPLAY | PROTO_OPEN_WRITE)) {
		protocol_error(client, "OPEN: unknown flags");
		return;
	}
	struct agent_session *session = agent_session_find(client->agent, open.session);
	if (!session) {
		agent_client_refuse(client, PROTO_ERROR_NO_SESSION, "there is no such session, or none any more");
		return;
	}
	/* The room that a window promises must be there, whatever the writers before have left. */
	if (write && (session->writer || session->stdin_bytes.length > PROTO_WINDOW_INITIAL)) {
		agent_client_refuse(client, PROTO_ERROR_WRITER,
		        session->writer ? "another connection writes to this session"
		                        : "the session has not read what connections before wrote to it");
		return;
	}
	/* Without a replay nothing of the past was lost, so no DROPPED: it begins at the end. */
	uint64_t position = open.flags & PROTO_OPEN_REPLAY ? 0 : session->ring.head;
	join(client, session, write, position);
	append_started(client);
	agent_client_wake(client);
	/* What came after the end, of a background child, is for those who come after the end. */
	if (session->exited)
		client->limit = session->ring.head;
	/* A position that the ring does not have any more would hold the program up for ever. */
	if (position < session->ring.tail) {
		struct proto_dropped dropped = {.bytes = session->ring.tail};
		client->position = session->ring.tail;
		agent_client_queue(client, PROTO_DROPPED, &dropped, sizeof(dropped));
	}
}

static void kill_session(struct agent_client *client, const uint8_t *payload)
{
	struct proto_kill kill;
	memcpy(&kill, payload, sizeof(kill));
	struct agent_session *session = agent_session_find(client->agent, kill.session);
	if (!session) {
		agent_client_refuse(client, PROTO_ERROR_NO_SESSION, "there is no such session, or none any more");
		return;
	}
	agent_session_kill(session);
	agent_client_queue(client, PROTO_DONE, NULL, 0);
	agent_client_end(client);
}

static void poweroff(struct agent_client *client, const uint8_t *payload)
{
	struct proto_poweroff request;
	memcpy(&request, payload, sizeof(request));
	struct agent *agent = client->agent;
	/* The programs are to end in order. */
	agent_unfreeze(agent);
	agent_client_queue(client, PROTO_DONE, NULL, 0);
	if (!client->control)
		agent_client_end(client);
	if (agent->hooks->power)
		agent->hooks->power(agent, AGENT_POWER_OFF, request.grace_ms);
}

static void set_clock(struct agent_client *client, const uint8_t *payload)
{
	struct proto_clock clock;
	memcpy(&clock, payload, sizeof(clock));
	follow_clock(client->agent, clock.realtime_ns, AGENT_CLOCK_SET_SLACK_NS);
}

static void thaw(struct agent_client *client, const uint8_t *payload)
{
	struct proto_thaw thaw;
	memcpy(&thaw, payload, sizeof(thaw));
	if (thaw.zero || thaw.flags & ~(uint32_t)PROTO_THAW_CLONE)
		protocol_error(client, "THAW: unknown flags");
	else if (!memchr(thaw.hostname, '\0', sizeof(thaw.hostname)))
		protocol_error(client, "THAW: the host name has no end");
	else
		agent_thaw(client, &thaw);
	explicit_bzero(&thaw, sizeof(thaw));
}

/* ---- In a session ---- */

/* Not an error in a client that has not heard yet that stdin is closed. Whether to go on. */
static bool may_write(struct agent_client *client)
{
	struct agent_session *session = client->session;
	if (!client->writer || !session->has_stdin) {
		protocol_error(client, client->writer ? "STDIN: the session has none" : "STDIN: not by a watcher");
		return false;
	}
	if (client->stdin_closed || session->exited)
		return false;
	if (agent_session_stdin_open(session) || session->tty)
		return true;
	client->stdin_closed = true;
	struct proto_stdin_error closed = {.error = session->stdin_error ? session->stdin_error : EPIPE};
	agent_client_queue(client, PROTO_STDIN_ERROR, &closed, sizeof(closed));
	return false;
}

static void stdin_data(struct agent_client *client, const uint8_t *payload, uint32_t length)
{
	if (length > client->window) {
		protocol_error(client, "STDIN: more than the window");
		return;
	}
	if (client->stdin_ended) {
		protocol_error(client, "STDIN: after STDIN_EOF");
		return;
	}
	if (!may_write(client))
		return;
	client->window -= length;
	if (agent_session_stdin(client->session, payload, length))
		client->broken = true;
}

static void stdin_eof(struct agent_client *client)
{
	if (!may_write(client))
		return;
	client->stdin_ended = !client->session->tty;
	agent_session_stdin_eof(client->session);
}

static void send_signal(struct agent_client *client, const uint8_t *payload)
{
	struct proto_signal signal;
	memcpy(&signal, payload, sizeof(signal));
	if (signal.signal < 1 || signal.signal > 64)
		protocol_error(client, "SIGNAL: no such signal");
	else
		agent_session_signal(client->session, (int)signal.signal);
}

static void resize(struct agent_client *client, const uint8_t *payload)
{
	struct proto_winsize size;
	memcpy(&size, payload, sizeof(size));
	agent_session_resize(client->session, size.rows, size.cols);
}

/* ---- All frames ---- */

static bool may_come(const struct agent_client *client, uint8_t type)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].type == type)
			return rules[i].states & 1u << client->state;
	return false;
}

/* NULL, or what is wrong with the header at data. */
static const char *check(const struct agent_client *client, const uint8_t *data, struct proto_frame *frame)
{
	const char *wrong = proto_check_frame(data, client->control ? PROTO_HOST : PROTO_CLIENT, frame);
	if (wrong)
		return wrong;
	if (!may_come(client, frame->type))
		return "it may not come now";
	if ((frame->type == PROTO_FREEZE || frame->type == PROTO_THAW) &&
	        client->agent->freeze.frozen != (frame->type == PROTO_THAW))
		return client->agent->freeze.frozen ? "the machine is frozen" : "the machine is not frozen";
	if (frame->type == PROTO_PING && !client->control && client->out.length > UNREAD_MAX)
		return "the answers to PING are not read";
	return NULL;
}

static void refuse_frame(struct agent_client *client, const struct proto_frame *frame, const char *why)
{
	char message[128];
	snprintf(message, sizeof(message), "a frame of type %u and length %u: %s", frame->type, frame->length, why);
	protocol_error(client, message);
}

static void keep(struct agent_client *client)
{
	client->keep = true;
	agent_client_rest(client);
}

static void handle_request(struct agent_client *client, const struct proto_frame *frame, uint8_t *payload)
{
	if (client->state == CLIENT_IDLE && !agent_client_resume(client))
		return;
	switch (frame->type) {
	case PROTO_EXEC: exec(client, payload, frame->length); break;
	case PROTO_OPEN: open_session(client, payload); break;
	case PROTO_LIST:
		client->state = CLIENT_LIST;
		if (client->keep) /* otherwise it still has what is left from the connection's beginning */
			agent_client_be_patient(client);
		agent_client_wake(client);
		break;
	case PROTO_POWEROFF: poweroff(client, payload); break;
	case PROTO_FREEZE: agent_freeze(client->agent); break;
	case PROTO_THAW: thaw(client, payload); break;
	case PROTO_CLOCK: set_clock(client, payload); break;
	default: kill_session(client, payload); break;
	}
}

static void handle_in_session(struct agent_client *client, const struct proto_frame *frame, uint8_t *payload)
{
	if (client->state != CLIENT_SESSION)
		return;
	switch (frame->type) {
	case PROTO_STDIN: stdin_data(client, payload, frame->length); break;
	case PROTO_STDIN_EOF: stdin_eof(client); break;
	case PROTO_SIGNAL: send_signal(client, payload); break;
	default: resize(client, payload); break;
	}
}

static void handle(struct agent_client *client, const struct proto_frame *frame, uint8_t *payload)
{
	switch (frame->type) {
	case PROTO_HELLO: hello(client, payload); break;
	case PROTO_KEEP: keep(client); break;
	case PROTO_PING: agent_client_queue(client, PROTO_PONG, payload, frame->length); break;
	case PROTO_PONG: break;
	case PROTO_STDIN:
	case PROTO_STDIN_EOF:
	case PROTO_SIGNAL:
	case PROTO_RESIZE: handle_in_session(client, frame, payload); break;
	default: handle_request(client, frame, payload);
	}
}

/* Whether the conversation goes on: what comes after its end is of no interest. */
static bool listens(const struct agent_client *client)
{
	return client->state < CLIENT_ENDING || (client->state == CLIENT_ENDING && client->keep);
}

size_t agent_client_frames(struct agent_client *client, uint8_t *data, size_t length)
{
	size_t used = 0;
	struct proto_frame frame;
	while (listens(client) && length - used >= sizeof(frame)) {
		const char *wrong = check(client, data + used, &frame);
		if (wrong) {
			refuse_frame(client, &frame, wrong);
			break;
		}
		if (length - used - sizeof(frame) < frame.length)
			return used;
		handle(client, &frame, data + used + sizeof(frame));
		used += sizeof(frame) + frame.length;
	}
	return listens(client) ? used : length;
}
