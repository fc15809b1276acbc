/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions beyond one connection: detached, opened again, watched, listed, forgotten. */
#include "tests/agent/harness.h"

#include "agent/outring.h"
#include "agent/session.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, 0))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

/* Starts a session and leaves it. Its id, and its pid in *pid. */
static uint64_t detached(const struct exec *exec, uint32_t *pid)
{
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, exec);
	if (!await_start(fd, &result))
		test_failed = true;
	uint64_t session = result.start.session;
	*pid = result.start.pid;
	close(fd);
	result_free(&result);
	return session;
}

struct listed {
	struct proto_session session;
	char argv[PROTO_STRING_MAX];
	size_t argv_bytes;
};

/* What LIST says, at most `most`; the count of all. */
static int list(struct listed *entries, int most)
{
	int fd = dial(&agent), count = 0;
	send_hello(fd);
	send_frame(fd, PROTO_LIST, NULL, 0);
	struct frame frame;
	bool done = false;
	while (read_frame(fd, &frame)) {
		if (frame.type == PROTO_SESSION && frame.length >= sizeof(struct proto_session)) {
			if (count < most) {
				entries[count].argv_bytes = frame.length - sizeof(struct proto_session);
				memcpy(&entries[count].session, frame.payload, sizeof(struct proto_session));
				memcpy(entries[count].argv, frame.payload + sizeof(struct proto_session),
				        entries[count].argv_bytes);
			}
			count++;
		}
		done |= frame.type == PROTO_DONE;
		frame_free(&frame);
	}
	frame_free(&frame);
	close(fd);
	CHECK(done);
	return count;
}

/* As `detached`, of a shell that does `before`, waits until the file `gate` is gone, and does `after`. */
static uint64_t gated(const char *before, const char *after, char gate[32], uint32_t *pid)
{
	char script[256];
	snprintf(gate, 32, "/tmp/wisp-test-XXXXXX");
	close(mkstemp(gate));
	snprintf(script, sizeof(script), "%s; while [ -e %s ]; do sleep 0.01; done; %s", before, gate, after);
	return detached(&SH(script), pid);
}

static void detach_and_replay(void)
{
	START();
	uint32_t pid;
	char gate[32];
	uint64_t session = gated("echo one", "echo two; exit 5", gate, &pid);
	CHECK(alive(pid));
	struct result result = {0};
	int fd = open_session(&agent, session, PROTO_OPEN_REPLAY);
	CHECK(await_text(fd, &result, "one\n"));
	CHECK_EQ(unlink(gate), 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 5));
	CHECK_EQ(result.start.session, session);
	CHECK_EQ(result.start.pid, pid);
	CHECK_EQ(result.start.flags, 0);
	CHECK_STR(text(&result, 0), "one\ntwo\n");
	CHECK_EQ(result.dropped, 0);
	result_free(&result);
	/* After its end: the same again, and nothing without a replay. */
	collect(open_session(&agent, session, PROTO_OPEN_REPLAY), &result);
	CHECK(ended_with(&result, 5));
	CHECK_STR(text(&result, 0), "one\ntwo\n");
	CHECK_EQ(result.start.flags, PROTO_SESSION_EXITED);
	result_free(&result);
	collect(open_session(&agent, session, 0), &result);
	CHECK(ended_with(&result, 5));
	CHECK_EQ(result.length[0] + result.dropped, 0);
	result_free(&result);
	STOP();
}

/* From now on only: what was before is neither sent nor called lost. */
static void open_without_replay(void)
{
	START();
	uint32_t pid;
	char gate[32];
	uint64_t session = gated("echo before", "echo after", gate, &pid);
	struct result result = {0};
	int fd = open_session(&agent, session, PROTO_OPEN_REPLAY);
	CHECK(await_text(fd, &result, "before\n"));
	close(fd);
	result_free(&result);
	result = (struct result){0};
	fd = open_session(&agent, session, 0);
	CHECK(await_start(fd, &result));
	CHECK_EQ(unlink(gate), 0);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "after\n");
	CHECK_EQ(result.dropped, 0);
	result_free(&result);
	STOP();
}

/* Without a writer the program never waits; the ring's worth is kept, the rest counted. */
static void dropped_is_counted(void)
{
	START();
	uint32_t pid;
	uint64_t session = detached(&SH("sleep 0.1; head -c 1000000 /dev/zero | tr '\\0' d; printf END"), &pid);
	WAIT_FOR(!alive(pid));
	struct result result = {0};
	collect(open_session(&agent, session, PROTO_OPEN_REPLAY), &result);
	CHECK(ended_with(&result, 0));
	CHECK_EQ(result.length[0], OUTRING_MAX);
	CHECK_EQ(result.dropped + result.length[0], 1000003);
	REQUIRE(result.length[0] > 3);
	CHECK(ends_with(&result, 0, "END"));
	result_free(&result);
	STOP();
}

/* The writer that does not read keeps the program waiting, and gets all of it in the end. */
static void writer_holds_the_program(void)
{
	START();
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &SH("head -c 3000000 /dev/zero | tr '\\0' w; printf END"));
	REQUIRE(await_start(fd, &result));
	uint32_t pid = result.start.pid;
	sleep_ms(400);
	char state[8] = "", path[32];
	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	FILE *file = fopen(path, "r");
	REQUIRE(file);
	CHECK_EQ(fscanf(file, "%*s %*s %7s", state), 1);
	fclose(file);
	CHECK_STR(state, "S");
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_EQ(result.length[0], 3000003);
	CHECK_EQ(result.dropped, 0);
	CHECK(ends_with(&result, 0, "END"));
	result_free(&result);
	STOP();
}

/* The same when it leaves: the program goes on without it. */
static void writer_leaves_a_full_ring(void)
{
	START();
	uint32_t pid;
	uint64_t session = detached(&SH("head -c 3000000 /dev/zero | tr '\\0' w; printf END; exit 6"), &pid);
	WAIT_FOR(!alive(pid));
	struct result result = {0};
	collect(open_session(&agent, session, PROTO_OPEN_REPLAY), &result);
	CHECK(ended_with(&result, 6));
	CHECK_EQ(result.dropped + result.length[0], 3000003);
	result_free(&result);
	STOP();
}

/* A watcher that does not read loses output and is told how much; the writer gets all. */
static void watcher_falls_behind(void)
{
	START();
	struct result writer = {0}, watcher = {0};
	int fd = dial(&agent);
	send_exec(fd, &SH("sleep 0.2; seq 1 300000; printf END"));
	REQUIRE(await_start(fd, &writer));
	int watching = open_session(&agent, writer.start.session, PROTO_OPEN_REPLAY);
	REQUIRE(await_start(watching, &watcher));
	collect(fd, &writer);
	CHECK(ended_with(&writer, 0));
	CHECK_EQ(writer.dropped, 0);
	collect(watching, &watcher);
	CHECK(ended_with(&watcher, 0));
	CHECK(watcher.dropped > 0);
	CHECK_EQ(watcher.dropped + watcher.length[0], writer.length[0]);
	/* What it got is of the same text: its beginning and its end. */
	size_t tail = OUTRING_MAX - PROTO_DATA_MAX;
	REQUIRE(watcher.length[0] > tail && writer.length[0] > tail);
	CHECK(memcmp(watcher.output[0], writer.output[0], 65536) == 0);
	CHECK(memcmp(watcher.output[0] + watcher.length[0] - tail, writer.output[0] + writer.length[0] - tail, tail) ==
	        0);
	result_free(&writer);
	result_free(&watcher);
	STOP();
}

/* Both streams, changing at every write, more often than the ring has room for changes. */
static void many_changes_of_stream(void)
{
	START();
	struct result result = {0};
	int fd = dial(&agent);
	struct exec exec = SH("i=0; while [ $i -lt 12000 ]; do echo o; echo e >&2; i=$((i+1)); done; echo END");
	send_exec(fd, &exec);
	REQUIRE(await_start(fd, &result));
	sleep_ms(100);
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_EQ(result.length[0], 24004);
	CHECK_EQ(result.length[1], 24000);
	CHECK_EQ(result.dropped, 0);
	uint64_t session = result.start.session;
	result_free(&result);
	collect(open_session(&agent, session, PROTO_OPEN_REPLAY), &result);
	CHECK_EQ(result.dropped + result.length[0] + result.length[1], 48004);
	CHECK(strstr(text(&result, 0), "END"));
	result_free(&result);
	STOP();
}

static void only_one_writer(void)
{
	START();
	struct result result = {0}, second = {0};
	int fd = dial(&agent);
	send_exec(fd, &SH("sleep 60"));
	REQUIRE(await_start(fd, &result));
	uint64_t session = result.start.session;
	collect(open_session(&agent, session, PROTO_OPEN_WRITE), &second);
	CHECK(second.refused && second.ended && second.error.code == PROTO_ERROR_WRITER);
	result_free(&second);
	close(fd);
	/* Its place is free as soon as the agent has noticed. */
	for (int i = 0; i < 100 && !second.started; i++) {
		result_free(&second);
		fd = open_session(&agent, session, PROTO_OPEN_WRITE);
		await_start(fd, &second);
		if (!second.started)
			close(fd);
	}
	CHECK_EQ(second.start.flags, PROTO_SESSION_WRITER);
	struct proto_signal signal = {SIGKILL};
	send_frame(fd, PROTO_SIGNAL, &signal, sizeof(signal));
	collect(fd, &second);
	CHECK(ended_with(&second, -1));
	result_free(&second);
	result_free(&result);
	STOP();
}

static void unknown_session(void)
{
	START();
	struct result result = {0};
	static const uint64_t ids[] = {0, 1, 77, UINT64_MAX};
	for (size_t i = 0; i < 4; i++) {
		collect(open_session(&agent, ids[i], PROTO_OPEN_REPLAY), &result);
		CHECK(result.refused && result.error.code == PROTO_ERROR_NO_SESSION && result.ended);
		result_free(&result);
	}
	STOP();
}

static void listing(void)
{
	START();
	static struct listed entries[4];
	CHECK_EQ(list(entries, 4), 0);
	struct timespec before, after;
	clock_gettime(CLOCK_REALTIME, &before);
	struct result ended = run(&agent, &SH("exit 3")), result = {0};
	struct exec exec = {.argv = {"sleep", "60"}, .flags = PROTO_EXEC_TTY};
	int fd = dial(&agent);
	send_exec(fd, &exec);
	REQUIRE(await_start(fd, &result));
	clock_gettime(CLOCK_REALTIME, &after);
	struct result watcher = {0};
	int watching = open_session(&agent, result.start.session, 0);
	REQUIRE(await_start(watching, &watcher));
	REQUIRE(list(entries, 4) == 2);
	const struct proto_session *first = &entries[0].session, *second = &entries[1].session;
	CHECK_EQ(first->session, ended.start.session);
	CHECK_EQ(first->pid, ended.start.pid);
	CHECK_EQ(first->flags, PROTO_SESSION_EXITED);
	CHECK_EQ(first->code, 3);
	CHECK_EQ(first->clients, 0);
	CHECK_EQ(entries[0].argv_bytes, 12);
	CHECK(memcmp(entries[0].argv, "sh\0-c\0exit 3", 12) == 0);
	CHECK(first->started_ns >= (uint64_t)before.tv_sec * 1000000000u + (uint64_t)before.tv_nsec);
	CHECK(first->started_ns <= (uint64_t)after.tv_sec * 1000000000u + (uint64_t)after.tv_nsec);
	CHECK_EQ(second->session, result.start.session);
	CHECK_EQ(second->flags, PROTO_SESSION_TTY | PROTO_SESSION_STDIN | PROTO_SESSION_WRITER);
	CHECK_EQ(second->clients, 2);
	close(watching);
	struct proto_signal signal = {SIGKILL};
	send_frame(fd, PROTO_SIGNAL, &signal, sizeof(signal));
	collect(fd, &result);
	REQUIRE(list(entries, 4) == 2);
	CHECK_EQ(second->flags, PROTO_SESSION_TTY | PROTO_SESSION_EXITED);
	CHECK_EQ(second->code, -1);
	CHECK_EQ(second->signal, SIGKILL);
	result_free(&ended);
	result_free(&watcher);
	result_free(&result);
	STOP();
}

/* Long arguments are cut in the list, not in the program. */
static void long_arguments(void)
{
	START();
	static struct listed entry;
	char *argument = malloc(100001);
	memset(argument, 'l', 100000);
	argument[100000] = '\0';
	struct exec exec = {.argv = {"true", argument}};
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK_EQ(list(&entry, 1), 1);
	CHECK_EQ(entry.argv_bytes, PROTO_STRING_MAX);
	CHECK(memcmp(entry.argv, "true\0lll", 8) == 0);
	free(argument);
	result_free(&result);
	STOP();
}

/* The oldest are forgotten, ids go on, and one that is forgotten is not another. */
static void eviction(void)
{
	START();
	static struct listed entries[SESSION_ENDED_MAX + 8];
	uint32_t pid;
	uint64_t running = detached(&SH("sleep 60"), &pid), last = running;
	for (unsigned int i = 0; i < SESSION_ENDED_MAX + 5; i++) {
		struct result result = run(&agent, &(struct exec){.argv = {"true"}});
		CHECK_EQ(result.start.session, last + 1);
		last = result.start.session;
		result_free(&result);
	}
	/* A program that does not start uses an id up as well. */
	struct result failed = run(&agent, &(struct exec){.argv = {"/etc"}});
	result_free(&failed);
	struct result result = run(&agent, &(struct exec){.argv = {"true"}});
	CHECK_EQ(result.start.session, last + 2);
	result_free(&result);
	CHECK_EQ(list(entries, SESSION_ENDED_MAX + 8), SESSION_ENDED_MAX + 1);
	CHECK_EQ(entries[0].session.session, running);
	for (unsigned int i = 1; i < SESSION_ENDED_MAX; i++)
		CHECK(entries[i].session.session < entries[i + 1].session.session);
	collect(open_session(&agent, running + 1, 0), &result);
	CHECK(result.refused && result.error.code == PROTO_ERROR_NO_SESSION);
	result_free(&result);
	kill_program((long)pid);
	STOP();
}

/* By their bytes: 4 MiB are kept, so of sessions that fill their rings the last 16. */
static void eviction_by_size(void)
{
	START();
	static struct listed entries[SESSION_ENDED_MAX];
	for (int i = 0; i < 20; i++) {
		struct result result = run(&agent, &SH("head -c 300000 /dev/zero"));
		CHECK(ended_with(&result, 0));
		result_free(&result);
	}
	CHECK_EQ(list(entries, SESSION_ENDED_MAX), SESSION_ENDED_BYTES / OUTRING_MAX);
	CHECK_EQ(entries[0].session.session, 5);
	STOP();
}

/* What an evicted session left behind keeps its pipe: it must not die of it. */
static void eviction_spares_the_background(void)
{
	START();
	struct result result = run(&agent, &SH("(while :; do echo tick || exit; sleep 0.02; done) & echo $!"));
	/* The first tick may come before it. */
	uint32_t pid = 0;
	for (const char *line = text(&result, 0); line && !pid; line = strchr(line, '\n'))
		pid = (uint32_t)atoi(line += *line == '\n');
	REQUIRE(pid > 1);
	result_free(&result);
	for (unsigned int i = 0; i < SESSION_ENDED_MAX + 1; i++) {
		result = run(&agent, &(struct exec){.argv = {"true"}});
		result_free(&result);
	}
	static struct listed entry;
	list(&entry, 1);
	CHECK(entry.session.session > 1);
	sleep_ms(100);
	CHECK(alive(pid));
	int before = count_fds(agent.pid);
	kill_program((long)pid);
	WAIT_FOR(count_fds(agent.pid) < before);
	CHECK(count_fds(agent.pid) < before);
	STOP();
}

TEST_MAIN("agent_session", {"detach_and_replay", detach_and_replay}, {"open_without_replay", open_without_replay},
        {"dropped_is_counted", dropped_is_counted}, {"writer_holds_the_program", writer_holds_the_program},
        {"writer_leaves_a_full_ring", writer_leaves_a_full_ring}, {"watcher_falls_behind", watcher_falls_behind},
        {"many_changes_of_stream", many_changes_of_stream}, {"only_one_writer", only_one_writer},
        {"unknown_session", unknown_session}, {"listing", listing}, {"long_arguments", long_arguments},
        {"eviction", eviction}, {"eviction_by_size", eviction_by_size},
        {"eviction_spares_the_background", eviction_spares_the_background})
