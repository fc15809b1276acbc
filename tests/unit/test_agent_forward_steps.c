/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarded connections in this process, a round of the agent's loop at a time. */
#include <stdlib.h>

#include "agent/forward.h"
#include "tests/unit/test_agent_forward.h"

static unsigned allocations;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

static bool serving;     /* what is called now is the agent's */
static size_t read_size; /* as last asked for */

ssize_t __real_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags)
{
	if (serving)
		read_size = size;
	return __real_recv(fd, data, size, flags);
}

static uint32_t watched[4096]; /* of each descriptor, the events that the agent watches for */
static int roomless = -1;      /* a descriptor that never tells that it has room, as vsock that was reset */

int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	if (fd < 4096)
		watched[fd] = event->events;
	if (fd == roomless)
		event->events &= ~(uint32_t)EPOLLOUT;
	return __real_epoll_ctl(epoll, operation, fd, event);
}

struct stepped {
	struct poller poller;
	struct agent_forwards forwards;
	struct poller_timer round;
	int listener, client, server;
	int host; /* the agent's socket for the client */
	uint16_t port;
	uint8_t scratch[FORWARD_CHUNK_LARGE];
};

static void end_round(struct poller_timer *timer)
{
	container_of(timer, struct stepped, round)->poller.stop = true;
}

static bool has_events(const struct stepped *s)
{
	struct pollfd pfd = {.fd = s->poller.epoll, .events = POLLIN};
	return poll(&pfd, 1, 0) > 0;
}

/* Everything that can be done without the client and the server is done. */
static void settle(struct stepped *s)
{
	serving = true;
	while (has_events(s) || !list_empty(&s->poller.tasks)) {
		s->poller.stop = false;
		poller_arm(&s->poller, &s->round, 0);
		CHECK_EQ(poller_run(&s->poller), 0);
	}
	serving = false;
}

/* Waits until there is something to read, and serves the agent's events meanwhile. */
static bool arrives(struct stepped *s, int fd)
{
	struct pollfd pfds[] = {{.fd = fd, .events = POLLIN}, {.fd = s->poller.epoll, .events = POLLIN}};
	do {
		if (poll(pfds, 2, WAIT_MS) <= 0)
			return false;
		settle(s);
	} while (!pfds[0].revents);
	return true;
}

static bool stepped_connect(struct stepped *s)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair))
		return false;
	s->client = pair[0];
	s->host = pair[1];
	agent_forward(&s->forwards, pair[1], s->port);
	s->server = await(s->listener, POLLIN) ? accept(s->listener, NULL, NULL) : -1;
	return s->server >= 0;
}

/* A connection that the agent has just made. */
static struct stepped *stepped_start(void)
{
	struct stepped *s = calloc(1, sizeof(*s));
	if (!s || poller_init(&s->poller))
		return NULL;
	s->round.fire = end_round;
	list_init(&s->round.node);
	agent_forwards_init(&s->forwards, &s->poller, NULL, s->scratch);
	s->listener = listen_tcp(AF_INET, &s->port);
	return stepped_connect(s) ? s : NULL;
}

static void stepped_stop(struct stepped *s)
{
	agent_forwards_destroy(&s->forwards);
	poller_destroy(&s->poller);
	close(s->listener);
	close(s->client);
	close(s->server);
	free(s);
}

/* Sends until nobody takes more, receives all of that, and does so again: the memory is that of the first time. */
static void test_memory(void)
{
	struct stepped *s = stepped_start();
	size_t sent = 0, got = 0;
	REQUIRE(s);
	for (unsigned i = 0; i < 4; i++) {
		unsigned before = allocations;
		size_t begun = sent;
		while (push(s->client, &sent, SIZE_MAX))
			settle(s);
		CHECK(sent > begun);
		CHECK_EQ(allocations - before, i == 0);
		while (got < sent && arrives(s, s->server) && pull(s->server, &got))
			;
		CHECK_EQ(got, sent);
	}
	stepped_stop(s);
}

/* The agent watches for room from the first time that there is none. */
static void test_room(void)
{
	struct stepped *s = stepped_start();
	size_t sent = 0, got = 0;
	REQUIRE(s);
	CHECK(say(s->client, "question"));
	CHECK(arrives(s, s->server));
	CHECK(hears(s->server, "question"));
	CHECK(say(s->server, "answer"));
	CHECK(arrives(s, s->client));
	CHECK(hears(s->client, "answer"));
	CHECK_EQ(watched[s->host], EPOLLIN | EPOLLRDHUP | EPOLLET);
	while (!(watched[s->host] & EPOLLOUT)) {
		push(s->server, &sent, SIZE_MAX);
		REQUIRE(await(s->poller.epoll, POLLIN));
		settle(s);
	}
	CHECK_EQ(watched[s->host], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	while (got < sent && arrives(s, s->client) && pull(s->client, &got))
		;
	CHECK_EQ(got, sent);
	stepped_stop(s);
}

/* Large reads while there are few, and small ones, which bound what all keep, while there are many. */
static void test_chunks(void)
{
	struct stepped *s = stepped_start();
	int kept[2 * FORWARDS_AMPLE];
	unsigned count = 0;
	REQUIRE(s);
	for (unsigned i = 1;; i++) {
		read_size = 0;
		CHECK(say(s->client, "question"));
		CHECK(arrives(s, s->server));
		size_t size = i > FORWARDS_AMPLE ? FORWARD_CHUNK_SMALL : FORWARD_CHUNK;
		CHECK_EQ(read_size, i > FORWARDS_FEW ? size : FORWARD_CHUNK_LARGE);
		CHECK(say(s->server, "answer"));
		CHECK(arrives(s, s->client));
		CHECK_EQ(read_size, size);
		if (i > FORWARDS_AMPLE)
			break;
		kept[count++] = s->client;
		kept[count++] = s->server;
		REQUIRE(stepped_connect(s));
	}
	while (count > 0)
		close(kept[--count]);
	stepped_stop(s);
}

/* Each end sends until nothing is taken. */
static void fill_both_ways(struct stepped *s)
{
	size_t down = 0, up = 0;
	while (push(s->server, &down, SIZE_MAX))
		settle(s);
	while (push(s->client, &up, SIZE_MAX))
		settle(s);
}

static void leave(int *end)
{
	close(*end);
	*end = -1;
}

/* Both ends have left while each had more to take than it took: nothing is left of the connection. */
static void test_both_gone(void)
{
	struct stepped *s = stepped_start();
	REQUIRE(s);
	roomless = s->host;
	fill_both_ways(s);
	leave(&s->server);
	REQUIRE(await(s->poller.epoll, POLLIN));
	settle(s);
	CHECK_EQ(s->forwards.count, 1); /* what the server has sent waits for the client */
	leave(&s->client);
	settle(s);
	CHECK_EQ(s->forwards.count, 0);
	roomless = -1;
	stepped_stop(s);
}

/* The client has left while the server, which sends, takes nothing: nothing of it waits for the server. */
static void test_client_gone(void)
{
	struct stepped *s = stepped_start();
	REQUIRE(s);
	fill_both_ways(s);
	CHECK_EQ(s->forwards.count, 1);
	leave(&s->client);
	settle(s);
	CHECK_EQ(s->forwards.count, 0);
	stepped_stop(s);
}

/* The server has left with an answer, and the client sends all that it wants to before it reads that. */
static void test_server_gone(void)
{
	struct stepped *s = stepped_start();
	size_t up = 0, left = 0;
	REQUIRE(s);
	while (push(s->client, &up, SIZE_MAX))
		settle(s);
	CHECK(say(s->server, "answer"));
	leave(&s->server);
	while (left < 8u << 20 && s->forwards.count > 0) {
		if (!push(s->client, &left, SIZE_MAX))
			REQUIRE(await(s->poller.epoll, POLLIN));
		settle(s);
	}
	CHECK(hears(s->client, "answer"));
	settle(s);
	CHECK_EQ(s->forwards.count, 0);
	stepped_stop(s);
}

TEST_MAIN("agent_forward", {"memory", test_memory}, {"room", test_room}, {"chunks", test_chunks},
        {"both_gone", test_both_gone}, {"client_gone", test_client_gone}, {"server_gone", test_server_gone})
