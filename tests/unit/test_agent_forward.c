/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarded connections in the agent: a client's socket on one side, a TCP server of this machine on the other. */
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "agent/forward.h"
#include "tests/unit/test_agent_forward.h"

#define MANY 1000u

struct relay {
	pid_t pid;
	int listener;
	uint16_t port;
	unsigned count;
	int client[MANY]; /* this side of the connections that the agent has */
};

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

static int accept_one(const struct relay *r)
{
	return await(r->listener, POLLIN) ? accept4(r->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
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

/* Who answers early and leaves resets one that still sends, but the answer arrives before. */
static void test_early_answers(void)
{
	enum { TOTAL = 100000000 };
	struct relay r;
	REQUIRE(relay_start(&r, 1, AF_INET, 0, true));
	int server = accept_one(&r);
	REQUIRE(server >= 0);
	unsigned before = open_in(r.pid);
	CHECK(stuff(r.client[0], TOTAL) < TOTAL);
	/* The agent finds the answer and the reset together. */
	kill(r.pid, SIGSTOP);
	CHECK_EQ(waitpid(r.pid, NULL, WUNTRACED), r.pid);
	CHECK(say(server, "answer"));
	close(server);
	kill(r.pid, SIGCONT);
	CHECK(hears(r.client[0], "answer"));
	CHECK(is_reset(r.client[0]));
	CHECK(dwindles(r.pid, before - 2));
	relay_stop(&r);

	/* The other direction. The host's side tells that it takes no more before it answers, as the monitor may. */
	REQUIRE(relay_start(&r, 1, AF_INET, 0, false));
	server = accept_one(&r);
	REQUIRE(server >= 0);
	before = open_in(r.pid);
	shutdown(r.client[0], SHUT_RD);
	CHECK(say(server, "much"));
	poll(NULL, 0, 100); /* the agent has tried to pass it on */
	CHECK(say(r.client[0], "answer"));
	CHECK(hears(server, "answer"));
	close(r.client[0]);
	r.client[0] = -1;
	CHECK(is_reset(server));
	close(server);
	CHECK(dwindles(r.pid, before - 2));
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
TEST_MAIN("agent_forward", {"half_close", test_half_close}, {"both_ways", test_both_ways},
        {"slow_reader", test_slow_reader}, {"absent", test_absent}, {"ipv6", test_ipv6},
        {"broken_off", test_broken_off}, {"early_answers", test_early_answers}, {"many", test_many})
