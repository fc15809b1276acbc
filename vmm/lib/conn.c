/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: life, sending, receiving. See conn.h for the theory, stdin.c for standard input. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/lib/conn.h"
#include "vmm/lib/conn_internal.h"
#include "vmm/lib/frame.h"

/* ---- Wake-ups ---- */

static void set_level(int fd, bool *is_set, bool want)
{
	uint64_t value = 1;
	if (fd < 0 || *is_set == want)
		return;
	/* Neither can fail: the counter is 0 or 1, and the descriptor does not block. */
	ssize_t n = want ? write(fd, &value, sizeof(value)) : read(fd, &value, sizeof(value));
	if (n == sizeof(value))
		*is_set = want;
}

void conn_update(struct conn *conn)
{
	bool pending = conn->out_head < conn->out_end;
	set_level(conn->event_fd, &conn->event_set,
	        conn->events > 0 || conn->lost || conn->phase == CONN_DONE || (pending && conn->wake_receiver));
	set_level(conn->window_fd, &conn->window_set,
	        conn->stdin_closed || conn->closed || conn->lost || conn->kick ||
	                (pending ? conn->wake_writer : conn->window > 0));
	if (conn->epoll_fd >= 0 && pending != conn->wants_out) {
		struct epoll_event event = {.events = EPOLLIN | (pending ? EPOLLOUT : 0)};
		if (epoll_ctl(conn->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) == 0)
			conn->wants_out = pending;
	}
}

/* ---- Sending, with the lock held ---- */

void conn_flush(struct conn *conn)
{
	while (conn->out_head < conn->out_end && !conn->cannot_send) {
		ssize_t n = send(conn->fd, conn->out + conn->out_head, conn->out_end - conn->out_head,
		        MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0) {
			conn->cannot_send = true;
			break;
		}
		conn->out_head += (size_t)n;
	}
	conn->out_head = conn->out_end = 0;
}

int conn_queue(struct conn *conn, enum proto_type type, const void *payload, size_t length)
{
	struct proto_frame frame = {.length = (uint32_t)length, .type = (uint8_t)type};
	size_t total = sizeof(frame) + length, sent = 0;
	conn_flush(conn);
	if (conn->cannot_send || conn->closed)
		return -EPIPE;
	if (conn->out_head == conn->out_end) {
		union {
			const void *from;
			void *to;
		} bytes = {.from = payload}; /* sendmsg only reads what it points to */
		struct iovec iov[2] = {{&frame, sizeof(frame)}, {bytes.to, length}};
		struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
		ssize_t n = sendmsg(conn->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
			conn->cannot_send = true;
			return -EPIPE;
		}
		sent = n > 0 ? (size_t)n : 0;
	}
	if (sent == total)
		return 0;
	if (!conn->out && !(conn->out = malloc(CONN_OUT_SIZE)))
		return -ENOMEM;
	if (total - sent > CONN_OUT_SIZE - conn->out_end)
		return -EAGAIN;
	if (sent < sizeof(frame)) {
		memcpy(conn->out + conn->out_end, (const char *)&frame + sent, sizeof(frame) - sent);
		conn->out_end += sizeof(frame) - sent;
		sent = sizeof(frame);
	}
	if (total > sent) {
		memcpy(conn->out + conn->out_end, (const char *)payload + (sent - sizeof(frame)), total - sent);
		conn->out_end += total - sent;
	}
	conn->wake_receiver = conn->wake_writer = true;
	return 0;
}

int conn_send(struct conn *conn, enum proto_type type, const void *payload, size_t length, struct wisp_error *error)
{
	int r;
	pthread_mutex_lock(&conn->lock);
	if (conn->closed)
		r = lib_fail(error, WISP_ERR_DISCONNECTED, ENOTCONN,
		        "the session's handle was closed: open the session again");
	else if (conn->phase >= CONN_ENDED)
		r = lib_fail(error, WISP_ERR_SESSION_ENDED, ESRCH, "session %llu of the sandbox '%s' has ended",
		        (unsigned long long)conn->session, conn->name);
	else
		r = conn_queue(conn, type, payload, length);
	if (r == -EPIPE)
		conn_pump(conn); /* the agent hangs up when the session has ended */
	if (r == -EPIPE && conn->phase >= CONN_ENDED)
		r = lib_fail(error, WISP_ERR_SESSION_ENDED, ESRCH, "session %llu of the sandbox '%s' has ended",
		        (unsigned long long)conn->session, conn->name);
	else if (r == -EPIPE)
		lib_fail(error, WISP_ERR_DISCONNECTED, EPIPE, "the connection to the sandbox '%s' is lost", conn->name);
	else if (r == -EAGAIN)
		lib_fail(error, WISP_ERR_AGAIN, EAGAIN, "the sandbox '%s' does not take what was sent before",
		        conn->name);
	else if (r == -ENOMEM)
		lib_no_memory(error);
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	return r;
}

/* ---- Receiving, with the lock held ---- */

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
	/* The agent need not go on talking to a client that does not listen. */
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
		        "the sandbox '%s' has no such session (any more): list its sessions", conn->name);
		break;
	case PROTO_ERROR_WRITER:
		lose(conn, WISP_ERR_WRITER_TAKEN, EBUSY,
		        "another client writes to this session of the sandbox '%s': open it without write", conn->name);
		break;
	default:
		lose(conn, WISP_ERR_PROTOCOL, EPROTO, "the agent of the sandbox '%s' refuses the request: %s",
		        conn->name, text);
	}
}

/* What a frame changes. True if it is for the session's owner. */
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
		memcpy(&frame, conn->in + conn->scan, sizeof(frame));
		const char *why = NULL;
		if (frame.zero[0] || frame.zero[1] || frame.zero[2])
			why = "its header is broken";
		else if (frame_limit(frame.type) == SIZE_MAX)
			why = "its type is unknown";
		else if (frame.length > frame_limit(frame.type))
			why = "its length is wrong";
		else if (left - sizeof(frame) < frame.length)
			return;
		const uint8_t *payload = conn->in + conn->scan + sizeof(frame);
		if (!why)
			why = frame_refuse(conn, frame.type, payload, frame.length);
		if (why) {
			lose(conn, WISP_ERR_PROTOCOL, EPROTO,
			        "the agent of the sandbox '%s' broke the protocol: a frame of type %u and length %u: "
			        "%s",
			        conn->name, frame.type, frame.length, why);
			return;
		}
		conn->events += apply(conn, frame.type, payload, frame.length);
		conn->scan += sizeof(frame) + frame.length;
	}
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
	conn->end += (size_t)n;
	check_frames(conn);
	conn_feed(conn);
}

/* The owner has done with the last event: its place can be used again. */
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

/* 1: there is something to return, in *event or as the result. */
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

int conn_recv(struct conn *conn, int64_t timeout_ms, struct conn_event *event, struct wisp_error *error)
{
	int64_t deadline = lib_deadline_ns(timeout_ms);
	int result;
	pthread_mutex_lock(&conn->lock);
	release_held(conn);
	while (!try_recv(conn, event, error, &result)) {
		conn_pump(conn);
		if (conn->events > 0 || conn->lost || conn->phase == CONN_DONE)
			continue;
		release_held(conn); /* what were no events */
		int64_t now = lib_now_ns();
		if (now >= conn->deadline_ns) {
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
		bool pending = conn->out_head < conn->out_end;
		struct pollfd pfds[2] = {
		        {.fd = conn->fd, .events = POLLIN | (pending ? POLLOUT : 0)},
		        {.fd = conn->event_fd, .events = POLLIN}, /* another thread may be the one that reads */
		};
		conn->wake_receiver = conn->wake_writer = false;
		conn_update(conn);
		pthread_mutex_unlock(&conn->lock);
		poll(pfds, 2, lib_poll_ms(deadline < conn->deadline_ns ? deadline : conn->deadline_ns));
		pthread_mutex_lock(&conn->lock);
	}
	conn->wake_receiver = false;
	conn->wake_writer = conn->epoll_fd < 0; /* one that still waits sees to the rest */
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	return result;
}
