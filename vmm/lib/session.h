/* SPDX-License-Identifier: Apache-2.0 */
/* A session's handle: a connection, and the last event in the caller's form. */
#ifndef WISP_LIB_SESSION_H
#define WISP_LIB_SESSION_H

#include "vmm/lib/conn.h"
#include "vmm/lib/sandbox.h"

struct wisp_session {
	struct conn *conn;
	struct wisp_event event;
	char message[512]; /* event.message, if it is the guest's */
	size_t output_limit;
	int64_t timeout_ms;
	bool has_stdin; /* wisp_take_stdin has a writer to return */
	bool reattached;
	uint64_t received; /* bytes of output, including lost ones */
};

/* Takes over the connection, even if it fails. */
int session_new(struct conn *conn, struct wisp_session **session, struct wisp_error *error);

#endif
