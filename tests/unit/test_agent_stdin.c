/* SPDX-License-Identifier: Apache-2.0 */
/* stdin: its window, its end, its errors, and that nothing waits behind it. */
#include "tests/agent/harness.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, 0))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

/* Sends as a client does: within the window, reading what comes meanwhile. False when the session ended before. */
static bool feed(int fd, struct result *result, const uint8_t *data, size_t length)
{
	uint64_t used = 0;
	while (length) {
		uint64_t window = PROTO_WINDOW_INITIAL + result->granted - used;
		size_t part = length < window ? length : (size_t)window;
		if (!part) {
			if (!result_step(fd, result) || result->done)
				return false;
			continue;
		}
		if (!send_frame(fd, PROTO_STDIN, data, part))
			return false;
		used += part;
		data += part;
		length -= part;
	}
	return true;
}

static void bytes_and_end(void)
{
	START();
	struct exec exec = {.argv = {"cat"}, .flags = PROTO_EXEC_STDIN};
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_start(fd, &result));
	CHECK_EQ(result.start.flags, PROTO_SESSION_STDIN | PROTO_SESSION_WRITER);
	send_frame(fd, PROTO_STDIN, "one\0\377", 5);
	REQUIRE(await_text(fd, &result, "one"));
	send_frame(fd, PROTO_STDIN, "two", 3);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	REQUIRE(result.length[0] == 8);
	CHECK(memcmp(result.output[0], "one\0\377two", 8) == 0);
	result_free(&result);
	STOP();
}

/* An EOF with nothing before it, all in one write with the request. */
static void end_at_once(void)
{
	START();
	struct exec exec = {.argv = {"cat"}, .flags = PROTO_EXEC_STDIN};
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_EQ(result.length[0], 0);
	result_free(&result);
	STOP();
}

/* 1 MiB through a program that does not read at first. */
static void slow_reader(void)
{
	START();
	size_t length = 1024 * 1024;
	uint8_t *data = malloc(length);
	uint32_t state = 1;
	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)((state = state * 1103515245 + 12345) >> 16);
	struct exec exec = SH("sleep 0.3; cat");
	exec.flags = PROTO_EXEC_STDIN;
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	CHECK(feed(fd, &result, data, length));
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	REQUIRE(result.length[0] == length);
	CHECK(memcmp(result.output[0], data, length) == 0);
	CHECK(result.granted <= length && result.granted + 2 * PROTO_WINDOW_INITIAL >= length);
	free(data);
	result_free(&result);
	STOP();
}

/* What a program does not read stays within the window: no grant, and more is a protocol error. */
static void window_is_held(void)
{
	START();
	static uint8_t data[PROTO_DATA_MAX];
	struct exec exec = SH("echo up; exec sleep 60");
	exec.flags = PROTO_EXEC_STDIN;
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_text(fd, &result, "up"));
	/* The pipe takes the first 64 KiB, the agent the second. */
	send_frame(fd, PROTO_STDIN, data, sizeof(data));
	while (!result.granted)
		REQUIRE(result_step(fd, &result));
	CHECK_EQ(result.granted, PROTO_WINDOW_INITIAL);
	send_frame(fd, PROTO_STDIN, data, sizeof(data));
	send_frame(fd, PROTO_PING, "x", 1);
	REQUIRE(expect_frame(fd, PROTO_PONG, NULL, 1));
	send_frame(fd, PROTO_STDIN, data, 1);
	collect(fd, &result);
	CHECK(result.refused && result.error.code == PROTO_ERROR_PROTOCOL && strstr(result.message, "window"));
	/* Only the connection ended. */
	CHECK(alive(result.start.pid));
	kill_program((long)result.start.pid);
	result_free(&result);
	STOP();
}

static void signal_overtakes(void)
{
	START();
	static uint8_t data[PROTO_DATA_MAX];
	struct exec exec = {.argv = {"sleep", "60"}, .flags = PROTO_EXEC_STDIN};
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_start(fd, &result));
	uint64_t begin = now_ms();
	send_frame(fd, PROTO_STDIN, data, sizeof(data));
	while (!result.granted)
		REQUIRE(result_step(fd, &result));
	send_frame(fd, PROTO_STDIN, data, sizeof(data));
	struct proto_signal signal = {SIGKILL};
	send_frame(fd, PROTO_SIGNAL, &signal, sizeof(signal));
	collect(fd, &result);
	CHECK(ended_with(&result, -1));
	CHECK_EQ(result.exit.signal, SIGKILL);
	CHECK(now_ms() - begin < 5000);
	result_free(&result);
	STOP();
}

/* A program that closes its stdin: told once, and the session goes on. */
static void broken_pipe(void)
{
	START();
	struct exec exec = SH("exec <&-; echo closed; sleep 0.2; echo after");
	exec.flags = PROTO_EXEC_STDIN;
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_text(fd, &result, "closed"));
	send_frame(fd, PROTO_STDIN, "x", 1);
	while (!result.stdin_errors)
		REQUIRE(result_step(fd, &result));
	send_frame(fd, PROTO_STDIN, "y", 1);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "closed\nafter\n");
	CHECK_EQ(result.stdin_error, EPIPE);
	CHECK_EQ(result.stdin_errors, 1);
	result_free(&result);
	STOP();
}

/* After STDIN_EOF nothing may follow; one who comes later is told that stdin is closed. */
static void after_the_end(void)
{
	START();
	struct exec exec = SH("cat; echo over; exec sleep 60");
	exec.flags = PROTO_EXEC_STDIN;
	struct result result = {0}, second = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	REQUIRE(await_text(fd, &result, "over"));
	send_frame(fd, PROTO_STDIN, "x", 1);
	collect(fd, &result);
	CHECK(result.refused && result.error.code == PROTO_ERROR_PROTOCOL);
	fd = open_session(&agent, result.start.session, PROTO_OPEN_WRITE);
	REQUIRE(await_start(fd, &second));
	CHECK_EQ(second.start.flags, PROTO_SESSION_WRITER);
	send_frame(fd, PROTO_STDIN, "x", 1);
	send_frame(fd, PROTO_STDIN, "y", 1);
	struct proto_signal signal = {SIGKILL};
	send_frame(fd, PROTO_SIGNAL, &signal, sizeof(signal));
	collect(fd, &second);
	CHECK(ended_with(&second, -1));
	CHECK_EQ(second.stdin_errors, 1);
	CHECK_EQ(second.stdin_error, EPIPE);
	result_free(&result);
	result_free(&second);
	STOP();
}

/* The same when the agent holds stdin for it: the reader ends in the middle. */
static void reader_ends_early(void)
{
	START();
	size_t length = 1024 * 1024;
	uint8_t *data = calloc(1, length);
	struct exec exec = SH("head -c 100000 | wc -c");
	exec.flags = PROTO_EXEC_STDIN;
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	feed(fd, &result, data, length);
	collect(fd, &result);
	CHECK_EQ(result.exit.code, 0);
	CHECK_STR(text(&result, 0), "100000\n");
	free(data);
	result_free(&result);
	STOP();
}

/* A client that leaves takes nothing with it: what it sent is read, stdin stays open, another can go on. */
static void writer_is_replaced(void)
{
	START();
	struct exec exec = {.argv = {"cat"}, .flags = PROTO_EXEC_STDIN};
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_start(fd, &result));
	uint64_t session = result.start.session;
	send_frame(fd, PROTO_STDIN, "first ", 6);
	close(fd);
	result_free(&result);
	fd = open_session(&agent, session, PROTO_OPEN_REPLAY | PROTO_OPEN_WRITE);
	REQUIRE(await_text(fd, &result, "first "));
	CHECK_EQ(result.start.flags, PROTO_SESSION_STDIN | PROTO_SESSION_WRITER);
	send_frame(fd, PROTO_STDIN, "second", 6);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "first second");
	result_free(&result);
	STOP();
}

/* Unread stdin of writers that came and went is bounded. */
static void writers_do_not_pile_up(void)
{
	START();
	static uint8_t data[PROTO_DATA_MAX];
	struct exec exec = {.argv = {"sleep", "60"}, .flags = PROTO_EXEC_STDIN};
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_start(fd, &result));
	uint64_t session = result.start.session;
	uint32_t pid = result.start.pid;
	int writers = 0;
	/* 64 KiB for the pipe, 64 KiB of one writer, the same of the next. */
	for (; writers < 5; writers++) {
		send_frame(fd, PROTO_STDIN, data, sizeof(data));
		send_frame(fd, PROTO_PING, NULL, 0);
		struct frame frame = {0};
		while (read_frame(fd, &frame) && frame.type != PROTO_PONG)
			frame_free(&frame);
		frame_free(&frame);
		close(fd);
		result_free(&result);
		fd = open_session(&agent, session, PROTO_OPEN_WRITE);
		while (!result.started && !result.refused && result_step(fd, &result))
			;
		if (result.refused)
			break;
	}
	CHECK_EQ(writers, 2);
	CHECK_EQ(result.error.code, PROTO_ERROR_WRITER);
	close(fd);
	result_free(&result);
	kill_program((long)pid);
	STOP();
}

/* stdin frames of those who may not send any. */
static void not_for_everyone(void)
{
	START();
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &SH("sleep 60"));
	REQUIRE(await_start(fd, &result));
	uint64_t session = result.start.session;
	struct result watched = {0};
	int watcher = open_session(&agent, session, 0);
	REQUIRE(await_start(watcher, &watched));
	CHECK_EQ(watched.start.flags, 0);
	send_frame(watcher, PROTO_STDIN, "x", 1);
	collect(watcher, &watched);
	CHECK(watched.refused && watched.error.code == PROTO_ERROR_PROTOCOL);
	result_free(&watched);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect(fd, &result);
	CHECK(result.refused && result.error.code == PROTO_ERROR_PROTOCOL);
	CHECK(alive(result.start.pid));
	kill_program((long)result.start.pid);
	result_free(&result);
	STOP();
}

TEST_MAIN("agent_stdin", {"bytes_and_end", bytes_and_end}, {"end_at_once", end_at_once}, {"slow_reader", slow_reader},
        {"window_is_held", window_is_held}, {"signal_overtakes", signal_overtakes}, {"broken_pipe", broken_pipe},
        {"after_the_end", after_the_end}, {"reader_ends_early", reader_ends_early},
        {"writer_is_replaced", writer_is_replaced}, {"writers_do_not_pile_up", writers_do_not_pile_up},
        {"not_for_everyone", not_for_everyone})
