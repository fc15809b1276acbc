/* SPDX-License-Identifier: Apache-2.0 */
/* The way out, in the agent: programs of this machine on one side, and this test as the host's proxy on the other. */
#include <netinet/in.h>

#include "tests/agent/harness.h"
#include "vmm/shared/egress.h"

static struct agent_process agent;
static char dir[64];
static struct sockaddr_un address;
static int proxy; /* listens */

/* A port that is free now. */
static uint16_t free_port(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(any);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || getsockname(fd, (struct sockaddr *)&any, &size) < 0)
		any.sin_port = 0;
	close(fd);
	return ntohs(any.sin_port);
}

static int connect_to(uint16_t port)
{
	struct sockaddr_in to = {
	        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	close(fd);
	return -1;
}

static bool begin(void)
{
	address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(dir, sizeof(dir), "/tmp/wisp-test-XXXXXX");
	if (!mkdtemp(dir))
		return false;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/proxy", dir);
	proxy = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	harness_proxy = &address;
	harness_doors[0] = free_port();
	harness_doors[1] = free_port();
	return bind(proxy, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(proxy, SOMAXCONN) == 0 &&
	       agent_start(&agent, 0);
}

static void end(void)
{
	CHECK_EQ(agent_stop(&agent), 0);
	close(proxy);
	unlink(address.sun_path);
	rmdir(dir);
}

static bool open_doors(void)
{
	struct exec exec = {.argv = {"true"}, .flags = PROTO_EXEC_EGRESS};
	struct result result = run(&agent, &exec);
	bool good = ended_with(&result, 0);
	result_free(&result);
	return good;
}

static int accept_one(void)
{
	struct pollfd pfd = {.fd = proxy, .events = POLLIN};
	return poll(&pfd, 1, WAIT_MS) > 0 ? accept4(proxy, NULL, NULL, SOCK_CLOEXEC) : -1;
}

static bool arrives(int from, int to, const char *text)
{
	char got[64] = "";
	return send_bytes(from, text, strlen(text)) && read_bytes(to, got, strlen(text)) && strcmp(got, text) == 0;
}

/* 0 at the end of the stream, -errno if it broke off. */
static int end_of(int fd)
{
	char byte;
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	if (poll(&pfd, 1, WAIT_MS) <= 0)
		return -ETIMEDOUT;
	ssize_t n = recv(fd, &byte, 1, 0);
	return n < 0 ? -errno : (int)n;
}

/* It listens with the first session that asks for it, once. */
static void opens_with_a_session(void)
{
	REQUIRE(begin());
	struct exec plain = {.argv = {"true"}};
	struct result result = run(&agent, &plain);
	CHECK(ended_with(&result, 0));
	result_free(&result);
	CHECK_EQ(connect_to(harness_doors[0]), -1);
	for (int i = 0; i < 2; i++) {
		CHECK(open_doors());
		for (int door = 0; door < 2; door++) {
			int client = connect_to(harness_doors[door]), host = accept_one();
			CHECK(client >= 0 && host >= 0);
			CHECK(arrives(client, host, "question") && arrives(host, client, "answer"));
			close(client);
			CHECK_EQ(end_of(host), 0);
			close(host);
		}
	}
	end();
}

static void each_direction_ends_on_its_own(void)
{
	REQUIRE(begin() && open_doors());
	int client = connect_to(harness_doors[0]), host = accept_one();
	REQUIRE(client >= 0 && host >= 0);
	shutdown(client, SHUT_WR);
	CHECK_EQ(end_of(host), 0);
	CHECK(arrives(host, client, "still here"));
	shutdown(host, SHUT_WR);
	CHECK_EQ(end_of(client), 0);
	close(client);
	close(host);
	client = connect_to(harness_doors[0]);
	host = accept_one();
	shutdown(host, SHUT_WR);
	CHECK_EQ(end_of(client), 0);
	CHECK(arrives(client, host, "still here"));
	close(host);
	close(client);
	end();
}

static void what_breaks_off_is_reset(void)
{
	static const struct linger hard = {.l_onoff = 1};
	REQUIRE(begin() && open_doors());
	int client = connect_to(harness_doors[0]), host = accept_one();
	CHECK(arrives(client, host, "question"));
	close(host);
	CHECK_EQ(end_of(client), -ECONNRESET);
	close(client);
	client = connect_to(harness_doors[0]);
	host = accept_one();
	setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(client);
	CHECK_EQ(end_of(host), 0);
	CHECK(send(host, "x", 1, MSG_NOSIGNAL) < 0);
	close(host);
	/* Nobody listens. */
	close(proxy);
	client = connect_to(harness_doors[1]);
	CHECK(client >= 0);
	CHECK_EQ(end_of(client), -ECONNRESET);
	close(client);
	/* Nothing is left of them. */
	WAIT_FOR(count_fds(agent.pid) == agent.idle_fds + 2);
	CHECK_EQ(count_fds(agent.pid), agent.idle_fds + 2);
	end();
}

/* Those that are too many wait, and leave the ports of the host their places. */
static void too_many(void)
{
	static int client[EGRESS_CONNECTIONS_MAX + 4], host[EGRESS_CONNECTIONS_MAX + 4];
	const size_t count = sizeof(client) / sizeof(client[0]), most = EGRESS_CONNECTIONS_MAX;
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_max < 4096)
		SKIP("too few descriptors");
	files.rlim_cur = 4096;
	setrlimit(RLIMIT_NOFILE, &files);
	REQUIRE(begin() && open_doors());
	for (size_t i = 0; i < count; i++)
		CHECK((client[i] = connect_to(harness_doors[i % 2])) >= 0);
	for (size_t i = 0; i < most; i++)
		CHECK((host[i] = accept_one()) >= 0);
	struct pollfd more = {.fd = proxy, .events = POLLIN};
	CHECK_EQ(poll(&more, 1, 0), 0);
	for (size_t i = 0; i < count - most; i++) {
		close(host[i]);
		CHECK((host[most + i] = accept_one()) >= 0);
	}
	for (size_t i = 0; i < count; i++)
		close(client[i]);
	for (size_t i = count - most; i < count; i++)
		close(host[i]);
	end();
}

/* Another program has the port: commands run all the same. */
static void a_port_is_taken(void)
{
	REQUIRE(begin());
	struct sockaddr_in taken = {
	        .sin_family = AF_INET, .sin_port = htons(harness_doors[0]), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(bind(other, (struct sockaddr *)&taken, sizeof(taken)) == 0 && listen(other, 1) == 0);
	CHECK(open_doors());
	int client = connect_to(harness_doors[1]), host = accept_one();
	CHECK(client >= 0 && host >= 0 && arrives(client, host, "question"));
	close(client);
	close(host);
	close(other);
	end();
}

TEST_MAIN("agent_egress", {"opens_with_a_session", opens_with_a_session},
        {"each_direction_ends_on_its_own", each_direction_ends_on_its_own},
        {"what_breaks_off_is_reset", what_breaks_off_is_reset}, {"too_many", too_many},
        {"a_port_is_taken", a_port_is_taken})
