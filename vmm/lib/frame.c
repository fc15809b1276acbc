/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "vmm/lib/frame.h"

static const char *refuse_order(const struct conn *conn, uint8_t type)
{
	static const char order[] = "it came out of order";
	bool session = conn->request == CONN_EXEC || conn->request == CONN_OPEN;
	switch (type) {
	case PROTO_HELLO: return conn->phase == CONN_GREETING ? NULL : order;
	case PROTO_PING: return conn->phase != CONN_GREETING && conn->phase != CONN_DONE ? NULL : order;
	case PROTO_PONG: return conn->request == CONN_PING && conn->phase == CONN_ASKED ? NULL : order;
	case PROTO_ERROR: return conn->phase != CONN_GREETING && conn->phase != CONN_DONE ? NULL : order;
	case PROTO_STARTED: return session && conn->phase == CONN_ASKED ? NULL : order;
	case PROTO_FAILED: return conn->request == CONN_EXEC && conn->phase == CONN_ASKED ? NULL : order;
	case PROTO_SESSION: return conn->request == CONN_LIST && conn->phase == CONN_ASKED ? NULL : order;
	case PROTO_STDERR:
		if (conn->tty)
			return "a session with a tty has no stderr";
		return conn->phase == CONN_RUNNING ? NULL : order;
	case PROTO_STDOUT:
	case PROTO_DROPPED:
	case PROTO_EXITED: return conn->phase == CONN_RUNNING ? NULL : order;
	/* The agent may have sent these two before the program ended. */
	case PROTO_STDIN_WINDOW:
	case PROTO_STDIN_ERROR: return conn->phase == CONN_RUNNING || conn->phase == CONN_ENDED ? NULL : order;
	case PROTO_DONE:
		if (conn->request == CONN_LIST)
			return conn->phase == CONN_ASKED ? NULL : order;
		return conn->phase == CONN_ENDED ? NULL : order;
	default: return "its type is unknown";
	}
}

static const char *refuse_exited(const uint8_t *payload)
{
	struct proto_exited exited;
	memcpy(&exited, payload, sizeof(exited));
	if (exited.flags & ~(uint32_t)PROTO_SESSION_TIMEOUT)
		return "it has unknown flags";
	if (exited.signal > 64)
		return "its signal is not valid";
	if (exited.signal ? exited.code != -1 : exited.code < 0 || exited.code > 255)
		return "its exit code is not valid";
	return NULL;
}

const char *frame_refuse(const struct conn *conn, uint8_t type, const uint8_t *payload)
{
	if (conn->phase == CONN_GREETING && type == PROTO_HELLO) {
		struct proto_hello hello;
		memcpy(&hello, payload, sizeof(hello));
		if (hello.magic != PROTO_MAGIC || hello.zero != 0)
			return "it is not an agent's greeting";
	}
	const char *why = refuse_order(conn, type);
	if (!why && type == PROTO_EXITED)
		why = refuse_exited(payload);
	return why;
}
