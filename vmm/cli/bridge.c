/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session on this process's standard streams. The main thread writes output. A second thread forwards signals through
 * a control handle, so that ^C reaches the command even if nobody reads its output. A third thread reads standard input
 * if it is a pipe or a file.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/cli/execution.h"

/* Runs until the process ends. */
static void *forward_signals(void *context)
{
	struct wisp_control *control = context;
	sigset_t set;
	cli_fill_signals(&set);
	for (int count = 0;; count++) {
		int number;
		if (sigwait(&set, &number) != 0)
			continue;
		if (count == 0)
			wisp_signal_control(control, number, NULL);
		else if (count == 1)
			wisp_kill_control(control, NULL);
		else
			_exit(CLI_EXIT_SIGNAL + number); /* the guest hangs */
	}
	return NULL;
}

static void *forward_stdin(void *context)
{
	struct wisp_stdin *writer = context;
	char buffer[65536];
	for (;;) {
		ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		for (ssize_t at = 0; at < n;) {
			ptrdiff_t sent = wisp_write_stdin(writer, buffer + at, (size_t)(n - at), -1, NULL);
			if (sent < 0) {
				wisp_close_stdin(writer);
				return NULL;
			}
			at += sent;
		}
	}
	wisp_close_stdin(writer);
	return NULL;
}

static bool has_input(void)
{
	struct stat st;
	if (fstat(STDIN_FILENO, &st) < 0 || isatty(STDIN_FILENO))
		return false;
	/* The guest has a /dev/null of its own. */
	return !(S_ISCHR(st.st_mode) && major(st.st_rdev) == 1 && minor(st.st_rdev) == 3);
}

static bool write_all(int fd, const uint8_t *data, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, data, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		data += n;
		length -= (size_t)n;
	}
	return true;
}

/* The threads are never joined: what they wait for may never happen. */
static void start_threads(struct wisp_session *session)
{
	pthread_t thread;
	struct wisp_control *control;
	if (wisp_open_control(session, &control, NULL) == 0 &&
	        pthread_create(&thread, NULL, forward_signals, control) == 0)
		pthread_detach(thread);
	struct wisp_stdin *writer = wisp_take_stdin(session);
	if (writer && pthread_create(&thread, NULL, forward_stdin, writer) == 0)
		pthread_detach(thread);
}

static int fail_event(const struct wisp_event *event)
{
	struct wisp_error error = {
	        .status = WISP_ERR_EXEC_FAILED,
	        .errnum = event->errnum,
	        .failure = event->failure,
	        .stage = event->stage,
	};
	snprintf(error.message, sizeof(error.message), "the command did not start: %s", event->message);
	return cli_fail_error(&error);
}

/* A reader that has gone ends the command, as it would on this host. */
static int fail_write(struct wisp_session *session, const char *what)
{
	int errnum = errno;
	wisp_kill_session(session, NULL);
	if (errnum == EPIPE)
		return CLI_EXIT_SIGNAL + SIGPIPE;
	return cli_fail("cannot write to %s: %s; the command was killed", what, strerror(errnum));
}

int cli_bridge_session(struct wisp_session *session, struct wisp_error *error)
{
	int code = 0;
	start_threads(session);
	for (;;) {
		const struct wisp_event *event;
		if (wisp_recv_event(session, -1, &event, error) < 0)
			return -1;
		switch (event->type) {
		case WISP_EVENT_STDOUT:
			if (!write_all(STDOUT_FILENO, event->data, event->length))
				return fail_write(session, "standard output");
			break;
		case WISP_EVENT_STDERR:
			if (!write_all(STDERR_FILENO, event->data, event->length))
				return fail_write(session, "standard error");
			break;
		case WISP_EVENT_DROPPED:
			cli_fail("%llu bytes of output were lost here", (unsigned long long)event->dropped);
			break;
		case WISP_EVENT_EXITED:
			code = cli_exit_code(&event->status);
			if (event->status.timed_out) {
				cli_fail("the command was killed because its timeout expired");
				code = CLI_EXIT_TIMEOUT;
			}
			break;
		case WISP_EVENT_FAILED: code = fail_event(event); break;
		case WISP_EVENT_DONE: return code;
		default: break;
		}
	}
}

static int start_detached(struct wisp_session *session, struct wisp_error *error)
{
	uint64_t id;
	const struct wisp_event *event;
	if (wisp_recv_event(session, -1, &event, error) < 0)
		return -1;
	if (event->type == WISP_EVENT_FAILED)
		return fail_event(event);
	if (wisp_get_session_id(session, &id, error) < 0)
		return -1;
	printf("%llu\n", (unsigned long long)id);
	return 0;
}

int cli_bridge_exec(struct wisp_sandbox *sandbox, const char *const *command, const struct cli_execution *execution,
        struct wisp_error *error)
{
	struct wisp_exec_options options;
	struct wisp_session *session;
	if (execution->tty && !execution->detach)
		return cli_bridge_terminal(sandbox, command, execution, error);
	cli_fill_execution(execution, &options);
	options.tty = execution->tty;
	if (execution->detach ? execution->tty : has_input())
		options.stdin_mode = WISP_STDIN_PIPE;
	cli_block_signals();
	if (wisp_exec_stream(sandbox, command, &options, &session, error) < 0)
		return -1;
	int code = execution->detach ? start_detached(session, error) : cli_bridge_session(session, error);
	wisp_close_session(session);
	return code;
}
