/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All watches are edge-triggered, so what an event said is remembered until a read or write has found the opposite.
 * Room to send is watched for from the first time that there is none: every update of vsock's credit would be an event,
 * and a connection with a short request and answer needs none of them. That is two epoll_ctl per socket at most.
 *
 * How a stream ends is passed on as it is. A stream that has ended is shut down in this direction. A connection that
 * broke is closed without that, which the host's and the guest's TCP turn into a reset (virtio/vsock.h), so that nobody
 * takes the part that arrived for the whole. What its sender had sent before is passed on first, as far as it is taken:
 * a server that answers early may reset a client that still sends.
 */
#include "agent/forward.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define CHUNKS_A_TURN 4 /* in each direction; or a large one */
#define EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* One of the two sockets. */
struct end {
	struct poller_watch watch;
	struct forward *forward;
	size_t chunk;      /* the most that one read takes */
	bool readable;     /* there may be something to read */
	bool leaving;      /* its end is among it: a short read is not the last one */
	bool full;         /* it takes nothing for now */
	bool room_watched; /* its watch tells when it takes more */
	bool ended;        /* it sends no more */
	bool told;         /* of the other's end, by a shutdown; or it is gone */
	bool gone;         /* it takes no more. What it has sent is still to be read, and then to end in a reset */

	/* What was read from the other and not taken yet, in memory for a chunk of that one. */
	uint8_t *kept; /* NULL: nothing so far */
	size_t kept_at, kept_length;
};

struct forward {
	struct list node;
	struct agent_forwards *all;
	struct poller_task task;
	uint16_t port;
	struct end *connecting; /* the one that is being connected; NULL: none */
	bool tried_ipv6, out;
	struct end host, server; /* `server` is the guest's end: a client's, with `out` */
};

/*
 * What the host may send ahead on each connection that is accepted from now on: what the kernel gives by default, or
 * little where there are many, whose servers might all be slow.
 */
static void set_credit(const struct agent_forwards *forwards, uint64_t bytes)
{
	if (forwards->listener)
		setsockopt(forwards->listener->fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &bytes, sizeof(bytes));
}

static void count_one(struct agent_forwards *forwards)
{
	if (++forwards->count == FORWARDS_AMPLE + 1)
		set_credit(forwards, FORWARD_CREDIT_SMALL);
}

static void free_end(struct agent_forwards *all, struct end *end)
{
	poller_close(all->poller, &end->watch);
	free(end->kept);
}

static void release(struct forward *forward)
{
	struct agent_forwards *all = forward->all;
	free_end(all, &forward->host);
	free_end(all, &forward->server);
	list_remove(&forward->task.node);
	list_remove(&forward->node);
	all->out_count -= forward->out;
	if (all->count-- == FORWARDS_AMPLE + 1)
		set_credit(all, FORWARD_CREDIT);
	free(forward);
}

/* Without a shutdown of the host's end before, its client sees a reset; the server is to see one as well. */
static void break_off(struct forward *forward)
{
	static const struct linger hard = {.l_onoff = 1, .l_linger = 0};
	if (forward->server.watch.fd >= 0)
		setsockopt(forward->server.watch.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	release(forward);
}

static int watch_end(struct end *end)
{
	end->room_watched = end->forward->connecting == end;
	return poller_watch(end->forward->all->poller, &end->watch, end->room_watched ? EVENTS | EPOLLOUT : EVENTS);
}

/* ---- One direction ---- */

/* Returns how much was sent, or is lost because `to` is gone; or -errno. */
static ssize_t send_some(struct end *to, const uint8_t *data, size_t length)
{
	ssize_t n = send(to->watch.fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN) {
		if (errno != EPIPE && errno != ECONNRESET && errno != ENOTCONN)
			return -errno;
		to->told = to->gone = true;
		return (ssize_t)length;
	}
	to->full = n < (ssize_t)length;
	if (to->full && !to->room_watched) {
		/* If there is room again by now, this reports it. */
		int error = poller_rewatch(to->forward->all->poller, &to->watch, EVENTS | EPOLLOUT);
		if (error)
			return error;
		to->room_watched = true;
	}
	return n < 0 ? 0 : n;
}

static int send_kept(struct end *to)
{
	ssize_t n = send_some(to, to->kept + to->kept_at, to->kept_length);
	if (n < 0)
		return (int)n;
	to->kept_at += (size_t)n;
	to->kept_length -= (size_t)n;
	return 0;
}

/*
 * Keeps data[at] to data[length - 1]. The memory stays until the connection ends: a stream that its reader slows down
 * needs it several times per MiB, and new memory costs a page fault per page each time.
 */
static int keep(struct end *to, size_t chunk, const uint8_t *data, size_t at, size_t length)
{
	if (!to->kept) {
		to->kept = malloc(chunk);
		if (!to->kept)
			return -ENOMEM;
		memcpy(to->kept + at, data + at, length - at);
	}
	to->kept_at = at;
	to->kept_length = length - at;
	return 0;
}

/*
 * The end of the stream was read. The guest's vsock reports a reset of the host as one too; but then it also refuses to
 * send, even nothing.
 */
static int end_stream(struct end *from)
{
	bool host = from == &from->forward->host;
	if (host && !from->told && send(from->watch.fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		return -errno;
	from->ended = true;
	return 0;
}

/* Its client may read the answer only when it has sent everything. So what the client sends is read, and dropped. */
static bool is_server_gone(const struct end *end)
{
	return end->gone && end == &end->forward->server;
}

/* One read, and a write of that. 0 or -errno. */
static int carry(struct agent_forwards *all, struct end *from, struct end *to)
{
	size_t size = from->chunk;
	uint8_t *data = to->kept ? to->kept : all->scratch; /* the former needs no copy to keep the rest */
	ssize_t n = recv(from->watch.fd, data, size, MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN)
		return -errno;
	if (n < 0 || ((size_t)n < size && !from->leaving))
		from->readable = false;
	if (n == 0)
		return end_stream(from);
	if (n < 0 || to->gone)
		return 0;
	ssize_t sent = send_some(to, data, (size_t)n);
	if (sent < 0)
		return (int)sent;
	return sent < n ? keep(to, size, data, (size_t)sent, (size_t)n) : 0;
}

/* Whether a turn would have an effect. */
static bool has_work(const struct end *from, const struct end *to)
{
	if (is_server_gone(to))
		return from->readable && !from->ended;
	if (to->told || to->full)
		return false;
	return to->kept_length > 0 || from->ended || from->readable;
}

/* 0, or -errno of a broken connection. */
static int pump(struct agent_forwards *all, struct end *from, struct end *to)
{
	int error = 0;
	int chunks = from->chunk == FORWARD_CHUNK_LARGE ? 1 : CHUNKS_A_TURN;
	for (int i = 0; i < chunks && !error && has_work(from, to); i++) {
		if (to->kept_length > 0) {
			error = send_kept(to);
		} else if (from->ended && from->gone) {
			error = -ECONNRESET;
		} else if (from->ended) {
			to->told = true;
			to->gone = shutdown(to->watch.fd, SHUT_WR) < 0;
		} else {
			error = carry(all, from, to);
		}
	}
	return error;
}

/* ---- The server ---- */

/* 0, -EINPROGRESS, or why there is no connection. */
static int begin_connect(struct forward *forward)
{
	struct sockaddr_in v4 = {
	        .sin_family = AF_INET, .sin_port = htons(forward->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {
	        .sin6_family = AF_INET6, .sin6_port = htons(forward->port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	bool six = forward->tried_ipv6;
	struct poller_watch *watch = &forward->server.watch;
	const int on = 1;
	watch->fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (watch->fd < 0)
		return -errno;
	setsockopt(watch->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	const struct sockaddr *address = six ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
	socklen_t length = six ? sizeof(v6) : sizeof(v4);
	/* On loopback, the answer is there before the first call returns; the second one tells. */
	for (int i = 0; i < 2; i++) {
		if (connect(watch->fd, address, length) == 0)
			break;
		if (errno != EINPROGRESS && errno != EALREADY)
			return -errno;
		if (i == 1 || errno == EALREADY)
			return -EINPROGRESS;
	}
	return 0;
}

/* IPv4 first. 0, -EINPROGRESS, or why there is no connection. */
static int connect_server(struct forward *forward)
{
	int error = begin_connect(forward);
	if (error && error != -EINPROGRESS && !forward->tried_ipv6) {
		poller_close(forward->all->poller, &forward->server.watch);
		forward->tried_ipv6 = true;
		error = begin_connect(forward);
	}
	forward->connecting = error == -EINPROGRESS ? &forward->server : NULL;
	if (error && !forward->connecting)
		return error;
	return watch_end(&forward->server);
}

/* An event of a socket that was being connected. */
static int end_connect(struct forward *forward)
{
	int error = 0;
	socklen_t size = sizeof(error);
	if (getsockopt(forward->connecting->watch.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	forward->connecting = NULL;
	if (!error || forward->tried_ipv6 || forward->out)
		return -error;
	poller_close(forward->all->poller, &forward->server.watch);
	forward->tried_ipv6 = true;
	return connect_server(forward);
}

/* ---- Events ---- */

static void serve(struct forward *forward)
{
	struct agent_forwards *all = forward->all;
	struct end *host = &forward->host, *server = &forward->server;
	if (forward->connecting)
		return;
	int error = pump(all, host, server);
	if (!error)
		error = pump(all, server, host);
	bool over = host->told && server->told;
	bool broken = error || (over && (host->gone || server->gone));
	/* A server that waits for its answer to be taken never takes what its client had sent. */
	if (broken || (host->gone && server->full))
		break_off(forward);
	else if (over)
		release(forward);
	else if (has_work(host, server) || has_work(server, host))
		poller_defer(all->poller, &forward->task);
}

static void serve_task(struct poller_task *task)
{
	serve(container_of(task, struct forward, task));
}

static void end_ready(struct poller_watch *watch, uint32_t events)
{
	struct end *end = container_of(watch, struct end, watch);
	struct forward *forward = end->forward;
	if (forward->connecting == end) {
		if (!(events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
			return;
		if (end_connect(forward)) {
			break_off(forward);
			return;
		}
	}
	/* vsock that was reset never has room again. A send tells. */
	if (events & (EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		end->full = false;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		end->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		end->leaving = true;
	/* In the turn of its own at the end of the round: events of both sockets are one turn. */
	if (!forward->connecting)
		poller_defer(forward->all->poller, &forward->task);
}

static struct forward *make_forward(struct agent_forwards *forwards, int host, int server)
{
	struct forward *forward = calloc(1, sizeof(*forward));
	if (!forward)
		return NULL;
	forward->all = forwards;
	forward->task.run = serve_task;
	forward->host = (struct end){.watch = {.fd = host, .ready = end_ready}, .forward = forward};
	forward->server = (struct end){.watch = {.fd = server, .ready = end_ready}, .forward = forward};
	list_append(&forwards->all, &forward->node);
	count_one(forwards);
	forward->server.chunk = forwards->count > FORWARDS_AMPLE ? FORWARD_CHUNK_SMALL : FORWARD_CHUNK;
	forward->host.chunk = forwards->count > FORWARDS_FEW ? forward->server.chunk : FORWARD_CHUNK_LARGE;
	return forward;
}

void agent_forward(struct agent_forwards *forwards, int fd, uint16_t port)
{
	bool full = forwards->count - forwards->out_count >= FORWARDS_MAX;
	struct forward *forward = full ? NULL : make_forward(forwards, fd, -1);
	if (!forward) {
		close(fd);
		return;
	}
	forward->port = port;
	int error = connect_server(forward);
	if (!error)
		error = watch_end(&forward->host);
	if (error)
		break_off(forward);
}

void agent_forward_out(struct agent_forwards *forwards, int client, int host)
{
	struct forward *forward = make_forward(forwards, host < 0 ? -1 : host, client);
	if (!forward) {
		close(client);
		if (host >= 0)
			close(host);
		return;
	}
	forward->out = true;
	forwards->out_count++;
	forward->connecting = &forward->host;
	int error = host < 0 ? host : watch_end(&forward->host);
	if (!error)
		error = watch_end(&forward->server);
	if (error)
		break_off(forward);
}

void agent_forwards_init(
        struct agent_forwards *forwards, struct poller *poller, const struct poller_watch *listener, uint8_t *scratch)
{
	*forwards = (struct agent_forwards){.poller = poller, .listener = listener, .scratch = scratch};
	list_init(&forwards->all);
}

void agent_forwards_destroy(struct agent_forwards *forwards)
{
	while (!list_empty(&forwards->all))
		release(container_of(forwards->all.next, struct forward, node));
}
