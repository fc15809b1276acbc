/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Level-triggered wake-ups of a connection, for other threads and for the caller's poll(2). A descriptor is -1 until it
 * is asked for. The caller serializes the calls.
 */
#ifndef WISP_LIB_CONN_WAKE_H
#define WISP_LIB_CONN_WAKE_H

#include "vmm/lib/lib.h"

struct conn_wake {
	int event_fd;  /* readable: a call to receive has something to return */
	int window_fd; /* readable: a write has something to do */
	int epoll_fd;  /* the socket, event_fd and the deadline's timer */
	int timer_fd;
	bool event_set, window_set, wants_out;
};

void conn_wake_init(struct conn_wake *wake);
void conn_wake_destroy(struct conn_wake *wake);
/* Makes event_fd and window_fd, unless they are there. -errno. */
int conn_wake_make(struct conn_wake *wake);
/* Makes epoll_fd too, for the connection's socket; INT64_MAX is no deadline. -errno. */
int conn_wake_make_epoll(struct conn_wake *wake, int fd, int64_t deadline_ns);
/* Moves the deadline at which epoll_fd wakes, if it has one. */
void conn_wake_set_deadline(struct conn_wake *wake, int64_t deadline_ns);
/* Sets the descriptors that are there to the state; `pending`: epoll_fd also waits until `fd` takes bytes. */
void conn_wake_update(struct conn_wake *wake, int fd, bool receivable, bool writable, bool pending);

#endif
