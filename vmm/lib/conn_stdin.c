/* SPDX-License-Identifier: Apache-2.0 */
/* A session's standard input, sent within the window that the agent grants, and never ahead of a signal. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/lib/conn.h"

/* Sends the largest frame of stdin that may be sent now, and returns its length or 0. With the lock held. */
static ptrdiff_t send_some(struct conn *conn, const uint8_t *data, size_t length)
{
	size_t n = length < PROTO_DATA_MAX ? length : PROTO_DATA_MAX;
	if (n > conn->window)
		n = (size_t)conn->window;
	conn_flush(conn);
	if (n == 0 || conn_out_is_pending(&conn->out))
		return 0;
	int r = conn_queue(conn, PROTO_STDIN, data, n);
	if (r < 0)
		return r;
	conn->window -= n;
	return (ptrdiff_t)n;
}

void conn_feed(struct conn *conn)
{
	while (conn->feeding && !conn->stdin_closed) {
		if (conn->feed_at == conn->feed_length) {
			if (conn_queue(conn, PROTO_STDIN_EOF, NULL, 0) == 0)
				conn->stdin_closed = true;
			break;
		}
		ptrdiff_t n = send_some(conn, conn->feed + conn->feed_at, conn->feed_length - conn->feed_at);
		if (n <= 0)
			return;
		conn->feed_at += (size_t)n;
	}
	if (conn->stdin_closed) {
		free(conn->feed);
		conn->feed = NULL;
		conn->feeding = false;
	}
}

int conn_feed_stdin(struct conn *conn, const void *data, size_t length, struct wisp_error *error)
{
	uint8_t *copy = malloc(length ? length : 1);
	if (!copy)
		return lib_no_memory(error);
	if (length > 0)
		memcpy(copy, data, length);
	pthread_mutex_lock(&conn->lock);
	conn->feed = copy;
	conn->feed_length = length;
	conn->feeding = true;
	conn_feed(conn);
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	return 0;
}

/* Returns 0, or the reason that no more can be written. */
static int refuse(struct conn *conn, struct wisp_error *error)
{
	if (conn->closed)
		return lib_fail(error, WISP_ERR_DISCONNECTED, ENOTCONN, "the session's handle was closed");
	if (conn->stdin_closed)
		return lib_fail(error, WISP_ERR_SESSION_ENDED, EPIPE,
		        "the stdin of session %llu of the sandbox '%s' is closed", (unsigned long long)conn->session,
		        conn->name);
	if (conn->lost) {
		if (error)
			*error = conn->cause;
		return -conn->cause.errnum;
	}
	if (conn->out.broken)
		return lib_fail(
		        error, WISP_ERR_DISCONNECTED, EPIPE, "the connection to the sandbox '%s' is lost", conn->name);
	return 0;
}

/* Releases the lock until something may have changed. */
static int wait_writable(struct conn *conn, int64_t deadline_ns)
{
	bool pending = conn_out_is_pending(&conn->out);
	/* While `in` is full, the session's owner has to receive first, and then sets `kick`. */
	short events = (short)((conn_is_full(conn) ? 0 : POLLIN) | (pending ? POLLOUT : 0));
	struct pollfd pfds[2] = {
	        {.fd = events ? conn->fd : -1, .events = events},
	        {.fd = conn->wake.window_fd, .events = POLLIN},
	};
	conn->wake_receiver = conn->wake_writer = false;
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	int r = lib_poll(&conn->cancel, pfds, 2, deadline_ns);
	pthread_mutex_lock(&conn->lock);
	return r;
}

ptrdiff_t conn_write_stdin(
        struct conn *conn, const void *data, size_t length, int64_t timeout_ms, struct wisp_error *error)
{
	int64_t deadline = lib_deadline_ns(timeout_ms);
	const uint8_t *bytes = data;
	size_t done = 0;
	ptrdiff_t result = 0;
	pthread_mutex_lock(&conn->lock);
	while (done < length) {
		conn->kick = false;
		if ((result = refuse(conn, error)) < 0)
			break;
		ptrdiff_t n = send_some(conn, bytes + done, length - done);
		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		uint64_t window = conn->window;
		bool pending = conn_out_is_pending(&conn->out);
		conn_pump(conn);
		if (conn->window != window || conn->stdin_closed || conn->lost || conn->out.broken ||
		        pending != conn_out_is_pending(&conn->out))
			continue;
		if (lib_now_ns() >= deadline) {
			result = lib_fail(error, WISP_ERR_AGAIN, EAGAIN, "the program does not read its stdin now");
			break;
		}
		int r = wait_writable(conn, deadline);
		if (r == -ECANCELED || r == -EINTR) {
			result = lib_fail_wait(error, r);
			break;
		}
	}
	conn->wake_writer = false;
	conn->wake_receiver = conn->wake.epoll_fd < 0; /* leaves the rest to a thread that still waits */
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	/* After a part was sent, the next call returns the error. */
	return done > 0 ? (ptrdiff_t)done : result;
}

void conn_close_stdin(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	if (!conn->closed && !conn->stdin_closed)
		conn_queue(conn, PROTO_STDIN_EOF, NULL, 0);
	conn->stdin_closed = true;
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
}
