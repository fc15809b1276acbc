/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects a terminal to a session. One loop polls everything and nothing else waits, so that the keys that detach and
 * the caller's cancel_fd work even while the program reads nothing and the terminal takes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/lib/keys.h"
#include "vmm/lib/modes.h"
#include "vmm/lib/replay.h"
#include "vmm/lib/session.h"

#define INPUT_SIZE 4096
/* How long detaching waits for a terminal that takes nothing, before its modes are set back. */
#define RESTORE_MS 200

struct attach {
	struct wisp_session *session;
	struct wisp_attach_options options;
	struct keys keys;
	struct termios saved;
	int output_fd;   /* our own, non-blocking; -1: shown_fd is written in small pieces */
	int shown_fd;    /* the caller's */
	bool writes;     /* this client is the session's writer */
	bool stdin_done; /* the program reads no more */
	bool hung_up;    /* the terminal takes no more output */
	bool detach;     /* the keys were typed: detach once `typed` is sent, or at once if it cannot be */
	unsigned char typed[INPUT_SIZE + KEYS_MAX]; /* not sent yet */
	size_t typed_at, typed_length;
	const uint8_t *shown; /* output that is not written yet */
	size_t shown_length;
	const uint8_t *output; /* output of the last event that is not filtered yet */
	size_t output_length;
	struct replay replay;
	struct modes modes; /* what the program made of the terminal */
	char note[64];
};

/* Stores the size of the terminal, or 24 by 80 if it has none. */
static void terminal_size(int fd, uint16_t *rows, uint16_t *cols)
{
	struct winsize size = {0};
	ioctl(fd, TIOCGWINSZ, &size);
	*rows = size.ws_row ? size.ws_row : 24;
	*cols = size.ws_col ? size.ws_col : 80;
}

static void follow_size(struct attach *attach)
{
	uint16_t rows, cols;
	if (!attach->writes)
		return;
	terminal_size(attach->options.input_fd, &rows, &cols);
	wisp_resize_session(attach->session, rows, cols, NULL);
}

/* Changes the size by one column: a program redraws its screen only when the size changes. */
static void redraw(struct attach *attach)
{
	uint16_t rows, cols;
	if (!attach->writes || !attach->session->reattached)
		return;
	terminal_size(attach->options.input_fd, &rows, &cols);
	wisp_resize_session(attach->session, rows, cols > 1 ? cols - 1 : cols + 1, NULL);
}

static int set_raw(struct attach *attach, struct wisp_error *error)
{
	struct termios raw = attach->saved;
	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	/* Waiting for output to drain would wait as long as ^S stops the terminal. */
	while (tcsetattr(attach->options.input_fd, TCSANOW, &raw) < 0) {
		if (errno != EINTR)
			return lib_fail_errno(error, errno, "cannot put the terminal in raw mode");
	}
	return 0;
}

static int output_fd(const struct attach *attach)
{
	return attach->output_fd >= 0 ? attach->output_fd : attach->shown_fd;
}

/* A program that has ended leaves the screen as it wants it; one that goes on elsewhere does not. */
static void restore(struct attach *attach, bool ended)
{
	char reset[MODES_RESET_MAX];
	size_t length = ended ? 0 : modes_reset(&attach->modes, reset);
	struct pollfd pfd = {.fd = output_fd(attach), .events = POLLOUT};
	/* A terminal that still takes nothing is stopped or gone. */
	if (length > 0 && !attach->hung_up && poll(&pfd, 1, RESTORE_MS) > 0)
		(void)!write(pfd.fd, reset, length);
	while (tcsetattr(attach->options.input_fd, TCSANOW, &attach->saved) < 0 && errno == EINTR)
		;
}

/* O_NONBLOCK would affect the open file that the caller's shell shares, so the terminal is opened again. */
static int open_output(int fd)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static void show(struct attach *attach)
{
	while (attach->shown_length > 0) {
		size_t piece = attach->shown_length;
		if (attach->output_fd < 0 && piece > 256)
			piece = 256; /* a terminal that polls writable takes this much without blocking */
		ssize_t n = write(output_fd(attach), attach->shown, piece);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0) {
			attach->hung_up = true;
			attach->shown_length = 0;
			return;
		}
		modes_track(&attach->modes, attach->shown, (size_t)n);
		attach->shown += n;
		attach->shown_length -= (size_t)n;
		if (attach->output_fd < 0)
			return;
	}
}

static void take_typed(struct attach *attach)
{
	unsigned char in[INPUT_SIZE];
	ssize_t n = read(attach->options.input_fd, in, sizeof(in));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		attach->detach = true;
		return;
	}
	attach->typed_at = attach->typed_length = 0;
	attach->detach = keys_filter(&attach->keys, in, (size_t)n, attach->typed, &attach->typed_length);
	if (!attach->writes || attach->stdin_done)
		attach->typed_length = 0;
}

static void send_typed(struct attach *attach)
{
	size_t left = attach->typed_length - attach->typed_at;
	if (left == 0)
		return;
	ptrdiff_t n = conn_write_stdin(attach->session->conn, attach->typed + attach->typed_at, left, 0, NULL);
	if (n > 0) {
		attach->typed_at += (size_t)n;
	} else if (n != -EAGAIN) {
		attach->stdin_done = true;
		attach->typed_at = attach->typed_length;
	}
}

static void drain(int fd)
{
	char buffer[1024];
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	/* The descriptor may block: it is read only while it polls readable. */
	while (poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLIN)) {
		if (read(fd, buffer, sizeof(buffer)) <= 0)
			return;
	}
}

static int fail_start(const struct wisp_event *event, struct wisp_error *error)
{
	int errnum = event->errnum ? event->errnum : EIO;
	lib_fail(error, WISP_ERR_EXEC_FAILED, errnum, "the program did not start: %s", event->message);
	if (error) {
		error->failure = event->failure;
		error->stage = event->stage;
	}
	return -errnum;
}

/* Takes an event, if there is one. Returns 1 if the session is over; *result says how. */
static int take_event(struct attach *attach, struct wisp_exit_status *status, int *result, struct wisp_error *error)
{
	const struct wisp_event *event;
	*result = wisp_recv_event(attach->session, 0, &event, error);
	if (*result == -EAGAIN)
		return 0;
	if (*result < 0)
		return 1;
	switch (event->type) {
	case WISP_EVENT_STDOUT:
	case WISP_EVENT_STDERR:
		attach->output = event->data;
		attach->output_length = event->length;
		return 0;
	case WISP_EVENT_DROPPED:
		replay_drop(&attach->replay, event->dropped);
		snprintf(attach->note, sizeof(attach->note), "\r\n[%llu bytes of output were lost here]\r\n",
		        (unsigned long long)event->dropped);
		attach->shown = (const uint8_t *)attach->note;
		attach->shown_length = strlen(attach->note);
		return 0;
	case WISP_EVENT_EXITED:
		*status = event->status;
		if (event->status.timed_out)
			*result = lib_fail(error, WISP_ERR_TIMEOUT, ETIMEDOUT, "the program was killed by its timeout");
		return 1;
	case WISP_EVENT_FAILED: *result = fail_start(event, error); return 1;
	case WISP_EVENT_DONE:
		*result = lib_fail(error, WISP_ERR_SESSION_ENDED, ESRCH, "the session had already ended");
		return 1;
	default: return 0;
	}
}

/* poll(2) ignores -1. */
static int descriptor(const int *option)
{
	return option ? *option : -1;
}

static int poll_once(struct attach *attach, struct wisp_error *error, bool *cancelled)
{
	enum { INPUT, OUTPUT, SESSION, WINDOW, RESIZE, CANCEL, COUNT };
	bool typed = attach->typed_at<attach->typed_length, shown = attach->shown_length> 0;
	int resize = descriptor(attach->options.resize_fd), cancel = descriptor(attach->options.cancel_fd);
	struct pollfd pfds[COUNT] = {
	        [INPUT] = {.fd = typed ? -1 : attach->options.input_fd, .events = POLLIN},
	        [OUTPUT] = {.fd = output_fd(attach), .events = shown ? POLLOUT : 0},
	        /* While the terminal takes nothing, nothing is received, so the program waits. */
	        [SESSION] = {.fd = shown ? -1 : conn_event_fd(attach->session->conn), .events = POLLIN},
	        [WINDOW] = {.fd = typed ? conn_window_fd(attach->session->conn) : -1, .events = POLLIN},
	        [RESIZE] = {.fd = resize, .events = POLLIN},
	        [CANCEL] = {.fd = cancel, .events = POLLIN},
	};
	if (poll(pfds, COUNT, -1) < 0 && errno != EINTR)
		return lib_fail_errno(error, errno, "cannot poll the terminal");
	if (pfds[RESIZE].revents) {
		drain(resize);
		/* A shell that stopped this process has set its own modes meanwhile. */
		int r = set_raw(attach, error);
		if (r < 0)
			return r;
		follow_size(attach);
	}
	if (pfds[INPUT].revents)
		take_typed(attach);
	if (pfds[OUTPUT].revents & (POLLHUP | POLLERR | POLLNVAL))
		attach->hung_up = true;
	else if (pfds[OUTPUT].revents)
		show(attach);
	*cancelled = pfds[CANCEL].revents;
	return 0;
}

static int bridge(struct attach *attach, struct wisp_exit_status *status, struct wisp_error *error)
{
	for (;;) {
		int result;
		bool cancelled = false;
		send_typed(attach);
		if (attach->hung_up)
			return 1;
		if (attach->detach) {
			send_typed(attach);
			return 1;
		}
		if (attach->shown_length == 0) {
			if (attach->output_length == 0 && take_event(attach, status, &result, error))
				return result;
			if (attach->shown_length > 0 ||
			        replay_next(&attach->replay, &attach->output, &attach->output_length, &attach->shown,
			                &attach->shown_length)) {
				show(attach);
				continue;
			}
		}
		result = poll_once(attach, error, &cancelled);
		if (result < 0)
			return result;
		if (cancelled)
			return lib_fail(
			        error, WISP_ERR_CANCELLED, ECANCELED, "attaching was cancelled: the program continues");
	}
}

static int prepare(struct attach *attach, struct wisp_session *session, const struct wisp_attach_options *options,
        struct wisp_error *error)
{
	*attach = (struct attach){.session = session, .output_fd = -1};
	int r = lib_copy_options(
	        &attach->options, sizeof(attach->options), options, "struct wisp_attach_options", error);
	if (r == 0)
		r = keys_parse(attach->options.detach_keys, &attach->keys, error);
	if (r < 0)
		return r;
	attach->shown_fd = attach->options.output_fd ? *attach->options.output_fd : attach->options.input_fd;
	if (tcgetattr(attach->options.input_fd, &attach->saved) < 0)
		return lib_fail(error, WISP_ERR_NO_TERMINAL, ENOTTY, "descriptor %d is not a terminal (%s)",
		        attach->options.input_fd, strerrordesc_np(errno));
	return 0;
}

/* The terminal is not changed before the program has started. */
static int wait_started(struct wisp_session *session, struct wisp_error *error)
{
	const struct wisp_event *event;
	uint64_t id;
	int r = wisp_get_session_id(session, &id, error);
	if (r == -ENOENT && wisp_recv_event(session, 0, &event, error) == 0 && event->type == WISP_EVENT_FAILED)
		return fail_start(event, error);
	if (r == 0 && !session->conn->tty)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "session %llu has no terminal: receive its events instead", (unsigned long long)id);
	return r;
}

int wisp_attach_session(struct wisp_session *session, const struct wisp_attach_options *options,
        struct wisp_exit_status *status, struct wisp_error *error)
{
	if (lib_is_null(session, "session", error))
		return -EINVAL;
	struct attach attach;
	struct wisp_exit_status unused;
	if (!status)
		status = &unused;
	*status = (struct wisp_exit_status){.code = -1};
	int r = prepare(&attach, session, options, error);
	if (r == 0 && attach.options.cancel_fd) {
		session->conn->cancel.has_fd = true;
		session->conn->cancel.fd = *attach.options.cancel_fd;
	}
	if (r == 0)
		r = wait_started(session, error);
	if (r == 0)
		r = conn_make_wakeups(session->conn, error);
	if (r == 0 && (r = conn_event_fd(session->conn)) < 0)
		lib_fail_errno(error, -r, "cannot make descriptors to poll");
	if (r < 0)
		return r;
	attach.writes = session->conn->writer && session->has_stdin;
	if (session->conn->replay > session->received)
		attach.replay.left = session->conn->replay - session->received;
	session->has_stdin = false;
	attach.output_fd = open_output(attach.shown_fd);
	r = set_raw(&attach, error);
	if (r == 0) {
		redraw(&attach);
		follow_size(&attach);
		r = bridge(&attach, status, error);
		restore(&attach, r == 0);
	}
	if (attach.output_fd >= 0)
		close(attach.output_fd);
	return r;
}

int wisp_attach(struct wisp_sandbox *sandbox, const char *const *argv, const struct wisp_exec_options *given,
        const struct wisp_attach_options *attach, uint64_t *id, struct wisp_exit_status *status,
        struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	struct wisp_exec_options options;
	struct attach checked;
	struct wisp_session *session;
	const char *const shell[] = {sandbox->config.shell ? sandbox->config.shell : "/bin/sh", NULL};
	int r = lib_copy_options(&options, sizeof(options), given, "struct wisp_exec_options", error);
	/* The terminal and the keys are checked before anything starts. */
	if (r == 0)
		r = prepare(&checked, NULL, attach, error);
	if (r < 0)
		return r;
	options.tty = true;
	options.stdin_mode = WISP_STDIN_PIPE;
	terminal_size(checked.options.input_fd, &options.rows, &options.cols);
	struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = checked.options.cancel_fd};
	if (!options.cancel && cancel.fd)
		options.cancel = &cancel;
	r = wisp_exec_stream(sandbox, argv ? argv : shell, &options, &session, error);
	if (r < 0)
		return r;
	if (id && wisp_get_session_id(session, id, NULL) < 0)
		*id = 0;
	r = wisp_attach_session(session, attach, status, error);
	wisp_close_session(session);
	return r;
}
