/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation of the guest's side.
 *
 * From the guest: each packet of the tx queue is handled at once and completed. Small ones are completed quietly: the
 * driver only frees them, and an interrupt for each would cost more than all the rest. Data goes directly from the
 * guest's buffers to the host's socket. What the socket does not take is kept, up to the amount that the guest may send
 * ahead, and counts as forwarded (fwd_cnt) only when the socket has taken it. So a slow reader stops its own stream and
 * no other.
 *
 * To the guest: connections with something to send are in a queue, `ready`. Each sends one packet or batch (a control
 * packet, or what one read of its socket returns) and goes to the end of the queue. The read puts the bytes directly
 * into the guest's buffers, several at a time. Without buffers in the rx queue all connections wait. What waits are
 * flags in connections and a short list of resets, so memory use does not grow; when the list is full, the tx queue
 * waits too (section 5.10.6.1.2).
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/limit.h"
#include "virtio/vsock_conn.h"
#include "vmm/shared/container_of.h"

#define F_STREAM 0
#define HEADER_SIZE ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define TX_QUIET_MAX 4096u /* packets up to this size, in bytes, are completed quietly */
#define PORT_LENGTH_MAX 11 /* "_4294967295" */

static struct vsock *to_vsock(struct virtio_dev *dev)
{
	return (struct vsock *)dev;
}

void conn_wake(struct conn *conn)
{
	struct vsock *v = conn->vsock;
	if (list_empty(&conn->ready))
		list_append(&v->ready, &conn->ready);
	virtio_kick_again(&v->dev, RXQ);
}

/* Sends a reset to the guest, which ends its half. The host's half is independent of that. */
static void say_reset(struct conn *conn)
{
	conn->state = CONN_RESET;
	conn->pending = PENDING_RESET;
	conn_wake(conn);
}

void conn_abort(struct conn *conn)
{
	bool linked = conn->linked;
	bool known = linked && conn->state != CONN_REQUEST;
	if (known)
		say_reset(conn);
	host_close(conn); /* frees it if the guest's half has ended already */
	if (linked && !known)
		conn_unlink(conn);
}

/* --- to the guest --- */

/* What the guest has room for: section 5.10.6.3. Its counters are not trusted. */
static uint32_t credit(const struct conn *conn)
{
	uint32_t in_flight = conn->sent - conn->guest_fwd;
	return in_flight < conn->guest_alloc ? conn->guest_alloc - in_flight : 0;
}

static bool wants_data(const struct conn *conn)
{
	return conn->state == CONN_OPEN && conn->readable && !conn->host_eof && !conn->guest_deaf;
}

/*
 * What the guest should know about the host's shutdowns. SEND comes after the host's last byte. A client of a forwarded
 * connection that has left may have ended its stream in order: only what the guest sends to it is an error.
 */
static uint8_t shutdown_flags(const struct conn *conn)
{
	return (uint8_t)((conn->host_deaf && !conn->forwarded_to ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0) |
	                 (conn->host_eof ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0) |
	                 (conn->host_eof && conn->guest_eof ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0));
}

static bool has_work(const struct conn *conn)
{
	if (conn->pending)
		return true;
	if (conn->state != CONN_OPEN)
		return false;
	return shutdown_flags(conn) != conn->shutdown_told ||
	       (wants_data(conn) && (credit(conn) > 0 || !conn->credit_asked));
}

static void put_header(struct vsock *v, const struct virtq_chain *chain, struct virtio_vsock_hdr *header)
{
	header->dst_cid = v->config.guest_cid;
	guest_store_iov(chain->iov + chain->readable, chain->writable, 0, header, sizeof(*header));
	virtio_complete(&v->dev, RXQ, chain->head, HEADER_SIZE + (header->op == VIRTIO_VSOCK_OP_RW ? header->len : 0));
}

static void put_packet(struct conn *conn, const struct virtq_chain *chain, uint16_t op, uint32_t flags, uint32_t len)
{
	struct virtio_vsock_hdr header = {
	        .src_cid = HOST_CID,
	        .src_port = conn->host_port,
	        .dst_port = conn->guest_port,
	        .len = len,
	        .type = VIRTIO_VSOCK_TYPE_STREAM,
	        .op = op,
	        .flags = flags,
	        .buf_alloc = conn->alloc,
	        .fwd_cnt = conn->forwarded,
	};
	conn->fwd_told = conn->forwarded;
	conn->pending &= (uint8_t)~PENDING_CREDIT; /* every packet carries it */
	put_header(conn->vsock, chain, &header);
}

/* Adds the buffers of a chain after the packet's header, up to `limit` bytes, to `iov`. Returns the bytes added. */
static uint32_t payload_room(const struct virtq_chain *chain, struct iovec *iov, unsigned *count, uint32_t limit)
{
	uint32_t skip = HEADER_SIZE, room = 0;
	for (unsigned i = 0; i < chain->writable && room < limit && *count < VIRTQ_SIZE_MAX; i++) {
		struct iovec part = chain->iov[chain->readable + i];
		if (part.iov_len <= skip) {
			skip -= (uint32_t)part.iov_len;
			continue;
		}
		part.iov_base = (uint8_t *)part.iov_base + skip;
		part.iov_len -= skip;
		skip = 0;
		if (part.iov_len > limit - room)
			part.iov_len = limit - room;
		room += (uint32_t)part.iov_len;
		iov[(*count)++] = part;
	}
	return room;
}

/* A buffer that is too small for a packet is the driver's error. */
static bool fetch_rx(struct vsock *v, struct virtq_chain *chain)
{
	if (!virtio_fetch(&v->dev, RXQ, chain))
		return false;
	if (chain->writable_bytes > HEADER_SIZE)
		return true;
	virtio_fail(&v->dev, "a vsock receive buffer has no room for a packet");
	return false;
}

/* Reads the socket into the chain in batch[0], and into more if there are. Chains that stay empty are returned. */
static void put_data(struct conn *conn)
{
	struct vsock *v = conn->vsock;
	struct iovec iov[VIRTQ_SIZE_MAX];
	uint32_t room[BATCH_MAX], total = 0, limit = credit(conn);
	unsigned count = 0, chains = 0;
	do {
		room[chains] = payload_room(&v->batch[chains], iov, &count, limit - total);
		total += room[chains++];
	} while (chains < BATCH_MAX && total < limit && count < VIRTQ_SIZE_MAX && fetch_rx(v, &v->batch[chains]));

	ssize_t n;
	do
		n = readv(conn->fd, iov, (int)count);
	while (n < 0 && errno == EINTR);
	uint32_t left = n > 0 ? (uint32_t)n : 0;
	bool reset = n < 0 && errno != EAGAIN && conn->forwarded_to;
	if (n < 0 || (left < total && !conn->ending))
		conn->readable = false; /* that was all: the poll reports more */
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		conn->host_eof = true;
		host_ended(conn);
	}
	unsigned used = 0;
	for (uint32_t sum = 0; used < chains && sum < left; used++)
		sum += room[used];
	while (chains > used && v->dev.active)
		virtio_unfetch(&v->dev, RXQ, v->batch[--chains].head);
	for (unsigned i = 0; i < used; i++) {
		uint32_t len = left < room[i] ? left : room[i];
		conn->sent += len;
		left -= len;
		virtio_moved(&v->dev, &v->dev.to_guest, len);
		put_packet(conn, &v->batch[i], VIRTIO_VSOCK_OP_RW, 0, len);
	}
	/* A full batch belongs to a stream: the guest can work on it while the next is filled. */
	if (used == BATCH_MAX)
		virtio_show(&v->dev);
	if (reset)
		conn_abort(conn);
}

/* Sends one packet or batch, into the chain in batch[0]. */
static void say(struct conn *conn)
{
	struct vsock *v = conn->vsock;
	const struct virtq_chain *chain = &v->batch[0];
	if (conn->pending & PENDING_RESET) {
		put_packet(conn, chain, VIRTIO_VSOCK_OP_RST, 0, 0);
		conn_unlink(conn);
	} else if (conn->pending & PENDING_REQUEST) {
		conn->pending &= (uint8_t)~PENDING_REQUEST;
		conn->state = CONN_REQUESTED;
		put_packet(conn, chain, VIRTIO_VSOCK_OP_REQUEST, 0, 0);
	} else if (conn->pending & PENDING_RESPONSE) {
		conn->pending &= (uint8_t)~PENDING_RESPONSE;
		put_packet(conn, chain, VIRTIO_VSOCK_OP_RESPONSE, 0, 0);
	} else if (wants_data(conn) && credit(conn) > 0) {
		put_data(conn);
	} else if (conn->state == CONN_OPEN && shutdown_flags(conn) != conn->shutdown_told) {
		conn->shutdown_told = shutdown_flags(conn);
		conn_await(conn);
		put_packet(conn, chain, VIRTIO_VSOCK_OP_SHUTDOWN, conn->shutdown_told, 0);
	} else if (conn->pending & PENDING_CREDIT) {
		put_packet(conn, chain, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
	} else { /* data waits, and the guest has no room for it */
		conn->credit_asked = true;
		put_packet(conn, chain, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, 0);
	}
}

static void say_reply(struct vsock *v)
{
	const struct reply *reply = &v->replies[v->reply_first];
	struct virtio_vsock_hdr header = {
	        .src_cid = reply->src_cid,
	        .src_port = reply->src_port,
	        .dst_port = reply->dst_port,
	        .type = reply->type,
	        .op = VIRTIO_VSOCK_OP_RST,
	};
	v->reply_first = (v->reply_first + 1) % REPLIES_MAX;
	if (v->reply_count-- == REPLIES_MAX)
		virtio_kick_again(&v->dev, TXQ); /* the queue waited for room */
	put_header(v, &v->batch[0], &header);
}

/* The first ready connection; removes those with nothing to send. NULL if there is none. */
static struct conn *first_ready(struct vsock *v)
{
	while (!list_empty(&v->ready)) {
		struct conn *conn = container_of(v->ready.next, struct conn, ready);
		if (has_work(conn))
			return conn;
		list_remove(&conn->ready);
	}
	return NULL;
}

static void pump(struct vsock *v)
{
	for (;;) {
		struct conn *conn = v->reply_count == 0 && !vsock_stale(v) ? first_ready(v) : NULL;
		if (v->reply_count == 0 && !conn)
			return; /* notifications stay off: new buffers are not needed */
		if (!virtio_may(&v->dev, RXQ))
			return;
		if (!fetch_rx(v, &v->batch[0])) {
			if (!virtio_more(&v->dev, RXQ))
				return;
			continue;
		}
		if (!conn) {
			say_reply(v);
			continue;
		}
		list_remove(&conn->ready); /* it has a buffer, so its turn is used: to the end of the queue */
		list_append(&v->ready, &conn->ready);
		say(conn);
	}
}

/* --- from the guest --- */

static void reply_reset(struct vsock *v, const struct virtio_vsock_hdr *header)
{
	if (header->op == VIRTIO_VSOCK_OP_RST)
		return; /* otherwise two peers could reset each other for ever */
	v->replies[(v->reply_first + v->reply_count++) % REPLIES_MAX] = (struct reply){
	        .src_cid = header->dst_cid,
	        .src_port = header->dst_port,
	        .dst_port = header->src_port,
	        .type = header->type,
	};
	virtio_kick_again(&v->dev, RXQ);
}

static void connect_from_guest(struct vsock *v, const struct virtio_vsock_hdr *header)
{
	int fd = v->conn_count < CONNS_MAX ? host_connect(v, header->dst_port) : -ENOSPC;
	struct conn *conn = fd >= 0 ? conn_create(v, fd, CONN_OPEN, NULL) : NULL;
	if (!conn) {
		if (fd >= 0)
			close(fd);
		reply_reset(v, header);
		return;
	}
	conn_link(conn, header->src_port, header->dst_port);
	conn->guest_alloc = header->buf_alloc;
	conn->guest_fwd = header->fwd_cnt;
	conn->pending |= PENDING_RESPONSE;
	conn_wake(conn);
}

static void accepted(struct conn *conn)
{
	char line[24];
	int len = snprintf(line, sizeof(line), "OK %u\n", conn->host_port);
	conn->state = CONN_OPEN;
	if (conn->forwarded_to) {
		conn_wake(conn);
		return;
	}
	/* An empty socket takes these bytes, unless the client is gone, which the poll reports. */
	ssize_t n = send(conn->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n != len)
		conn->host_deaf = true;
	conn_wake(conn);
}

static void shut_down(struct conn *conn, uint32_t flags)
{
	bool ends = flags & VIRTIO_VSOCK_SHUTDOWN_SEND && !conn->guest_eof;
	bool deafens = flags & VIRTIO_VSOCK_SHUTDOWN_RCV && !conn->guest_deaf;
	if (conn->forwarded_to && ends && flags & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		/* The agent ends a stream before it closes: one that is only closed was broken off. */
		conn_abort(conn);
		return;
	}
	conn->guest_eof |= ends;
	conn->guest_deaf |= deafens;
	if (conn->guest_eof && conn->guest_deaf) {
		/*
		 * A clean end (5.10.6.5). The answer does not wait for a host that reads slowly; it still gets the data
		 * that is kept. Both directions end in one step: a host that sees one end must not find the other open.
		 */
		say_reset(conn);
		host_finish(conn);
		host_deafen(conn);
		return;
	}
	if (ends)
		host_end(conn);
	if (deafens)
		host_deafen(conn);
	conn_wake(conn);
}

static void receive(struct conn *conn, const struct virtio_vsock_hdr *header, struct virtq_chain *chain)
{
	uint32_t len = header->len;
	if (len > chain->readable_bytes - HEADER_SIZE || conn->guest_eof ||
	        len > conn->alloc - (conn->received - conn->forwarded)) {
		conn_abort(conn); /* more than the packet holds, after its end, or more than it has credit for */
		return;
	}
	conn->received += len;
	virtio_moved(&conn->vsock->dev, &conn->vsock->dev.from_guest, len);
	unsigned first = iov_advance(chain->iov, chain->readable, HEADER_SIZE);
	unsigned count = first;
	for (uint32_t left = len; left > 0; count++) {
		if (chain->iov[count].iov_len > left)
			chain->iov[count].iov_len = left;
		left -= (uint32_t)chain->iov[count].iov_len;
	}
	if (!host_send(conn, chain->iov + first, count - first, len))
		conn_abort(conn);
}

/* Handles a packet of a connection that both sides know. */
static void handle(struct conn *conn, const struct virtio_vsock_hdr *header, struct virtq_chain *chain)
{
	if (conn->state == CONN_RESET) /* a reset is on its way, and answers this */
		return;
	conn->guest_alloc = header->buf_alloc;
	conn->guest_fwd = header->fwd_cnt;
	if (credit(conn) > 0)
		conn->credit_asked = false; /* otherwise one request is enough: the guest reports when it has room */
	if (header->op == VIRTIO_VSOCK_OP_RESPONSE && conn->state == CONN_REQUESTED) {
		accepted(conn);
		return;
	}
	if (conn->state != CONN_OPEN) {
		conn_abort(conn);
		return;
	}
	switch (header->op) {
	case VIRTIO_VSOCK_OP_RW: receive(conn, header, chain); break;
	case VIRTIO_VSOCK_OP_SHUTDOWN: shut_down(conn, header->flags); break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE: conn_wake(conn); break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		conn->pending |= PENDING_CREDIT;
		conn_wake(conn);
		break;
	default: conn_abort(conn); break; /* not an operation, or not for an open connection */
	}
	if (header->op == VIRTIO_VSOCK_OP_RW && wants_data(conn))
		conn_wake(conn);
}

/* The guest reset the connection: nothing more is sent to it, but the host still gets the data it sent before. */
static void handle_reset(struct conn *conn)
{
	bool finish = conn->state == CONN_OPEN || conn->state == CONN_RESET;
	conn->pending = 0;
	conn->state = CONN_RESET;
	if (finish)
		host_finish(conn);
	else
		host_close(conn);
	conn_unlink(conn);
}

static void handle_packet(struct vsock *v, struct virtq_chain *chain)
{
	struct virtio_vsock_hdr header;
	if (guest_load_iov(&header, chain->iov, chain->readable, 0, sizeof(header)) < sizeof(header)) {
		virtio_fail(&v->dev, "a vsock packet without a whole header");
		return;
	}
	if (header.src_cid != v->config.guest_cid)
		return; /* not its own address: there is no one to answer */
	if (header.dst_cid != HOST_CID || header.type != VIRTIO_VSOCK_TYPE_STREAM) {
		reply_reset(v, &header);
		return;
	}
	struct conn *conn = conn_find(v, header.src_port, header.dst_port);
	if (conn && header.op == VIRTIO_VSOCK_OP_RST)
		handle_reset(conn);
	else if (conn)
		handle(conn, &header, chain);
	else if (header.op == VIRTIO_VSOCK_OP_REQUEST && !vsock_stale(v))
		connect_from_guest(v, &header);
	else
		reply_reset(v, &header);
}

static void take_packets(struct vsock *v)
{
	do {
		/* Each may need a reply. If there is no room for one, the queue waits, and pump kicks it. */
		while (v->reply_count < REPLIES_MAX) {
			if (!virtio_may(&v->dev, TXQ))
				return;
			if (!virtio_fetch(&v->dev, TXQ, &v->tx))
				break;
			uint32_t bytes = v->tx.readable_bytes;
			handle_packet(v, &v->tx);
			/* The guest will soon need the memory of large packets again. */
			if (bytes > TX_QUIET_MAX)
				virtio_complete(&v->dev, TXQ, v->tx.head, 0);
			else
				virtio_complete_quietly(&v->dev, TXQ, &v->tx);
		}
	} while (v->reply_count < REPLIES_MAX && virtio_more(&v->dev, TXQ));
}

static void vsock_kick(struct virtio_dev *dev, unsigned queue)
{
	if (queue == TXQ)
		take_packets(to_vsock(dev));
	else if (queue == RXQ)
		pump(to_vsock(dev));
	else
		vsock_event(to_vsock(dev));
}

/* --- the device --- */

/* Ends every connection that the guest knows of. Clients that it does not know yet continue to wait. */
static void forget_all(struct vsock *v)
{
	for (struct list *at = v->conns.next, *next; at != &v->conns; at = next) {
		struct conn *conn = container_of(at, struct conn, all);
		next = at->next;
		if (conn->state == CONN_LINE || conn->state == CONN_REQUEST)
			continue;
		if (conn->linked) {
			conn->pending = 0;
			conn->state = CONN_RESET;
			bool kept = conn->fd >= 0;
			conn_unlink(conn); /* frees it when !kept */
			if (kept)
				host_finish(conn);
		}
	}
	v->reply_count = 0;
	v->stale = STALE_NO;
}

static void vsock_reset(struct virtio_dev *dev)
{
	forget_all(to_vsock(dev));
	virtio_reset_done(dev); /* nothing that is in flight touches guest memory */
}

static void vsock_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	memcpy(data, (const uint8_t *)&to_vsock(dev)->config + offset, len);
}

static void vsock_destroy(struct virtio_dev *dev)
{
	struct vsock *v = to_vsock(dev);
	vsock_unlisten(v);
	for (struct list *at = v->conns.next, *next; at != &v->conns; at = next) {
		struct conn *conn = container_of(at, struct conn, all);
		next = at->next;
		bool linked = conn->linked;
		host_close(conn);
		if (linked)
			conn_unlink(conn);
	}
	while (v->ops > 0) {
		if (loop_step(dev->env.loop, -1) < 0)
			return; /* a failed ring: the kernel may still access the object */
	}
	free(v);
}

static const struct virtio_type vsock_type = {
        .name = "vsock",
        .id = VIRTIO_ID_VSOCK,
        .queue_size_max = VIRTQ_SIZE_MAX,
        .config_size = sizeof(struct virtio_vsock_config),
        .kick = vsock_kick,
        .reset = vsock_reset,
        .config_read = vsock_config_read,
        .save = vsock_save,
        .restore = vsock_restore,
        .destroy = vsock_destroy,
};

static int check_options(const struct vsock_options *opt, struct err *err)
{
	struct sockaddr_un address;
	if (opt->cid < 3 || opt->cid >= UINT32_MAX)
		return err_set(err, EINVAL, "a guest's CID is between 3 and 4294967294");
	if (opt->socket_path[0] == '\0' || strlen(opt->socket_path) + PORT_LENGTH_MAX >= sizeof(address.sun_path))
		return err_set(err, ENAMETOOLONG, "the socket's path %s is empty, or longer than %zu bytes",
		        opt->socket_path, sizeof(address.sun_path) - PORT_LENGTH_MAX - 1);
	return 0;
}

int vsock_create(
        struct virtio_dev **dev, const struct virtio_env *env, const struct vsock_options *opt, struct err *err)
{
	int ret = check_options(opt, err);
	if (ret < 0)
		return ret;
	struct vsock *v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(err, ENOMEM, "out of memory for the socket device");
	v->config.guest_cid = opt->cid;
	uint32_t patience_ms = opt->patience_ms ? opt->patience_ms : VSOCK_PATIENCE_MS;
	v->patience = (struct __kernel_timespec){patience_ms / 1000, patience_ms % 1000 * 1000000ll};
	v->address.sun_family = AF_UNIX;
	memcpy(v->address.sun_path, opt->socket_path, strlen(opt->socket_path));
	v->forward_port = opt->forward_port;
	v->forwards_max = VSOCK_FORWARDS_MAX;
	if (opt->files && opt->files / 2 < v->forwards_max)
		v->forwards_max = opt->files / 2;
	v->clients = (struct listener){.vsock = v, .fd = -1};
	list_init(&v->listeners);
	list_init(&v->conns);
	list_init(&v->ready);
	ret = virtio_init(&v->dev, &vsock_type, env, VSOCK_QUEUES, 1ull << F_STREAM, err);
	if (ret == 0 && getrandom(&v->hash_seed, sizeof(v->hash_seed), 0) != sizeof(v->hash_seed))
		ret = err_set(err, errno, "no random bytes: %s", strerror(errno));
	if (ret < 0) {
		virtio_destroy(&v->dev);
		return ret;
	}
	*dev = &v->dev;
	return 0;
}
