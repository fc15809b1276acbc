/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that start nothing: the list of sessions, and a ping. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/lib/port.h"
#include "vmm/lib/session.h"

/* Bounds what a hostile agent can make us collect. A good one retains 64 ended sessions, and those that run. */
#define SESSIONS_MAX 100000

/* Owns the strings of a wisp_session_info. */
struct listed {
	struct wisp_session_info info;
	char text[PROTO_STRING_MAX + 1];
	const char *argv[]; /* one for each string of the text, and NULL */
};

void wisp_free_session_list(struct wisp_session_info **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

static struct wisp_session_info *parse(const struct conn_event *event)
{
	struct proto_session session;
	memcpy(&session, event->payload, sizeof(session));
	const char *text = (const char *)event->payload + sizeof(session);
	size_t length = event->length - sizeof(session), count = 0;
	/* Each string ends with a NUL, except the last if it was truncated. */
	for (size_t at = 0; at < length; at += strnlen(text + at, length - at) + 1)
		count++;
	struct listed *listed = calloc(1, sizeof(*listed) + (count + 1) * sizeof(listed->argv[0]));
	if (!listed)
		return NULL;
	memcpy(listed->text, text, length);
	const char *at = listed->text;
	for (size_t i = 0; i < count; i++) {
		listed->argv[i] = at;
		at += strlen(at) + 1;
	}
	bool exited = session.flags & PROTO_SESSION_EXITED;
	listed->info = (struct wisp_session_info){
	        .id = session.session,
	        .pid = session.pid,
	        .tty = session.flags & PROTO_SESSION_TTY,
	        .stdin_open = session.flags & PROTO_SESSION_STDIN,
	        .has_writer = session.flags & PROTO_SESSION_WRITER,
	        .exited = exited,
	        .started_ns = (int64_t)session.started_ns,
	        .clients = session.clients,
	        .argv = listed->argv,
	};
	if (exited)
		listed->info.status = (struct wisp_exit_status){
		        .code = session.code,
		        .signal = (int)(session.signal & 0x7f),
		        .success = session.code == 0,
		        .timed_out = session.flags & PROTO_SESSION_TIMEOUT,
		};
	return &listed->info;
}

static int by_id(const void *a, const void *b)
{
	const struct wisp_session_info *const *left = a, *const *right = b;
	return (*left)->id < (*right)->id ? -1 : (*left)->id > (*right)->id;
}

static int receive(struct conn *conn, struct wisp_session_info ***list, size_t *count, struct wisp_error *error)
{
	struct conn_event event;
	for (;;) {
		int r = conn_recv(conn, PORT_ANSWER_MS, &event, error);
		if (r < 0)
			return r;
		if (event.type != PROTO_SESSION)
			return 0;
		if (*count == SESSIONS_MAX)
			return lib_fail(error, WISP_ERR_PROTOCOL, EPROTO,
			        "the agent of the sandbox '%s' lists sessions without end", conn->name);
		struct wisp_session_info **grown = reallocarray(*list, *count + 2, sizeof(*grown));
		if (!grown)
			return lib_no_memory(error);
		*list = grown;
		grown[*count] = parse(&event);
		if (!grown[*count])
			return lib_no_memory(error);
		grown[++*count] = NULL;
	}
}

int wisp_list_sessions(struct wisp_sandbox *sandbox, struct wisp_session_info ***list, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(list, "list", error))
		return -EINVAL;
	struct conn *conn;
	size_t count = 0;
	*list = NULL;
	struct wisp_session_info **found = calloc(1, sizeof(*found));
	if (!found)
		return lib_no_memory(error);
	int r = conn_open(sandbox, &sandbox->cancel, INT64_MAX, &conn, error);
	if (r == 0) {
		r = conn_ask(conn, CONN_LIST, NULL, 0, error);
		if (r == 0)
			r = receive(conn, &found, &count, error);
		conn_close(conn);
	}
	if (r < 0) {
		wisp_free_session_list(found);
		return r;
	}
	qsort(found, count, sizeof(*found), by_id);
	*list = found;
	return (int)count;
}

int wisp_ping_sandbox(struct wisp_sandbox *sandbox, int64_t *round_trip_ns, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	struct conn *conn;
	struct conn_event event;
	int64_t began = lib_now_ns();
	int r = conn_open(sandbox, &sandbox->cancel, INT64_MAX, &conn, error);
	if (r < 0)
		return r;
	r = conn_ask(conn, CONN_PING, NULL, 0, error);
	if (r == 0)
		r = conn_recv(conn, PORT_ANSWER_MS, &event, error);
	conn_close(conn);
	if (r == 0 && round_trip_ns)
		*round_trip_ns = lib_now_ns() - began;
	return r;
}
