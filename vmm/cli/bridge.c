/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session on this process's standard streams: nothing of ours is mixed into them. Output is written by the main
 * thread; a second one passes signals on by a control handle, so a reader that stops reading cannot make the command
 * deaf to ^C; a third one reads standard input, where that is a pipe or a file.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/cli/cli.h"

static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static void fill_set(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaddset(set, forwarded[i]);
}

void cli_block_signals(void)
{
	sigset_t set;
	fill_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* A reader who has gone is an error of write. */
	signal(SIGPIPE, SIG_IGN);
}

/* Runs until the process ends. */
static void *pass_signals(void *context)
{
	struct wisp_control *control = context;
	sigset_t set;
	fill_set(&set);
	for (int count = 0;; count++) {
		int number;
		if (sigwait(&set, &number) != 0)
			continue;
		if (count == 0)
			wisp_signal_control(control, number, NULL);
		else if (count == 1)
			wisp_kill_control(control, NULL);
		else
			_exit(CLI_EXIT_SIGNAL + number); /* the guest does not answer */
	}
	return NULL;
}

static void *pass_stdin(void *context)
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
	/* /dev/null has the guest's own for it. */
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

/* The threads that help; they are never joined: what they wait for may never come. */
static void start_threads(struct wisp_session *session)
{
	pthread_t thread;
	struct wisp_control *control;
	if (wisp_open_control(session, &control, NULL) == 0 &&
	        pthread_create(&thread, NULL, pass_signals, control) == 0)
		pthread_detach(thread);
	struct wisp_stdin *writer = wisp_take_stdin(session);
	if (writer && pthread_create(&thread, NULL, pass_stdin, writer) == 0)
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

/* A reader that has gone takes the command with it, as it would here. */
static int fail_write(struct wisp_session *session, const char *what)
{
	int errnum = errno;
	wisp_kill_session(session, NULL);
	if (errnum == EPIPE)
		return CLI_EXIT_SIGNAL + SIGPIPE;
	return cli_fail("cannot write %s: %s: the command was killed", what, strerror(errnum));
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
				cli_fail("the command was killed: it ran longer than its timeout");
				code = CLI_EXIT_TIMEOUT;
			}
			break;
		case WISP_EVENT_FAILED: code = fail_event(event); break;
		case WISP_EVENT_DONE: return code;
		default: break;
		}
	}
}

void cli_fill_exec_options(const struct cli_args *args, struct wisp_exec_options *options)
{
	*options = (struct wisp_exec_options){
	        .size = sizeof(*options),
	        .cwd = args->workdir,
	        .env = args->env,
	        .user = args->user,
	        .timeout_ms = args->timeout_ms,
	        .rlimits = args->rlimits,
	        .rlimit_count = args->rlimit_count,
	};
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

int cli_bridge_exec(struct wisp_sandbox *sandbox, const struct cli_args *args, struct wisp_error *error)
{
	if (args->tty && !args->detach)
		return cli_bridge_terminal(sandbox, args, NULL, 0, error);
	struct wisp_exec_options options;
	struct wisp_session *session;
	cli_fill_exec_options(args, &options);
	options.tty = args->tty;
	if (args->detach && args->tty)
		options.stdin_mode = WISP_STDIN_PIPE;
	else if (!args->detach && has_input())
		options.stdin_mode = WISP_STDIN_PIPE;
	cli_block_signals();
	if (wisp_exec_stream(sandbox, args->command, &options, &session, error) < 0)
		return -1;
	int code = args->detach ? start_detached(session, error) : cli_bridge_session(session, error);
	wisp_close_session(session);
	return code;
}
