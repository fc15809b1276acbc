/* SPDX-License-Identifier: Apache-2.0 */
/* The VMM's end of the control connection: readiness, power-off, a hostile agent, a flood. */
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vmm/shared/proto.h"
#include "tests/unit/test.h"
#include "tests/unit/test_loop.h"
#include "vmm/monitor/control.h"

static struct loop *loop;
static struct control *control;
static char path[64];
static int ready_count, lost_count;
static uint64_t event_bytes;
static const struct proto_thaw *restored; /* of the control that is created next */

/* What the last freeze or thaw came to; 1: nothing yet. */
static int outcome;

static void on_done(void *context, int error)
{
	CHECK_EQ(outcome, 1);
	outcome = error;
	*(int *)context += 1;
}

static void on_ready(void *context)
{
	(void)context;
	ready_count++;
}

static void on_lost(void *context)
{
	(void)context;
	lost_count++;
}

static void on_event(void *context, uint64_t session, uint64_t ns, uint8_t type, const uint8_t *payload, size_t len)
{
	(void)context, (void)session, (void)ns, (void)type, (void)payload;
	event_bytes += len;
}

/* A VMM's side, and an agent that is connected to it (-1: not). */
static int set_up(void)
{
	struct control_events events = {.ready = on_ready, .event = on_event, .lost = on_lost, .clone = restored};
	struct err err = {0};
	ready_count = lost_count = 0;
	event_bytes = 0;
	snprintf(path, sizeof(path), "/tmp/wisp-control-%d", (int)getpid());
	unlink(path);
	if (!open_loop(&loop, 64, NULL) || control_create(&control, path, &events, loop, NULL, &err) < 0)
		return -1;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	memcpy(addr.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 ? fd : -1;
}

static void tear_down(int fd)
{
	control_destroy(control);
	loop_destroy(loop);
	CHECK(access(path, F_OK) != 0);
	close(fd);
}

static size_t put_frame(uint8_t *to, uint8_t type, const void *payload, uint32_t len)
{
	struct proto_frame frame = {.length = len, .type = type};
	memcpy(to, &frame, sizeof(frame));
	if (len)
		memcpy(to + sizeof(frame), payload, len);
	return sizeof(frame) + len;
}

static void send_hello(int fd, uint16_t version)
{
	uint8_t bytes[64];
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = version};
	size_t n = put_frame(bytes, PROTO_HELLO, &hello, sizeof(hello));
	CHECK_EQ(send(fd, bytes, n, 0), n);
}

static void steps(unsigned count)
{
	while (count-- > 0)
		loop_step(loop, 20);
}

static void a_hello_is_readiness_and_poweroff_follows(void)
{
	int fd = set_up();
	REQUIRE(fd >= 0);
	CHECK_EQ(control_poweroff(control, 0), -ENOTCONN);
	send_hello(fd, PROTO_VERSION);
	steps(4);
	CHECK_EQ(ready_count, 1);
	CHECK_EQ(control_poweroff(control, 60000), 0);
	uint8_t bytes[64];
	struct proto_frame frame;
	CHECK_EQ(recv(fd, bytes, sizeof(bytes), 0),
	        2 * sizeof(frame) + sizeof(struct proto_hello) + sizeof(struct proto_poweroff));
	memcpy(&frame, bytes + sizeof(frame) + sizeof(struct proto_hello), sizeof(frame));
	CHECK_EQ(frame.type, PROTO_POWEROFF);
	struct proto_poweroff request;
	memcpy(&request, bytes + 2 * sizeof(frame) + sizeof(struct proto_hello), sizeof(request));
	CHECK_EQ(request.grace_ms, 60000);
	tear_down(fd);
}

static void who_breaks_the_rules_is_dropped(void)
{
	for (int lie = 0; lie < 6; lie++) {
		int fd = set_up();
		REQUIRE(fd >= 0);
		uint8_t bytes[128] = {0};
		struct proto_frame frame = {.type = PROTO_EVENT};
		if (lie == 0)
			frame.length = UINT32_MAX;
		else if (lie == 1)
			frame.length = PROTO_DATA_MAX + sizeof(struct proto_event) + 1;
		else if (lie == 2)
			frame.zero[1] = 1;
		else if (lie == 3)
			frame.type = 200;
		else if (lie == 4)
			frame.length = sizeof(struct proto_event) - 1;
		else
			frame.length = sizeof(struct proto_event); /* whole, but before HELLO */
		memcpy(bytes, &frame, sizeof(frame));
		CHECK(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0);
		steps(4);
		/* Its HELLO, then the end (or a reset, as there was more to read). */
		char byte[64];
		ssize_t n = recv(fd, byte, sizeof(byte), 0);
		CHECK(n == (ssize_t)(sizeof(frame) + sizeof(struct proto_hello)) || n <= 0);
		CHECK(recv(fd, byte, 1, 0) <= 0);
		CHECK_EQ(ready_count, 0);
		CHECK_EQ(event_bytes, 0);
		tear_down(fd);
	}
}

static double now_s(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Sends whole frames as fast as they are taken, for so long; one at least. */
static void flood(int fd, double seconds)
{
	static uint8_t frame[sizeof(struct proto_frame) + sizeof(struct proto_event) + PROTO_DATA_MAX];
	static uint8_t payload[sizeof(struct proto_event) + PROTO_DATA_MAX];
	size_t len = put_frame(frame, PROTO_EVENT, payload, sizeof(payload)), sent = 0;
	double begun = now_s();
	do {
		ssize_t n = send(fd, frame + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			sent = (sent + (size_t)n) % len;
		loop_step(loop, n > 0 ? 0 : 10);
	} while (now_s() - begun < seconds || sent > 0);
}

static void a_flood_is_taken_at_a_bounded_rate(void)
{
	int fd = set_up();
	REQUIRE(fd >= 0);
	send_hello(fd, PROTO_VERSION);
	double begun = now_s();
	while (event_bytes < CONTROL_BURST - PROTO_DATA_MAX && now_s() - begun < 60)
		flood(fd, 0); /* the burst is taken as fast as this machine can */
	CHECK(event_bytes >= CONTROL_BURST - PROTO_DATA_MAX);
	flood(fd, 0.5);
	double most = CONTROL_BURST + CONTROL_RATE * (now_s() - begun) + 4 * PROTO_DATA_MAX;
	CHECK((double)event_bytes <= most);
	tear_down(fd); /* also while it pauses */
}

/* What the guest sent before it ended is logged, although the allowance is used up. */
static void nothing_sent_is_left_at_the_end(void)
{
	uint8_t bytes[sizeof(struct proto_frame) + sizeof(struct proto_event) + 5];
	struct proto_event event = {.session = 7};
	uint8_t payload[sizeof(event) + 5] = {0};
	int fd = set_up();
	REQUIRE(fd >= 0);
	send_hello(fd, PROTO_VERSION);
	steps(4);
	size_t n = put_frame(bytes, PROTO_EVENT, payload, sizeof(payload));
	for (int i = 0; i < 3; i++)
		CHECK_EQ(send(fd, bytes, n, 0), n);
	CHECK_EQ(event_bytes, 0);
	tear_down(fd);
	CHECK_EQ(event_bytes, 15);
}

/* ---- Freezing ---- */

static int calls;

static int begin_freeze(uint32_t timeout_ms)
{
	outcome = 1;
	return control_freeze(control, timeout_ms, on_done, &calls);
}

static int begin_thaw(void)
{
	outcome = 1;
	return control_thaw(control, 60000, on_done, &calls);
}

static void send_to_monitor(int fd, uint8_t type, const void *payload, uint32_t len)
{
	uint8_t bytes[256];
	size_t n = put_frame(bytes, type, payload, len);
	CHECK_EQ(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

static void send_frozen(int fd, uint32_t error)
{
	struct proto_frozen frozen = {.error = error};
	send_to_monitor(fd, PROTO_FROZEN, &frozen, sizeof(frozen));
}

/* The next frame that the monitor has sent is of this type. */
static bool got(int fd, uint8_t type, void *payload, size_t size)
{
	uint8_t bytes[256];
	struct proto_frame frame;
	if (recv(fd, &frame, sizeof(frame), MSG_DONTWAIT) != sizeof(frame) || frame.length > sizeof(bytes) ||
	        (frame.length && recv(fd, bytes, frame.length, MSG_DONTWAIT) != (ssize_t)frame.length))
		return false;
	if (payload && frame.length == size)
		memcpy(payload, bytes, size);
	return frame.type == type && (!payload || frame.length == size);
}

static bool got_nothing(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

static uint64_t realtime_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* An agent whose conversation is at the point where the guest is ready. */
static int set_up_ready(void)
{
	int fd = set_up();
	if (fd < 0)
		return -1;
	calls = 0;
	send_hello(fd, PROTO_VERSION);
	steps(4);
	CHECK_EQ(ready_count, 1);
	CHECK(got(fd, PROTO_HELLO, NULL, 0));
	return fd;
}

static void a_guest_freezes_and_thaws(void)
{
	struct proto_thaw thaw;
	int fd = set_up();
	REQUIRE(fd >= 0);
	CHECK_EQ(begin_freeze(1000), -ENOTCONN);
	tear_down(fd);
	fd = set_up_ready();
	REQUIRE(fd >= 0);
	CHECK_EQ(begin_thaw(), -EINVAL);
	for (int i = 1; i <= 3; i++) {
		CHECK_EQ(begin_freeze(100000), 0);
		CHECK(got(fd, PROTO_FREEZE, NULL, 0));
		CHECK_EQ(begin_freeze(100000), -EBUSY);
		CHECK_EQ(begin_thaw(), -EBUSY);
		send_frozen(fd, 0);
		steps(3);
		CHECK_EQ(outcome, 0);
		CHECK_EQ(begin_freeze(100000), -EBUSY);
		uint64_t before_ns = realtime_ns();
		CHECK_EQ(begin_thaw(), 0);
		CHECK(got(fd, PROTO_THAW, &thaw, sizeof(thaw)));
		CHECK_EQ(thaw.flags, 0);
		CHECK(thaw.realtime_ns >= before_ns && thaw.realtime_ns <= realtime_ns());
		CHECK_EQ(outcome, 1);
		send_to_monitor(fd, PROTO_THAWED, NULL, 0);
		steps(2);
		CHECK_EQ(outcome, 0);
		CHECK_EQ(calls, 2 * i);
	}
	CHECK_EQ(ready_count, 1);
	CHECK(got_nothing(fd));
	tear_down(fd);
}

/* Told when it happens, and not while the guest is frozen: then afterwards, with the time of then. */
static void the_clock_is_told(void)
{
	struct proto_clock clock;
	int fd = set_up();
	REQUIRE(fd >= 0);
	control_set_clock(control); /* before there is an agent */
	outcome = calls = 0;
	send_hello(fd, PROTO_VERSION);
	steps(4);
	CHECK(got(fd, PROTO_HELLO, NULL, 0));
	CHECK(got(fd, PROTO_CLOCK, NULL, 0));
	uint64_t before_ns = realtime_ns();
	control_set_clock(control);
	CHECK(got(fd, PROTO_CLOCK, &clock, sizeof(clock)));
	CHECK(clock.realtime_ns >= before_ns && clock.realtime_ns <= realtime_ns());
	for (int frozen = 0; frozen < 2; frozen++) {
		CHECK_EQ(begin_freeze(100000), 0);
		CHECK(got(fd, PROTO_FREEZE, NULL, 0));
		control_set_clock(control);
		CHECK(got_nothing(fd));
		send_frozen(fd, frozen ? 0 : EBUSY);
		steps(3);
		if (frozen) {
			CHECK(got_nothing(fd));
			CHECK_EQ(begin_thaw(), 0);
			CHECK(got(fd, PROTO_THAW, NULL, 0));
			send_to_monitor(fd, PROTO_THAWED, NULL, 0);
			steps(2);
		}
		CHECK(got(fd, PROTO_CLOCK, NULL, 0));
		CHECK(got_nothing(fd));
	}
	tear_down(fd);
}

/* Its connection ends, although the monitor was waiting for what it says. */
static void who_does_not_read_is_dropped(void)
{
	char bytes[4096];
	ssize_t n;
	int fd = set_up();
	REQUIRE(fd >= 0);
	send_hello(fd, PROTO_VERSION);
	steps(4);
	CHECK_EQ(ready_count, 1);
	for (int i = 0; i < 20000; i++)
		control_set_clock(control);
	steps(3);
	while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		;
	CHECK_EQ(n, 0);
	CHECK_EQ(begin_freeze(1000), -ENOTCONN);
	tear_down(fd);
}

static void a_freeze_that_fails(void)
{
	int fd = set_up_ready();
	REQUIRE(fd >= 0);
	CHECK_EQ(begin_freeze(100000), 0);
	send_frozen(fd, EBUSY);
	steps(3);
	CHECK_EQ(outcome, -EBUSY);
	CHECK_EQ(begin_thaw(), -EINVAL);
	CHECK_EQ(begin_freeze(100000), 0);
	shutdown(fd, SHUT_WR);
	steps(3);
	CHECK_EQ(outcome, -ECONNRESET);
	CHECK_EQ(lost_count, 1);
	CHECK_EQ(begin_freeze(100000), -ENOTCONN);
	CHECK_EQ(calls, 2);
	tear_down(fd);
}

static bool freezes_again;

static void on_done_again(void *context, int error)
{
	on_done(context, error);
	if (freezes_again)
		CHECK_EQ(begin_freeze(1), 0);
	freezes_again = false;
}

/* The timer of the first freeze is still being cancelled when the second begins, which has its own time. */
static void a_freeze_follows_another_at_once(void)
{
	int fd = set_up_ready();
	REQUIRE(fd >= 0);
	freezes_again = true;
	outcome = 1;
	CHECK_EQ(control_freeze(control, 100000, on_done_again, &calls), 0);
	send_frozen(fd, EBUSY);
	while (calls < 2 && loop_step(loop, 1000) > 0)
		;
	CHECK_EQ(calls, 2);
	CHECK_EQ(outcome, -ETIMEDOUT);
	tear_down(fd);
}

/* Who is frozen when the connection ends can never be thawed; a guest that powers off has no need. */
static void a_connection_that_ends_in_a_freeze(void)
{
	enum { RUNS, FREEZES, FROZEN_NOW, THAWS, ENDS, CASES };
	for (int when = 0; when < CASES; when++) {
		int fd = set_up_ready();
		REQUIRE(fd >= 0);
		if (when != RUNS)
			CHECK_EQ(begin_freeze(100000), 0);
		if (when > FREEZES)
			send_frozen(fd, 0);
		steps(3);
		if (when == THAWS)
			CHECK_EQ(begin_thaw(), 0);
		if (when == ENDS)
			CHECK_EQ(control_poweroff(control, 0), 0);
		shutdown(fd, SHUT_WR);
		steps(3);
		CHECK_EQ(lost_count, when != RUNS && when != ENDS);
		CHECK_EQ(begin_thaw(), -ENOTCONN);
		tear_down(fd);
	}
}

/* Nor does a thaw that is not answered keep its caller waiting. The answer may come yet. */
static void a_late_thaw_counts(void)
{
	int fd = set_up_ready();
	REQUIRE(fd >= 0);
	CHECK_EQ(begin_freeze(100000), 0);
	send_frozen(fd, 0);
	steps(3);
	outcome = 1;
	CHECK_EQ(control_thaw(control, 1, on_done, &calls), 0);
	while (outcome == 1 && loop_step(loop, 1000) >= 0)
		;
	CHECK_EQ(outcome, -ETIMEDOUT);
	CHECK_EQ(begin_freeze(1), -EBUSY);
	send_to_monitor(fd, PROTO_THAWED, NULL, 0);
	steps(2);
	CHECK_EQ(lost_count, 0);
	CHECK_EQ(begin_freeze(100000), 0);
	tear_down(fd);
}

/* Nobody waits for it any more, but the guest must not stay frozen. */
static void a_late_freeze_is_undone(void)
{
	int fd = set_up_ready();
	REQUIRE(fd >= 0);
	CHECK_EQ(begin_freeze(1), 0);
	CHECK(got(fd, PROTO_FREEZE, NULL, 0));
	while (outcome == 1 && loop_step(loop, 1000) >= 0)
		;
	CHECK_EQ(outcome, -ETIMEDOUT);
	CHECK_EQ(begin_freeze(1), -EBUSY);
	CHECK_EQ(begin_thaw(), -EBUSY);
	CHECK(got_nothing(fd));
	send_frozen(fd, 0);
	steps(3);
	CHECK(got(fd, PROTO_THAW, NULL, 0));
	CHECK_EQ(begin_freeze(1), -EBUSY);
	send_to_monitor(fd, PROTO_THAWED, NULL, 0);
	steps(2);
	CHECK_EQ(calls, 1);
	CHECK_EQ(begin_freeze(100000), 0);
	tear_down(fd);
	CHECK_EQ(outcome, 1); /* whoever destroys it knows */
}

static void poweroff_comes_first(void)
{
	int fd = set_up_ready();
	REQUIRE(fd >= 0);
	CHECK_EQ(begin_freeze(100000), 0);
	CHECK_EQ(control_poweroff(control, 0), 0);
	CHECK_EQ(outcome, -ECANCELED);
	send_frozen(fd, 0);
	steps(3);
	CHECK(got(fd, PROTO_FREEZE, NULL, 0));
	CHECK(got(fd, PROTO_POWEROFF, NULL, 0));
	CHECK(got_nothing(fd)); /* it has thawed by itself */
	tear_down(fd);
	fd = set_up_ready();
	REQUIRE(fd >= 0);
	CHECK_EQ(begin_freeze(100000), 0);
	send_frozen(fd, 0);
	steps(3);
	CHECK_EQ(outcome, 0);
	CHECK_EQ(control_poweroff(control, 0), 0);
	CHECK_EQ(begin_thaw(), -EINVAL);
	tear_down(fd);
}

/* A restored machine is ready when its programs run, as another machine. */
static void a_clone_is_thawed_first(void)
{
	struct proto_thaw wanted = {.seed = {1, 2, 3}, .generation = {4, 5}, .hostname = "clone"}, thaw = {0};
	uint8_t event[sizeof(struct proto_event) + 5] = {0};
	restored = &wanted;
	int fd = set_up();
	restored = NULL;
	memset(&wanted, 0, sizeof(wanted));
	REQUIRE(fd >= 0);
	uint64_t before_ns = realtime_ns();
	send_hello(fd, PROTO_VERSION);
	steps(4);
	CHECK(got(fd, PROTO_HELLO, NULL, 0));
	CHECK(got(fd, PROTO_THAW, &thaw, sizeof(thaw)));
	CHECK_EQ(thaw.flags, PROTO_THAW_CLONE);
	CHECK(thaw.realtime_ns >= before_ns && thaw.realtime_ns <= realtime_ns());
	CHECK(thaw.seed[2] == 3 && thaw.generation[1] == 5);
	CHECK_STR(thaw.hostname, "clone");
	CHECK_EQ(ready_count, 0);
	CHECK_EQ(control_poweroff(control, 0), -ENOTCONN);
	CHECK_EQ(begin_freeze(100000), -ENOTCONN);
	send_to_monitor(fd, PROTO_THAWED, NULL, 0);
	send_to_monitor(fd, PROTO_EVENT, event, sizeof(event));
	steps(3);
	CHECK_EQ(ready_count, 1);
	CHECK_EQ(event_bytes, 5);
	CHECK_EQ(begin_freeze(100000), 0);
	tear_down(fd);
}

/* Answers to nothing, and errors that are none. */
static void answers_that_were_not_asked_for(void)
{
	for (int lie = 0; lie < 4; lie++) {
		int fd = set_up_ready();
		REQUIRE(fd >= 0);
		if (lie >= 2)
			CHECK_EQ(begin_freeze(100000), 0);
		if (lie == 0)
			send_frozen(fd, 0);
		else if (lie == 1 || lie == 2)
			send_to_monitor(fd, PROTO_THAWED, NULL, 0);
		else
			send_frozen(fd, UINT32_MAX);
		steps(3);
		char bytes[64];
		while (recv(fd, bytes, sizeof(bytes), 0) > 0)
			;
		CHECK_EQ(begin_freeze(100000), -ENOTCONN);
		CHECK_EQ(calls, lie >= 2);
		tear_down(fd);
	}
}

TEST_MAIN("control", {"a_hello_is_readiness_and_poweroff_follows", a_hello_is_readiness_and_poweroff_follows},
        {"who_breaks_the_rules_is_dropped", who_breaks_the_rules_is_dropped},
        {"a_flood_is_taken_at_a_bounded_rate", a_flood_is_taken_at_a_bounded_rate},
        {"nothing_sent_is_left_at_the_end", nothing_sent_is_left_at_the_end},
        {"a_guest_freezes_and_thaws", a_guest_freezes_and_thaws}, {"a_freeze_that_fails", a_freeze_that_fails},
        {"the_clock_is_told", the_clock_is_told}, {"who_does_not_read_is_dropped", who_does_not_read_is_dropped},
        {"a_freeze_follows_another_at_once", a_freeze_follows_another_at_once},
        {"a_connection_that_ends_in_a_freeze", a_connection_that_ends_in_a_freeze},
        {"a_late_thaw_counts", a_late_thaw_counts}, {"a_late_freeze_is_undone", a_late_freeze_is_undone},
        {"poweroff_comes_first", poweroff_comes_first}, {"a_clone_is_thawed_first", a_clone_is_thawed_first},
        {"answers_that_were_not_asked_for", answers_that_were_not_asked_for})
