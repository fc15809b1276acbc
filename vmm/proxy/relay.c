/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "vmm/proxy/proxy.h"

#define NS_PER_MS 1000000LL
#define CHUNK ((size_t)16 << 10)

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

int64_t deadline_in(int ms)
{
	return now_ns() + ms * NS_PER_MS;
}

int wait_for(int fd, short events, int64_t deadline_ns)
{
	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = events};
		int64_t left = deadline_ns - now_ns();
		int n = left > 0 ? poll(&pfd, 1, (int)(left / NS_PER_MS) + 1) : 0;
		if (n < 0 && errno == EINTR)
			continue;
		return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
	}
}

int send_all(int fd, const void *data, size_t length, int64_t deadline_ns)
{
	const char *at = data;
	while (length > 0) {
		ssize_t n = send(fd, at, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			at += n;
			length -= (size_t)n;
		} else if (errno == EAGAIN) {
			int r = wait_for(fd, POLLOUT, deadline_ns);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* One direction. */
struct way {
	int from, to;
	struct http_body *body;     /* all that is passed on; NULL: everything */
	struct http_answer *answer; /* its head gets a field; NULL: it is none */
	bool ended;                 /* nothing more is read */
	bool told;                  /* and the reader knows, or need not know */
	int lost;                   /* -errno of a send that failed: the reader is gone. 0: none did */
	bool hung;                  /* `from` is closed both ways: a poll for nothing would return at once */
	size_t at, length;
	char buffer[CHUNK + sizeof(HTTP_ANSWER_FIELD)];
};

/* Of what was read, only the request's body belongs to the server. 0 or -errno. */
static int keep_body(struct way *way)
{
	if (!way->body)
		return 0;
	ptrdiff_t n = http_body_take(way->body, way->buffer, way->length);
	if (n < 0)
		return -EPROTO;
	way->length = (size_t)n;
	way->ended |= way->body->ended;
	return 0;
}

static void mark_answer(struct way *way)
{
	const size_t size = sizeof(HTTP_ANSWER_FIELD) - 1;
	ptrdiff_t at = way->answer ? http_answer_find(way->answer, way->buffer, way->length) : -1;
	if (at < 0)
		return;
	memmove(way->buffer + at + size, way->buffer + at, way->length - (size_t)at);
	memcpy(way->buffer + at, HTTP_ANSWER_FIELD, size);
	way->length += size;
}

static int fill(struct way *way)
{
	ssize_t n = recv(way->from, way->buffer, CHUNK, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		way->ended = true;
	way->at = 0;
	way->length = (size_t)n;
	mark_answer(way);
	return keep_body(way);
}

/* Nothing more can be sent. That is not the end of the other direction. */
static void lose(struct way *way, int error)
{
	way->lost = error;
	way->ended = way->told = true;
	way->length = 0;
}

static void empty(struct way *way)
{
	ssize_t n = send(way->to, way->buffer + way->at, way->length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n >= 0) {
		way->at += (size_t)n;
		way->length -= (size_t)n;
	} else if (errno != EAGAIN && errno != EINTR) {
		lose(way, -errno);
	}
}

/* What can be done now, in this direction. 0, or -errno if the stream broke off. */
static int move(struct way *way, const struct way *other, short from, short to)
{
	int r = 0;
	if (way->length == 0 && !way->ended && from & (POLLIN | POLLHUP | POLLERR))
		r = fill(way);
	if (r == 0 && way->length > 0 && (to & (POLLOUT | POLLHUP | POLLERR) || way->at == 0))
		empty(way);
	if (r == 0 && way->length == 0 && way->ended && !way->told) {
		/* This is no end: the send took the error that would be here. */
		if (other->lost)
			return other->lost;
		way->told = true;
		/* A body that is whole says so itself, and some servers take the end of the stream for a client that
		 * has left. */
		if (!way->body || !way->body->ended)
			shutdown(way->to, SHUT_WR);
	}
	way->hung |= (from & (POLLHUP | POLLERR)) != 0;
	return r;
}

static bool is_over(const struct way *up, const struct way *down)
{
	return (up->told && down->told) || (up->told && up->hung) || (down->told && down->hung);
}

static struct pollfd wanted(const struct way *way, const struct way *other)
{
	short events = (short)((way->length == 0 && !way->ended ? POLLIN : 0) | (other->length > 0 ? POLLOUT : 0));
	return (struct pollfd){.fd = way->hung && !events ? -1 : way->from, .events = events};
}

/*
 * 0, or -errno if a connection broke off. A server that answers early may reset the connection while the client sends:
 * its answer is passed on before the reset, unless the client takes nothing of it for a while.
 */
static int carry(struct way *up, struct way *down, int linger_ms)
{
	while (!is_over(up, down)) {
		struct pollfd pfds[2] = {wanted(up, down), wanted(down, up)};
		int n = poll(pfds, 2, down->told || up->lost ? linger_ms : -1);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		int r = move(up, down, pfds[0].revents, pfds[1].revents);
		if (r == 0)
			r = move(down, up, pfds[1].revents, pfds[0].revents);
		if (r < 0 || down->lost)
			return r < 0 ? r : down->lost;
	}
	return up->lost;
}

void end_client(int client, int linger_ms)
{
	char nothing[1024];
	int64_t deadline = deadline_in(linger_ms);
	shutdown(client, SHUT_WR);
	while (wait_for(client, POLLIN, deadline) == 0) {
		ssize_t n = recv(client, nothing, sizeof(nothing), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
	}
}

static const struct linger hard = {.l_onoff = 1, .l_linger = 0};

void relay(int client, int server, struct http_body *body, const char *data, size_t length, int linger_ms)
{
	struct way *ways = calloc(2, sizeof(*ways)), *up = ways, *down = ways + 1;
	struct http_answer answer = {0};
	int r = ways ? 0 : -ENOMEM;
	if (r == 0) {
		*up = (struct way){.from = client, .to = server, .body = body};
		*down = (struct way){.from = server, .to = client, .answer = body ? &answer : NULL};
		up->ended = up->told = body && body->ended;
	}
	/* What was read with the request goes first, in pieces that the buffer takes. */
	while (r == 0 && length > 0 && !up->ended) {
		up->at = 0;
		up->length = length < sizeof(up->buffer) ? length : sizeof(up->buffer);
		memcpy(up->buffer, data, up->length);
		data += up->length;
		length -= up->length;
		r = keep_body(up);
		if (r == 0 && (length > 0 || up->ended)) {
			r = send_all(server, up->buffer, up->length, deadline_in(linger_ms));
			up->length = 0;
			if (r < 0 && r != -ETIMEDOUT) {
				lose(up, r);
				r = 0;
			}
		}
	}
	if (r == 0)
		r = carry(up, down, linger_ms);
	if (r < 0)
		setsockopt(server, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	else
		end_client(client, linger_ms);
	free(ways);
}
