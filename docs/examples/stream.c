/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receives events in a poll loop that also waits for something else: standard input, which goes to a program in the
 * guest.
 *
 *	cc stream.c -lwisp -o stream && printf '3 + 4\n6 * 7\n' | ./stream bc
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <wisp.h>

/* Takes the events that have arrived. True once there will be no more; then *code is set. */
static bool take_events(struct wisp_session *session, int *code)
{
	const struct wisp_event *event;
	struct wisp_error error;

	for (;;) {
		int r = wisp_recv_event(session, 0, &event, &error);
		if (r == -EAGAIN)
			return false;
		if (r < 0) {
			fprintf(stderr, "%s\n", error.message);
			*code = 125;
			return true;
		}
		switch (event->type) {
		case WISP_EVENT_STARTED:
			fprintf(stderr, "session %llu, pid %u\n", (unsigned long long)event->id, event->pid);
			break;
		case WISP_EVENT_STDOUT: fwrite(event->data, 1, event->length, stdout); break;
		case WISP_EVENT_STDERR: fwrite(event->data, 1, event->length, stderr); break;
		case WISP_EVENT_FAILED:
			fprintf(stderr, "%s (%s)\n", event->message, wisp_get_failure_name(event->failure));
			*code = 126;
			break;
		case WISP_EVENT_EXITED:
			*code = event->status.signal ? 128 + event->status.signal : event->status.code;
			break;
		case WISP_EVENT_DONE: return true;
		default: break;
		}
	}
}

/* Keeps what the program does not take yet. */
static void feed(struct wisp_stdin **writer, char *buffer, size_t *used)
{
	ptrdiff_t n = wisp_write_stdin(*writer, buffer, *used, 0, NULL);
	if (n > 0) {
		for (size_t i = 0; i + (size_t)n < *used; i++)
			buffer[i] = buffer[i + (size_t)n];
		*used -= (size_t)n;
	} else if (n != -EAGAIN) {
		wisp_close_stdin(*writer);
		*writer = NULL;
	}
}

static int converse(struct wisp_session *session)
{
	struct wisp_stdin *writer = wisp_take_stdin(session);
	char buffer[4096];
	size_t used = 0;
	int code = 125;

	while (!take_events(session, &code)) {
		struct pollfd pfds[3] = {
		        {.fd = wisp_get_session_fd(session), .events = POLLIN},
		        {.fd = writer && used == 0 ? STDIN_FILENO : -1, .events = POLLIN},
		        {.fd = writer && used > 0 ? wisp_get_stdin_fd(writer) : -1, .events = POLLIN},
		};
		fflush(stdout);
		poll(pfds, 3, -1);
		if (pfds[1].revents) {
			ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
			if (n <= 0) {
				wisp_close_stdin(writer); /* the end of the file */
				writer = NULL;
			} else {
				used = (size_t)n;
			}
		}
		if (writer && used > 0)
			feed(&writer, buffer, &used);
	}
	wisp_close_stdin(writer);
	return code;
}

int main(int argc, char **argv)
{
	struct wisp_create_options create = {
	        .size = sizeof(create),
	        .state_root = getenv("WISP_STATE") ? getenv("WISP_STATE") : "/run/wisp",
	        .libdir = getenv("WISP_LIBDIR"),
	};
	struct wisp_exec_options options = {.size = sizeof(options), .stdin_mode = WISP_STDIN_PIPE};
	const char *cat[] = {"cat", "-n", NULL};
	struct wisp_sandbox *sandbox;
	struct wisp_session *session;
	struct wisp_error error;
	int code = 125;

	if (wisp_create_sandbox(&create, &sandbox, &error) < 0) {
		fprintf(stderr, "%s\n", error.message);
		return code;
	}
	const char *const *command = argc > 1 ? (const char *const *)argv + 1 : cat;
	if (wisp_exec_stream(sandbox, command, &options, &session, &error) < 0) {
		fprintf(stderr, "%s\n", error.message);
	} else {
		code = converse(session);
		wisp_close_session(session);
	}
	wisp_close_sandbox(sandbox);
	return code;
}
