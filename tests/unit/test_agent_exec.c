/* SPDX-License-Identifier: Apache-2.0 */
/* Executions without stdin: results, ends, what a program is started with. */
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/agent/harness.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, 0))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

static void exit_codes(void)
{
	START();
	static const int codes[] = {0, 1, 3, 124, 127, 255};
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		char script[32];
		snprintf(script, sizeof(script), "exit %d", codes[i]);
		struct result result = run(&agent, &SH(script));
		CHECK(ended_with(&result, codes[i]));
		CHECK_EQ(result.exit.signal, 0);
		CHECK_EQ(result.exit.flags, 0);
		CHECK_EQ(result.start.session, i + 1);
		CHECK_EQ(result.start.flags, PROTO_SESSION_WRITER);
		CHECK_EQ(result.length[0] + result.length[1], 0);
		result_free(&result);
	}
	STOP();
}

static void signals_are_told(void)
{
	START();
	static const uint32_t signals[] = {SIGKILL, SIGTERM, SIGSEGV, SIGHUP};
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		char script[32];
		snprintf(script, sizeof(script), "kill -%u $$", signals[i]);
		struct result result = run(&agent, &SH(script));
		CHECK(ended_with(&result, -1));
		CHECK_EQ(result.exit.signal, signals[i]);
		CHECK_EQ(result.exit.flags, 0);
		result_free(&result);
	}
	STOP();
}

static void streams_are_apart(void)
{
	START();
	struct result result = run(&agent, &SH("echo out; echo err >&2; printf more; printf 'bad\\377' >&2"));
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "out\nmore");
	CHECK_STR(text(&result, 1), "err\nbad\377");
	result_free(&result);
	STOP();
}

static void bytes_are_intact(void)
{
	START();
	struct result result = run(&agent, &SH("printf 'a\\000b\\377\\376\\000\\303('"));
	CHECK(ended_with(&result, 0));
	REQUIRE(result.length[0] == 8);
	CHECK(memcmp(result.output[0], "a\0b\377\376\0\303(", 8) == 0);
	result_free(&result);
	STOP();
}

/* Both streams at once, each beyond any pipe or ring, with the ends told apart. */
static void much_output(void)
{
	START();
	struct result result = run(&agent, &SH("(head -c 262144 /dev/zero | tr '\\0' o; printf END) & "
	                                       "(head -c 262144 /dev/zero | tr '\\0' e; printf FIN) >&2 & wait"));
	CHECK(ended_with(&result, 0));
	CHECK_EQ(result.dropped, 0);
	REQUIRE(result.length[0] == 262147 && result.length[1] == 262147);
	CHECK(ends_with(&result, 0, "END"));
	CHECK(ends_with(&result, 1, "FIN"));
	CHECK_EQ(strspn(text(&result, 0), "o"), 262144);
	CHECK_EQ(strspn(text(&result, 1), "e"), 262144);
	result_free(&result);
	result = run(&agent, &SH("seq 1 400000"));
	CHECK(ended_with(&result, 0));
	const char *at = text(&result, 0);
	int line = 0;
	for (char *end; *at; at = end + 1)
		if (strtol(at, &end, 10) != ++line)
			break;
	CHECK_EQ(line, 400000);
	result_free(&result);
	STOP();
}

/* The order of what is written to both streams, one write after the other was read. */
static void order_of_streams(void)
{
	START();
	int fd = dial(&agent);
	send_exec(fd, &SH("for i in 1 2 3; do echo o$i; sleep 0.05; echo e$i >&2; sleep 0.05; done"));
	struct frame frame;
	char order[64] = "";
	while (read_frame(fd, &frame) && frame.type != PROTO_EXITED) {
		if (frame.type == PROTO_STDOUT || frame.type == PROTO_STDERR)
			strncat(order, (char *)frame.payload, sizeof(order) - strlen(order) - 1);
		frame_free(&frame);
	}
	frame_free(&frame);
	close(fd);
	CHECK_STR(order, "o1\ne1\no2\ne2\no3\ne3\n");
	STOP();
}

static void stdin_is_null(void)
{
	START();
	uint64_t begin = now_ms();
	struct result result = run(&agent, &SH("cat; readlink /proc/self/fd/0"));
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "/dev/null\n");
	CHECK(now_ms() - begin < 5000);
	result_free(&result);
	STOP();
}

/* A child that holds the pipe does not delay the end; what it writes later is not sent. */
static void background_child(void)
{
	char folder[] = "/tmp/wisp-agent-XXXXXX", fifo[80], script[200];
	REQUIRE(mkdtemp(folder));
	snprintf(fifo, sizeof(fifo), "%s/go", folder);
	REQUIRE(mkfifo(fifo, 0600) == 0);
	START();
	/* The child writes only when this test says so, which is after the end. */
	snprintf(script, sizeof(script), "(read line <%s; echo late; sleep 30) & echo soon", fifo);
	struct result result = run(&agent, &SH(script));
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "soon\n");
	uint64_t session = result.start.session;
	result_free(&result);
	int go = open(fifo, O_WRONLY | O_CLOEXEC);
	CHECK(write(go, "go\n", 3) == 3);
	close(go);
	/* It is in the ring, though, for those who come afterwards. */
	uint64_t deadline = now_ms() + WAIT_MS;
	do {
		result_free(&result);
		collect(open_session(&agent, session, PROTO_OPEN_REPLAY), &result);
	} while (strcmp(text(&result, 0), "soon\nlate\n") != 0 && now_ms() < deadline);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "soon\nlate\n");
	result_free(&result);
	STOP();
	unlink(fifo);
	rmdir(folder);
}

/* A background child that never stops writing must not keep EXITED away, nor be stopped itself. */
static void background_flood(void)
{
	START();
	uint64_t begin = now_ms();
	int fd = dial(&agent);
	struct result result = {0};
	send_exec(fd, &SH("yes & echo $! >&2; sleep 0.05"));
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK(now_ms() - begin < 5000);
	int pid = atoi(text(&result, 1));
	REQUIRE(pid > 1);
	sleep_ms(50);
	CHECK(alive((uint32_t)pid));
	kill_program(pid);
	result_free(&result);
	STOP();
}

static void orphans_are_reaped(void)
{
	START();
	struct result result = run(&agent, &SH("for i in 1 2 3 4 5; do (sleep 0.1 & echo $!) ; done"));
	CHECK(ended_with(&result, 0));
	char *at = (char *)result.output[0];
	for (int i = 0; i < 5; i++) {
		uint32_t pid = (uint32_t)strtoul(at, &at, 10);
		REQUIRE(pid > 1);
		WAIT_FOR(!alive(pid));
		CHECK(!alive(pid));
	}
	result_free(&result);
	STOP();
}

static void working_directory_is_made(void)
{
	START();
	char path[80], at[200];
	snprintf(path, sizeof(path), "/tmp/wisp-cwd-%d", (int)getpid());
	snprintf(at, sizeof(at), "%s/a/b", path);
	struct exec exec = {.argv = {"pwd"}, .cwd = at, .flags = PROTO_EXEC_MAKE_CWD};
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK(strncmp(text(&result, 0), at, strlen(at)) == 0);
	result_free(&result);
	exec.flags = 0;
	strcat(at, "/c");
	result = run(&agent, &exec);
	CHECK(result.failed && result.failure.kind == PROTO_FAILURE_BAD_CWD);
	result_free(&result);
	exec = (struct exec){.argv = {"rm", "-r", path}};
	result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	result_free(&result);
	STOP();
}

static void timeout_kills_the_group(void)
{
	START();
	uint64_t begin = now_ms();
	struct exec exec = SH("sleep 60 & echo $!; trap '' TERM; sleep 60");
	/* Long enough for a busy machine to start the shell first. */
	exec.timeout_ns = 1000 * 1000000ull + 1;
	struct result result = run(&agent, &exec);
	uint64_t took_ms = now_ms() - begin;
	CHECK(ended_with(&result, -1));
	CHECK_EQ(result.exit.signal, SIGKILL);
	CHECK_EQ(result.exit.flags, PROTO_SESSION_TIMEOUT);
	CHECK(took_ms >= 1000); /* and not the 60 s of the program, or its exit would not be a signal */
	uint32_t child = (uint32_t)atoi(text(&result, 0));
	REQUIRE(child > 1);
	WAIT_FOR(!alive(child));
	CHECK(!alive(child));
	result_free(&result);
	/* One that is not reached leaves no trace; a killed program of its own is not a timeout. */
	exec = SH("kill -9 $$");
	exec.timeout_ns = UINT64_MAX;
	result = run(&agent, &exec);
	CHECK(ended_with(&result, -1));
	CHECK_EQ(result.exit.flags, 0);
	result_free(&result);
	STOP();
}

static void signals_reach_the_group(void)
{
	START();
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &SH("sleep 60 & echo $! ready; wait"));
	REQUIRE(await_text(fd, &result, "ready"));
	struct proto_signal signal = {SIGTERM};
	send_frame(fd, PROTO_SIGNAL, &signal, sizeof(signal));
	collect(fd, &result);
	CHECK(ended_with(&result, -1));
	CHECK_EQ(result.exit.signal, SIGTERM);
	uint32_t child = (uint32_t)atoi(text(&result, 0));
	REQUIRE(child > 1);
	WAIT_FOR(!alive(child));
	CHECK(!alive(child));
	result_free(&result);
	STOP();
}

static void environment(void)
{
	START();
	struct exec exec = {.argv = {"env"}};
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "HOME=/root\nUSER=root\nLOGNAME=root\n"
	                            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
	result_free(&result);
	/* A later value wins; an empty value is one; names that begin alike are others. */
	exec = (struct exec){.argv = {"env"}, .env = {"A=1", "PATH=/bin", "AB=3", "A=2", "HOME=", "A=x=y", "USER=u"}};
	result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK(strstr(text(&result, 0), "A=x=y\n") && strstr(text(&result, 0), "AB=3\n"));
	CHECK(!strstr(text(&result, 0), "A=1") && !strstr(text(&result, 0), "A=2"));
	CHECK(strstr(text(&result, 0), "HOME=\n") && strstr(text(&result, 0), "PATH=/bin\n"));
	CHECK(strstr(text(&result, 0), "USER=u\n") && !strstr(text(&result, 0), "USER=root"));
	result_free(&result);
	STOP();
}

static void working_directory(void)
{
	START();
	struct result result = run(&agent, &SH("pwd"));
	CHECK_STR(text(&result, 0), "/\n");
	result_free(&result);
	struct exec exec = {.argv = {"pwd"}, .cwd = "/usr/bin"};
	result = run(&agent, &exec);
	CHECK_STR(text(&result, 0), "/usr/bin\n");
	result_free(&result);
	STOP();
}

static void resource_limits(void)
{
	START();
	struct exec exec = SH("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -St; ulimit -Ht");
	exec.rlimit_count = 3;
	exec.rlimits[0] = (struct proto_rlimit){.resource = RLIMIT_NOFILE, .soft = 100, .hard = 200};
	exec.rlimits[1] = (struct proto_rlimit){.resource = RLIMIT_CORE, .soft = 0, .hard = 0};
	exec.rlimits[2] = (struct proto_rlimit){.resource = RLIMIT_CPU, .soft = 77, .hard = UINT64_MAX};
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "100\n200\n0\n77\nunlimited\n");
	result_free(&result);
	/* Not what the agent itself needs. */
	result = run(&agent, &SH("ulimit -Sn"));
	CHECK_STR(text(&result, 0), "1024\n");
	result_free(&result);
	STOP();
}

/* A program starts with no signal blocked or ignored, three descriptors, in a session and group of its own. */
static void clean_process(void)
{
	/* What started this test may ignore libc's own two signals, which only the system call can change. */
	static const uint64_t default_action[4];
	syscall(SYS_rt_sigaction, 32, default_action, NULL, 8);
	syscall(SYS_rt_sigaction, 33, default_action, NULL, 8);
	signal(SIGUSR1, SIG_IGN);
	START();
	signal(SIGUSR1, SIG_DFL);
	struct result result = run(&agent, &SH("grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l"));
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n4\n"); /* and ls's own */
	result_free(&result);
	result = run(&agent, &SH("cut -d' ' -f1,5,6 /proc/$$/stat"));
	unsigned int pid = 0, group = 0, session = 0;
	CHECK_EQ(sscanf(text(&result, 0), "%u %u %u", &pid, &group, &session), 3);
	CHECK_EQ(pid, result.start.pid);
	CHECK_EQ(group, pid);
	CHECK_EQ(session, pid);
	result_free(&result);
	STOP();
}

/* Another user's programs may open their own streams anew, as servers do with their logs. */
static void streams_belong_to_the_user(void)
{
	START();
	struct exec exec = SH("echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin");
	exec.user = "nobody";
	exec.flags = PROTO_EXEC_STDIN;
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	send_frame(fd, PROTO_STDIN, "in", 2);
	send_frame(fd, PROTO_STDIN_EOF, NULL, 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "out\nin");
	CHECK_STR(text(&result, 1), "err\n");
	result_free(&result);
	STOP();
}

/* STARTED waits for what follows it, but not for long; it still comes first. */
static void collected(void)
{
	START();
	struct exec exec = SH("echo out; exit 3");
	exec.flags = PROTO_EXEC_COLLECT;
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 3));
	CHECK_STR(text(&result, 0), "out\n");
	result_free(&result);

	exec = (struct exec){.argv = {"sleep", "60"}, .flags = PROTO_EXEC_COLLECT};
	struct result silent = {0};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	CHECK(await_start(fd, &silent));
	struct proto_signal kill = {.signal = SIGKILL};
	send_frame(fd, PROTO_SIGNAL, &kill, sizeof(kill));
	collect(fd, &silent);
	CHECK_EQ(silent.exit.signal, SIGKILL);
	result_free(&silent);
	STOP();
}

static void path_lookup(void)
{
	char folder[] = "/tmp/wisp-agent-XXXXXX", path[2][80], variable[300];
	REQUIRE(mkdtemp(folder));
	/* In the first folder it may not be executed, in the second it may; a third does not exist. */
	for (int i = 0; i < 2; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/%d", folder, i);
		mkdir(path[i], 0755);
		strcat(path[i], "/tool");
		int fd = open(path[i], O_WRONLY | O_CREAT | O_CLOEXEC, i ? 0755 : 0644);
		CHECK(write(fd, "#!/bin/sh\necho second\n", 22) == 22);
		close(fd);
	}
	START();
	struct exec exec = {.argv = {"tool"}, .env = {variable}};
	snprintf(variable, sizeof(variable), "PATH=/nonexistent:%s/0:%s/1", folder, folder);
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "second\n");
	result_free(&result);
	snprintf(variable, sizeof(variable), "PATH=%s/0:/nonexistent", folder);
	result = run(&agent, &exec);
	CHECK(result.failed && result.failure.kind == PROTO_FAILURE_PERMISSION_DENIED);
	result_free(&result);
	/* An empty element is the working directory. */
	char cwd[80];
	snprintf(cwd, sizeof(cwd), "%s/1", folder);
	exec = (struct exec){.argv = {"tool"}, .env = {"PATH=/nonexistent:"}, .cwd = cwd};
	result = run(&agent, &exec);
	CHECK_STR(text(&result, 0), "second\n");
	result_free(&result);
	STOP();
	for (int i = 0; i < 2; i++) {
		unlink(path[i]);
		*strrchr(path[i], '/') = '\0';
		rmdir(path[i]);
	}
	rmdir(folder);
}

/* 2 MiB in one frame: all of it reaches the program or the kernel says that it is too long. */
static void large_request(void)
{
	START();
	size_t count = 15, each = 120000;
	uint8_t *buffer = malloc(PROTO_EXEC_MAX);
	struct proto_exec fixed = {.argc = (uint32_t)count + 4};
	size_t at = put(buffer, 0, &fixed, sizeof(fixed));
	at = put(buffer, at, "\0", 2);
	static const char first[] = "sh\0-c\0echo $#; printf %s \"$*\" | wc -c\0x";
	at = put(buffer, at, first, sizeof(first));
	for (size_t i = 0; i < count; i++) {
		memset(buffer + at, 'a', each - 1);
		buffer[at + each - 1] = '\0';
		at += each;
	}
	int fd = dial(&agent);
	send_hello(fd);
	CHECK(send_frame(fd, PROTO_EXEC, buffer, at));
	free(buffer);
	struct result result = {0};
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "15\n1799999\n");
	result_free(&result);
	STOP();
}

TEST_MAIN("agent_exec", {"exit_codes", exit_codes}, {"signals_are_told", signals_are_told},
        {"streams_are_apart", streams_are_apart}, {"bytes_are_intact", bytes_are_intact}, {"much_output", much_output},
        {"order_of_streams", order_of_streams}, {"stdin_is_null", stdin_is_null},
        {"background_child", background_child}, {"background_flood", background_flood},
        {"orphans_are_reaped", orphans_are_reaped}, {"working_directory_is_made", working_directory_is_made},
        {"timeout_kills_the_group", timeout_kills_the_group}, {"signals_reach_the_group", signals_reach_the_group},
        {"environment", environment}, {"working_directory", working_directory}, {"resource_limits", resource_limits},
        {"clean_process", clean_process}, {"streams_belong_to_the_user", streams_belong_to_the_user},
        {"collected", collected}, {"path_lookup", path_lookup}, {"large_request", large_request})
