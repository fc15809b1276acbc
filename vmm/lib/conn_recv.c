/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving on a connection: frames are checked, take effect, and are handed to the session's owner. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/lib/conn.h"
#include "vmm/lib/frame.h"

static void lose(struct conn *conn, enum wisp_status status, int errnum, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

static void lose(struct conn *conn, enum wisp_status status, int errnum, const char *format, ...)
{
	char text[512];
	va_list ap;
	if (conn->lost)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	conn->lost = true;
	lib_fail(&conn->cause, status, errnum, "%s", text);
	/* Lets the agent know that nothing more will be received. */
	shutdown(conn->fd, SHUT_RDWR);
}

static void take_error(struct conn *conn, const uint8_t *payload, size_t length)
{
	struct proto_error reason;
	char text[256];
	memcpy(&reason, payload, sizeof(reason));
	lib_printable(text, sizeof(text), payload + sizeof(reason), length - sizeof(reason));
	switch (reason.code) {
	case PROTO_ERROR_VERSION:
		lose(conn, WISP_ERR_VERSION, EPROTONOSUPPORT,
		        "the agent of the sandbox '%s' refuses protocol version %u (%s): create it again with this "
		        "version",
		        conn->name, PROTO_VERSION, text);
		break;
	case PROTO_ERROR_BUSY:
		lose(conn, WISP_ERR_BUSY, EBUSY,
		        "the sandbox '%s' serves %u connections already, its limit: close one or try again later",
		        conn->name, PROTO_CLIENTS_MAX);
		break;
	case PROTO_ERROR_NO_SESSION:
		lose(conn, WISP_ERR_NO_SESSION, ENOENT,
		        "the sandbox '%s' has no such session, or no longer: list its sessions", conn->name);
		break;
	case PROTO_ERROR_WRITER:
		lose(conn, WISP_ERR_WRITER_TAKEN, EBUSY,
		        "another client writes to this session of the sandbox '%s': open the session without write",
		        conn->name);
		break;
	default:
		lose(conn, WISP_ERR_PROTOCOL, EPROTO, "the agent of the sandbox '%s' refuses the request: %s",
		        conn->name, text);
	}
}

/* Applies a frame. Returns true if it is for the session's owner. */
static bool apply(struct conn *conn, uint8_t type, const uint8_t *payload, size_t length)
{
	switch (type) {
	case PROTO_HELLO: {
		struct proto_hello hello;
		memcpy(&hello, payload, sizeof(hello));
		if (hello.version != PROTO_VERSION)
			lose(conn, WISP_ERR_VERSION, EPROTONOSUPPORT,
			        "the agent of the sandbox '%s' speaks protocol version %u, not %u: create it again "
			        "with this version",
			        conn->name, hello.version, PROTO_VERSION);
		conn->phase = CONN_ASKED;
		return false;
	}
	case PROTO_PING: conn_queue(conn, PROTO_PONG, payload, length); return false;
	case PROTO_ERROR: take_error(conn, payload, length); return false;
	case PROTO_STARTED: {
		struct proto_started started;
		memcpy(&started, payload, sizeof(started));
		conn->session = started.session;
		conn->pid = started.pid;
		conn->writer = started.flags & PROTO_SESSION_WRITER;
		conn->replay = started.replay;
		if (conn->request == CONN_OPEN) {
			conn->tty = started.flags & PROTO_SESSION_TTY;
			if (!conn->writer || !(started.flags & (PROTO_SESSION_STDIN | PROTO_SESSION_TTY)))
				conn->stdin_closed = true;
		}
		conn->phase = CONN_RUNNING;
		return true;
	}
	case PROTO_STDIN_WINDOW: {
		struct proto_window window;
		memcpy(&window, payload, sizeof(window));
		conn->window += window.bytes;
		if (conn->window > UINT32_MAX)
			conn->window = UINT32_MAX;
		return false;
	}
	case PROTO_STDIN_ERROR: conn->stdin_closed = true; return true;
	case PROTO_EXITED:
	case PROTO_FAILED:
		conn->phase = CONN_ENDED;
		conn->stdin_closed = true;
		return true;
	case PROTO_PONG:
	case PROTO_DONE: conn->phase = CONN_DONE; return true;
	default: return true;
	}
}

static void check_frames(struct conn *conn)
{
	while (!conn->lost && conn->phase != CONN_DONE) {
		struct proto_frame frame;
		size_t left = conn->end - conn->scan;
		if (left < sizeof(frame))
			return;
		const char *why = proto_check_frame(conn->in + conn->scan, PROTO_AGENT, &frame);
		if (!why && left - sizeof(frame) < frame.length)
			return;
		const uint8_t *payload = conn->in + conn->scan + sizeof(frame);
		if (!why)
			why = frame_refuse(conn, frame.type, payload);
		if (why) {
			lose(conn, WISP_ERR_PROTOCOL, EPROTO,
			        "the agent of the sandbox '%s' violated the protocol: a frame of type %u and length "
			        "%u: "
			        "%s",
			        conn->name, frame.type, frame.length, why);
			return;
		}
		conn->events += apply(conn, frame.type, payload, frame.length);
		conn->scan += sizeof(frame) + frame.length;
	}
}

void conn_received(struct conn *conn, size_t length)
{
	conn->end += length;
	unsigned events = conn->events;
	check_frames(conn);
	if (conn->events != events && conn->deadline_ns != INT64_MAX)
		conn->moved_ns = lib_now_ns();
}

bool conn_is_full(const struct conn *conn)
{
	return conn->end == CONN_IN_SIZE;
}

void conn_pump(struct conn *conn)
{
	conn_flush(conn);
	if (conn->lost || conn->phase == CONN_DONE || conn_is_full(conn))
		return;
	ssize_t n = recv(conn->fd, conn->in + conn->end, CONN_IN_SIZE - conn->end, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n <= 0) {
		int errnum = n < 0 ? errno : ECONNRESET;
		lose(conn, WISP_ERR_DISCONNECTED, errnum,
		        "the connection to the sandbox '%s' ended early%s: it was stopped, or its monitor died",
		        conn->name, conn->end > conn->scan ? ", in the middle of a frame" : "");
		return;
	}
	conn_received(conn, (size_t)n);
	conn_feed(conn);
}

/* The owner no longer needs the last event: its place can be reused. */
static void release_held(struct conn *conn)
{
	bool was_full = conn_is_full(conn);
	conn->head += conn->held;
	conn->held = 0;
	if (conn->events == 0)
		conn->head = conn->scan;
	if (conn->head != conn->scan || conn->head == 0)
		return;
	memmove(conn->in, conn->in + conn->scan, conn->end - conn->scan);
	conn->end -= conn->scan;
	conn->head = conn->scan = 0;
	conn->kick |= was_full;
}

static bool is_event(uint8_t type)
{
	return type != PROTO_HELLO && type != PROTO_PING && type != PROTO_STDIN_WINDOW && type != PROTO_ERROR;
}

static void take_event(struct conn *conn, struct conn_event *event)
{
	struct proto_frame frame;
	size_t at = conn->head;
	for (;;) {
		memcpy(&frame, conn->in + at, sizeof(frame));
		if (is_event(frame.type))
			break;
		at += sizeof(frame) + frame.length;
	}
	*event = (struct conn_event){
	        .type = frame.type,
	        .payload = conn->in + at + sizeof(frame),
	        .length = frame.length,
	};
	conn->held = at + sizeof(frame) + frame.length - conn->head;
	conn->events--;
}

/* Returns 1 if there is something to return, in *event or as *result. */
static int try_recv(struct conn *conn, struct conn_event *event, struct wisp_error *error, int *result)
{
	*result = 0;
	if (conn->events > 0) {
		if (event)
			take_event(conn, event);
		return 1;
	}
	if (conn->phase == CONN_DONE) {
		if (event)
			*event = (struct conn_event){0};
		return 1;
	}
	if (conn->lost) {
		if (error)
			*error = conn->cause;
		*result = -conn->cause.errnum;
		return 1;
	}
	return 0;
}

/*
 * Whether the guest hangs. What the caller reads late, the guest delivers late, so the deadline moves on as long as
 * something arrives.
 */
static bool is_overdue(struct conn *conn, int64_t now)
{
	if (now < conn->deadline_ns)
		return false;
	int64_t late = conn->moved_ns + CONN_MARGIN_MS * NS_PER_MS;
	if (now >= late)
		return true;
	conn->deadline_ns = late;
	conn_wake_set_deadline(&conn->wake, late);
	return false;
}

int conn_recv(struct conn *conn, int64_t timeout_ms, struct conn_event *event, struct wisp_error *error)
{
	int64_t deadline = lib_deadline_ns(timeout_ms);
	int result, waited = 0;
	pthread_mutex_lock(&conn->lock);
	release_held(conn);
	while (!try_recv(conn, event, error, &result)) {
		conn_pump(conn);
		if (conn->events > 0 || conn->lost || conn->phase == CONN_DONE)
			continue;
		release_held(conn); /* frames that were not events */
		int64_t now = lib_now_ns();
		if (is_overdue(conn, now)) {
			lose(conn, WISP_ERR_TIMEOUT, ETIMEDOUT,
			        "the execution's timeout passed, and the guest of the sandbox '%s' did not say so: it "
			        "hangs",
			        conn->name);
			continue;
		}
		if (now >= deadline) {
			result = lib_fail(error, WISP_ERR_AGAIN, EAGAIN,
			        "nothing arrived from the sandbox '%s' in time", conn->name);
			break;
		}
		if (waited == -ECANCELED || waited == -EINTR) {
			result = lib_fail_wait(error, waited);
			break;
		}
		bool pending = conn_out_is_pending(&conn->out);
		struct pollfd pfds[2] = {
		        {.fd = conn->fd, .events = POLLIN | (pending ? POLLOUT : 0)},
		        {.fd = conn->wake.event_fd, .events = POLLIN}, /* another thread may read the socket */
		};
		conn->wake_receiver = conn->wake_writer = false;
		conn_update(conn);
		int64_t limit = conn->deadline_ns;
		pthread_mutex_unlock(&conn->lock);
		waited = lib_poll(&conn->cancel, pfds, 2, deadline < limit ? deadline : limit);
		pthread_mutex_lock(&conn->lock);
	}
	conn->wake_receiver = false;
	conn->wake_writer = conn->wake.epoll_fd < 0; /* leaves the rest to a thread that still waits */
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	return result;
}
