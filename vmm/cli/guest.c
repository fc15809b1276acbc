/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "vmm/cli/guest.h"

bool guest_start(
        struct guest *guest, struct wisp_sandbox *sandbox, const char *const *argv, const char *user, bool feeds)
{
	struct wisp_exec_options options = {
	        .size = sizeof(options),
	        .cwd = "/",
	        .user = user,
	        .stdin_mode = feeds ? WISP_STDIN_PIPE : WISP_STDIN_NULL,
	};
	*guest = (struct guest){0};
	if (wisp_exec_stream(sandbox, argv, &options, &guest->session, &guest->error) < 0) {
		cli_fail_error(&guest->error);
		return false;
	}
	guest->writer = wisp_take_stdin(guest->session);
	return true;
}

static void complain(struct guest *guest, const struct wisp_event *event)
{
	size_t room = sizeof(guest->complaint) - 1 - guest->complaint_length;
	size_t length = event->length < room ? event->length : room;
	memcpy(guest->complaint + guest->complaint_length, event->data, length);
	guest->complaint_length += length;
	guest->complaint[guest->complaint_length] = '\0';
}

/* Receives one event; false if none arrives within the time, or if output has not been read yet. */
static bool receive(struct guest *guest, int64_t timeout_ms)
{
	const struct wisp_event *event;
	if (guest->ended || guest->failed || guest->length > 0)
		return false;
	int r = wisp_recv_event(guest->session, timeout_ms, &event, &guest->error);
	if (r == -EAGAIN)
		return false;
	if (r < 0) {
		guest->failed = true;
		return true;
	}
	switch (event->type) {
	case WISP_EVENT_STDOUT:
		guest->data = event->data;
		guest->length = event->length;
		break;
	case WISP_EVENT_STDERR: complain(guest, event); break;
	case WISP_EVENT_EXITED: guest->code = cli_exit_code(&event->status); break;
	case WISP_EVENT_FAILED:
		guest->failed = true;
		guest->error = (struct wisp_error){.status = WISP_ERR_EXEC_FAILED,
		        .errnum = event->errnum,
		        .failure = event->failure,
		        .stage = event->stage};
		snprintf(guest->error.message, sizeof(guest->error.message), "%s", event->message);
		break;
	case WISP_EVENT_DONE: guest->ended = true; break;
	default: break;
	}
	return true;
}

bool guest_write(struct guest *guest, const void *data, size_t length)
{
	const char *at = data;
	while (length > 0) {
		ptrdiff_t n = wisp_write_stdin(guest->writer, at, length, 0, NULL);
		if (n > 0) {
			at += n;
			length -= (size_t)n;
			continue;
		}
		if (n != -EAGAIN)
			return false;
		if (receive(guest, 0)) {
			guest->length = 0; /* the output of a program that only reads is discarded */
			continue;
		}
		struct pollfd pfds[2] = {{.fd = wisp_get_stdin_fd(guest->writer), .events = POLLIN},
		        {.fd = wisp_get_session_fd(guest->session), .events = POLLIN}};
		poll(pfds, 2, -1);
	}
	return true;
}

size_t guest_read(struct guest *guest, void *data, size_t length)
{
	while (guest->length == 0 && !guest->ended && !guest->failed)
		receive(guest, -1);
	size_t n = guest->length < length ? guest->length : length;
	if (n > 0)
		memcpy(data, guest->data, n);
	guest->data += n;
	guest->length -= n;
	return n;
}

void guest_abort(struct guest *guest)
{
	wisp_kill_session(guest->session, NULL);
	wisp_close_stdin(guest->writer);
	wisp_close_session(guest->session);
}

int guest_finish(struct guest *guest, const char *what)
{
	int code = 0;
	wisp_close_stdin(guest->writer);
	while (!guest->ended && !guest->failed) {
		receive(guest, -1);
		guest->length = 0;
	}
	wisp_close_session(guest->session);
	if (guest->failed)
		return cli_fail_error(&guest->error);
	guest->complaint[strcspn(guest->complaint, "\n")] = '\0';
	if (guest->code != 0)
		code = guest->complaint[0]
		               ? cli_fail("%s: the guest reported: %s", what, guest->complaint)
		               : cli_fail("%s: the program in the guest exited with code %d", what, guest->code);
	return code;
}
