/* SPDX-License-Identifier: Apache-2.0 */
/* Many at once, many in a row, and some that do not read. */
#include "tests/agent/harness.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, WITH_CONTROL))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Each with output of its own on both streams and an exit code of its own, half with a terminal, all begun before any
 * is collected. */
static void many_at_once(void)
{
	START();
	enum { COUNT = 72 };
	int fds[COUNT];
	char scripts[COUNT][160];
	for (int i = 0; i < COUNT; i++) {
		bool tty = i % 2;
		snprintf(scripts[i], sizeof(scripts[i]),
		        "%sread x; echo $x; head -c 20000 /dev/zero | tr '\\0' '%c'; echo err%d >&2; exit %d",
		        tty ? "stty -echo -opost; echo ready; " : "echo ready; ", 'A' + i % 26, i, i);
		struct exec exec = SH(scripts[i]);
		exec.flags = PROTO_EXEC_STDIN | (tty ? PROTO_EXEC_TTY : 0);
		fds[i] = dial(&agent);
		REQUIRE(send_exec(fds[i], &exec));
	}
	for (int i = 0; i < COUNT; i++) {
		char line[32], expected[64];
		bool tty = i % 2;
		struct result result = {0};
		REQUIRE(await_text(fds[i], &result, "ready"));
		int length = snprintf(line, sizeof(line), "line-%d\n", i);
		send_frame(fds[i], PROTO_STDIN, line, (size_t)length);
		collect(fds[i], &result);
		CHECK(ended_with(&result, i));
		snprintf(expected, sizeof(expected), "ready\nline-%d\n", i);
		size_t before = strlen(expected);
		CHECK(strncmp(text(&result, 0), expected, before) == 0);
		char letter[2] = {(char)('A' + i % 26), '\0'};
		CHECK(result.length[0] >= before && strspn(text(&result, 0) + before, letter) == 20000);
		snprintf(expected, sizeof(expected), "err%d\n", i);
		CHECK_STR(tty ? text(&result, 0) + before + 20000 : text(&result, 1), expected);
		result_free(&result);
	}
	WAIT_FOR(count_fds(agent.pid) == agent.idle_fds);
	CHECK_EQ(count_fds(agent.pid), agent.idle_fds);
	STOP();
}

static unsigned long resident_pages(void)
{
	char path[32];
	unsigned long size = 0, resident = 0;
	snprintf(path, sizeof(path), "/proc/%d/statm", (int)agent.pid);
	FILE *file = fopen(path, "r");
	if (!file || fscanf(file, "%lu %lu", &size, &resident) != 2)
		test_failed = true;
	if (file)
		fclose(file);
	return resident;
}

static void some(int count)
{
	for (int i = 0; i < count; i++) {
		struct exec exec = {.argv = {"true"}};
		if (i % 10 == 1)
			exec.argv[0] = "/no/such/file";
		if (i % 10 == 2)
			exec = (struct exec){.argv = {"echo", "x"}, .flags = PROTO_EXEC_TTY};
		if (i % 10 == 3)
			exec = (struct exec){.argv = {"true"}, .flags = PROTO_EXEC_STDIN, .timeout_ns = 60000000000u};
		struct result result = run(&agent, &exec);
		if (i % 10 == 1)
			CHECK(result.failed && result.done);
		else
			CHECK(ended_with(&result, 0));
		result_free(&result);
	}
}

/* Neither descriptors nor children nor memory grow with what was. */
static void many_in_a_row(void)
{
	START();
	close(agent.control);
	agent.control = -1;
	some(100);
	WAIT_FOR(count_fds(agent.pid) <= agent.idle_fds);
	unsigned long before = resident_pages();
	some(1000);
	WAIT_FOR(count_fds(agent.pid) <= agent.idle_fds);
	CHECK(count_fds(agent.pid) <= agent.idle_fds);
	if (!SANITIZED) /* they keep freed memory for a while, by intention */
		CHECK(resident_pages() < before + 64);
	char path[64], children[16] = "";
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)agent.pid, (int)agent.pid);
	FILE *file = fopen(path, "r");
	if (file) {
		CHECK_EQ(fread(children, 1, sizeof(children), file), 0);
		fclose(file);
	}
	STOP();
}

/* A client that never reads, a program that never reads, a client that died: nobody else notices. */
static void stalls_stay_alone(void)
{
	START();
	static uint8_t data[PROTO_DATA_MAX];
	int unread = dial(&agent);
	send_exec(unread, &SH("exec yes"));
	struct exec exec = {.argv = {"sleep", "60"}, .flags = PROTO_EXEC_STDIN};
	int unfed = dial(&agent);
	send_exec(unfed, &exec);
	send_frame(unfed, PROTO_STDIN, data, sizeof(data));
	int dead = dial(&agent);
	send_exec(dead, &SH("exec yes"));
	close(dead);
	int half = dial(&agent);
	send_bytes(half, "\x10\0", 2);
	uint64_t begin = now_ms();
	for (int i = 0; i < 10; i++) {
		struct result result = run(&agent, &SH("seq 1 20000 | wc -l"));
		CHECK(ended_with(&result, 0));
		CHECK_STR(text(&result, 0), "20000\n");
		result_free(&result);
	}
	CHECK(now_ms() - begin < 10000);
	/* A kill gets through to the one whose client does not read. */
	struct proto_signal signal = {SIGKILL};
	send_frame(unread, PROTO_SIGNAL, &signal, sizeof(signal));
	struct result result = {0};
	collect(unread, &result);
	CHECK(ended_with(&result, -1));
	CHECK_EQ(result.exit.signal, SIGKILL);
	CHECK_EQ(result.dropped, 0);
	result_free(&result);
	close(half);
	close(unfed);
	STOP();
}

static unsigned long cpu_ticks(void)
{
	char path[32];
	unsigned long user = 0, kernel = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)agent.pid);
	FILE *file = fopen(path, "r");
	if (!file || fscanf(file, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %lu", &user, &kernel) != 2)
		test_failed = true;
	if (file)
		fclose(file);
	return user + kernel;
}

/* With sessions, watchers and blocked writers open, but nothing to do, the agent sleeps. */
static void never_spins(void)
{
	START();
	struct result result = {0};
	int unread = dial(&agent), idle = dial(&agent);
	struct exec exec = SH("yes & sleep 60");
	exec.flags = PROTO_EXEC_STDIN;
	send_exec(unread, &exec);
	REQUIRE(await_start(unread, &result));
	int tty = dial(&agent);
	exec.flags = PROTO_EXEC_TTY;
	send_exec(tty, &exec);
	/* One whose process ended while its client does not read, and one that only shut its side. */
	int ended = dial(&agent), shut = dial(&agent);
	send_exec(ended, &SH("head -c 900000 /dev/zero"));
	send_hello(shut);
	shutdown(shut, SHUT_WR);
	int done = dial(&agent);
	send_exec(done, &(struct exec){.argv = {"true"}});
	sleep_ms(300);
	unsigned long before = cpu_ticks();
	sleep_ms(500);
	CHECK(cpu_ticks() - before <= 2); /* of 50 */
	close(unread);
	close(idle);
	close(tty);
	close(ended);
	close(shut);
	close(done);
	kill_program(-(long)result.start.pid);
	result_free(&result);
	STOP();
}

TEST_MAIN("agent_load", {"many_at_once", many_at_once}, {"many_in_a_row", many_in_a_row},
        {"stalls_stay_alone", stalls_stay_alone}, {"never_spins", never_spins})
