/* SPDX-License-Identifier: Apache-2.0 */
/* The VMM's end of the control connection: readiness, power-off, a hostile agent, a flood. */
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vmm/shared/proto.h"
#include "tests/unit/test.h"
#include "vmm/monitor/control.h"

static struct loop *loop;
static struct control *control;
static char path[64];
static int ready_count;
static uint64_t event_bytes;

static void on_ready(void *context)
{
	(void)context;
	ready_count++;
}

static void on_event(void *context, uint64_t session, uint64_t ns, uint8_t type, const uint8_t *payload, size_t len)
{
	(void)context, (void)session, (void)ns, (void)type, (void)payload;
	event_bytes += len;
}

/* A VMM's side, and an agent that is connected to it (-1: not). */
static int set_up(void)
{
	struct control_events events = {.ready = on_ready, .event = on_event};
	struct err err = {0};
	ready_count = 0;
	event_bytes = 0;
	snprintf(path, sizeof(path), "/tmp/wisp-control-%d", (int)getpid());
	unlink(path);
	if (loop_create(&loop, NULL) < 0 || loop_open(loop, 64, NULL) < 0 ||
	        control_create(&control, path, &events, loop, NULL, &err) < 0)
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

TEST_MAIN("control", {"a_hello_is_readiness_and_poweroff_follows", a_hello_is_readiness_and_poweroff_follows},
        {"who_breaks_the_rules_is_dropped", who_breaks_the_rules_is_dropped},
        {"a_flood_is_taken_at_a_bounded_rate", a_flood_is_taken_at_a_bounded_rate},
        {"nothing_sent_is_left_at_the_end", nothing_sent_is_left_at_the_end})
