/* SPDX-License-Identifier: Apache-2.0 */
/* Executions with a terminal. */
#include "tests/agent/harness.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, 0))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

static void a_terminal(void)
{
	START();
	struct exec exec = SH("tty; stty size; echo $TERM; echo err >&2; ps -o tty= -p $$; exit 7");
	exec.flags = PROTO_EXEC_TTY;
	exec.rows = 33;
	exec.cols = 111;
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 7));
	CHECK_EQ(result.start.flags, PROTO_SESSION_TTY | PROTO_SESSION_STDIN | PROTO_SESSION_WRITER);
	CHECK(strncmp(text(&result, 0), "/dev/pts/", 9) == 0);
	CHECK(strstr(text(&result, 0), "\r\n33 111\r\nxterm-256color\r\nerr\r\npts/"));
	CHECK_EQ(result.length[1], 0);
	result_free(&result);
	exec = SH("stty size; echo $TERM");
	exec.flags = PROTO_EXEC_TTY;
	exec.env[0] = "TERM=dumb";
	result = run(&agent, &exec);
	CHECK_STR(text(&result, 0), "24 80\r\ndumb\r\n");
	result_free(&result);
	STOP();
}

static void resize(void)
{
	START();
	struct exec exec = SH("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done");
	exec.flags = PROTO_EXEC_TTY;
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_text(fd, &result, "ready"));
	struct proto_winsize size = {.rows = 50, .cols = 132};
	send_frame(fd, PROTO_RESIZE, &size, sizeof(size));
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK(strstr(text(&result, 0), "50 132"));
	result_free(&result);
	STOP();
}

/* STDIN_EOF is the end-of-file character, whichever it is now. */
static void end_of_file(void)
{
	START();
	struct exec exec = SH("stty -echo; echo ready; cat; stty eof x; echo again; cat; echo over");
	exec.flags = PROTO_EXEC_TTY;
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_text(fd, &result, "ready\r\n"));
	send_frame(fd, PROTO_STDIN, "line\n", 5);
	REQUIRE(await_text(fd, &result, "line\r\n"));
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	REQUIRE(await_text(fd, &result, "again\r\n"));
	/* In the middle of a line, where one character would only hand over what is there, it is the end as well. */
	send_frame(fd, PROTO_STDIN, "part", 4);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "ready\r\nline\r\nagain\r\npartover\r\n");
	result_free(&result);
	STOP();
}

/* In raw mode it is an ordinary byte, as when typed. */
static void end_of_file_raw(void)
{
	START();
	struct exec exec = SH("stty raw -echo; printf ready; head -c 2 | od -An -tx1");
	exec.flags = PROTO_EXEC_TTY;
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_text(fd, &result, "ready"));
	send_frame(fd, PROTO_STDIN, "a", 1);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK(strstr(text(&result, 0), "61 04"));
	result_free(&result);
	STOP();
}

static void interrupt_character(void)
{
	START();
	struct exec exec = {.argv = {"cat"}, .flags = PROTO_EXEC_TTY};
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	send_frame(fd, PROTO_STDIN, "line\n", 5);
	REQUIRE(await_text(fd, &result, "line\r\nline\r\n"));
	send_frame(fd, PROTO_STDIN, "\003", 1);
	collect(fd, &result);
	CHECK(ended_with(&result, -1));
	CHECK_EQ(result.exit.signal, SIGINT);
	result_free(&result);
	STOP();
}

static void signal_and_timeout(void)
{
	START();
	struct exec exec = SH("trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.01; done");
	exec.flags = PROTO_EXEC_TTY;
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_text(fd, &result, "ready"));
	struct proto_signal signal = {SIGTERM};
	send_frame(fd, PROTO_SIGNAL, &signal, sizeof(signal));
	collect(fd, &result);
	CHECK(ended_with(&result, 9));
	CHECK(strstr(text(&result, 0), "caught"));
	result_free(&result);
	exec = SH("echo before; sleep 60");
	exec.flags = PROTO_EXEC_TTY;
	exec.timeout_ns = 400 * 1000000ull;
	result = run(&agent, &exec);
	CHECK(ended_with(&result, -1));
	CHECK_EQ(result.exit.flags, PROTO_SESSION_TIMEOUT);
	CHECK_STR(text(&result, 0), "before\r\n");
	result_free(&result);
	STOP();
}

/* All of it, and its end, although the terminal is gone when the program is. */
static void much_output(void)
{
	START();
	struct exec exec = SH("stty -opost; head -c 300000 /dev/zero | tr '\\0' t; printf END");
	exec.flags = PROTO_EXEC_TTY;
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	REQUIRE(result.length[0] == 300003);
	CHECK(ends_with(&result, 0, "END"));
	CHECK_EQ(strspn(text(&result, 0), "t"), 300000);
	result_free(&result);
	STOP();
}

/* More than a terminal holds, sent before the program reads; in raw mode nothing of it is lost. */
static void much_input(void)
{
	START();
	struct exec exec = SH("stty raw -echo; printf ready; sleep 0.2; head -c 60000 | tr -d '\\n' | wc -c");
	exec.flags = PROTO_EXEC_TTY;
	static uint8_t data[60000];
	memset(data, 'i', sizeof(data));
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_text(fd, &result, "ready"));
	send_frame(fd, PROTO_STDIN, data, sizeof(data));
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK(strstr(text(&result, 0), "60000"));
	result_free(&result);
	STOP();
}

static void belongs_to_the_user(void)
{
	START();
	struct exec exec = SH("stat -c '%U' $(tty); : >$(tty) && echo may-open");
	exec.flags = PROTO_EXEC_TTY;
	exec.user = "nobody";
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "nobody\r\nmay-open\r\n");
	result_free(&result);
	STOP();
}

/* Erase takes a whole character away, however many bytes it has. */
static void erase_in_utf8(void)
{
	START();
	struct result result = {0};
	struct exec exec = SH("echo ready; read -r line; printf %s \"$line\" | od -An -tx1");
	exec.flags = PROTO_EXEC_TTY;
	int fd = dial(&agent);
	send_exec(fd, &exec);
	CHECK(await_text(fd, &result, "ready"));
	CHECK(send_frame(fd, PROTO_STDIN,
	        "a\xc3\xbc\x7f"
	        "b\n",
	        6));
	collect(fd, &result);
	CHECK(strstr(text(&result, 0), " 61 62\r\n"));
	result_free(&result);
	STOP();
}

/* A job that keeps the terminal open delays the end by the grace only. */
static void background_job(void)
{
	START();
	struct exec exec = SH("trap '' HUP; sleep 60 & echo $!");
	exec.flags = PROTO_EXEC_TTY;
	uint64_t begin = now_ms();
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK(now_ms() - begin < 5000);
	kill_program(atoi(text(&result, 0)));
	result_free(&result);
	STOP();
}

TEST_MAIN("agent_tty", {"a_terminal", a_terminal}, {"resize", resize}, {"end_of_file", end_of_file},
        {"end_of_file_raw", end_of_file_raw}, {"interrupt_character", interrupt_character},
        {"signal_and_timeout", signal_and_timeout}, {"much_output", much_output}, {"much_input", much_input},
        {"belongs_to_the_user", belongs_to_the_user}, {"erase_in_utf8", erase_in_utf8},
        {"background_job", background_job})
