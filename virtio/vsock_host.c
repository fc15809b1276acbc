/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the socket device.
 *
 * Polls are multishot: armed once a connection, they report each change and not each state, so a socket that stays
 * readable (its end was seen, or the guest gives no credit) costs nothing.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/vsock_conn.h"
#include "vmm/shared/container_of.h"

#define BUFFER_MIN (4u << 10)

_Static_assert(OPENED_BUFFER_MIN >= BUFFER_MIN, "no buffer is larger than the credit");
_Static_assert(
        BUFFERED_MAX / 4 * 3 >= OPENED_AMPLE * CONN_BUFFER_MAX + CONNS_MAX * OPENED_BUFFER_MIN, "a share is left");

void host_poll(struct vsock *v, struct loop_op *op, int fd, unsigned events)
{
	struct io_uring_sqe *sqe = loop_sqe(v->dev.env.loop);
	io_uring_prep_poll_multishot(sqe, fd, events);
	loop_start(v->dev.env.loop, sqe, op);
	v->ops++;
}

/* --- what the socket does not take at once --- */

static void drop_buffer(struct conn *conn)
{
	if (!conn->forwarded_to)
		conn->vsock->buffered -= conn->buffer_size;
	free(conn->buffer);
	conn->buffer = NULL;
	conn->buffer_size = conn->buffer_start = conn->buffer_len = 0;
	if (conn->out_armed)
		loop_cancel(conn->vsock->dev.env.loop, &conn->out_op);
}

static bool grow_buffer(struct conn *conn, uint32_t len)
{
	struct vsock *v = conn->vsock;
	uint32_t size = conn->buffer_size ? conn->buffer_size : BUFFER_MIN;
	while (size < len)
		size *= 2; /* len is conn->alloc at most */
	if (size == conn->buffer_size)
		return true;
	uint32_t more = size - conn->buffer_size;
	/* What forwarded connections may hold is bounded by their number and credit. */
	bool fits = conn->forwarded_to || more <= BUFFERED_MAX - v->buffered;
	uint8_t *buffer = fits ? malloc(size) : NULL;
	if (!buffer)
		return false;
	uint32_t first = conn->buffer_size - conn->buffer_start;
	if (first > conn->buffer_len)
		first = conn->buffer_len;
	if (conn->buffer) {
		memcpy(buffer, conn->buffer + conn->buffer_start, first);
		memcpy(buffer + first, conn->buffer, conn->buffer_len - first);
	}
	free(conn->buffer);
	v->buffered += conn->forwarded_to ? 0 : more;
	conn->buffer = buffer;
	conn->buffer_size = size;
	conn->buffer_start = 0;
	return true;
}

/* Keeps `len` bytes of the guest, from byte `offset` of its buffers on. */
static bool keep(struct conn *conn, const struct iovec *iov, unsigned count, uint32_t offset, uint32_t len)
{
	if (len > CONN_BUFFER_MAX - conn->buffer_len || !grow_buffer(conn, conn->buffer_len + len))
		return false;
	while (len > 0) {
		uint32_t at = (conn->buffer_start + conn->buffer_len) & (conn->buffer_size - 1);
		uint32_t part = conn->buffer_size - at < len ? conn->buffer_size - at : len;
		guest_load_iov(conn->buffer + at, iov, count, offset, part);
		conn->buffer_len += part;
		offset += part;
		len -= part;
	}
	return true;
}

/* --- sending --- */

/* The host took bytes: the guest may send as many again, and is told once that is a quarter of its credit. */
static void forward(struct conn *conn, uint32_t bytes)
{
	conn->forwarded += bytes;
	if (conn->linked && conn->state == CONN_OPEN && conn->forwarded - conn->fwd_told >= conn->alloc / 4) {
		conn->pending |= PENDING_CREDIT;
		conn_wake(conn);
	}
}

/* The host takes no more. Data kept for it is lost, as with any socket whose peer is gone. */
static void deaf(struct conn *conn)
{
	conn->host_deaf = true;
	forward(conn, conn->buffer_len);
	drop_buffer(conn);
	if (conn->linked)
		conn_wake(conn);
	else
		host_close(conn); /* neither side is left */
}

/*
 * A send has failed. A guest that hears of the end of a forwarded stream takes it for whole, as TCP's are; so this one
 * is reset.
 */
static void lose(struct conn *conn)
{
	if (conn->forwarded_to)
		conn_abort(conn);
	else
		deaf(conn);
}

/* Returns the bytes sent; 0 if the socket is full or, with conn->host_deaf set, gone. */
static uint32_t try_send(struct conn *conn, struct iovec *iov, unsigned count)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
	ssize_t n;
	do
		n = sendmsg(conn->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM)
		conn->host_deaf = true;
	return n < 0 ? 0 : (uint32_t)n;
}

/* The buffer is empty: passes on the end of the guest's stream, if it has ended. */
static void send_end(struct conn *conn)
{
	if (!conn->linked || conn->state == CONN_RESET)
		host_close(conn);
	else if (conn->guest_eof)
		shutdown(conn->fd, SHUT_WR);
}

static void drain(struct conn *conn)
{
	uint32_t first = conn->buffer_size - conn->buffer_start;
	if (first > conn->buffer_len)
		first = conn->buffer_len;
	struct iovec iov[2] = {{conn->buffer + conn->buffer_start, first}, {conn->buffer, conn->buffer_len - first}};
	uint32_t n = try_send(conn, iov, conn->buffer_len > first ? 2 : 1);
	if (conn->host_deaf) {
		lose(conn);
		return;
	}
	conn->buffer_start = (conn->buffer_start + n) & (conn->buffer_size - 1);
	conn->buffer_len -= n;
	forward(conn, n);
	if (conn->buffer_len == 0) {
		drop_buffer(conn);
		send_end(conn);
	}
}

static void out_done(struct loop_op *op, int res, uint32_t flags)
{
	struct conn *conn = container_of(op, struct conn, out_op);
	if (!(flags & IORING_CQE_F_MORE)) {
		conn->out_armed = false;
		conn->vsock->ops--;
	}
	if (conn->fd < 0) {
		conn_put(conn);
		return;
	}
	if (conn->buffer_len == 0)
		return;
	if (!conn->out_armed) {
		conn->out_armed = true;
		host_poll(conn->vsock, &conn->out_op, conn->fd, POLLOUT);
	}
	if (res > 0 && res & (POLLOUT | POLLHUP | POLLERR))
		drain(conn);
}

bool host_send(struct conn *conn, struct iovec *iov, unsigned count, uint32_t len)
{
	uint32_t n = 0;
	if (conn->fd < 0 || conn->host_deaf) {
		forward(conn, len);
		return !conn->forwarded_to; /* else the guest was told, or is about to be */
	}
	if (conn->buffer_len == 0 && len > 0)
		n = try_send(conn, iov, count);
	if (conn->host_deaf) {
		forward(conn, len);
		lose(conn);
		return true;
	}
	forward(conn, n);
	if (n == len)
		return true;
	if (!keep(conn, iov, count, n, len - n))
		return false;
	if (!conn->out_armed) {
		conn->out_armed = true;
		host_poll(conn->vsock, &conn->out_op, conn->fd, POLLOUT);
	}
	return true;
}

/* The poll would report a closed socket later, but the guest should learn of both ends at once. */
void host_ended(struct conn *conn)
{
	struct pollfd p = {.fd = conn->fd};
	if (!conn->host_deaf && !conn->forwarded_to && poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR))
		deaf(conn);
}

void host_end(struct conn *conn)
{
	if (conn->fd >= 0 && conn->buffer_len == 0)
		shutdown(conn->fd, SHUT_WR);
}

void host_deafen(struct conn *conn)
{
	if (conn->fd >= 0)
		shutdown(conn->fd, SHUT_RD);
}

void host_finish(struct conn *conn)
{
	if (conn->buffer_len == 0)
		host_close(conn);
}

/* --- connections --- */

void conn_put(struct conn *conn)
{
	if (conn->linked || conn->fd >= 0 || conn->in_armed || conn->out_armed)
		return;
	list_remove(&conn->all);
	list_remove(&conn->ready);
	conn->vsock->opened -= conn->opened;
	if (conn->forwarded_to)
		vsock_forward_ended(conn->vsock);
	else
		conn->vsock->conn_count--;
	free(conn);
}

/*
 * A stream that the guest has not ended must not look whole: the client gets a reset. Dissolving the association sends
 * one, and is an error of no consequence for a Unix socket.
 */
static void break_off(const struct conn *conn)
{
	static const struct sockaddr none = {.sa_family = AF_UNSPEC};
	if (conn->forwarded_to && !conn->guest_eof)
		(void)connect(conn->fd, &none, sizeof(none));
}

/* May free the connection, unless the guest's half is linked. */
void host_close(struct conn *conn)
{
	struct loop *loop = conn->vsock->dev.env.loop;
	if (conn->fd < 0)
		return;
	if (conn->buffer)
		drop_buffer(conn);
	if (conn->in_armed)
		loop_cancel(loop, &conn->in_op);
	break_off(conn);
	shutdown(conn->fd, SHUT_RDWR); /* polls hold the socket until they are cancelled; its peer does not wait */
	close(conn->fd);
	conn->fd = -1;
	conn->readable = false;
	conn_put(conn);
}

/* "CONNECT <port>\n" with a decimal port of 32 bits, and nothing else. */
static bool parse_line(const char *line, size_t len, uint32_t *port)
{
	static const char verb[] = "CONNECT ";
	uint64_t value = 0;
	size_t at = sizeof(verb) - 1;
	if (len < at + 2 || len > at + 11 || memcmp(line, verb, at) != 0 || line[len - 1] != '\n')
		return false;
	for (; at < len - 1; at++) {
		if (line[at] < '0' || line[at] > '9')
			return false;
		value = value * 10 + (uint64_t)(line[at] - '0');
	}
	*port = (uint32_t)value;
	return value <= UINT32_MAX;
}

/* Reads exactly the client's line from the socket: what follows it belongs to the stream. */
static void read_line(struct conn *conn)
{
	char *at = conn->line + conn->line_len;
	size_t room = LINE_MAX_BYTES - conn->line_len;
	ssize_t n = recv(conn->fd, at, room, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		host_close(conn);
		return;
	}
	const char *newline = memchr(at, '\n', (size_t)n);
	size_t take = newline ? (size_t)(newline - at) + 1 : (size_t)n;
	n = recv(conn->fd, at, take, MSG_DONTWAIT);
	conn->line_len = (uint8_t)(conn->line_len + take);
	if ((size_t)n == take && !newline && conn->line_len < LINE_MAX_BYTES)
		return; /* the rest follows */
	uint32_t port;
	if ((size_t)n != take || !parse_line(conn->line, conn->line_len, &port))
		host_close(conn);
	else
		conn_request(conn, port);
}

static void in_done(struct loop_op *op, int res, uint32_t flags)
{
	struct conn *conn = container_of(op, struct conn, in_op);
	if (!(flags & IORING_CQE_F_MORE)) {
		conn->in_armed = false;
		conn->vsock->ops--;
	}
	if (conn->fd < 0) {
		conn_put(conn);
		return;
	}
	if (res < 0 && res != -ECANCELED) {
		conn_abort(conn);
		return;
	}
	/* No news follows a hang-up; and a poll that ended for want of completions would end so again, at once. */
	if (!conn->in_armed && !(res > 0 && res & POLLHUP)) {
		conn->in_armed = true;
		host_poll(conn->vsock, &conn->in_op, conn->fd, POLLIN | POLLRDHUP);
	}
	bool gone = res & (POLLHUP | POLLERR);
	conn->ending |= (res & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
	conn->readable = true;
	switch (conn->state) {
	case CONN_LINE: read_line(conn); break;
	case CONN_REQUEST:
	case CONN_REQUESTED: /* a client that left before the answer */
		if (gone)
			conn_abort(conn);
		break;
	case CONN_OPEN:
		if (res & POLLERR && conn->forwarded_to)
			conn_abort(conn);
		else if (gone && !conn->host_deaf)
			deaf(conn);
		else
			conn_wake(conn);
		break;
	case CONN_RESET:
		if (gone)
			host_close(conn);
		break;
	}
}

struct conn *conn_create(struct vsock *v, int fd, enum conn_state state, const struct listener *from)
{
	uint16_t to = from ? from->forward_to : 0;
	bool full = to ? v->forwards >= v->forwards_max : v->conn_count >= CONNS_MAX;
	struct conn *conn = full ? NULL : calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->vsock = v;
	conn->fd = fd;
	conn->state = state;
	conn->in_op.done = in_done;
	conn->out_op.done = out_done;
	list_init(&conn->ready);
	list_append(&v->conns, &conn->all);
	conn->forwarded_to = to;
	*(to ? &v->forwards : &v->conn_count) += 1;
	conn->opened = !from;
	v->opened += conn->opened;
	conn->alloc = CONN_BUFFER_MAX;
	if (to && v->forwards > FORWARDS_AMPLE)
		conn->alloc = FORWARD_BUFFER_MIN;
	else if (conn->opened && v->opened > OPENED_AMPLE)
		conn->alloc = OPENED_BUFFER_MIN;
	conn->in_armed = true;
	host_poll(v, &conn->in_op, fd, POLLIN | POLLRDHUP);
	if (state == CONN_LINE)
		conn_await(conn);
	return conn;
}

/* --- connections that wait for a peer that may never answer --- */

/* Waits for a client's line, or for the guest's reset after the client has shut down both ways. */
static bool is_waiting(const struct conn *conn)
{
	return conn->state == CONN_LINE ||
	       (conn->state == CONN_OPEN &&
	               conn->shutdown_told == (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND));
}

static void sweep_later(struct vsock *v);

/* A connection that two sweeps find waiting ends. No clock is read, and an idle device has no timer. */
static void sweep(struct loop_op *op, int res, uint32_t flags)
{
	(void)res;
	(void)flags;
	struct vsock *v = container_of(op, struct vsock, sweep_timer);
	bool waiting = false;
	v->sweeping = false;
	v->ops--;
	if (v->clients.fd < 0)
		return;
	for (struct list *at = v->conns.next, *next; at != &v->conns; at = next) {
		struct conn *conn = container_of(at, struct conn, all);
		next = at->next;
		if (!is_waiting(conn))
			continue;
		if (conn->overdue) {
			conn_abort(conn);
		} else {
			conn->overdue = true;
			waiting = true;
		}
	}
	if (waiting)
		sweep_later(v);
}

static void sweep_later(struct vsock *v)
{
	if (v->sweeping)
		return;
	struct io_uring_sqe *sqe = loop_sqe(v->dev.env.loop);
	io_uring_prep_timeout(sqe, &v->patience, 0, 0);
	v->sweep_timer.done = sweep;
	loop_start(v->dev.env.loop, sqe, &v->sweep_timer);
	v->sweeping = true;
	v->ops++;
}

void conn_await(struct conn *conn)
{
	conn->overdue = false;
	if (is_waiting(conn))
		sweep_later(conn->vsock);
}

/* --- to a port of the host --- */

int host_connect(const struct vsock *v, uint32_t port)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	/* The length was checked when the device was created. */
	snprintf(address.sun_path, sizeof(address.sun_path), "%.96s_%u", v->address.sun_path, port);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Unix sockets connect at once or fail: a full backlog is EAGAIN. */
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}
