/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to the guest's agent, which carries one request (docs/internals/protocol.md). A session's handle, its
 * stdin writer and its control handles share it and may live in different threads: every field is under `lock`, nothing
 * waits with the lock held, and the socket closes with the last of them.
 *
 * Receiving. Frames are read into one buffer of fixed size, by whichever thread waits for something. Each is checked as
 * soon as it is whole, and what is no event (window, ping) takes effect then: a writer learns of its window although
 * the session's owner does not receive. The buffer is moved only by the owner, between two events, so an event's bytes
 * stay where they are while the owner looks at them. When the buffer is full, nothing more is read: what the program
 * writes then waits in the guest.
 *
 * Sending. A frame goes straight to the socket; what does not fit is kept in a small buffer and goes out with the next
 * chance. Stdin is only sent within the window that the agent granted and while that buffer is empty, so a signal waits
 * behind no more than the rest of one frame that the agent is sure to take.
 */
#ifndef WISP_LIB_CONN_H
#define WISP_LIB_CONN_H

#include <pthread.h>
#include <sys/uio.h>

#include "vmm/shared/proto.h"
#include "vmm/lib/lib.h"

#define CONN_IN_SIZE (3 * (sizeof(struct proto_frame) + PROTO_DATA_MAX))
#define CONN_OUT_SIZE (sizeof(struct proto_frame) + PROTO_DATA_MAX + 4096)

/* What was asked for: it says which answers may come. */
enum conn_request { CONN_EXEC, CONN_OPEN, CONN_LIST, CONN_PING };

enum conn_phase {
	CONN_GREETING, /* no HELLO yet */
	CONN_ASKED,    /* no answer yet */
	CONN_RUNNING,  /* STARTED */
	CONN_ENDED,    /* EXITED or FAILED */
	CONN_DONE,
};

struct conn {
	pthread_mutex_t lock;
	unsigned refs;
	int fd;
	char name[WISP_NAME_MAX + 1]; /* the sandbox's, for messages */
	enum conn_request request;
	bool tty;

	/* What has been received. [head, scan) are whole, checked frames; the first `held` bytes of it are looked at.
	 */
	uint8_t *in;
	size_t head, scan, end, held;
	enum conn_phase phase;
	bool eof;
	bool lost; /* no more can be received: `cause` says why once the frames are used up */
	struct wisp_error cause;
	uint64_t session;
	bool writer;     /* STARTED said so */
	uint64_t replay; /* likewise: how much of the output is of the past */

	/* What has not been sent. */
	uint8_t *out;
	size_t out_head, out_end;
	/*
	 * Who is to be woken because of it: none of those who wait, waits for the socket to take it. Once epoll_fd is
	 * there it does.
	 */
	bool wake_receiver, wake_writer;
	bool closed; /* the session's handle is gone */
	bool cannot_send;
	uint64_t window;   /* bytes of stdin that may be sent */
	bool stdin_closed; /* by this side, by the program, or by its end */
	uint8_t *feed;     /* WISP_STDIN_BYTES: what is left of it */
	size_t feed_at, feed_length;
	bool feeding;

	/* Level-triggered wake-ups across threads and for poll(2); -1 while nobody asked for them. */
	int event_fd;  /* readable: a call to receive has something to return */
	int window_fd; /* readable: a write has something to do */
	int epoll_fd;  /* the socket, event_fd and the deadline's timer */
	int timer_fd;
	bool event_set, window_set, wants_out;
	unsigned events; /* frames in [head + held, scan) that are for the session's owner */
	bool kick;       /* there is room in `in` again: a writer that stopped reading shall go on */
	int64_t deadline_ns;
};

/* Connects to the VMM. `deadline_ns` is the execution's; connecting has a limit of its own too. */
int conn_open(const char *dir, const char *name, int64_t deadline_ns, struct conn **conn, struct wisp_error *error);
void conn_ref(struct conn *conn);
void conn_unref(struct conn *conn);
/* The session's handle is gone: nothing can be sent or received any more. */
void conn_close(struct conn *conn);

/* Asks the VMM for the agent, and the agent for `request`; waits until that is sent and the agent has accepted. */
int conn_ask(
        struct conn *conn, enum conn_request request, const void *payload, size_t length, struct wisp_error *error);

/* One frame of at most 64 bytes, sent as soon as the socket takes it. */
int conn_send(struct conn *conn, enum proto_type type, const void *payload, size_t length, struct wisp_error *error);

/* A received frame, until the next call. -EAGAIN; 0 with type 0 after DONE. */
struct conn_event {
	enum proto_type type;
	const uint8_t *payload;
	size_t length;
};
/* `event` may be NULL: then it only waits until there is one. */
int conn_recv(struct conn *conn, int64_t timeout_ms, struct conn_event *event, struct wisp_error *error);

ptrdiff_t conn_write_stdin(
        struct conn *conn, const void *data, size_t length, int64_t timeout_ms, struct wisp_error *error);
void conn_close_stdin(struct conn *conn);
/* Bytes that go out by themselves as the window allows, then the end of file. `data` is copied. */
int conn_feed_stdin(struct conn *conn, const void *data, size_t length, struct wisp_error *error);

/* Pollable descriptors; -errno. */
int conn_event_fd(struct conn *conn);
int conn_window_fd(struct conn *conn);
/* Makes the wake-up that a second thread needs. */
int conn_make_wakeups(struct conn *conn, struct wisp_error *error);

#endif
