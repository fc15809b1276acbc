/* SPDX-License-Identifier: Apache-2.0 */
/* The connections that the guest knows of, by their two ports. */
#include "virtio/vsock_conn.h"

#define FIRST_HOST_PORT (1u << 30)

static struct conn **bucket(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	/* Seeded: a guest chooses its ports, but must not be able to choose their buckets. */
	uint64_t key = ((uint64_t)guest_port << 32 | host_port) ^ v->hash_seed;
	key *= 0x9e3779b97f4a7c15ull;
	key ^= key >> 32;
	key *= v->hash_seed | 1;
	return &v->hash[key >> 54];
}

_Static_assert(HASH_SIZE == 1 << (64 - 54), "the bucket is the hash's upper bits");

struct conn *conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	struct conn *conn = *bucket(v, guest_port, host_port);
	while (conn && (conn->guest_port != guest_port || conn->host_port != host_port))
		conn = conn->hash_next;
	return conn;
}

void conn_link(struct conn *conn, uint32_t guest_port, uint32_t host_port)
{
	struct conn **head = bucket(conn->vsock, guest_port, host_port);
	conn->guest_port = guest_port;
	conn->host_port = host_port;
	conn->hash_next = *head;
	*head = conn;
	conn->linked = true;
}

void conn_unlink(struct conn *conn)
{
	struct conn **at = bucket(conn->vsock, conn->guest_port, conn->host_port);
	while (*at != conn)
		at = &(*at)->hash_next;
	*at = conn->hash_next;
	conn->linked = false;
	list_remove(&conn->ready);
	conn_put(conn);
}

/* --- ports of new connections --- */

static void request(struct conn *conn, uint32_t guest_port, uint32_t host_port)
{
	conn_link(conn, guest_port, host_port);
	conn->state = CONN_REQUEST;
	conn->pending |= PENDING_REQUEST;
	conn_wake(conn);
}

/* Here and below, a free port is found quickly: there are far more ports than connections. */
void conn_request(struct conn *conn, uint32_t guest_port)
{
	struct vsock *v = conn->vsock;
	do {
		v->next_host_port++;
		if (v->next_host_port < FIRST_HOST_PORT || v->next_host_port >= VSOCK_FORWARD_PORTS)
			v->next_host_port = FIRST_HOST_PORT;
	} while (conn_find(v, guest_port, v->next_host_port));
	request(conn, guest_port, v->next_host_port);
}

void conn_forward(struct conn *conn)
{
	struct vsock *v = conn->vsock;
	uint32_t host_port;
	do
		host_port = VSOCK_FORWARD_PORTS | (uint32_t)(v->next_forward++ & 0x7fff) << 16 | conn->forwarded_to;
	while (conn_find(v, v->forward_port, host_port));
	request(conn, v->forward_port, host_port);
}
