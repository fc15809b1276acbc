/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: what breaks the protocol ends that connection with an ERROR, and nothing else. */
#include "tests/agent/harness.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, 0))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

/* Sends the bytes after a HELLO (or not), and expects this refusal. */
static void expect_refusal(bool hello, const void *bytes, size_t length, enum proto_error_code code)
{
	struct result result = {0};
	int fd = dial(&agent);
	if (hello)
		send_hello(fd);
	send_bytes(fd, bytes, length);
	collect(fd, &result);
	CHECK(result.refused && result.ended && !result.started && !result.failed && !result.done);
	CHECK_EQ(result.error.code, code);
	CHECK(result.message[0]);
	result_free(&result);
}

static void expect_frame_refused(bool hello, uint8_t type, const void *payload, size_t length)
{
	uint8_t *bytes = calloc(1, sizeof(struct proto_frame) + length);
	struct proto_frame frame = {.length = (uint32_t)length, .type = type};
	memcpy(bytes, &frame, sizeof(frame));
	if (payload)
		memcpy(bytes + sizeof(frame), payload, length);
	int before = test_failed;
	expect_refusal(hello, bytes, sizeof(frame) + length, PROTO_ERROR_PROTOCOL);
	if (test_failed && !before)
		printf("# type %u, length %zu\n", type, length);
	free(bytes);
}

/* Still there, and still right. */
static void expect_service(void)
{
	struct result result = run(&agent, &SH("echo fine"));
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "fine\n");
	result_free(&result);
}

static void first_frames(void)
{
	START();
	struct proto_hello hello = {.magic = PROTO_MAGIC + 1, .version = PROTO_VERSION};
	expect_frame_refused(false, PROTO_HELLO, &hello, sizeof(hello));
	hello = (struct proto_hello){.magic = PROTO_MAGIC, .version = PROTO_VERSION, .zero = 1};
	expect_frame_refused(false, PROTO_HELLO, &hello, sizeof(hello));
	hello = (struct proto_hello){.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	expect_frame_refused(false, PROTO_HELLO, &hello, sizeof(hello) - 1);
	expect_frame_refused(false, PROTO_PING, NULL, 0);
	expect_frame_refused(false, PROTO_LIST, NULL, 0);
	expect_frame_refused(true, PROTO_HELLO, &hello, sizeof(hello));
	expect_refusal(false, "GET / HTTP/1.1\r\n\r\n", 18, PROTO_ERROR_PROTOCOL);
	/* Another version gets an answer of its own. */
	struct {
		struct proto_frame frame;
		struct proto_hello hello;
	} other = {
	        {.length = sizeof(hello), .type = PROTO_HELLO}, {.magic = PROTO_MAGIC, .version = PROTO_VERSION + 1}};
	expect_refusal(false, &other, sizeof(other), PROTO_ERROR_VERSION);
	expect_service();
	STOP();
}

static void headers(void)
{
	START();
	/* Unknown types, those of the other direction, and those that may not come before a session. */
	for (int type = 0; type < 256; type++) {
		bool known = type == PROTO_KEEP || type == PROTO_PING || type == PROTO_PONG || type == PROTO_EXEC ||
		             type == PROTO_OPEN || type == PROTO_LIST || type == PROTO_POWEROFF;
		if (!known)
			expect_frame_refused(true, (uint8_t)type, NULL, type >= 32 && type < 36 ? 4 : 0);
	}
	static const struct {
		uint8_t type;
		uint32_t length;
	} lengths[] = {{PROTO_PING, 65}, {PROTO_EXEC, 31}, {PROTO_EXEC, PROTO_EXEC_MAX + 1}, {PROTO_EXEC, UINT32_MAX},
	        {PROTO_OPEN, 15}, {PROTO_OPEN, 17}, {PROTO_LIST, 1}, {PROTO_POWEROFF, 0}, {PROTO_POWEROFF, 5}};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		/* The header alone: what it claims is not waited for. */
		struct proto_frame frame = {.length = lengths[i].length, .type = lengths[i].type};
		expect_refusal(true, &frame, sizeof(frame), PROTO_ERROR_PROTOCOL);
	}
	for (int i = 0; i < 3; i++) {
		struct proto_frame frame = {.type = PROTO_PING};
		frame.zero[i] = 1;
		expect_refusal(true, &frame, sizeof(frame), PROTO_ERROR_PROTOCOL);
	}
	expect_service();
	STOP();
}

static void exec_payloads(void)
{
	START();
	uint8_t good[512], bad[512];
	struct exec exec = {.argv = {"true", "x"}, .env = {"A=1"}, .cwd = "/", .rlimit_count = 1};
	exec.rlimits[0] = (struct proto_rlimit){.resource = RLIMIT_CORE};
	size_t length = exec_payload(&exec, good);
	/* Every truncation, and a byte too many. */
	for (size_t cut = sizeof(struct proto_exec); cut < length; cut++)
		expect_frame_refused(true, PROTO_EXEC, good, cut);
	memcpy(bad, good, length);
	bad[length] = '\0';
	expect_frame_refused(true, PROTO_EXEC, bad, length + 1);
	static const struct {
		size_t offset;
		uint32_t value;
	} fields[] = {{offsetof(struct proto_exec, flags), 64}, {offsetof(struct proto_exec, argc), 0},
	        {offsetof(struct proto_exec, argc), 3}, {offsetof(struct proto_exec, argc), UINT32_MAX},
	        {offsetof(struct proto_exec, envc), 0}, {offsetof(struct proto_exec, envc), UINT32_MAX},
	        {offsetof(struct proto_exec, rlimit_count), 17},
	        {offsetof(struct proto_exec, rlimit_count), UINT32_MAX}, {offsetof(struct proto_exec, rlimit_count), 0},
	        {offsetof(struct proto_exec, zero), 1},
	        {sizeof(struct proto_exec) + offsetof(struct proto_rlimit, zero), 1}};
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		memcpy(bad, good, length);
		memcpy(bad + fields[i].offset, &fields[i].value, sizeof(fields[i].value));
		expect_frame_refused(true, PROTO_EXEC, bad, length);
	}
	/* argc and envc that wrap around together. */
	struct proto_exec fixed = {.argc = UINT32_MAX, .envc = 3};
	expect_frame_refused(true, PROTO_EXEC, &fixed, sizeof(fixed));
	/* cwd and user are bounded. */
	char *path = malloc(PROTO_STRING_MAX + 1);
	memset(path, '/', PROTO_STRING_MAX);
	path[PROTO_STRING_MAX] = '\0';
	uint8_t *large = malloc(2 * PROTO_STRING_MAX);
	exec = (struct exec){.argv = {"true"}, .cwd = path};
	expect_frame_refused(true, PROTO_EXEC, large, exec_payload(&exec, large));
	exec = (struct exec){.argv = {"true"}, .user = path};
	expect_frame_refused(true, PROTO_EXEC, large, exec_payload(&exec, large));
	free(path);
	free(large);
	expect_service();
	STOP();
}

static void open_payloads(void)
{
	START();
	struct proto_open open = {.session = 1, .flags = 4};
	expect_frame_refused(true, PROTO_OPEN, &open, sizeof(open));
	open = (struct proto_open){.session = 1, .zero = 1};
	expect_frame_refused(true, PROTO_OPEN, &open, sizeof(open));
	STOP();
}

/* In a session, where output may be under way. */
static void session_frames(void)
{
	START();
	static const struct {
		uint8_t type;
		uint32_t length, value;
	} cases[] = {{PROTO_SIGNAL, 4, 0}, {PROTO_SIGNAL, 4, 65}, {PROTO_SIGNAL, 4, UINT32_MAX}, {PROTO_SIGNAL, 3, 0},
	        {PROTO_RESIZE, 5, 0}, {PROTO_STDIN, 0, 0}, {PROTO_STDIN_EOF, 1, 0},
	        {PROTO_STDIN, PROTO_DATA_MAX + 1, 0}, {PROTO_EXEC, 40, 0}, {PROTO_OPEN, 16, 0}, {PROTO_LIST, 0, 0},
	        {PROTO_POWEROFF, 4, 0}, {PROTO_STARTED, 16, 0}};
	static uint8_t payload[PROTO_DATA_MAX + 1];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct exec exec = SH("seq 1 100000; sleep 60");
		exec.flags = PROTO_EXEC_STDIN;
		struct result result = {0};
		int fd = dial(&agent);
		send_exec(fd, &exec);
		REQUIRE(await_start(fd, &result));
		memcpy(payload, &cases[i].value, sizeof(cases[i].value));
		send_frame(fd, cases[i].type, payload, cases[i].length);
		collect(fd, &result);
		/* Whole frames of output, then the refusal: harness and order say so. */
		CHECK(result.refused && result.ended && !result.exited && !result.done);
		CHECK_EQ(result.error.code, PROTO_ERROR_PROTOCOL);
		CHECK(alive(result.start.pid));
		kill_program((long)result.start.pid);
		result_free(&result);
	}
	expect_service();
	STOP();
}

/* Byte by byte, with a pause inside each header and payload. */
static void slow_sender(void)
{
	START();
	struct exec exec = {.argv = {"echo", "slow"}};
	uint8_t bytes[256];
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	struct proto_frame frame = {.length = sizeof(hello), .type = PROTO_HELLO};
	size_t length = put(bytes, 0, &frame, sizeof(frame));
	length = put(bytes, length, &hello, sizeof(hello));
	size_t payload = exec_payload(&exec, bytes + length + sizeof(frame));
	frame = (struct proto_frame){.length = (uint32_t)payload, .type = PROTO_EXEC};
	put(bytes, length, &frame, sizeof(frame));
	length += sizeof(frame) + payload;
	int fd = dial(&agent);
	for (size_t i = 0; i < length; i++) {
		send_bytes(fd, bytes + i, 1);
		sleep_ms(1);
	}
	struct result result = {0};
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "slow\n");
	result_free(&result);
	STOP();
}

/* Clients that leave at any point of their request. */
static void cut_connections(void)
{
	START();
	uint8_t bytes[256];
	struct exec exec = {.argv = {"true"}};
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	struct proto_frame frame = {.length = sizeof(hello), .type = PROTO_HELLO};
	size_t length = put(bytes, 0, &frame, sizeof(frame));
	length = put(bytes, length, &hello, sizeof(hello));
	size_t payload = exec_payload(&exec, bytes + length + sizeof(frame));
	frame = (struct proto_frame){.length = (uint32_t)payload, .type = PROTO_EXEC};
	put(bytes, length, &frame, sizeof(frame));
	length += sizeof(frame) + payload;
	for (size_t cut = 0; cut <= length; cut++) {
		int fd = dial(&agent);
		send_bytes(fd, bytes, cut);
		close(fd);
	}
	expect_service();
	WAIT_FOR(count_fds(agent.pid) == agent.idle_fds);
	CHECK_EQ(count_fds(agent.pid), agent.idle_fds);
	STOP();
}

static void ping(void)
{
	START();
	int fd = dial(&agent);
	send_hello(fd);
	REQUIRE(expect_frame(fd, PROTO_HELLO, NULL, sizeof(struct proto_hello)));
	uint8_t sent[64], received[64];
	for (size_t length = 0; length <= sizeof(sent); length++) {
		memset(sent, (int)length, sizeof(sent));
		send_frame(fd, PROTO_PING, sent, length);
		struct frame frame;
		REQUIRE(read_frame(fd, &frame));
		CHECK_EQ(frame.type, PROTO_PONG);
		CHECK_EQ(frame.length, length);
		memcpy(received, frame.payload, frame.length);
		CHECK(memcmp(sent, received, length) == 0);
		frame_free(&frame);
	}
	close(fd);
	STOP();
}

/* Answers that nobody reads are not kept for ever. */
static void ping_flood(void)
{
	START();
	int fd = dial(&agent);
	send_hello(fd);
	uint8_t payload[64] = {0};
	struct timeval limit = {.tv_sec = 10};
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	bool sent = true;
	for (int i = 0; i < 100000 && sent; i++)
		sent = send_frame(fd, PROTO_PING, payload, sizeof(payload));
	/* It is refused on the way, and what it sends after that is thrown away until the connection is closed. */
	struct result result = {0};
	while (!result.refused && result_step(fd, &result))
		;
	CHECK(result.refused && result.error.code == PROTO_ERROR_PROTOCOL);
	close(fd);
	result_free(&result);
	expect_service();
	STOP();
}

static void clock_is_stepped(void)
{
	START();
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	static const struct {
		int64_t offset_ms;
		bool stepped;
	} cases[] = {{0, false}, {-300, false}, {300, false}, {-5000, true}, {3600000, true}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		agent.seen->clock_ns = 0;
		clock_gettime(CLOCK_REALTIME, &now);
		now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
		struct proto_hello hello = {.magic = PROTO_MAGIC,
		        .version = PROTO_VERSION,
		        .realtime_ns = now_ns + (uint64_t)(cases[i].offset_ms * 1000000)};
		int fd = dial(&agent);
		struct proto_hello answer;
		REQUIRE(expect_frame(fd, PROTO_HELLO, &answer, sizeof(answer)));
		CHECK(answer.magic == PROTO_MAGIC && answer.version == PROTO_VERSION && answer.zero == 0);
		CHECK(answer.realtime_ns >= now_ns && answer.realtime_ns < now_ns + 10000000000u);
		send_frame(fd, PROTO_HELLO, &hello, sizeof(hello));
		send_frame(fd, PROTO_PING, NULL, 0);
		REQUIRE(expect_frame(fd, PROTO_PONG, NULL, 0));
		CHECK_EQ(agent.seen->clock_ns, cases[i].stepped ? hello.realtime_ns : 0);
		close(fd);
	}
	STOP();
}

/* The monitor says it at once, so what differs by milliseconds was set. A client may not say it. */
static void the_monitor_sets_the_clock(void)
{
	REQUIRE(agent_start(&agent, WITH_CONTROL));
	static const struct {
		int64_t offset_ms;
		bool stepped;
	} cases[] = {{0, false}, {-100, true}, {100, true}, {-86400000, true}};
	struct proto_hello greeting;
	REQUIRE(expect_frame(agent.control, PROTO_HELLO, &greeting, sizeof(greeting)));
	send_hello(agent.control);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct timespec now;
		agent.seen->clock_ns = 0;
		clock_gettime(CLOCK_REALTIME, &now);
		struct proto_clock clock = {(uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec +
		                            (uint64_t)(cases[i].offset_ms * 1000000)};
		send_frame(agent.control, PROTO_CLOCK, &clock, sizeof(clock));
		send_frame(agent.control, PROTO_PING, NULL, 0);
		REQUIRE(expect_frame(agent.control, PROTO_PONG, NULL, 0));
		if (cases[i].stepped)
			CHECK_EQ(agent.seen->clock_ns, clock.realtime_ns);
	}
	int fd = dial(&agent);
	struct proto_clock clock = {1};
	agent.seen->clock_ns = 0;
	send_hello(fd);
	send_frame(fd, PROTO_CLOCK, &clock, sizeof(clock));
	REQUIRE(expect_frame(fd, PROTO_HELLO, &greeting, sizeof(greeting)));
	struct frame frame;
	REQUIRE(read_frame(fd, &frame));
	CHECK_EQ(frame.type, PROTO_ERROR);
	frame_free(&frame);
	CHECK_EQ(agent.seen->clock_ns, 0);
	close(fd);
	STOP();
}

/* 128 are served; the next is told so, and is served when one has left. */
static void too_many_connections(void)
{
	START();
	int fds[PROTO_CLIENTS_MAX];
	for (unsigned int i = 0; i < PROTO_CLIENTS_MAX; i++) {
		fds[i] = dial(&agent);
		send_hello(fds[i]);
		REQUIRE(expect_frame(fds[i], PROTO_HELLO, NULL, sizeof(struct proto_hello)));
	}
	for (int i = 0; i < 3; i++) {
		struct result result = {0};
		int fd = dial(&agent);
		if (i == 1)
			send_exec(fd, &SH("exit 0"));
		collect(fd, &result);
		CHECK(result.refused && result.ended && result.error.code == PROTO_ERROR_BUSY);
		result_free(&result);
	}
	for (unsigned int i = 0; i < PROTO_CLIENTS_MAX; i++) {
		send_frame(fds[i], PROTO_PING, NULL, 0);
		CHECK(expect_frame(fds[i], PROTO_PONG, NULL, 0));
	}
	close(fds[7]);
	struct result result = {0};
	for (int i = 0; i < 100 && !result.started; i++) {
		result_free(&result);
		result = run(&agent, &SH("exit 0"));
	}
	CHECK(ended_with(&result, 0));
	result_free(&result);
	for (unsigned int i = 0; i < PROTO_CLIENTS_MAX; i++)
		if (i != 7)
			close(fds[i]);
	WAIT_FOR(count_fds(agent.pid) == agent.idle_fds);
	CHECK_EQ(count_fds(agent.pid), agent.idle_fds);
	STOP();
}

/* Answered connections whose clients do not close them are bounded too, and do not keep others out. */
static void clients_that_never_close(void)
{
	START();
	enum { COUNT = 200 };
	static int fds[COUNT];
	for (int i = 0; i < COUNT; i++) {
		fds[i] = dial(&agent);
		send_exec(fds[i], &(struct exec){.argv = {"true"}});
		struct result result = {0};
		while (!result.done && result_step(fds[i], &result))
			;
		CHECK(result.done);
		result_free(&result);
	}
	CHECK(count_fds(agent.pid) <= agent.idle_fds + 70);
	expect_service();
	for (int i = 0; i < COUNT; i++)
		close(fds[i]);
	STOP();
}

static void power_off(void)
{
	START();
	int fd = dial(&agent);
	send_hello(fd);
	send_frame(fd, PROTO_POWEROFF, &(struct proto_poweroff){0}, sizeof(struct proto_poweroff));
	struct result result = {0};
	collect(fd, &result);
	CHECK(result.done && result.ended);
	CHECK_EQ(agent.seen->power, 1 + AGENT_POWER_OFF);
	int status;
	waitpid(agent.pid, &status, 0);
	CHECK_EQ(status, 0);
	static const struct {
		int signal;
		enum agent_power wanted;
	} cases[] = {{SIGUSR2, AGENT_POWER_OFF}, {SIGUSR1, AGENT_POWER_OFF}, {SIGTERM, AGENT_POWER_REBOOT},
	        {SIGINT, AGENT_POWER_REBOOT}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		REQUIRE(agent_start(&agent, 0));
		kill(agent.pid, cases[i].signal);
		waitpid(agent.pid, &status, 0);
		CHECK_EQ(status, 0);
		CHECK_EQ(agent.seen->power, 1 + (int)cases[i].wanted);
	}
}

TEST_MAIN("agent_proto", {"first_frames", first_frames}, {"headers", headers}, {"exec_payloads", exec_payloads},
        {"open_payloads", open_payloads}, {"session_frames", session_frames}, {"slow_sender", slow_sender},
        {"cut_connections", cut_connections}, {"ping", ping}, {"ping_flood", ping_flood},
        {"clock_is_stepped", clock_is_stepped}, {"the_monitor_sets_the_clock", the_monitor_sets_the_clock},
        {"too_many_connections", too_many_connections}, {"clients_that_never_close", clients_that_never_close},
        {"power_off", power_off})
