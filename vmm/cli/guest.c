/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/cli/cp.h"

bool guest_start(struct guest *guest, const struct copy *copy, const char *const *argv, bool feeds)
{
	struct wisp_exec_options options = {
	        .size = sizeof(options),
	        .cwd = "/",
	        .user = copy->user,
	        .stdin_mode = feeds ? WISP_STDIN_PIPE : WISP_STDIN_NULL,
	};
	*guest = (struct guest){.signals = copy->signals};
	if (wisp_exec_stream(copy->sandbox, argv, &options, &guest->session, &guest->error) < 0) {
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

/* Receives one event; false if there is none yet, or if output has not been read. */
static bool receive(struct guest *guest)
{
	const struct wisp_event *event;
	if (guest->ended || guest->failed || guest->length > 0)
		return false;
	int r = wisp_recv_event(guest->session, 0, &event, &guest->error);
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

/* Waits until the guest has sent something, or takes more, if `feeds`. False after a signal. */
static bool wait_for(struct guest *guest, bool feeds)
{
	struct signalfd_siginfo info;
	struct pollfd pfds[3] = {{.fd = guest->signals, .events = POLLIN},
	        {.fd = wisp_get_session_fd(guest->session), .events = POLLIN},
	        {.fd = feeds ? wisp_get_stdin_fd(guest->writer) : -1, .events = POLLIN}};
	poll(pfds, 3, -1);
	if (pfds[0].revents && read(guest->signals, &info, sizeof(info)) == sizeof(info))
		guest->signal = (int)info.ssi_signo;
	return guest->signal == 0;
}

/* Whether a signal is pending. A copy whose guest never makes it wait ends on a signal, too. */
static bool interrupted(struct guest *guest)
{
	struct pollfd pfd = {.fd = guest->signals, .events = POLLIN};
	return guest->signal || (poll(&pfd, 1, 0) > 0 && !wait_for(guest, false));
}

bool guest_write(struct guest *guest, const void *data, size_t length)
{
	const char *at = data;
	if (interrupted(guest))
		return false;
	while (length > 0) {
		ptrdiff_t n = wisp_write_stdin(guest->writer, at, length, 0, NULL);
		if (n > 0) {
			at += n;
			length -= (size_t)n;
			continue;
		}
		if (n != -EAGAIN)
			return false;
		if (receive(guest))
			guest->length = 0; /* the output of a program that only reads is discarded */
		else if (!wait_for(guest, true))
			return false;
	}
	return true;
}

size_t guest_read(struct guest *guest, void *data, size_t length)
{
	if (interrupted(guest))
		return 0;
	while (guest->length == 0 && !guest->ended && !guest->failed) {
		if (!receive(guest) && !wait_for(guest, false))
			return 0;
	}
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
	wisp_close_stdin(guest->writer);
	guest->writer = NULL;
	while (!guest->signal && !guest->ended && !guest->failed) {
		guest->length = 0;
		if (!receive(guest))
			wait_for(guest, false);
	}
	if (guest->signal) {
		guest_abort(guest);
		return CLI_EXIT_SIGNAL + guest->signal;
	}
	wisp_close_session(guest->session);
	if (guest->failed)
		return cli_fail_error(&guest->error);
	guest->complaint[strcspn(guest->complaint, "\n")] = '\0';
	if (guest->code == 0)
		return 0;
	if (guest->complaint[0])
		return cli_fail("%s: the guest reported: %s", what, guest->complaint);
	return cli_fail("%s: the program in the guest exited with code %d", what, guest->code);
}

int guest_kind(const struct copy *copy, const char *path)
{
	static const char script[] =
	        "if [ -d \"$1\" ]; then echo d; elif [ -L \"$1\" ]; then "
	        "if [ -e \"$1\" ]; then echo l; else echo x; fi; "
	        "elif [ -f \"$1\" ]; then echo f; elif [ -e \"$1\" ]; then echo o; else echo n; fi";
	const char *argv[] = {"sh", "-c", script, "sh", path, NULL};
	struct guest guest;
	char kind = 'n';
	if (!guest_start(&guest, copy, argv, false))
		return -CLI_EXIT_FAILED;
	guest_read(&guest, &kind, 1);
	int code = guest_finish(&guest, path);
	return code ? -code : strchr("dlxfo", kind) && kind ? kind : 'n';
}
