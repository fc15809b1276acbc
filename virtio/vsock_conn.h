/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the socket device: its state, and the interface between its parts. vsock.c is the guest's side: packets,
 * queues, credit. vsock_host.c is the host's side: its sockets, and data that they have not taken yet. vsock_listen.c
 * accepts the host's clients.
 *
 * A connection exists while either half needs it: the guest's half while it is `linked` (found by its ports), the
 * host's half while fd is open. Polls in flight keep the memory a little longer. Everything belongs to the loop's
 * thread.
 */
#ifndef WISP_VIRTIO_VSOCK_CONN_H
#define WISP_VIRTIO_VSOCK_CONN_H

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "virtio/vsock.h"

/* How far a guest may send ahead of what the host's socket takes, in bytes for each connection; a power of two. */
#define CONN_BUFFER_MAX (256u << 10)

/* What all connections but the forwarded ones may hold together; one that needs more is reset. */
#define BUFFERED_MAX (64u << 20)

#define CONNS_MAX 4096u /* without those that are forwarded */

/*
 * How far a guest may send ahead on a forwarded connection: as far as on others while there are few of them. So all
 * together hold less than 100 MiB, and none needs to be reset.
 */
#define FORWARDS_AMPLE 128u
#define FORWARD_BUFFER_MIN (16u << 10)

/* The same for connections that the guest opens: so these leave a quarter of BUFFERED_MAX to the host's clients. */
#define OPENED_AMPLE 128u
#define OPENED_BUFFER_MIN (4u << 10)

#define HASH_SIZE 1024u

/* "CONNECT 4294967295\n" has 19. */
#define LINE_MAX_BYTES 32u

/* Resets to send for packets that belong to no connection. When all are in use, packets of the guest wait. */
#define REPLIES_MAX 64u

/* The maximum number of the guest's receive buffers that one read of a socket fills. */
#define BATCH_MAX 8u

#define HOST_CID 2u

enum { RXQ, TXQ, EVENTQ, VSOCK_QUEUES };

struct list {
	struct list *next, *prev; /* a ring that includes the head; an item in no list points to itself */
};

static inline void list_init(struct list *list)
{
	list->next = list->prev = list;
}

static inline bool list_empty(const struct list *list)
{
	return list->next == list;
}

static inline void list_append(struct list *head, struct list *item)
{
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}

static inline void list_remove(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

enum conn_state {
	CONN_LINE,      /* a client that has not yet sent its line */
	CONN_REQUEST,   /* it has; the guest does not know of it yet */
	CONN_REQUESTED, /* the guest was asked */
	CONN_OPEN,
	CONN_RESET, /* all that is left for the guest is a reset */
};

/* Control packets to send to the guest. Flags instead of a list: a guest that takes none costs no memory. */
enum { PENDING_REQUEST = 1, PENDING_RESPONSE = 2, PENDING_CREDIT = 4, PENDING_RESET = 8 };

/* A listening socket of the host. */
struct listener {
	struct list all; /* vsock.listeners, unless it is vsock.clients */
	struct vsock *vsock;
	int fd; /* -1: closed */
	uint32_t id;
	uint16_t forward_to; /* 0: clients send a line */
	bool armed, waits;
	struct loop_op op, timer;
	struct __kernel_timespec delay;
};

struct conn {
	struct list all;   /* vsock.conns */
	struct list ready; /* vsock.ready, while there is something for the guest */
	struct conn *hash_next;
	struct vsock *vsock;
	enum conn_state state;
	bool linked;
	uint32_t guest_port, host_port;
	uint8_t pending;

	int fd;         /* -1: closed */
	bool readable;  /* the socket may have bytes, or its end */
	bool ending;    /* the poll has reported its end, and will not again */
	bool host_eof;  /* the host sends no more */
	bool host_deaf; /* the host takes no more */
	bool guest_eof; /* the same for the guest, by its SHUTDOWN */
	bool guest_deaf;
	uint8_t shutdown_told; /* VIRTIO_VSOCK_SHUTDOWN_*, as last sent to the guest */
	bool overdue;          /* it has waited for a peer since before the last sweep */

	bool opened;           /* by the guest */
	uint16_t forwarded_to; /* the port of the guest's TCP; 0: not forwarded */
	uint32_t alloc;        /* how far the guest may send ahead */
	uint32_t received;     /* bytes from the guest; like all counts of credit, modulo 2^32 */
	uint32_t forwarded;    /* of these, the number that the host's socket took: our fwd_cnt */
	uint32_t fwd_told;     /* as the guest knows it */
	uint32_t sent;         /* bytes to the guest */
	uint32_t guest_alloc;  /* the guest's buf_alloc and fwd_cnt */
	uint32_t guest_fwd;
	bool credit_asked;

	uint8_t *buffer; /* a ring, allocated when needed */
	uint32_t buffer_size, buffer_start, buffer_len;

	bool in_armed, out_armed;
	struct loop_op in_op, out_op;

	uint8_t line_len;
	char line[LINE_MAX_BYTES];
};

/* A reset to send, with the addresses that it is sent from and to. */
struct reply {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

/* How far the driver of a restored device is in forgetting its connections. */
enum stale {
	STALE_NO,
	STALE_UNTOLD, /* the event that tells it waits for a buffer */
	STALE_TOLD,   /* it has the event, and has not returned the buffer */
};

struct vsock {
	struct virtio_dev dev;
	struct virtio_vsock_config config;
	struct sockaddr_un address;
	bool bound;              /* the path is to be unlinked */
	struct listener clients; /* that path */
	struct list listeners;   /* those whose connections are forwarded */
	unsigned listener_count;
	uint32_t next_listener;
	uint32_t forward_port;
	unsigned forwards, forwards_max, next_forward;
	bool forwards_full; /* clients wait for the end of another's connection */
	unsigned ops;       /* polls and timeouts in flight */
	bool sweeping;
	struct loop_op sweep_timer;
	struct __kernel_timespec patience;

	struct list conns, ready;
	unsigned conn_count, opened; /* without those that are forwarded; of these, opened by the guest */
	uint32_t buffered;           /* bytes allocated for all buffers */
	uint32_t next_host_port;
	uint64_t hash_seed;
	struct conn *hash[HASH_SIZE];
	struct reply replies[REPLIES_MAX];
	unsigned reply_first, reply_count;
	enum stale stale;
	uint16_t told_at; /* the available index of the event queue when it was told */
	struct virtq_chain tx;
	struct virtq_chain batch[BATCH_MAX];
};

/* --- vsock.c --- */

/* There may be something for the guest: checks at the end of the round. */
void conn_wake(struct conn *conn);

/* Ends a connection both ways, at once. A guest that knows of it is told. */
void conn_abort(struct conn *conn);

/* --- vsock_table.c --- */

/* The linked connection of these ports, or NULL. */
struct conn *conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port);

/* Starts the guest's half, under ports that no other connection has. */
void conn_link(struct conn *conn, uint32_t guest_port, uint32_t host_port);

/* Ends the guest's half. May free the connection. */
void conn_unlink(struct conn *conn);

/* A client named a port: assigns a host port and asks the guest. */
void conn_request(struct conn *conn, uint32_t guest_port);

/* A client of a listener that forwards: the same. */
void conn_forward(struct conn *conn);

/* --- vsock_state.c: snapshots --- */

void vsock_save(const struct virtio_dev *dev, struct virtio_state *state);
int vsock_restore(struct virtio_dev *dev, const struct virtio_state *state, struct err *err);

/* A kick of the event queue. */
void vsock_event(struct vsock *v);

/*
 * Whether the driver may still have connections of before the snapshot, which it is about to reset. It would take new
 * ones for some of them.
 */
bool vsock_stale(struct vsock *v);

/* --- vsock_host.c --- */

/* Polls `fd` for changes, until the operation is cancelled. */
void host_poll(struct vsock *v, struct loop_op *op, int fd, unsigned events);

/* Connects to the socket for `port`: a descriptor, or -errno. Does not block. */
int host_connect(const struct vsock *v, uint32_t port);

/*
 * Creates a connection that owns and polls `fd`; `from` is its listener, or NULL. NULL if there are too many; fd is
 * then still the caller's.
 */
struct conn *conn_create(struct vsock *v, int fd, enum conn_state state, const struct listener *from);

/* The connection waits for a peer from now on: starts its timeout. */
void conn_await(struct conn *conn);

/* Frees the connection if neither half and no poll needs it. */
void conn_put(struct conn *conn);

/*
 * Sends `len` bytes of the guest, in `iov`, to the host, and keeps what its socket does not take. False if that is not
 * possible. Modifies the array.
 */
bool host_send(struct conn *conn, struct iovec *iov, unsigned count, uint32_t len);

/* The end of the host's stream was read: checks whether the other direction has ended too. */
void host_ended(struct conn *conn);

/* The guest sends no more: the host sees the end of the stream after the last byte. */
void host_end(struct conn *conn);

/* The guest takes no more. */
void host_deafen(struct conn *conn);

/* The guest is done: closes after the last byte. */
void host_finish(struct conn *conn);

/* Closes at once. */
void host_close(struct conn *conn);

/* --- vsock_listen.c: also the calls of vsock.h --- */

/* Closes all listeners and removes the socket's path. */
void vsock_unlisten(struct vsock *v);

/* There is one forwarded connection less. */
void vsock_forward_ended(struct vsock *v);

#endif
