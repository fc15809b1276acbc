/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the lines of bench-guest, from a session or from a console. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench/side.h"

/* A side that is silent for so long has failed: longer than any boot or measurement. */
#define SILENCE_MS 120000

/* Like read(2), from the session's output. -1 with EAGAIN, or after a message. */
static ssize_t receive(struct bench_side *side, char *to, size_t size)
{
	const struct wisp_event *event;
	struct wisp_error error;
	/* The event stays valid until the next call: what does not fit is copied later. */
	while (side->held == 0) {
		int r = wisp_recv_event(side->session, 0, &event, &error);
		if (r == -EAGAIN) {
			errno = EAGAIN;
			return -1;
		}
		if (r < 0) {
			cli_fail_error(&error);
			return -1;
		}
		if (event->type == WISP_EVENT_DONE)
			return 0;
		if (event->type == WISP_EVENT_FAILED) {
			cli_fail("bench: %s", event->message);
			errno = EIO;
			return -1;
		}
		if (event->type == WISP_EVENT_STDOUT) {
			side->data = event->data;
			side->held = event->length;
		}
	}
	size_t n = side->held < size ? side->held : size;
	memcpy(to, side->data, n);
	side->data += n;
	side->held -= n;
	return (ssize_t)n;
}

/* True if there may be something to read. False if a signal arrived, or after a message. */
static bool wait_some(struct bench *bench, const struct bench_side *side)
{
	struct pollfd pfds[2] = {
	        {.events = POLLIN, .fd = side->session ? wisp_get_session_fd(side->session) : side->out},
	        {.events = POLLIN, .fd = bench->signal_fd}};
	int n = poll(pfds, 2, SILENCE_MS);
	if (n == 0)
		cli_fail("bench: %s wrote nothing for %d s", side->name, SILENCE_MS / 1000);
	return n > 0 && !(pfds[1].revents && bench_poll_signal(bench, 0));
}

/* Reads what has arrived. False at the end, for whatever reason. */
static bool fill(struct bench *bench, struct bench_side *side)
{
	bool fresh = side->length == 0;
	char *to = side->text + side->length;
	size_t room = sizeof(side->text) - 1 - side->length;
	if (side->held == 0 && !wait_some(bench, side))
		return false;
	ssize_t n = side->session ? receive(side, to, room) : read(side->out, to, room);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	side->read_at = bench_now();
	if (fresh) {
		side->at = side->read_at;
		side->counts = bench_count_side(side);
	}
	side->length += (size_t)n;
	return n > 0;
}

bool bench_read_side(struct bench *bench, struct bench_side *side, struct bench_guest_line *line)
{
	while (!side->ended) {
		char *end = memchr(side->text, '\n', side->length);
		if (!end && side->length == sizeof(side->text) - 1)
			side->length = 0; /* no line of bench-guest is so long */
		if (!end) {
			side->ended = !fill(bench, side);
			continue;
		}
		*end = '\0';
		bool ours = bench_parse_guest_line(side->text, line);
		if (!ours && side->text[0])
			snprintf(side->last, sizeof(side->last), "%.*s", (int)strcspn(side->text, "\r"), side->text);
		side->length -= (size_t)(end + 1 - side->text);
		memmove(side->text, end + 1, side->length);
		/* A count that is taken now may exceed the end's, if both lines came in one read. */
		line->counts =
		        line->type == BENCH_LINE_BEGIN && side->length == 0 ? bench_count_side(side) : side->counts;
		line->at = side->at;
		side->at = side->read_at; /* what is left in `text` arrived together with the end of this line */
		if (ours)
			return true;
	}
	return false;
}

bool bench_parse_guest_line(const char *text, struct bench_guest_line *line)
{
	unsigned long long v[5];
	int used = 0;
	/* A console may print something else first on the same line. */
	const char *at = strstr(text, BENCH_GUEST_MARK);
	*line = (struct bench_guest_line){0};
	if (!at)
		return false;
	at += strlen(BENCH_GUEST_MARK);
	size_t length = strcspn(at, "\r");
	if (length == 5 && strncmp(at, "ready", 5) == 0) {
		line->type = BENCH_LINE_READY;
		return true;
	}
	if (strncmp(at, "fail ", 5) == 0) {
		line->type = BENCH_LINE_FAIL;
		snprintf(line->name, sizeof(line->name), "%.*s", (int)length - 5, at + 5);
		return true;
	}
	if (sscanf(at, "begin %63s%n", line->name, &used) == 1 && used == (int)length) {
		line->type = BENCH_LINE_BEGIN;
		return true;
	}
	if (sscanf(at, "end %63s " BENCH_GUEST_END_FORMAT "%n", line->name, &v[0], &v[1], &v[2], &v[3], &v[4], &used) !=
	                6 ||
	        used != (int)length || v[0] == 0 || v[2] == 0)
		return false;
	line->type = BENCH_LINE_END;
	line->result = (struct bench_result){.requests = v[0],
	        .bytes = v[1],
	        .ns = v[2],
	        .p99_ns = v[3],
	        .interrupts = (int64_t)v[4],
	        .exits = -1,
	        .syscalls = -1};
	return true;
}
