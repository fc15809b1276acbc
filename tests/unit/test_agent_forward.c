/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarded connections in the agent: a client's socket on one side, a TCP server of this machine on the other. */
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/forward.h"
#include "tests/unit/test.h"

#define WAIT_MS 20000
#define MANY 1000u

struct relay {
	pid_t pid;
	int listener;
	uint16_t port;
	unsigned count;
	int client[MANY]; /* this side of the connections that the agent has */
};

static int listen_tcp(int family, uint16_t *port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr *address = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t size = family == AF_INET ? sizeof(v4) : sizeof(v6);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, address, size) < 0 || listen(fd, 4096) < 0 || getsockname(fd, address, &size) < 0) {
		close(fd);
		return -1;
	}
	*port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	return fd;
}

/* A connected pair of TCP sockets, which unlike Unix sockets have resets. */
static bool tcp_pair(int pair[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	uint16_t port;
	int listener = listen_tcp(AF_INET, &port);
	address.sin_port = htons(port);
	pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = connect(pair[0], (struct sockaddr *)&address, sizeof(address)) == 0;
	pair[1] = ok ? accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
	close(listener);
	return pair[1] >= 0;
}

static void serve(const int *fds, unsigned count, uint16_t port)
{
	static uint8_t scratch[FORWARD_CHUNK_LARGE];
	struct poller poller;
	struct agent_forwards forwards;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (poller_init(&poller))
		_exit(1);
	agent_forwards_init(&forwards, &poller, NULL, scratch);
	for (unsigned i = 0; i < count; i++)
		agent_forward(&forwards, fds[i], port);
	_exit(poller_run(&poller) != 0);
}

/* `port`: 0 for a server of its own. */
static bool relay_start(struct relay *r, unsigned count, int family, uint16_t port, bool tcp)
{
	static int theirs[MANY];
	int pair[2];
	*r = (struct relay){.listener = -1, .count = count, .port = port};
	if (!port && (r->listener = listen_tcp(family, &r->port)) < 0)
		return false;
	for (unsigned i = 0; i < count; i++) {
		bool ok = tcp ? tcp_pair(pair)
		              : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0;
		if (!ok)
			return false;
		r->client[i] = pair[0];
		theirs[i] = pair[1];
	}
	fflush(stdout);
	r->pid = fork();
	if (r->pid == 0) {
		for (unsigned i = 0; i < count; i++)
			close(r->client[i]);
		if (r->listener >= 0)
			close(r->listener);
		serve(theirs, count, r->port);
	}
	for (unsigned i = 0; i < count; i++)
		close(theirs[i]);
	return r->pid > 0;
}

static unsigned open_in(pid_t pid)
{
	char path[64];
	unsigned count = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

/* Waits until the agent has at most so many descriptors open. */
static bool dwindles(pid_t pid, unsigned count)
{
	for (int i = 0; i < WAIT_MS && open_in(pid) > count; i++)
		poll(NULL, 0, 1);
	return open_in(pid) <= count;
}

static void relay_stop(struct relay *r)
{
	for (unsigned i = 0; i < r->count; i++)
		close(r->client[i]);
	if (r->listener >= 0)
		close(r->listener);
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
}

static bool await(int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};
	return poll(&pfd, 1, WAIT_MS) > 0;
}

static int accept_one(const struct relay *r)
{
	return await(r->listener, POLLIN) ? accept4(r->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
}

static bool say(int fd, const char *text)
{
	return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

/* Reads exactly this. */
static bool hears(int fd, const char *text)
{
	char got[64];
	size_t done = 0, length = strlen(text);
	while (done < length) {
		ssize_t n = await(fd, POLLIN) ? recv(fd, got + done, length - done, MSG_DONTWAIT) : -1;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return memcmp(got, text, length) == 0;
}

static bool at_end(int fd)
{
	char byte;
	return await(fd, POLLIN) && recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

static bool is_reset(int fd)
{
	char byte;
	return await(fd, POLLIN) && recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET;
}

static void test_half_close(void)
{
	struct relay r;
	REQUIRE(relay_start(&r, 2, AF_INET, 0, false));
	int server = accept_one(&r);
	REQUIRE(server >= 0);
	int first = r.client[0], second = r.client[1];
	CHECK(say(first, "question"));
	CHECK(hears(server, "question"));
	shutdown(first, SHUT_WR);
	CHECK(at_end(server));
	CHECK(say(server, "answer"));
	CHECK(hears(first, "answer"));
	close(server);
	CHECK(at_end(first));

	server = accept_one(&r);
	shutdown(server, SHUT_WR);
	CHECK(at_end(second));
	CHECK(say(second, "more"));
	CHECK(hears(server, "more"));
	CHECK(say(second, "last"));
	close(second);
	r.client[1] = -1;
	CHECK(hears(server, "last"));
	CHECK(at_end(server));
	close(server);
	relay_stop(&r);
}

static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 31 + at / 509);
}

/* Sends what is taken, from *at on, until it has sent `total` and ended the stream. */
static bool push(int fd, size_t *at, size_t total)
{
	static uint8_t block[100000];
	size_t length = total - *at < sizeof(block) ? total - *at : sizeof(block);
	for (size_t i = 0; i < length; i++)
		block[i] = pattern(*at + i);
	ssize_t n = send(fd, block, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n <= 0)
		return false;
	*at += (size_t)n;
	if (*at == total)
		shutdown(fd, SHUT_WR);
	return true;
}

/* Takes what there is. False at the end, or when the bytes are not those. */
static bool pull(int fd, size_t *at)
{
	static uint8_t block[70000];
	ssize_t n = recv(fd, block, sizeof(block), MSG_DONTWAIT);
	for (ssize_t i = 0; i < n; i++) {
		if (block[i] != pattern((*at)++)) {
			CHECK(false);
			return false;
		}
	}
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static void test_both_ways(void)
{
	enum { TOTAL = 20000000 };
	struct relay r;
	size_t sent[2] = {0}, got[2] = {0};
	bool open[2] = {true, true};
	REQUIRE(relay_start(&r, 1, AF_INET, 0, false));
	int fd[2] = {r.client[0], accept_one(&r)};
	REQUIRE(fd[1] >= 0);
	while (open[0] || open[1]) {
		struct pollfd pfds[2];
		for (unsigned i = 0; i < 2; i++)
			pfds[i] = (struct pollfd){.fd = fd[i],
			        .events = (short)((sent[i] < TOTAL ? POLLOUT : 0) | (open[i] ? POLLIN : 0))};
		REQUIRE(poll(pfds, 2, WAIT_MS) > 0);
		for (unsigned i = 0; i < 2; i++) {
			if (sent[i] < TOTAL)
				push(fd[i], &sent[i], TOTAL);
			if (open[i])
				open[i] = pull(fd[i], &got[i]);
		}
	}
	CHECK_EQ(got[0], TOTAL);
	CHECK_EQ(got[1], TOTAL);
	close(fd[1]);
	relay_stop(&r);
}

/* Sends until nothing more is taken for a while that the agent uses to pass on what it can. */
static size_t stuff(int fd, size_t total)
{
	size_t sent = 0;
	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = POLLOUT};
		if (poll(&pfd, 1, 300) <= 0)
			return sent;
		push(fd, &sent, total);
	}
}

/* One that is not read stops its sender, and nobody else; when it is read, all is there. */
static void test_slow_reader(void)
{
	enum { TOTAL = 100000000 };
	struct relay r;
	REQUIRE(relay_start(&r, 2, AF_INET, 0, false));
	int slow = accept_one(&r), quick = accept_one(&r);
	REQUIRE(slow >= 0 && quick >= 0);
	size_t sent = stuff(r.client[0], TOTAL), got = 0;
	CHECK(sent > 100000 && sent < TOTAL / 2);
	CHECK(say(r.client[1], "hello"));
	CHECK(hears(quick, "hello"));
	shutdown(r.client[0], SHUT_WR);
	while (await(slow, POLLIN) && pull(slow, &got))
		;
	CHECK_EQ(got, sent);

	/* The other direction, which the host's side does not read. */
	sent = stuff(quick, TOTAL);
	got = 0;
	CHECK(sent > 100000 && sent < TOTAL / 2);
	shutdown(quick, SHUT_WR);
	while (await(r.client[1], POLLIN) && pull(r.client[1], &got))
		;
	CHECK_EQ(got, sent);
	close(slow);
	close(quick);
	relay_stop(&r);
}

static void test_absent(void)
{
	struct relay r;
	uint16_t port;
	close(listen_tcp(AF_INET, &port));
	REQUIRE(relay_start(&r, 1, AF_INET, port, false));
	CHECK(at_end(r.client[0]));
	relay_stop(&r);
}

static void test_ipv6(void)
{
	struct relay r;
	uint16_t port;
	int probe = listen_tcp(AF_INET6, &port);
	if (probe < 0) {
		SKIP("this host has no IPv6");
	}
	close(probe);
	REQUIRE(relay_start(&r, 1, AF_INET6, 0, false));
	int server = accept_one(&r);
	REQUIRE(server >= 0);
	CHECK(say(r.client[0], "six"));
	CHECK(hears(server, "six"));
	close(server);
	CHECK(at_end(r.client[0]));
	relay_stop(&r);
}

/* Who breaks off is not taken for one who has said all. */
static void test_broken_off(void)
{
	static const struct linger hard = {.l_onoff = 1};
	struct relay r;
	REQUIRE(relay_start(&r, 2, AF_INET, 0, true));
	int first = accept_one(&r), second = accept_one(&r);
	REQUIRE(first >= 0 && second >= 0);
	unsigned before = open_in(r.pid);
	setsockopt(first, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(first);
	CHECK(at_end(r.client[0]));
	CHECK(say(r.client[1], "part"));
	CHECK(hears(second, "part"));
	setsockopt(r.client[1], SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(r.client[1]);
	r.client[1] = -1;
	CHECK(is_reset(second));
	close(second);
	CHECK(dwindles(r.pid, before - 4));
	relay_stop(&r);
}

/* Each of many is served, and leaves nothing. */
static void test_many(void)
{
	struct relay r;
	static int server[MANY];
	struct rlimit before, files;
	getrlimit(RLIMIT_NOFILE, &before);
	files = (struct rlimit){before.rlim_max, before.rlim_max};
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 4 * MANY) {
		SKIP("this host allows too few descriptors");
	}
	REQUIRE(relay_start(&r, MANY, AF_INET, 0, false));
	unsigned idle = open_in(getpid()) - MANY; /* it has what this process had, and those of the connections */
	for (unsigned i = 0; i < MANY; i++) {
		char text[16];
		server[i] = accept_one(&r);
		REQUIRE(server[i] >= 0);
		snprintf(text, sizeof(text), "hello %u", i);
		CHECK(say(r.client[i], text));
	}
	for (unsigned i = 0; i < MANY; i++) {
		char text[16];
		snprintf(text, sizeof(text), "hello %u", i);
		CHECK(hears(server[i], text));
		CHECK(say(server[i], text));
		close(server[i]);
	}
	for (unsigned i = 0; i < MANY; i++) {
		char text[16];
		snprintf(text, sizeof(text), "hello %u", i);
		CHECK(hears(r.client[i], text));
		CHECK(at_end(r.client[i]));
		close(r.client[i]);
		r.client[i] = -1;
	}
	CHECK(dwindles(r.pid, idle));
	relay_stop(&r);
	setrlimit(RLIMIT_NOFILE, &before);
}

/* ---- In this process, a round of the loop at a time ---- */

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

int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	if (fd < 4096)
		watched[fd] = event->events;
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

TEST_MAIN("agent_forward", {"half_close", test_half_close}, {"both_ways", test_both_ways},
        {"slow_reader", test_slow_reader}, {"absent", test_absent}, {"ipv6", test_ipv6},
        {"broken_off", test_broken_off}, {"many", test_many}, {"memory", test_memory}, {"room", test_room},
        {"chunks", test_chunks})
