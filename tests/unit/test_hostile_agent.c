/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of the agent that stop in the middle: the places are few, so nobody keeps one for nothing. */
#include <fcntl.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/serve.h"
#include "tests/unit/test.h"

#define PATIENCE_NS (30u * 1000 * 1000)

struct stop {
	struct poller_timer timer;
	struct agent *agent;
};

static void stop(struct poller_timer *timer)
{
	container_of(timer, struct stop, timer)->agent->poller.stop = true;
}

/* The agent, for a while. */
static void serve(struct agent *agent, uint64_t ms)
{
	struct stop end = {.timer.fire = stop, .agent = agent};
	agent->poller.stop = false;
	poller_arm(&agent->poller, &end.timer, poller_now() + ms * 1000000);
	CHECK_EQ(agent_run(agent), 0);
}

static int client_of(struct agent *agent, bool control)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		abort();
	CHECK_EQ(control ? agent_serve_control(agent, ends[1]) : agent_serve_connection(agent, ends[1]), 0);
	return ends[0];
}

static void put(int fd, uint8_t type, const void *payload, size_t length)
{
	struct proto_frame frame = {.length = (uint32_t)length, .type = type};
	CHECK_EQ(send(fd, &frame, sizeof(frame), MSG_NOSIGNAL), sizeof(frame));
	CHECK_EQ(send(fd, payload, length, MSG_NOSIGNAL), length);
}

static void greet(int fd)
{
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	put(fd, PROTO_HELLO, &hello, sizeof(hello));
}

/* Whether the agent ended the connection, after an ERROR that says why. It closes a little after the last frame. */
static bool was_refused(struct agent *agent, int fd)
{
	char bytes[512];
	size_t length = 0;
	ssize_t n = -1;
	for (int i = 0; i < 1000 && n != 0 && length < sizeof(bytes); i++) {
		n = recv(fd, bytes + length, sizeof(bytes) - length, 0);
		length += n > 0 ? (size_t)n : 0;
		if (n < 0)
			serve(agent, 10);
	}
	return n == 0 && memmem(bytes, length, "no request came in time", 23);
}

static void no_request(void)
{
	static const struct agent_hooks hooks;
	static struct agent agent;
	char byte[512];
	REQUIRE(agent_init(&agent, &hooks, NULL) == 0);
	agent.patience_ns = PATIENCE_NS;
	int silent = client_of(&agent, false), greeted = client_of(&agent, false), half = client_of(&agent, false);
	int control = client_of(&agent, true), in_session = client_of(&agent, false);
	greet(greeted);
	greet(half);
	CHECK_EQ(send(half, "\x20\0\0\0\x10", 5, 0), 5); /* the beginning of an EXEC */
	greet(in_session);
	struct {
		struct proto_exec exec;
		char strings[11];
	} exec = {{.flags = PROTO_EXEC_STDIN, .argc = 1}, "\0\0/bin/cat"};
	put(in_session, PROTO_EXEC, &exec, sizeof(exec.exec) + sizeof(exec.strings));
	serve(&agent, 10);
	CHECK_EQ(agent.client_count, 4);
	serve(&agent, 100);
	CHECK_EQ(agent.client_count, 1); /* who is in a session stays, however quiet */
	CHECK(was_refused(&agent, silent));
	CHECK(was_refused(&agent, greeted));
	CHECK(was_refused(&agent, half));
	CHECK(recv(control, byte, sizeof(byte), 0) > 0);
	CHECK_EQ(recv(control, byte, sizeof(byte), 0), -1);
	CHECK(agent.control != NULL);
	close(silent);
	close(greeted);
	close(half);
	close(control);
	close(in_session);
	serve(&agent, 10);
	agent_destroy(&agent);
}

/* A list that nobody reads is no reason to keep the place either. */
static void unread_list(void)
{
	static const struct agent_hooks hooks;
	static struct agent agent;
	REQUIRE(agent_init(&agent, &hooks, NULL) == 0);
	agent.patience_ns = PATIENCE_NS;
	int fd = client_of(&agent, false);
	struct agent_client *client = container_of(agent.clients.next, struct agent_client, node);
	greet(fd);
	serve(&agent, 1);
	client->state = CLIENT_LIST; /* as it is while its answers do not fit the socket */
	client->list_next = 0;
	client->awaits_room = true;
	serve(&agent, 100);
	CHECK_EQ(agent.client_count, 0);
	close(fd);
	agent_destroy(&agent);
}

/* A kept connection may be idle for ever, but has no more time for a frame or a list than others. */
static void kept_connections(void)
{
	static const struct agent_hooks hooks;
	static struct agent agent;
	static const uint8_t bytes[PROTO_DATA_MAX];
	enum { IDLE, WHOLE, HALF, LIST, COUNT };
	struct agent_client *client[COUNT];
	int fd[COUNT];
	REQUIRE(agent_init(&agent, &hooks, NULL) == 0);
	for (unsigned i = 0; i < COUNT; i++) {
		fd[i] = client_of(&agent, false);
		client[i] = container_of(agent.clients.prev, struct agent_client, node);
		greet(fd[i]);
		put(fd[i], PROTO_KEEP, NULL, 0);
	}
	serve(&agent, 1);
	CHECK_EQ(agent.idle_count, COUNT);
	CHECK_EQ(send(fd[WHOLE], "\1\0\0\0\2\0\0", 7, 0), 7); /* the beginning of a PING */
	serve(&agent, 1);
	CHECK(list_linked(&client[WHOLE]->patience.node));
	CHECK_EQ(send(fd[WHOLE], "\0?", 2, 0), 2);
	serve(&agent, 1);
	CHECK(!list_linked(&client[WHOLE]->patience.node));

	agent.patience_ns = PATIENCE_NS;
	CHECK_EQ(send(fd[HALF], "\x20\0\0\0\x10", 5, 0), 5); /* that of an EXEC */
	/* No answer fits what is left of the socket, and of what is queued for it. */
	while (send(client[LIST]->watch.fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	agent_client_append(client[LIST], PROTO_PONG, bytes, sizeof(bytes));
	put(fd[LIST], PROTO_LIST, NULL, 0);
	serve(&agent, 1);
	CHECK(was_refused(&agent, fd[HALF]));
	serve(&agent, 100);
	CHECK_EQ(agent.client_count, 0);
	CHECK_EQ(agent.idle_count, 2);
	for (unsigned i = 0; i < COUNT; i++)
		close(fd[i]);
	serve(&agent, 10);
	CHECK_EQ(agent.idle_count, 0);
	agent_destroy(&agent);
}

/* A guest that is being stopped starts nothing, and says so. */
static void late_request(void)
{
	static const struct agent_hooks hooks;
	static struct agent agent;
	REQUIRE(agent_init(&agent, &hooks, NULL) == 0);
	agent.stopping = true;
	int fd = client_of(&agent, false);
	struct {
		struct proto_exec exec;
		char strings[12];
	} exec = {{.argc = 1}, "\0\0/bin/true"};
	greet(fd);
	put(fd, PROTO_EXEC, &exec, sizeof(exec.exec) + sizeof(exec.strings));
	serve(&agent, 10);
	struct {
		struct proto_frame hello_frame;
		struct proto_hello hello;
		struct proto_frame frame;
		struct proto_failed failed;
	} answer;
	REQUIRE(recv(fd, &answer, sizeof(answer), 0) == sizeof(answer));
	CHECK_EQ(answer.frame.type, PROTO_FAILED);
	CHECK_EQ(answer.failed.kind, PROTO_FAILURE_OTHER);
	CHECK_EQ(answer.failed.error, ESHUTDOWN);
	close(fd);
	serve(&agent, 10);
	agent_destroy(&agent);
}

TEST_MAIN("hostile_agent", {"no_request", no_request}, {"unread_list", unread_list},
        {"kept_connections", kept_connections}, {"late_request", late_request})
