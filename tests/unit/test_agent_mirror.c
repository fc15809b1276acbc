/* SPDX-License-Identifier: Apache-2.0 */
/* The control connection: every session's events, and a host that does not read them. */
#include "tests/agent/harness.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, WITH_CONTROL))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

struct event {
	struct proto_event head;
	struct frame frame;
	const uint8_t *payload;
	size_t length;
};

/* The next EVENT; false at the end of the stream. */
static bool next_event(struct event *event)
{
	while (read_frame(agent.control, &event->frame)) {
		if (event->frame.type == PROTO_EVENT && event->frame.length >= sizeof(event->head)) {
			memcpy(&event->head, event->frame.payload, sizeof(event->head));
			event->payload = event->frame.payload + sizeof(event->head);
			event->length = event->frame.length - sizeof(event->head);
			return true;
		}
		frame_free(&event->frame);
	}
	frame_free(&event->frame);
	return false;
}

/* What the events of one session came to. */
struct log {
	int started, exited, failed, out_of_order;
	size_t bytes[2];
	uint64_t dropped;
	char text[64]; /* the beginning of its stdout */
	char tail[9];  /* and the end */
	struct proto_exited exit;
	struct proto_failed failure;
};

static void log_event(struct log *log, const struct event *event)
{
	uint64_t dropped;
	switch (event->head.type) {
	case PROTO_STARTED:
		log->started++;
		log->out_of_order += log->bytes[0] || log->exited || event->length != sizeof(struct proto_started);
		break;
	case PROTO_STDOUT:
	case PROTO_STDERR:
		log->out_of_order += !log->started || event->length == 0;
		if (log->bytes[0] + event->length < sizeof(log->text) && event->head.type == PROTO_STDOUT)
			memcpy(log->text + log->bytes[0], event->payload, event->length);
		for (size_t i = event->length < 8 ? 0 : event->length - 8; i < event->length; i++) {
			memmove(log->tail, log->tail + 1, 7);
			log->tail[7] = (char)event->payload[i];
		}
		log->bytes[event->head.type == PROTO_STDERR] += event->length;
		break;
	case PROTO_DROPPED:
		memcpy(&dropped, event->payload, sizeof(dropped));
		log->dropped += dropped;
		break;
	case PROTO_EXITED:
		log->exited++;
		memcpy(&log->exit, event->payload, sizeof(log->exit));
		break;
	case PROTO_FAILED:
		log->failed++;
		memcpy(&log->failure, event->payload, sizeof(log->failure));
		break;
	default: log->out_of_order++; break;
	}
}

/* Reads events until the session has ended or failed. */
static struct log read_log(uint64_t session)
{
	struct log log = {0};
	struct event event;
	while (!log.exited && !log.failed && next_event(&event)) {
		if (event.head.session == session)
			log_event(&log, &event);
		frame_free(&event.frame);
	}
	return log;
}

static void events(void)
{
	START();
	struct proto_hello hello;
	REQUIRE(expect_frame(agent.control, PROTO_HELLO, &hello, sizeof(hello)));
	CHECK(hello.magic == PROTO_MAGIC && hello.version == PROTO_VERSION);
	struct result result = run(&agent, &SH("echo out; echo error >&2; exit 3"));
	CHECK(ended_with(&result, 3));
	struct event event;
	REQUIRE(next_event(&event));
	CHECK_EQ(event.head.type, PROTO_STARTED);
	CHECK_EQ(event.head.session, result.start.session);
	CHECK(event.head.realtime_ns >= hello.realtime_ns);
	struct proto_started started;
	REQUIRE(event.length == sizeof(started));
	memcpy(&started, event.payload, sizeof(started));
	CHECK_EQ(started.session, result.start.session);
	CHECK_EQ(started.pid, result.start.pid);
	frame_free(&event.frame);
	struct log log = {.started = 1};
	while (!log.exited && next_event(&event)) {
		log_event(&log, &event);
		frame_free(&event.frame);
	}
	CHECK_STR(log.text, "out\n");
	CHECK_EQ(log.bytes[1], 6);
	CHECK_EQ(log.exit.code, 3);
	CHECK_EQ(log.out_of_order, 0);
	result_free(&result);
	STOP();
}

/* Of one that does not start, there is its failure only, under its id. */
static void failure(void)
{
	START();
	struct result result = run(&agent, &(struct exec){.argv = {"/no/such/file"}});
	CHECK(result.failed);
	struct log log = read_log(1);
	CHECK_EQ(log.started, 0);
	CHECK_EQ(log.failed, 1);
	CHECK_EQ(log.failure.kind, PROTO_FAILURE_NOT_FOUND);
	CHECK_EQ(log.failure.error, ENOENT);
	result_free(&result);
	STOP();
}

/* A host that reads loses nothing. */
static void much_output(void)
{
	START();
	struct result result = {0};
	int fd = dial(&agent);
	send_exec(fd, &SH("head -c 2000000 /dev/zero; head -c 100000 /dev/zero >&2"));
	close(fd); /* the log does not need a client */
	struct log log = read_log(1);
	CHECK_EQ(log.bytes[0] + log.bytes[1] + log.dropped, 2100000);
	CHECK_EQ(log.exit.code, 0);
	CHECK_EQ(log.out_of_order, 0);
	result_free(&result);
	STOP();
}

/* The host does not read: no session waits for it, and afterwards it is told what it missed. */
static void host_does_not_read(void)
{
	START();
	enum { ROUNDS = 8, EACH = 500000 };
	uint64_t begin = now_ms();
	struct result results[ROUNDS];
	for (int i = 0; i < ROUNDS; i++) {
		results[i] = run(&agent, &SH("head -c 500000 /dev/zero; exit 2"));
		CHECK(ended_with(&results[i], 2));
		CHECK_EQ(results[i].length[0], EACH);
	}
	CHECK(now_ms() - begin < 15000);
	/* What a running session said meanwhile comes when there is room, without another event. */
	struct result running = {0};
	int fd = dial(&agent);
	send_exec(fd, &SH("head -c 100000 /dev/zero; echo here >&2; sleep 60"));
	while (running.length[1] < 5)
		REQUIRE(result_step(fd, &running));
	struct log logs[ROUNDS + 2] = {0};
	struct event event;
	int ends = 0;
	while ((ends < ROUNDS ||
	               logs[ROUNDS + 1].bytes[0] + logs[ROUNDS + 1].bytes[1] + logs[ROUNDS + 1].dropped < 100005) &&
	        next_event(&event)) {
		REQUIRE(event.head.session >= 1 && event.head.session <= ROUNDS + 1);
		log_event(&logs[event.head.session], &event);
		ends += event.head.type == PROTO_EXITED;
		frame_free(&event.frame);
	}
	uint64_t dropped = 0;
	for (int i = 1; i <= ROUNDS; i++) {
		CHECK_EQ(logs[i].started, 1);
		CHECK_EQ(logs[i].exited, 1);
		CHECK_EQ(logs[i].bytes[0] + logs[i].dropped, EACH);
		CHECK_EQ(logs[i].out_of_order, 0);
		dropped += logs[i].dropped;
		result_free(&results[i - 1]);
	}
	CHECK(dropped > 0);
	CHECK_EQ(logs[ROUNDS + 1].started, 1);
	/* And from then on everything again. */
	struct result result = run(&agent, &SH("echo again"));
	CHECK(ended_with(&result, 0));
	struct log log = read_log(result.start.session);
	CHECK_EQ(log.bytes[0], 6);
	CHECK_EQ(log.dropped, 0);
	result_free(&result);
	kill_program((long)running.start.pid);
	close(fd);
	result_free(&running);
	STOP();
}

/* What is missed of a flood is its middle: the end, which says why it ended, stays in the ring until there is room. */
static void the_end_of_a_flood_is_kept(void)
{
	START();
	struct result result = run(&agent, &SH("head -c 3000000 /dev/zero; printf 'the end!'; exit 9"));
	CHECK(ended_with(&result, 9));
	struct log log = read_log(result.start.session);
	CHECK_EQ(log.bytes[0] + log.dropped, 3000008);
	CHECK(log.dropped > 0);
	CHECK_STR(log.tail, "the end!");
	CHECK_EQ(log.exit.code, 9);
	CHECK_EQ(log.out_of_order, 0);
	result_free(&result);
	STOP();
}

static void control_requests(void)
{
	START();
	send_hello(agent.control);
	REQUIRE(expect_frame(agent.control, PROTO_HELLO, NULL, sizeof(struct proto_hello)));
	send_frame(agent.control, PROTO_PING, "?", 1);
	REQUIRE(expect_frame(agent.control, PROTO_PONG, NULL, 1));
	send_frame(agent.control, PROTO_POWEROFF, &(struct proto_poweroff){.grace_ms = 60000}, 4);
	CHECK(expect_frame(agent.control, PROTO_DONE, NULL, 0));
	int status;
	waitpid(agent.pid, &status, 0);
	CHECK_EQ(status, 0);
	CHECK_EQ(agent.seen->power, 1 + AGENT_POWER_OFF);
	CHECK_EQ(agent.seen->grace_ms, 60000);
	close(agent.control);
}

/* It does not run programs, and the agent goes on without it: after a refusal and after the host closed it. */
static void control_is_lost(void)
{
	START();
	send_hello(agent.control);
	uint8_t payload[128];
	struct exec exec = {.argv = {"true"}};
	send_frame(agent.control, PROTO_EXEC, payload, exec_payload(&exec, payload));
	REQUIRE(expect_frame(agent.control, PROTO_HELLO, NULL, sizeof(struct proto_hello)));
	CHECK(expect_frame(agent.control, PROTO_ERROR, NULL, 0));
	char byte;
	CHECK(!read_bytes(agent.control, &byte, 1));
	struct result result = run(&agent, &SH("exit 0"));
	CHECK(ended_with(&result, 0));
	result_free(&result);
	STOP();
	START();
	struct result running = {0};
	int fd = dial(&agent);
	send_exec(fd, &SH("echo up; sleep 0.2; head -c 500000 /dev/zero; exit 4"));
	REQUIRE(await_text(fd, &running, "up"));
	close(agent.control);
	agent.control = -1;
	collect(fd, &running);
	CHECK(ended_with(&running, 4));
	result_free(&running);
	STOP();
}

TEST_MAIN("agent_mirror", {"events", events}, {"failure", failure}, {"much_output", much_output},
        {"host_does_not_read", host_does_not_read}, {"the_end_of_a_flood_is_kept", the_end_of_a_flood_is_kept},
        {"control_requests", control_requests}, {"control_is_lost", control_is_lost})
