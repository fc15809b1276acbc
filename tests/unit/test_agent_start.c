/* SPDX-License-Identifier: Apache-2.0 */
/* The time between a request and its program: children that are stopped in it, and what a client sends meanwhile. */
#include "tests/agent/harness.h"

#include <sys/ptrace.h>

static struct agent_process agent;

#define START(flags) REQUIRE(agent_start(&agent, flags))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

/*
 * Requests a program whose child is stopped before its first instruction: a tracer can hold it there, as SIGSTOP from
 * the user that it becomes would a little later. The child's pid, 0 when this machine does not allow it.
 */
static pid_t exec_stopped(int fd, const struct exec *exec)
{
	const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;
	unsigned long child = 0;
	int status;
	if (ptrace(PTRACE_SEIZE, agent.pid, 0, options) < 0)
		return 0;
	send_exec(fd, exec);
	if (waitpid(agent.pid, &status, __WALL) != agent.pid || !WIFSTOPPED(status))
		return 0;
	ptrace(PTRACE_GETEVENTMSG, agent.pid, 0, &child);
	ptrace(PTRACE_DETACH, agent.pid, 0, 0);
	waitpid((pid_t)child, &status, __WALL);
	return (pid_t)child;
}

static void release(pid_t child)
{
	ptrace(PTRACE_DETACH, child, 0, 0);
}

static void check_true(void)
{
	struct result result = run(&agent, &(struct exec){.argv = {"true"}});
	CHECK(ended_with(&result, 0));
	result_free(&result);
}

/* A child that is stopped delays its own session alone; that ends when its time is over. */
static void stopped_child(void)
{
	harness_start_ns = 2000u * 1000 * 1000; /* also what other programs here have */
	START(WITH_CONTROL);
	harness_start_ns = 0;
	int status, fd = dial(&agent);
	pid_t child = exec_stopped(fd, &(struct exec){.argv = {"true"}});
	if (!child) {
		STOP();
		SKIP("no ptrace here");
	}
	check_true();
	struct result result = {0};
	collect(fd, &result);
	CHECK(result.failed && result.done && !result.started);
	CHECK_EQ(result.failure.error, ETIMEDOUT);
	CHECK_EQ(result.failure.stage, PROTO_STAGE_EXEC);
	CHECK(strstr(result.message, "\"true\" did not start in time"));
	/* Also where no EXEC is: a tracer hears of its end first. */
	CHECK_EQ(waitpid(child, &status, __WALL), child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	result_free(&result);
	check_true();
	STOP();
}

/* A client that leaves takes nothing along: the program starts when it can. */
static void client_leaves_first(void)
{
	START(0);
	int fd = dial(&agent);
	pid_t child = exec_stopped(fd, &SH("sleep 60"));
	if (!child) {
		STOP();
		SKIP("no ptrace here");
	}
	close(fd);
	check_true();
	release(child);
	struct result result = {0};
	fd = -1;
	for (int tries = 0; tries < WAIT_MS && !result.started; tries++) {
		result_free(&result);
		if (fd >= 0)
			close(fd);
		fd = open_session(&agent, 1, PROTO_OPEN_WRITE);
		await_start(fd, &result);
	}
	CHECK_EQ(result.start.pid, child);
	send_frame(fd, PROTO_SIGNAL, &(struct proto_signal){.signal = SIGKILL}, sizeof(struct proto_signal));
	collect(fd, &result);
	CHECK_EQ(result.exit.signal, SIGKILL);
	result_free(&result);
	STOP();
}

/* What is sent before STARTED is in its place, and nothing comes before STARTED. */
static void early_stdin(void)
{
	START(0);
	int fd = dial(&agent);
	struct exec exec = {.argv = {"cat"}, .flags = PROTO_EXEC_STDIN};
	pid_t child = exec_stopped(fd, &exec);
	if (!child) {
		STOP();
		SKIP("no ptrace here");
	}
	static char half[PROTO_WINDOW_INITIAL / 2];
	memset(half, 'x', sizeof(half));
	CHECK(send_frame(fd, PROTO_STDIN, half, sizeof(half)));
	CHECK(send_frame(fd, PROTO_STDIN, half, sizeof(half)));
	CHECK(send_frame(fd, PROTO_STDIN_EOF, NULL, 0));
	CHECK(send_frame(fd, PROTO_PING, NULL, 0));
	struct result result = {0};
	struct frame frame;
	CHECK(expect_frame(fd, PROTO_HELLO, NULL, 0));
	CHECK(read_frame(fd, &frame) && frame.type == PROTO_PONG);
	frame_free(&frame);
	release(child);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_EQ(result.length[0], sizeof(half) * 2);
	result_free(&result);
	STOP();
}

/* A program that has ended when the agent learns that it has begun: STARTED still comes before all else. */
static void early_stdin_unread(void)
{
	START(0);
	int fd = dial(&agent);
	struct exec exec = {.argv = {"true"}, .flags = PROTO_EXEC_STDIN};
	pid_t child = exec_stopped(fd, &exec);
	if (!child) {
		STOP();
		SKIP("no ptrace here");
	}
	CHECK(send_frame(fd, PROTO_STDIN, "unread", 6));
	CHECK(send_frame(fd, PROTO_PING, NULL, 0));
	CHECK(expect_frame(fd, PROTO_HELLO, NULL, 0));
	CHECK(expect_frame(fd, PROTO_PONG, NULL, 0));
	stop_process(agent.pid);
	release(child);
	WAIT_FOR(process_is(child, 'Z'));
	kill(agent.pid, SIGCONT);
	CHECK(expect_frame(fd, PROTO_STARTED, NULL, sizeof(struct proto_started)));
	struct result result = {.started = true};
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_EQ(result.stdin_errors, 1);
	result_free(&result);
	STOP();
}

/* A signal that comes before the program ends it before it begins. */
static void early_signal(void)
{
	START(0);
	int fd = dial(&agent);
	pid_t child = exec_stopped(fd, &SH("trap '' TERM; sleep 60"));
	if (!child) {
		STOP();
		SKIP("no ptrace here");
	}
	CHECK(send_frame(fd, PROTO_SIGNAL, &(struct proto_signal){.signal = SIGTERM}, sizeof(struct proto_signal)));
	CHECK(send_frame(fd, PROTO_PING, NULL, 0));
	CHECK(expect_frame(fd, PROTO_HELLO, NULL, 0));
	CHECK(expect_frame(fd, PROTO_PONG, NULL, 0));
	release(child);
	struct result result = {0};
	collect(fd, &result);
	CHECK(ended_with(&result, -1));
	CHECK_EQ(result.exit.signal, SIGTERM);
	result_free(&result);
	STOP();
}

TEST_MAIN("agent_start", {"stopped_child", stopped_child}, {"client_leaves_first", client_leaves_first},
        {"early_stdin", early_stdin}, {"early_stdin_unread", early_stdin_unread}, {"early_signal", early_signal})
