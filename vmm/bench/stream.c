/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec: the rate of a program's standard output compared with that of a raw vsock stream. Both are the same dd in the
 * same sandbox, in interleaved runs. It writes to the pipe that the agent gives it, or to a vsock connection of its own
 * to this process.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/bench/side.h"

#define BLOCK 65536u

/* The library reads as much at once: the reference must not have a better reader. */
#define READ_SIZE (3u * (65536 + 8))

static int fail(struct wisp_error *error, int errnum, const char *what)
{
	*error = (struct wisp_error){.status = WISP_ERR_SYSTEM, .errnum = errnum};
	snprintf(error->message, sizeof(error->message), "%s: %s", what, strerror(errnum));
	return -errnum;
}

/* ---- Rates ---- */

/* Starts at the first piece, which is not counted, so that the program's start is not measured. */
struct meter {
	uint64_t begin_ns, end_ns, bytes, all;
};

static void count(struct meter *meter, size_t length)
{
	meter->end_ns = bench_now();
	if (meter->all > 0)
		meter->bytes += length;
	else
		meter->begin_ns = meter->end_ns;
	meter->all += length;
}

/* In kB/s, or -errno. */
static int64_t read_meter(const struct meter *meter, uint32_t mib, struct wisp_error *error)
{
	if (meter->all != (uint64_t)mib << 20)
		return fail(error, EPIPE, "the stream has an unexpected length");
	uint64_t ns = meter->end_ns - meter->begin_ns;
	return ns > 0 ? (int64_t)(meter->bytes * 1000 / (ns / 1000 + 1)) : 0;
}

/* The command line of dd, and of bench-guest if that gives dd another standard output. */
struct words {
	const char *argv[8];
	char count[32];
};

static void set_words(struct words *words, bool raw, uint32_t mib)
{
	size_t n = 0;
	snprintf(words->count, sizeof(words->count), "count=%llu", (1ull << 20) / BLOCK * mib);
	if (raw) {
		words->argv[n++] = BENCH_PROGRAM;
		words->argv[n++] = "connect";
	}
	words->argv[n++] = "/bin/dd";
	words->argv[n++] = "if=/dev/zero";
	words->argv[n++] = "bs=65536";
	words->argv[n++] = words->count;
	words->argv[n] = NULL;
}

static int64_t time_stdout(struct wisp_sandbox *sandbox, uint32_t mib, struct wisp_error *error)
{
	struct words words;
	struct wisp_session *session;
	const struct wisp_event *event;
	struct meter meter = {0};
	set_words(&words, false, mib);
	int r = wisp_exec_stream(sandbox, words.argv, NULL, &session, error);
	while (r == 0 && (r = wisp_recv_event(session, -1, &event, error)) == 0 && event->type != WISP_EVENT_DONE) {
		if (event->type == WISP_EVENT_FAILED)
			r = fail(error, event->errnum, "dd");
		else if (event->type == WISP_EVENT_STDOUT)
			count(&meter, event->length);
	}
	wisp_close_session(session);
	return r < 0 ? r : read_meter(&meter, mib, error);
}

/* The program's connection, or -errno if it ends without one. */
static int accept_raw(int listener, struct wisp_session *session, struct wisp_error *error)
{
	struct pollfd pfds[2] = {
	        {.fd = listener, .events = POLLIN}, {.fd = wisp_get_session_fd(session), .events = POLLIN}};
	for (;;) {
		const struct wisp_event *event;
		if (poll(pfds, 2, -1) < 0 && errno != EINTR)
			return fail(error, errno, "poll");
		if (pfds[0].revents) {
			int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			return fd < 0 ? fail(error, errno, "accept") : fd;
		}
		int r = wisp_recv_event(session, 0, &event, error);
		if (r == 0 && (event->type == WISP_EVENT_EXITED || event->type == WISP_EVENT_FAILED))
			return fail(error, ENOTCONN, "the guest's program did not connect to the host");
		if (r < 0 && r != -EAGAIN)
			return r;
	}
}

static int read_raw(int fd, struct meter *meter, struct wisp_error *error)
{
	char *buffer = malloc(READ_SIZE);
	ssize_t n = 0;
	if (!buffer)
		return fail(error, ENOMEM, "reading the raw stream");
	while ((n = recv(fd, buffer, READ_SIZE, 0)) > 0 || (n < 0 && errno == EINTR)) {
		if (n > 0)
			count(meter, (size_t)n);
	}
	int r = n < 0 ? fail(error, errno, "reading the raw stream") : 0;
	free(buffer);
	return r;
}

static int64_t time_raw(struct wisp_sandbox *sandbox, uint32_t mib, struct wisp_error *error)
{
	struct words words;
	struct wisp_session *session = NULL;
	struct meter meter = {0};
	int listener, fd = -1;
	int r = wisp_listen_port(sandbox, BENCH_GUEST_PORT, &listener, error);
	if (r < 0)
		return r;
	set_words(&words, true, mib);
	r = wisp_exec_stream(sandbox, words.argv, NULL, &session, error);
	if (r == 0)
		fd = r = accept_raw(listener, session, error);
	if (r >= 0) {
		r = read_raw(fd, &meter, error);
		close(fd);
	}
	if (r == 0)
		r = wisp_wait_session(session, NULL, error);
	wisp_close_session(session);
	close(listener);
	return r < 0 ? r : read_meter(&meter, mib, error);
}

/* ---- Both ---- */

int bench_run_streams(struct bench *bench, struct wisp_sandbox *sandbox, size_t runs, uint32_t mib)
{
	struct wisp_error error;
	int64_t (*const time[2])(struct wisp_sandbox *, uint32_t, struct wisp_error *) = {time_raw, time_stdout};
	struct bench_metric *metric[2] = {
	        bench_add_metric(bench, "raw vsock", "kB/s", "a program's own connection to the host", runs),
	        bench_add_metric(bench, "stdout", "kB/s", "the same program's output, received here", runs)};
	if (!metric[0] || !metric[1])
		return cli_fail("out of memory");
	int code = bench_send_program(bench, sandbox);
	if (code)
		return code;
	metric[1]->reference = metric[0];
	/* The first run of each is not counted: in it the guest's kernel touches its memory for the first time. */
	for (size_t i = 0; i < 2 * (runs + 1) && !bench_poll_signal(bench, 0); i++) {
		struct bench_metric *to = metric[i % 2];
		bench_progress(bench, to->name, i, 2 * (runs + 1));
		int64_t value = time[i % 2](sandbox, mib, &error);
		if (value < 0)
			return cli_fail("bench: %s: %s", to->name, error.message);
		if (i >= 2)
			to->values[to->count++] = value;
	}
	return 0;
}
