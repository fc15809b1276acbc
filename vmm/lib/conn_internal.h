/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of a connection; all with the lock held. */
#ifndef WISP_LIB_CONN_INTERNAL_H
#define WISP_LIB_CONN_INTERNAL_H

#include "vmm/lib/conn.h"

/* Brings the pollable descriptors to what the state is now: before every unlock. */
void conn_update(struct conn *conn);
/* Sends what it can of what is kept. */
void conn_flush(struct conn *conn);
/* Sends a frame, or keeps what does not fit. -EPIPE, -ENOMEM, or -EAGAIN when no more can be kept. */
int conn_queue(struct conn *conn, enum proto_type type, const void *payload, size_t length);
/* Sends and reads what it can without waiting. */
void conn_pump(struct conn *conn);
bool conn_is_full(const struct conn *conn);
/* Sends what the window allows of WISP_STDIN_BYTES. */
void conn_feed(struct conn *conn);

#endif
