/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection: its frames in, its frames out. The control connection is one, too.
 *
 * What goes out is of two kinds. The frames of the conversation are queued in `out`. Output is sent straight from the
 * session's ring: the client has a position in it, and frame headers are made as it is sent. A frame that the socket
 * took only a part of is finished before anything else. Where the ring is about to overwrite such a frame's rest, that
 * is copied to `out` before (agent_client_rescue).
 */
#ifndef WISP_AGENT_CLIENT_H
#define WISP_AGENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/bytes.h"
#include "agent/list.h"
#include "agent/poller.h"
#include "vmm/shared/proto.h"

#define CLIENT_CLOSING_MAX 64u /* answered connections that the peer has not closed */
#define CLIENT_IDLE_MAX 128u   /* idle kept connections; one more replaces the one that has been idle for longest */

/* The times of struct agent_client's timers. */
#define CLIENT_HOLD_NS (20u * 1000 * 1000)
#define CLIENT_PATIENCE_NS (30u * 1000 * 1000 * 1000ull)
#define CLIENT_SHUT_NS (20u * 1000 * 1000)
#define CLIENT_LINGER_NS (5u * 1000 * 1000 * 1000ull)

struct agent;
struct agent_failure;
struct agent_session;

enum client_state {
	CLIENT_GREETING, /* its HELLO is to come */
	CLIENT_REQUEST,  /* then its request */
	CLIENT_IDLE,     /* it sent KEEP, and may or may not send another request */
	CLIENT_SESSION,
	CLIENT_LIST,
	CLIENT_ENDING,  /* everything is queued; idle, or to be closed, once it is sent */
	CLIENT_CLOSING, /* everything is sent; the peer's end is awaited */
};

struct agent_client {
	struct agent *agent;
	struct list node;
	struct poller_watch watch;
	struct poller_task flush;
	struct poller_timer hold;     /* sends what was queued in the hope that more would come: HELLO, STARTED */
	struct poller_timer patience; /* ends a client that does not finish its request, or does not read a list */
	struct poller_timer shut;     /* shuts our side of an answered connection that its peer does not close */
	struct poller_timer linger;   /* frees one that does not take its last frames, or does not close */
	enum client_state state;
	bool control;
	bool keep;        /* it sent KEEP, and nothing that ends the connection */
	bool awaits_room; /* EPOLLOUT is watched for */
	struct bytes in;  /* the beginning of a frame whose rest is to come */
	struct bytes out;
	bool broken; /* memory was short for a frame it must get: to be closed */

	/* In a session: */
	struct agent_session *session;
	struct list session_node;
	bool writer;
	bool collect;      /* STARTED need not come at once */
	uint64_t position; /* of the next output byte to send */
	uint64_t limit;    /* output is sent up to here; 0: as the session says, agent_client_limit() */
	uint8_t header[sizeof(struct proto_frame)]; /* the last header_left bytes are to be sent, */
	uint32_t header_left;
	uint32_t frame_left; /* then so many from position on */
	uint32_t window;     /* bytes of stdin the client may still send */
	uint32_t credit;     /* and may be granted again */
	bool stdin_closed;   /* it was told STDIN_ERROR */
	bool stdin_ended;    /* it sent STDIN_EOF */

	uint64_t list_next; /* id of the next session to list */
};

/* Serves fd, which it takes over in any case. 0 or -errno. */
int agent_client_serve(struct agent *agent, int fd, bool control);

/* frames.c: the program of this client's EXEC runs. */
void agent_client_started(struct agent_client *client);

/* frames.c: the program of EXEC number id did not start; client (NULL: it has left) and log are told. */
void agent_client_failed(
        struct agent *agent, struct agent_client *client, uint64_t id, const struct agent_failure *failure);

/* Its request is finished, or it has just sent KEEP: it is idle from now on. */
void agent_client_rest(struct agent_client *client);
/* A request has arrived on an idle connection. False if too many are served already; the client is told so. */
bool agent_client_resume(struct agent_client *client);

/* It has a while for what it has begun: its request, or to read a list. */
void agent_client_be_patient(struct agent_client *client);

/* Closes it now, whatever is left. */
void agent_client_free(struct agent_client *client);

/* Something is to be sent: it is at the end of this round. */
void agent_client_wake(struct agent_client *client);

/* The same, within CLIENT_HOLD_NS: there may be more to send by then. */
void agent_client_defer(struct agent_client *client);

/* Queues a frame that goes out with the next one, or when something else wakes the connection. */
void agent_client_append(struct agent_client *client, uint8_t type, const void *payload, size_t length);

/* Queues a frame and wakes the connection; one for which there is no memory is closed at the end of this round. */
void agent_client_queue(struct agent_client *client, uint8_t type, const void *payload, size_t length);

/* Copies the rest of a frame that is under way to where the ring cannot overwrite it. */
void agent_client_rescue(struct agent_client *client);

/* Output is sent up to this position: while the program runs all there is, else what was there when it ended. */
uint64_t agent_client_limit(const struct agent_client *client);

/* stdin of this client was written: it may be granted again. */
void agent_client_credit(struct agent_client *client, uint32_t bytes);

/* ---- Between client.c, which has the life of a connection, and what it is made of ---- */

/* frames.c: deals with the whole frames in data, and returns how many bytes they are. */
size_t agent_client_frames(struct agent_client *client, uint8_t *data, size_t length);

/*
 * frames.c: there is no memory for the rest of the frame that begins with data. True when the client was told so: an
 * EXEC fails as others do; otherwise the connection can only be closed.
 */
bool agent_client_starve(struct agent_client *client, const uint8_t *data, size_t length);

/* send.c: sends what can be. 0, -EAGAIN when the socket is full, or another -errno. */
int agent_client_send(struct agent_client *client);

/* Nothing more than what is queued will be sent: leaves the session, then closes. */
void agent_client_end(struct agent_client *client);
/* The same after an ERROR frame. */
void agent_client_refuse(struct agent_client *client, enum proto_error_code code, const char *message);

#endif
