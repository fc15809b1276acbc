/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frames of a connection on their way to the agent. A frame goes straight to the socket; what does not fit is kept
 * in a small buffer, and goes out before anything else. Nothing waits. The caller serializes the calls.
 */
#ifndef WISP_LIB_CONN_OUT_H
#define WISP_LIB_CONN_OUT_H

#include "vmm/lib/lib.h"
#include "vmm/shared/proto.h"

struct conn_out {
	uint8_t *kept; /* [head, end) is still to be sent */
	size_t head, end;
	bool broken; /* the socket takes no more bytes */
};

void conn_out_destroy(struct conn_out *out);
bool conn_out_is_pending(const struct conn_out *out);
void conn_out_flush(struct conn_out *out, int fd);
/* Sends a frame, or keeps what does not fit. -EPIPE, -ENOMEM, or -EAGAIN when no more can be kept. */
int conn_out_queue(struct conn_out *out, int fd, enum proto_type type, const void *payload, size_t length);

#endif
