/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to the guest's agent, which carries one request (docs/internals/protocol.md). A session's handle, its
 * stdin writer and its control handles share it, and may be used in different threads: `lock` guards every field, no
 * call waits with the lock held, and the last of the handles closes the socket.
 *
 * conn.c opens, shares and closes it; conn_recv.c receives; conn_send.c and conn_stdin.c send, over conn_out.c, which
 * knows frames and a socket only; conn_wake.c holds the descriptors that wake other threads and the caller's poll(2).
 *
 * Receiving. Whichever thread waits for something reads frames into one buffer of fixed size. Each is checked as soon
 * as it is whole, and what is not an event (window, ping) takes effect then, so that a writer learns of its window
 * although the session's owner does not receive. Only the owner moves the buffer's contents, between two events, so an
 * event's bytes stay where they are while the owner looks at them. Nothing more is read while the buffer is full: what
 * the program writes then waits in the guest.
 *
 * Sending. Stdin is sent only within the window that the agent granted and while nothing is kept in `out`, so a signal
 * waits behind no more than the rest of one frame that the agent is sure to take.
 */
#ifndef WISP_LIB_CONN_H
#define WISP_LIB_CONN_H

#include <pthread.h>

#include "vmm/lib/conn_out.h"
#include "vmm/lib/conn_wake.h"

/* How much later than the guest the host enforces an execution's timeout, and how long a late event may take. */
#define CONN_MARGIN_MS 2000
#define CONN_IN_SIZE (3 * (sizeof(struct proto_frame) + PROTO_DATA_MAX))

/* What was asked for: it says which answers may come. */
enum conn_request { CONN_EXEC, CONN_OPEN, CONN_LIST, CONN_PING };

enum conn_phase {
	CONN_GREETING, /* no HELLO yet */
	CONN_ASKED,    /* no answer yet */
	CONN_RUNNING,  /* STARTED */
	CONN_ENDED,    /* EXITED or FAILED */
	CONN_DONE,
};

/*
 * The connection that a handle keeps from its last request for its next. Making and ending one takes the guest as long
 * as a ping. At most one: requests at the same time have connections of their own. The handle shares this with its
 * connections, which may outlive it.
 */
struct conn_pool {
	pthread_mutex_t lock;
	unsigned refs;
	bool closed; /* the handle is gone */
	int fd;      /* or -1 */
};

struct conn {
	pthread_mutex_t lock;
	unsigned refs;
	int fd;
	bool kept;                    /* by the pool, before: the agent knows us */
	struct conn_pool *pool;       /* where it goes after its request */
	struct lib_cancel cancel;     /* constant once others share it */
	char name[WISP_NAME_MAX + 1]; /* the sandbox's, for messages */
	enum conn_request request;
	bool tty;

	/* What has been received. [head, scan) are whole, checked frames; the owner looks at its first `held` bytes. */
	uint8_t *in;
	size_t head, scan, end, held;
	enum conn_phase phase;
	bool lost; /* no more can be received: `cause` says why once the frames are used up */
	struct wisp_error cause;
	uint64_t session;
	uint32_t pid;
	bool writer;     /* STARTED said so */
	uint64_t replay; /* STARTED said how many bytes of output are from the past */

	struct conn_out out; /* what has not been sent */
	/* Whom to wake to send it: set while no thread waits for the socket to take it. epoll_fd waits for it too. */
	bool wake_receiver, wake_writer;
	bool closed;       /* the session's handle is gone */
	uint64_t window;   /* bytes of stdin that may be sent */
	bool stdin_closed; /* by this side, by the program, or by its end */
	uint8_t *feed;     /* WISP_STDIN_BYTES: what is left of it */
	size_t feed_at, feed_length;
	bool feeding;

	struct conn_wake wake;
	unsigned events;     /* frames in [head + held, scan) that are for the session's owner */
	bool kick;           /* `in` has room again: wakes a writer that stopped reading */
	int64_t deadline_ns; /* when a guest that says nothing hangs */
	int64_t moved_ns;    /* when an event last arrived */
};

/* Connects to the monitor, unless a connection was kept. `deadline_ns` is the execution's; connecting has a limit of
 * its own as well. */
int conn_open(const struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, int64_t deadline_ns,
        struct conn **conn, struct wisp_error *error);
void conn_ref(struct conn *conn);
void conn_unref(struct conn *conn);
/*
 * Drops the owner's reference: keeps the connection for the next request if it can be, or ends it for all handles.
 */
void conn_close(struct conn *conn);

/* NULL if out of memory. */
struct conn_pool *conn_pool_new(void);
/* Ends the connection that is kept, if there is one. */
void conn_pool_drain(struct conn_pool *pool);
/* The handle is gone: keeps no more. */
void conn_pool_close(struct conn_pool *pool);

/*
 * Asks the monitor for the agent, unless the connection was kept, and the agent for `request`. Waits until both are
 * sent and the agent has accepted.
 */
int conn_ask(
        struct conn *conn, enum conn_request request, const void *payload, size_t length, struct wisp_error *error);

/* One frame of at most 64 bytes, sent as soon as the socket takes it. */
int conn_send(struct conn *conn, enum proto_type type, const void *payload, size_t length, struct wisp_error *error);

/* A received frame, which is valid until the next conn_recv. Its type is 0 after DONE. */
struct conn_event {
	enum proto_type type;
	const uint8_t *payload;
	size_t length;
};
/* Waits for the first answer, as long as a guest that is alive may take. */
int conn_wait_answer(struct conn *conn, struct wisp_error *error);
/* Receives a frame; with `event` NULL, only waits until there is one. -EAGAIN: none within timeout_ms. */
int conn_recv(struct conn *conn, int64_t timeout_ms, struct conn_event *event, struct wisp_error *error);

ptrdiff_t conn_write_stdin(
        struct conn *conn, const void *data, size_t length, int64_t timeout_ms, struct wisp_error *error);
void conn_close_stdin(struct conn *conn);
/* Sends a copy of the bytes as the window allows, in the calls that receive, then the end of file. */
int conn_feed_stdin(struct conn *conn, const void *data, size_t length, struct wisp_error *error);

/* The pollable descriptors: conn_event_fd makes its own (-errno); conn_window_fd is -1 before conn_make_wakeups. */
int conn_event_fd(struct conn *conn);
int conn_window_fd(struct conn *conn);
/* Makes the wake-ups that a second thread needs. */
int conn_make_wakeups(struct conn *conn, struct wisp_error *error);

/* ---- Between the files of a connection, with the lock held ---- */

/* Sets the pollable descriptors to what the state is now. Precedes every unlock. */
void conn_update(struct conn *conn);
/* Sends what it can of what is kept. */
void conn_flush(struct conn *conn);
/* Sends a frame, or keeps what does not fit. -EPIPE, -ENOMEM, or -EAGAIN when no more can be kept. */
int conn_queue(struct conn *conn, enum proto_type type, const void *payload, size_t length);
/* Sends and reads what it can without waiting. */
void conn_pump(struct conn *conn);
/* Checks and applies what is whole of the `length` bytes that were read to the end of `in`. */
void conn_received(struct conn *conn, size_t length);
/* No more can be read until the session's owner has received. */
bool conn_is_full(const struct conn *conn);
/* Sends what the window allows of WISP_STDIN_BYTES. */
void conn_feed(struct conn *conn);

#endif
