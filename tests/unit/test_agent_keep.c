/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that serve one request after the other. */
#include "tests/agent/harness.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, 0))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

/* A connection that has sent HELLO and KEEP. */
static int dial_kept(void)
{
	int fd = dial(&agent);
	send_hello(fd);
	send_frame(fd, PROTO_KEEP, NULL, 0);
	return fd;
}

static void send_request(int fd, const struct exec *exec)
{
	uint8_t payload[512];
	send_frame(fd, PROTO_EXEC, payload, exec_payload(exec, payload));
}

/* Reads the answer to one request. The connection stays open. */
static void collect_one(int fd, struct result *result)
{
	*result = (struct result){0};
	while (!result->done && !result->refused && result_step(fd, result))
		;
}

static void expect_answer(int fd, const struct exec *exec, int code, const char *output)
{
	struct result result;
	send_request(fd, exec);
	collect_one(fd, &result);
	CHECK(result.started && result.exited && result.done);
	CHECK_EQ(result.exit.code, code);
	CHECK_STR(text(&result, 0), output);
	result_free(&result);
}

static void expect_pong(int fd)
{
	struct frame frame;
	send_frame(fd, PROTO_PING, "?", 1);
	REQUIRE(read_frame(fd, &frame));
	CHECK_EQ(frame.type, PROTO_PONG);
	frame_free(&frame);
}

static void expect_refused(int fd)
{
	struct result result = {0};
	collect(fd, &result);
	CHECK(result.refused && result.ended);
	CHECK_EQ(result.error.code, PROTO_ERROR_PROTOCOL);
	result_free(&result);
}

static void each_request_is_answered(void)
{
	START();
	struct result result;
	int fd = dial_kept();
	REQUIRE(expect_frame(fd, PROTO_HELLO, NULL, sizeof(struct proto_hello)));
	expect_pong(fd);
	for (int i = 0; i < 3; i++)
		expect_answer(fd, &SH("echo out; exit 3"), 3, "out\n");
	/* A session with stdin leaves nothing to the next one. */
	send_request(fd, &(struct exec){.argv = {"cat"}, .flags = PROTO_EXEC_STDIN});
	send_frame(fd, PROTO_STDIN, "in", 2);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect_one(fd, &result);
	CHECK_STR(text(&result, 0), "in");
	uint64_t session = result.start.session;
	result_free(&result);
	send_request(fd, &(struct exec){.argv = {"cat"}, .flags = PROTO_EXEC_STDIN});
	send_frame(fd, PROTO_STDIN, "again", 5);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect_one(fd, &result);
	CHECK_STR(text(&result, 0), "again");
	result_free(&result);
	/* The other requests. */
	struct proto_open open = {.session = session, .flags = PROTO_OPEN_REPLAY};
	send_frame(fd, PROTO_OPEN, &open, sizeof(open));
	collect_one(fd, &result);
	CHECK_STR(text(&result, 0), "in");
	CHECK(result.exited && result.done);
	result_free(&result);
	send_frame(fd, PROTO_LIST, NULL, 0);
	collect_one(fd, &result);
	CHECK(result.done);
	struct proto_kill kill_it = {.session = session};
	send_frame(fd, PROTO_KILL, &kill_it, sizeof(kill_it));
	collect_one(fd, &result);
	CHECK(result.done);
	send_request(fd, &(struct exec){.argv = {"/no/such/program"}});
	collect_one(fd, &result);
	CHECK(result.failed && result.done);
	result_free(&result);
	expect_answer(fd, &SH("echo last"), 0, "last\n");
	close(fd);
	WAIT_FOR(count_fds(agent.pid) == agent.idle_fds);
	CHECK_EQ(count_fds(agent.pid), agent.idle_fds);
	STOP();
}

/* A client may send these before it knows that the session has ended. */
static void what_comes_too_late_is_skipped(void)
{
	START();
	int fd = dial_kept();
	struct proto_signal signal = {.signal = SIGTERM};
	struct proto_winsize size = {.rows = 1, .cols = 1};
	for (int i = 0; i < 3; i++) {
		expect_answer(fd, &SH("echo one"), 0, "one\n");
		send_frame(fd, PROTO_STDIN, "late", 4);
		send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
		send_frame(fd, PROTO_SIGNAL, &signal, sizeof(signal));
		send_frame(fd, PROTO_RESIZE, &size, sizeof(size));
		send_frame(fd, PROTO_PONG, NULL, 0);
	}
	/* A frame that began before the end: its bytes, which look like requests, are its own. */
	static const uint8_t nothing[4096];
	struct proto_frame frame = {.length = sizeof(nothing), .type = PROTO_STDIN};
	struct result result;
	send_request(fd, &(struct exec){.argv = {"sleep", "0.1"}, .flags = PROTO_EXEC_STDIN});
	send_bytes(fd, &frame, sizeof(frame));
	send_bytes(fd, nothing, 1000);
	collect_one(fd, &result);
	CHECK(result.exited && result.done);
	result_free(&result);
	send_bytes(fd, nothing, sizeof(nothing) - 1000);
	expect_answer(fd, &SH("echo two"), 0, "two\n");
	close(fd);
	STOP();
}

static void out_of_order(void)
{
	START();
	/* KEEP comes once, after HELLO and before a request. */
	int fd = dial(&agent);
	send_frame(fd, PROTO_KEEP, NULL, 0);
	expect_refused(fd);
	fd = dial_kept();
	send_frame(fd, PROTO_KEEP, NULL, 0);
	expect_refused(fd);
	fd = dial(&agent);
	send_hello(fd);
	send_request(fd, &(struct exec){.argv = {"sleep", "60"}});
	send_frame(fd, PROTO_KEEP, NULL, 0);
	expect_refused(fd);
	/* A request comes after the answer to the one before. */
	fd = dial_kept();
	send_request(fd, &(struct exec){.argv = {"sleep", "60"}});
	send_request(fd, &(struct exec){.argv = {"true"}});
	expect_refused(fd);
	/* What is not a request at all, between two. */
	fd = dial_kept();
	struct result result;
	send_frame(fd, PROTO_LIST, NULL, 0);
	collect_one(fd, &result);
	send_bytes(fd, "GET / HTTP/1.1\r\n\r\n", 18);
	expect_refused(fd);
	fd = dial_kept();
	expect_answer(fd, &SH("echo fine"), 0, "fine\n");
	close(fd);
	STOP();
}

/* Connections that wait are no load: they do not count as served, and the oldest go when there are too many. */
static void idle_ones_make_room(void)
{
	enum { MANY = PROTO_CLIENTS_MAX + 2 };
	START();
	int fds[MANY];
	for (int i = 0; i < MANY; i++) {
		fds[i] = dial_kept();
		REQUIRE(expect_frame(fds[i], PROTO_HELLO, NULL, sizeof(struct proto_hello)));
		expect_pong(fds[i]);
	}
	struct frame frame;
	for (int i = 0; i < 2; i++)
		CHECK(!read_frame(fds[i], &frame));
	expect_answer(fds[2], &SH("echo here"), 0, "here\n");
	struct result result = run(&agent, &SH("echo new"));
	CHECK(ended_with(&result, 0));
	result_free(&result);
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
	WAIT_FOR(count_fds(agent.pid) == agent.idle_fds);
	CHECK_EQ(count_fds(agent.pid), agent.idle_fds);
	STOP();
}

/* A request on a kept connection counts like a new one. */
static void too_many_requests(void)
{
	START();
	int kept = dial_kept(), fds[PROTO_CLIENTS_MAX];
	REQUIRE(expect_frame(kept, PROTO_HELLO, NULL, sizeof(struct proto_hello)));
	for (unsigned i = 0; i < PROTO_CLIENTS_MAX; i++) {
		fds[i] = dial(&agent);
		send_hello(fds[i]);
		REQUIRE(expect_frame(fds[i], PROTO_HELLO, NULL, sizeof(struct proto_hello)));
	}
	send_request(kept, &(struct exec){.argv = {"true"}});
	struct result result = {0};
	collect(kept, &result);
	CHECK(result.refused && result.ended);
	CHECK_EQ(result.error.code, PROTO_ERROR_BUSY);
	result_free(&result);
	for (unsigned i = 0; i < PROTO_CLIENTS_MAX; i++)
		close(fds[i]);
	WAIT_FOR(count_fds(agent.pid) == agent.idle_fds);
	result = run(&agent, &SH("echo free"));
	CHECK(ended_with(&result, 0));
	result_free(&result);
	STOP();
}

TEST_MAIN("agent_keep", {"each_request_is_answered", each_request_is_answered},
        {"what_comes_too_late_is_skipped", what_comes_too_late_is_skipped}, {"out_of_order", out_of_order},
        {"idle_ones_make_room", idle_ones_make_room}, {"too_many_requests", too_many_requests})
