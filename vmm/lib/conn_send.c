/* SPDX-License-Identifier: Apache-2.0 */
/* Sending requests on a connection. */
#include <errno.h>

#include "vmm/lib/conn.h"

void conn_flush(struct conn *conn)
{
	conn_out_flush(&conn->out, conn->fd);
}

int conn_queue(struct conn *conn, enum proto_type type, const void *payload, size_t length)
{
	if (conn->closed)
		return -EPIPE;
	int r = conn_out_queue(&conn->out, conn->fd, type, payload, length);
	if (r == 0 && conn_out_is_pending(&conn->out))
		conn->wake_receiver = conn->wake_writer = true;
	return r;
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
