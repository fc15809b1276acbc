/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session on this process's standard streams. The main thread writes output. A second thread forwards signals through
 * a control handle, so that ^C reaches the command even if nobody reads its output. A third thread reads standard
 * input.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/cli/execution.h"

struct forwarder {
	struct wisp_control *control;
	sigset_t set;
};

/* Runs until the process ends. */
static void *forward_signals(void *context)
{
	struct forwarder *forwarder = context;
	sigset_t ending;
	cli_fill_ending(&ending);
	for (int count = 0;;) {
		int number;
		/* Asked now, not when the set is made: that would be a system call for each of forty signals. */
		if (sigwait(&forwarder->set, &number) != 0 || cli_ignores(number))
			continue;
		if (!sigismember(&ending, number) || count == 0)
			wisp_signal_control(forwarder->control, number, NULL);
		else if (count == 1)
			wisp_kill_control(forwarder->control, NULL);
		else
			_exit(CLI_EXIT_SIGNAL + number); /* the guest hangs */
		count += sigismember(&ending, number);
	}
	return NULL;
}

static void *forward_stdin(void *context)
{
	struct wisp_stdin *writer = context;
	char buffer[65536];
	ssize_t n;
	while ((n = cli_read(STDIN_FILENO, buffer, sizeof(buffer))) > 0) {
		for (ssize_t at = 0; at < n;) {
			ptrdiff_t sent = wisp_write_stdin(writer, buffer + at, (size_t)(n - at), -1, NULL);
			if (sent < 0) {
				wisp_close_stdin(writer);
				return NULL;
			}
			at += sent;
		}
	}
	if (n < 0)
		cli_fail("cannot read standard input: %s; the command gets the end of its input here", strerror(errno));
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

/* Signals that are blocked are for the thread. What a client that attaches leaves unblocked ends only wisp. */
static void start_forwarder(struct wisp_session *session, enum cli_role role)
{
	struct forwarder *forwarder = role == CLI_WATCHER ? NULL : malloc(sizeof(*forwarder));
	pthread_t thread;
	signal(SIGPIPE, SIG_IGN);
	if (!forwarder)
		return;
	cli_fill_forwarded(&forwarder->set);
	if (role == CLI_WRITER)
		sigdelset(&forwarder->set, SIGHUP);
	sigprocmask(SIG_BLOCK, &forwarder->set, NULL);
	if (wisp_open_control(session, &forwarder->control, NULL) == 0 &&
	        pthread_create(&thread, NULL, forward_signals, forwarder) == 0)
		pthread_detach(thread);
	else
		sigprocmask(SIG_UNBLOCK, &forwarder->set, NULL);
}

/* The threads are never joined: what they wait for may never happen. */
static void start_threads(struct wisp_session *session, enum cli_role role)
{
	pthread_t thread;
	start_forwarder(session, role);
	/* Whoever attaches without input leaves the session's stdin open. */
	struct wisp_stdin *writer =
	        role == CLI_OWNER || (role == CLI_WRITER && has_input()) ? wisp_take_stdin(session) : NULL;
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

/* A reader that has gone ends the command, as it would on this host, but not one that others have started. */
static int fail_write(struct wisp_session *session, enum cli_role role, const char *what)
{
	int errnum = errno;
	if (role == CLI_OWNER)
		wisp_kill_session(session, NULL);
	if (errnum == EPIPE)
		return CLI_EXIT_SIGNAL + SIGPIPE;
	return cli_fail("cannot write to %s: %s; the command %s", what, strerror(errnum),
	        role == CLI_OWNER ? "was killed" : "keeps running");
}

int cli_bridge_session(struct wisp_session *session, enum cli_role role, struct wisp_error *error)
{
	int code = 0;
	start_threads(session, role);
	for (;;) {
		const struct wisp_event *event;
		if (wisp_recv_event(session, -1, &event, error) < 0)
			return -1;
		switch (event->type) {
		case WISP_EVENT_STDOUT:
			if (!cli_write(STDOUT_FILENO, event->data, event->length))
				return fail_write(session, role, "standard output");
			break;
		case WISP_EVENT_STDERR:
			if (!cli_write(STDERR_FILENO, event->data, event->length))
				return fail_write(session, role, "standard error");
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
	const struct wisp_event *event;
	if (wisp_recv_event(session, -1, &event, error) < 0)
		return -1;
	if (event->type == WISP_EVENT_FAILED)
		return fail_event(event);
	printf("%llu\n", (unsigned long long)event->id);
	return 0;
}

int cli_bridge_exec(struct wisp_sandbox *sandbox, const char *const *command, const struct cli_execution *execution,
        struct wisp_error *error)
{
	struct wisp_exec_options options;
	struct wisp_session *session;
	sigset_t set;
	/* Until there is a command to forward them to, signals end wisp, even if the guest does not answer. */
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	if (execution->tty && !execution->detach)
		return cli_bridge_terminal(sandbox, command, execution, error);
	cli_fill_execution(execution, &options);
	options.tty = execution->tty;
	if (execution->detach ? execution->tty : !execution->no_stdin && (execution->interactive || has_input()))
		options.stdin_mode = WISP_STDIN_PIPE;
	if (wisp_exec_stream(sandbox, command, &options, &session, error) < 0)
		return -1;
	int code = execution->detach ? start_detached(session, error) : cli_bridge_session(session, CLI_OWNER, error);
	wisp_close_session(session);
	return code;
}
