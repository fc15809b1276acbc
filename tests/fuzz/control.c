/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's end of the control connection, against an agent that is a script; its events go to a log, as they do.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/shared/proto.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/test_loop.h"
#include "vmm/monitor/control.h"
#include "vmm/monitor/execlog.h"

#define LOG_LIMIT 4096u

static bool awaited; /* a freeze or thaw is to be answered, once */

static void done(void *context, int error)
{
	(void)context;
	MUST(awaited && error <= 0 && error >= -4095);
	awaited = false;
}

static void ready(void *context)
{
	(void)context;
}

static void event(
        void *context, uint64_t session, uint64_t realtime_ns, uint8_t type, const uint8_t *payload, size_t len)
{
	touch(payload, len);
	execlog_write(context, session, realtime_ns, type, payload, len);
}

static struct loop *the_loop(void)
{
	static struct loop *loop;
	struct err err = {0};
	if (!loop)
		MUST(open_loop(&loop, 16, &err));
	return loop;
}

static void send_frame(int fd, uint8_t type, const void *payload, size_t len)
{
	struct proto_frame frame = {.length = (uint32_t)len, .type = type};
	send(fd, &frame, sizeof(frame), MSG_NOSIGNAL | MSG_DONTWAIT);
	send(fd, payload, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* An event of the script's type and bytes, in a frame that is whole. */
static void send_event(int fd, struct input *in)
{
	static uint8_t payload[sizeof(struct proto_event) + PROTO_DATA_MAX];
	static const uint8_t types[] = {
	        PROTO_STARTED, PROTO_STDOUT, PROTO_STDERR, PROTO_EXITED, PROTO_FAILED, PROTO_DROPPED};
	uint8_t kind = in8(in);
	struct proto_event event = {.session = in8(in), .realtime_ns = in64(in)};
	event.type = kind % 8 < 6 ? types[kind % 8] : in8(in);
	memcpy(payload, &event, sizeof(event));
	size_t len = kind & 128 ? in16(in) : kind & 64 ? 12 : in8(in), got;
	const uint8_t *piece = in_piece(in, len, &got);
	for (size_t at = 0; at < len && got > 0; at += got)
		memcpy(payload + sizeof(event) + at, piece, got < len - at ? got : len - at);
	send_frame(fd, PROTO_EVENT, payload, sizeof(event) + len);
}

/* Only one at a time is accepted, so what is accepted was not awaited before. */
static void begin(int ret)
{
	MUST(ret || !awaited);
	awaited |= ret == 0;
}

static void freeze(struct control *control, int fd, unsigned what)
{
	struct proto_frozen frozen = {.error = what & 1 ? 16 : 0};
	switch (what / 2 % 4) {
	case 0: begin(control_freeze(control, what & 1 ? 1 : 100000, done, NULL)); break;
	case 1: begin(control_thaw(control, 100000, done, NULL)); break;
	case 2: send_frame(fd, PROTO_FROZEN, &frozen, sizeof(frozen)); break;
	default: send_frame(fd, PROTO_THAWED, NULL, 0); break;
	}
}

static void agent(struct control *control, int fd, struct input *in)
{
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	size_t len;
	uint8_t what = in8(in);
	switch (what % 8) {
	case 0: send_frame(fd, PROTO_HELLO, &hello, sizeof(hello)); break;
	case 1:
	case 2: send_event(fd, in); break;
	case 3: {
		const uint8_t *piece = in_piece(in, in8(in), &len);
		send(fd, piece, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	}
	case 4:
		if (what & 8)
			freeze(control, fd, what >> 4);
		else
			control_poweroff(control, 1000);
		break;
	case 5: shutdown(fd, what / 8 % 3); break;
	default: loop_step(the_loop(), 0); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct control *control;
	struct logfile log;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[64], old[72];
	snprintf(path, sizeof(path), "/tmp/wisp-fuzz-log-%d", getpid());
	snprintf(old, sizeof(old), "%s.1", path);
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/wisp-fuzz-control-%d", getpid());
	unlink(address.sun_path);
	logfile_init(&log, AT_FDCWD, path, LOG_LIMIT);
	MUST(logfile_create(&log, &err) == 0);
	static const struct proto_thaw clone = {.hostname = "clone"};
	struct control_events events = {
	        .ready = ready, .event = event, .lost = ready, .context = &log, .clone = size % 4 ? NULL : &clone};
	awaited = false;
	MUST(control_create(&control, address.sun_path, &events, the_loop(), NULL, &err) == 0);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	for (unsigned i = 0; i < 200 && in.left > 0; i++)
		agent(control, fd, &in);
	for (unsigned i = 0; i < 8; i++)
		loop_step(the_loop(), 0);
	control_destroy(control);
	close(fd);
	/* The log keeps its bound, but for one line that is longer: six bytes for one of a frame's, and a little. */
	struct stat st;
	MUST(stat(path, &st) == 0 && (size_t)st.st_size <= LOG_LIMIT + 6 * PROTO_DATA_MAX + 1024);
	logfile_close(&log);
	unlink(path);
	unlink(old);
	return 0;
}
