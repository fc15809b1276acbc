/* SPDX-License-Identifier: Apache-2.0 */
/* What a client does in a sandbox, for scenarios in the library and in the agent. */
#ifndef WISP_TESTS_FAULTS_SESSIONS_H
#define WISP_TESTS_FAULTS_SESSIONS_H

#include "tests/faults/driver.h"
#include "tests/unit/test_lib.h"

#define WAIT_MS 8000
#define SESSION_MS 4000

static void expect(struct fault_run *run, const char *what, const char *seen, const char *wanted)
{
	if (strcmp(seen, wanted) != 0)
		fault_violation(run, "%s is '%s', not '%s'", what, seen, wanted);
}

static void collect_output(struct fault_run *run, struct wisp_sandbox *sandbox)
{
	static const char *const env[] = {"A=1", "B=2", NULL};
	static const char *const argv[] = {"sh", "-c", "cat; echo $A$B >&2; exit 3", NULL};
	struct wisp_exec_options options = {.size = sizeof(options),
	        .env = env,
	        .stdin_mode = WISP_STDIN_BYTES,
	        .stdin_data = "hello",
	        .stdin_length = 5,
	        .timeout_ms = SESSION_MS};
	struct wisp_output *output = NULL;
	struct wisp_error error = {0};
	if (fault_check(run, "exec", wisp_exec(sandbox, argv, &options, &output, &error), &error)) {
		expect(run, "standard output", (const char *)output->stdout_data, "hello");
		expect(run, "standard error", (const char *)output->stderr_data, "12\n");
		if (output->status.code != 3)
			fault_violation(run, "exit code %d", output->status.code);
	}
	/* After an error it may hold what came before. */
	wisp_free_output(output);
}

static bool receive_all(struct fault_run *run, struct wisp_session *session, char *text, size_t size)
{
	const struct wisp_event *event;
	struct wisp_error error = {0};
	size_t used = 0;
	for (bool done = false; !done;) {
		struct pollfd pfd = {.fd = wisp_get_session_fd(session), .events = POLLIN};
		if (pfd.fd >= 0)
			poll(&pfd, 1, WAIT_MS);
		int r = wisp_recv_event(session, pfd.fd >= 0 ? 0 : WAIT_MS, &event, &error);
		if (r == -EAGAIN && pfd.fd >= 0 && (pfd.revents & POLLIN))
			continue;
		if (!fault_check(run, "receive", r, &error))
			return false;
		if (event->type == WISP_EVENT_STDOUT && used + event->length < size) {
			memcpy(text + used, event->data, event->length);
			used += event->length;
		}
		if (event->type == WISP_EVENT_FAILED)
			fault_report(run, "the program did not start: %s", event->message);
		done = event->type == WISP_EVENT_DONE;
	}
	text[used] = '\0';
	return !run->error[0];
}

static void write_input(struct fault_run *run, struct wisp_session *session)
{
	struct wisp_error error = {0};
	struct wisp_stdin *writer = wisp_take_stdin(session);
	if (!writer) {
		fault_report(run, "no stdin writer");
		return;
	}
	ptrdiff_t n = wisp_write_stdin(writer, "abc", 3, WAIT_MS, &error);
	fault_check(run, "write", (int)n, &error);
	wisp_close_stdin(writer);
}

static void stream_through(struct fault_run *run, struct wisp_sandbox *sandbox)
{
	char text[256] = "";
	struct wisp_exec_options options = {
	        .size = sizeof(options), .stdin_mode = WISP_STDIN_PIPE, .timeout_ms = SESSION_MS};
	struct wisp_session *session;
	struct wisp_error error = {0};
	int r = wisp_shell_stream(sandbox, "tr a-z A-Z; exit 4", NULL, &options, &session, &error);
	if (!fault_check(run, "stream", r, &error))
		return;
	write_input(run, session);
	if (!run->error[0] && receive_all(run, session, text, sizeof(text)))
		expect(run, "output", text, "ABC");
	wisp_close_session(session);
}

static void control_session(struct fault_run *run, struct wisp_sandbox *sandbox, struct wisp_session *session)
{
	struct wisp_error error = {0};
	struct wisp_control *control;
	struct wisp_session_info **list;
	struct wisp_session *again;
	struct wisp_exit_status status;
	int64_t round_trip;
	uint64_t id;
	int r = wisp_get_session_id(session, &id, &error);
	if (!fault_check(run, "id", r, &error))
		return;
	fault_check(run, "ping", wisp_ping_sandbox(sandbox, &round_trip, &error), &error);
	if (fault_check(run, "sessions", wisp_list_sessions(sandbox, &list, &error), &error))
		wisp_free_session_list(list);
	if (fault_check(run, "open", wisp_open_session(sandbox, id, NULL, &again, &error), &error))
		wisp_close_session(again);
	if (fault_check(run, "control", wisp_open_control(session, &control, &error), &error)) {
		fault_check(run, "signal", wisp_signal_control(control, SIGTERM, &error), &error);
		wisp_close_control(control);
	}
	if (run->error[0])
		fault_check(run, "kill", wisp_kill_session(session, &error), &error);
	r = wisp_wait_session(session, &status, &error);
	if (fault_check(run, "wait", r, &error) && status.signal != SIGTERM && !run->error[0])
		fault_violation(run, "signal %d", status.signal);
}

static void control_terminal(struct fault_run *run, struct wisp_sandbox *sandbox)
{
	static const char *const argv[] = {"sleep", "1000", NULL};
	struct wisp_exec_options options = {.size = sizeof(options), .tty = true, .timeout_ms = SESSION_MS};
	struct wisp_session *session;
	struct wisp_error error = {0};
	if (!fault_check(run, "stream", wisp_exec_stream(sandbox, argv, &options, &session, &error), &error))
		return;
	control_session(run, sandbox, session);
	wisp_close_session(session);
}

#endif
