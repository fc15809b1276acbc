/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: events, control and the stdin writer. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/lib/session.h"

/* How long closing waits until a request is accepted: a program that is abandoned at once must run all the same. */
#define ABANDON_MS 1000

int session_new(struct conn *conn, struct wisp_session **out, struct wisp_error *error)
{
	struct wisp_session *session = calloc(1, sizeof(*session));
	if (!session) {
		conn_unref(conn);
		return lib_no_memory(error);
	}
	session->conn = conn;
	session->output_limit = WISP_OUTPUT_LIMIT_DEFAULT;
	*out = session;
	return 0;
}

static bool is_answered(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	bool answered = conn->phase >= CONN_RUNNING || conn->lost;
	pthread_mutex_unlock(&conn->lock);
	return answered;
}

void wisp_close_session(struct wisp_session *session)
{
	if (!session)
		return;
	if (!is_answered(session->conn))
		conn_recv(session->conn, ABANDON_MS, NULL, NULL);
	conn_close(session->conn);
	free(session);
}

static bool is_closed(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	bool closed = conn->stdin_closed;
	pthread_mutex_unlock(&conn->lock);
	return closed;
}

int wisp_open_session(struct wisp_sandbox *sandbox, uint64_t id, const struct wisp_open_options *given,
        struct wisp_session **session, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(session, "session", error))
		return -EINVAL;
	struct wisp_open_options options;
	struct conn *conn;
	*session = NULL;
	int r = lib_copy_options(&options, sizeof(options), given, "struct wisp_open_options", error);
	if (r < 0)
		return r;
	if (id == 0)
		return lib_fail(error, WISP_ERR_NO_SESSION, ENOENT, "the sandbox '%s' has no session 0: ids start at 1",
		        sandbox->name);
	struct lib_cancel cancel;
	r = lib_copy_cancel(&cancel, options.cancel, &sandbox->cancel, error);
	if (r == 0)
		r = conn_open(sandbox, &cancel, INT64_MAX, &conn, error);
	if (r < 0)
		return r;
	struct proto_open open = {
	        .session = id,
	        .flags = (options.live ? 0 : PROTO_OPEN_REPLAY) | (options.write ? PROTO_OPEN_WRITE : 0),
	};
	conn->window = options.write ? PROTO_WINDOW_INITIAL : 0;
	conn->stdin_closed = !options.write;
	r = conn_ask(conn, CONN_OPEN, &open, sizeof(open), error);
	/* Waits for the answer: a session that is missing or has a writer is an error of this call. */
	if (r == 0)
		r = conn_wait_answer(conn, error);
	if (r == 0 && options.write)
		r = conn_make_wakeups(conn, error);
	if (r < 0) {
		conn_unref(conn);
		return r;
	}
	r = session_new(conn, session, error);
	if (r == 0) {
		(*session)->has_stdin = options.write && !is_closed(conn);
		(*session)->reattached = true;
		if (options.output_limit)
			(*session)->output_limit = options.output_limit;
	}
	return r;
}

/* ---- Events ---- */

static void fill_exited(struct wisp_event *event, const uint8_t *payload)
{
	struct proto_exited exited;
	memcpy(&exited, payload, sizeof(exited));
	event->status.code = exited.code;
	event->status.signal = (int)exited.signal;
	event->status.success = exited.code == 0;
	event->status.timed_out = exited.flags & PROTO_SESSION_TIMEOUT;
}

static void fill_errno(struct wisp_event *event, uint32_t errnum)
{
	event->errnum = errnum <= 4095 ? (int)errnum : EIO;
	event->errno_name = wisp_get_errno_name(event->errnum);
}

static void fill_failed(struct wisp_session *session, const struct conn_event *frame)
{
	struct wisp_event *event = &session->event;
	struct proto_failed failed;
	memcpy(&failed, frame->payload, sizeof(failed));
	event->id = failed.session;
	fill_errno(event, failed.error);
	event->failure =
	        failed.kind <= PROTO_FAILURE_PTY_SETUP_FAILED ? (enum wisp_failure)failed.kind : WISP_FAILURE_OTHER;
	event->stage = failed.stage <= PROTO_STAGE_EXEC ? (enum wisp_stage)failed.stage : WISP_STAGE_REQUEST;
	lib_printable(session->message, sizeof(session->message), frame->payload + sizeof(failed),
	        frame->length - sizeof(failed));
	event->message = session->message;
}

static void fill_event(struct wisp_session *session, const struct conn_event *frame)
{
	struct wisp_event *event = &session->event;
	*event = (struct wisp_event){.errno_name = "", .message = ""};
	switch (frame->type) {
	case PROTO_STARTED: {
		struct proto_started started;
		memcpy(&started, frame->payload, sizeof(started));
		event->type = WISP_EVENT_STARTED;
		event->id = started.session;
		event->pid = started.pid;
		break;
	}
	case PROTO_STDOUT:
	case PROTO_STDERR:
		event->type = frame->type == PROTO_STDOUT ? WISP_EVENT_STDOUT : WISP_EVENT_STDERR;
		event->data = frame->payload;
		event->length = frame->length;
		session->received += frame->length;
		break;
	case PROTO_DROPPED: {
		struct proto_dropped dropped;
		memcpy(&dropped, frame->payload, sizeof(dropped));
		event->type = WISP_EVENT_DROPPED;
		event->dropped = dropped.bytes;
		session->received += dropped.bytes;
		break;
	}
	case PROTO_STDIN_ERROR: {
		struct proto_stdin_error closed;
		memcpy(&closed, frame->payload, sizeof(closed));
		event->type = WISP_EVENT_STDIN_ERROR;
		fill_errno(event, closed.error);
		const char *why = strerrordesc_np(event->errnum);
		snprintf(session->message, sizeof(session->message), "writing to the program's stdin failed: %s",
		        why ? why : "unknown error");
		event->message = session->message;
		break;
	}
	case PROTO_EXITED:
		event->type = WISP_EVENT_EXITED;
		fill_exited(event, frame->payload);
		break;
	case PROTO_FAILED:
		event->type = WISP_EVENT_FAILED;
		fill_failed(session, frame);
		break;
	default: event->type = WISP_EVENT_DONE;
	}
}

int wisp_recv_event(
        struct wisp_session *session, int64_t timeout_ms, const struct wisp_event **event, struct wisp_error *error)
{
	if (lib_is_null(session, "session", error) || lib_is_null(event, "event", error))
		return -EINVAL;
	struct conn_event frame;
	*event = NULL;
	int r = conn_recv(session->conn, timeout_ms, &frame, error);
	if (r < 0)
		return r;
	fill_event(session, &frame);
	*event = &session->event;
	return 0;
}

int wisp_get_session_fd(struct wisp_session *session)
{
	int r = session ? conn_event_fd(session->conn) : -EINVAL;
	if (r >= 0)
		return r;
	errno = -r;
	return -1;
}

static uint64_t session_id(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	uint64_t id = conn->session;
	pthread_mutex_unlock(&conn->lock);
	return id;
}

int wisp_get_session_id(struct wisp_session *session, uint64_t *id, struct wisp_error *error)
{
	if (lib_is_null(session, "session", error) || lib_is_null(id, "id", error))
		return -EINVAL;
	*id = session_id(session->conn);
	if (*id != 0)
		return 0;
	/* STARTED or FAILED is the first event. */
	int r = conn_wait_answer(session->conn, error);
	if (r < 0)
		return r;
	*id = session_id(session->conn);
	if (*id == 0)
		return lib_fail(error, WISP_ERR_NO_SESSION, ENOENT,
		        "there is no session: the program did not start: receive its event");
	return 0;
}

int wisp_get_session_pid(struct wisp_session *session, uint32_t *pid, struct wisp_error *error)
{
	uint64_t id;
	if (lib_is_null(session, "session", error) || lib_is_null(pid, "pid", error))
		return -EINVAL;
	int r = wisp_get_session_id(session, &id, error);
	pthread_mutex_lock(&session->conn->lock);
	*pid = session->conn->pid;
	pthread_mutex_unlock(&session->conn->lock);
	return r;
}

bool wisp_session_has_tty(struct wisp_session *session)
{
	if (!session)
		return false;
	pthread_mutex_lock(&session->conn->lock);
	bool tty = session->conn->tty;
	pthread_mutex_unlock(&session->conn->lock);
	return tty;
}

/* ---- Control ---- */

static int send_signal(struct conn *conn, int signal, struct wisp_error *error)
{
	if (signal < 1 || signal > 64)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%d is not a signal: give 1 to 64", signal);
	struct proto_signal payload = {.signal = (uint32_t)signal};
	return conn_send(conn, PROTO_SIGNAL, &payload, sizeof(payload), error);
}

static int send_resize(struct conn *conn, uint16_t rows, uint16_t cols, struct wisp_error *error)
{
	if (rows == 0 || cols == 0)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a terminal of %u rows and %u columns: give at least 1 of each", rows, cols);
	struct proto_winsize payload = {.rows = rows, .cols = cols};
	return conn_send(conn, PROTO_RESIZE, &payload, sizeof(payload), error);
}

int wisp_signal_session(struct wisp_session *session, int signal, struct wisp_error *error)
{
	if (lib_is_null(session, "session", error))
		return -EINVAL;
	return send_signal(session->conn, signal, error);
}

int wisp_kill_session(struct wisp_session *session, struct wisp_error *error)
{
	if (lib_is_null(session, "session", error))
		return -EINVAL;
	return send_signal(session->conn, SIGKILL, error);
}

int wisp_resize_session(struct wisp_session *session, uint16_t rows, uint16_t cols, struct wisp_error *error)
{
	if (lib_is_null(session, "session", error))
		return -EINVAL;
	return send_resize(session->conn, rows, cols, error);
}

/* Control handles and stdin writers are references to the connection. */
struct wisp_control {
	struct conn *conn;
};

struct wisp_stdin {
	struct conn *conn;
};

int wisp_open_control(struct wisp_session *session, struct wisp_control **control, struct wisp_error *error)
{
	if (lib_is_null(session, "session", error) || lib_is_null(control, "control", error))
		return -EINVAL;
	*control = malloc(sizeof(**control));
	if (!*control)
		return lib_no_memory(error);
	(*control)->conn = session->conn;
	conn_ref(session->conn);
	return 0;
}

void wisp_close_control(struct wisp_control *control)
{
	if (!control)
		return;
	conn_unref(control->conn);
	free(control);
}

uint64_t wisp_get_control_id(const struct wisp_control *control)
{
	return control ? session_id(control->conn) : 0;
}

int wisp_signal_control(struct wisp_control *control, int signal, struct wisp_error *error)
{
	if (lib_is_null(control, "control", error))
		return -EINVAL;
	return send_signal(control->conn, signal, error);
}

int wisp_kill_control(struct wisp_control *control, struct wisp_error *error)
{
	if (lib_is_null(control, "control", error))
		return -EINVAL;
	return send_signal(control->conn, SIGKILL, error);
}

int wisp_resize_control(struct wisp_control *control, uint16_t rows, uint16_t cols, struct wisp_error *error)
{
	if (lib_is_null(control, "control", error))
		return -EINVAL;
	return send_resize(control->conn, rows, cols, error);
}

/* ---- Standard input ---- */

struct wisp_stdin *wisp_take_stdin(struct wisp_session *session)
{
	if (!session || !session->has_stdin)
		return NULL;
	struct wisp_stdin *writer = malloc(sizeof(*writer));
	if (!writer)
		return NULL;
	writer->conn = session->conn;
	conn_ref(session->conn);
	session->has_stdin = false;
	return writer;
}

ptrdiff_t wisp_write_stdin(
        struct wisp_stdin *writer, const void *data, size_t length, int64_t timeout_ms, struct wisp_error *error)
{
	if (lib_is_null(writer, "writer", error) || (length > 0 && lib_is_null(data, "data", error)))
		return -EINVAL;
	return conn_write_stdin(writer->conn, data, length, timeout_ms, error);
}

int wisp_get_stdin_fd(struct wisp_stdin *writer)
{
	return writer ? conn_window_fd(writer->conn) : -1;
}

void wisp_close_stdin(struct wisp_stdin *writer)
{
	if (!writer)
		return;
	conn_close_stdin(writer->conn);
	conn_unref(writer->conn);
	free(writer);
}
