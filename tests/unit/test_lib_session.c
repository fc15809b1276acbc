/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and sessions, against the guest's own agent running on this machine. */
#include "tests/unit/test_lib.h"

static const char config[] = "cpus=1\nmemory_mib=64\nshell=/bin/sh\n";

#define BEGIN(f)                               \
	struct fixture f;                      \
	struct wisp_error error UNUSED;        \
	struct wisp_session *session = NULL;   \
	const struct wisp_event *event UNUSED; \
	REQUIRE(fixture_start(&f, config))

#define END(f)                       \
	wisp_close_session(session); \
	fixture_end(&f)

static struct wisp_session *start(struct fixture *f, const char *script, enum wisp_stdin_mode mode, bool tty)
{
	struct wisp_exec_options options = {.size = sizeof(options), .stdin_mode = mode, .tty = tty};
	struct wisp_session *session;
	struct wisp_error error;
	if (wisp_shell_stream(f->sandbox, script, NULL, &options, &session, &error) == 0)
		return session;
	printf("# %s\n", error.message);
	return NULL;
}

/* Reads output until `wanted` is in it. */
static bool wait_for_output(struct wisp_session *session, const char *wanted)
{
	char seen[4096] = "";
	const struct wisp_event *event;
	for (;;) {
		if (wisp_recv_event(session, 10000, &event, NULL) < 0 || event->type == WISP_EVENT_EXITED)
			return false;
		if (event->type != WISP_EVENT_STDOUT)
			continue;
		size_t used = strlen(seen), room = sizeof(seen) - 1 - used;
		memcpy(seen + used, event->data, event->length < room ? event->length : room);
		seen[used + (event->length < room ? event->length : room)] = '\0';
		if (strstr(seen, wanted))
			return true;
	}
}

static void events_come_in_order(void)
{
	BEGIN(f);
	static const enum wisp_event_type order[] = {WISP_EVENT_STARTED, WISP_EVENT_STDOUT, WISP_EVENT_STDERR,
	        WISP_EVENT_EXITED, WISP_EVENT_DONE, WISP_EVENT_DONE};
	REQUIRE((session = start(&f, "printf a; sleep 0.1; printf b >&2; sleep 0.1; exit 4", WISP_STDIN_NULL, false)));
	for (size_t i = 0; i < 6; i++) {
		REQUIRE(wisp_recv_event(session, -1, &event, &error) == 0);
		CHECK_EQ(event->type, order[i]);
		if (event->type == WISP_EVENT_STARTED)
			CHECK(event->id == 1 && event->pid > 1);
		if (event->type == WISP_EVENT_STDOUT)
			CHECK(event->length == 1 && event->data[0] == 'a');
		if (event->type == WISP_EVENT_EXITED)
			CHECK_EQ(event->status.code, 4);
	}
	END(f);
}

static void a_failure_is_an_event(void)
{
	BEGIN(f);
	const char *argv[] = {"/no/such", NULL};
	REQUIRE(wisp_exec_stream(f.sandbox, argv, NULL, &session, &error) == 0);
	REQUIRE(wisp_recv_event(session, -1, &event, &error) == 0);
	CHECK_EQ(event->type, WISP_EVENT_FAILED);
	CHECK_EQ(event->failure, WISP_FAILURE_NOT_FOUND);
	CHECK_EQ(event->stage, WISP_STAGE_EXEC);
	CHECK_EQ(event->errnum, ENOENT);
	CHECK_STR(event->errno_name, "ENOENT");
	CHECK(event->message[0]);
	REQUIRE(wisp_recv_event(session, -1, &event, &error) == 0);
	CHECK_EQ(event->type, WISP_EVENT_DONE);
	END(f);
}

/* An embedder's loop: poll, then take what there is. */
static void the_descriptor_polls(void)
{
	BEGIN(f);
	REQUIRE((session = start(&f, "for i in 1 2 3; do echo $i; sleep 0.05; done", WISP_STDIN_NULL, false)));
	int fd = wisp_get_session_fd(session), lines = 0;
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	for (bool done = false; !done;) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		REQUIRE(poll(&pfd, 1, 5000) == 1);
		/* One event for each readiness: it has to stay readable while there is more. */
		int r = wisp_recv_event(session, 0, &event, &error);
		if (r == -EAGAIN)
			continue;
		REQUIRE(r == 0);
		/* Two lines may come in one event. */
		for (size_t i = 0; event->type == WISP_EVENT_STDOUT && i < event->length; i++)
			lines += ((const char *)event->data)[i] == '\n';
		done = event->type == WISP_EVENT_DONE;
	}
	CHECK_EQ(lines, 3);
	END(f);
}

static void the_descriptor_wakes_at_the_deadline(void)
{
	BEGIN(f);
	struct wisp_exec_options options = {.size = sizeof(options), .timeout_ms = 3000};
	const char *argv[] = {"sleep", "1000", NULL};
	REQUIRE(wisp_exec_stream(f.sandbox, argv, &options, &session, &error) == 0);
	REQUIRE(wisp_recv_event(session, -1, &event, &error) == 0);
	stop_process(f.agent); /* before the agent itself ends the session */
	struct pollfd pfd = {.fd = wisp_get_session_fd(session), .events = POLLIN};
	CHECK_EQ(poll(&pfd, 1, 20000), 1);
	CHECK_EQ(wisp_recv_event(session, 0, &event, &error), -ETIMEDOUT);
	kill(f.agent, SIGCONT);
	END(f);
}

static void recv_times_out(void)
{
	BEGIN(f);
	REQUIRE((session = start(&f, "sleep 1000", WISP_STDIN_NULL, false)));
	REQUIRE(wisp_recv_event(session, -1, &event, &error) == 0);
	CHECK_EQ(wisp_recv_event(session, 0, &event, &error), -EAGAIN);
	CHECK_EQ(error.status, WISP_ERR_AGAIN);
	int64_t began = now_ms();
	CHECK_EQ(wisp_recv_event(session, 100, &event, &error), -EAGAIN);
	CHECK(now_ms() - began >= 99);
	CHECK_EQ(wisp_kill_session(session, &error), 0);
	struct wisp_exit_status status;
	CHECK_EQ(wisp_wait_session(session, &status, &error), 0);
	CHECK_EQ(status.signal, SIGKILL);
	CHECK_EQ(wisp_kill_session(session, &error), -ESRCH);
	CHECK_EQ(error.status, WISP_ERR_SESSION_ENDED);
	END(f);
}

static void timeout_of_a_stream(void)
{
	BEGIN(f);
	struct wisp_exec_options options = {.size = sizeof(options), .timeout_ms = 150};
	struct wisp_exit_status status;
	const char *argv[] = {"sleep", "1000", NULL};
	REQUIRE(wisp_exec_stream(f.sandbox, argv, &options, &session, &error) == 0);
	CHECK_EQ(wisp_wait_session(session, &status, &error), -ETIMEDOUT);
	CHECK(status.timed_out && status.signal == SIGKILL);
	END(f);
}

static void signals_reach_the_group(void)
{
	BEGIN(f);
	REQUIRE((session = start(&f, "trap 'echo got; exit 9' USR1; echo up; while :; do sleep 0.02; done",
	                 WISP_STDIN_NULL, false)));
	CHECK(wait_for_output(session, "up"));
	CHECK_EQ(wisp_signal_session(session, SIGUSR1, &error), 0);
	CHECK(wait_for_output(session, "got"));
	struct wisp_exit_status status;
	CHECK_EQ(wisp_wait_session(session, &status, &error), 0);
	CHECK_EQ(status.code, 9);
	CHECK_EQ(wisp_signal_session(session, 99, &error), -EINVAL);
	END(f);
}

static void stdin_writer(void)
{
	BEGIN(f);
	REQUIRE((session = start(&f, "cat; echo end", WISP_STDIN_PIPE, false)));
	struct wisp_stdin *writer = wisp_take_stdin(session);
	REQUIRE(writer);
	CHECK(!wisp_take_stdin(session));
	CHECK_EQ(wisp_write_stdin(writer, "hello ", 6, -1, &error), 6);
	CHECK(wait_for_output(session, "hello "));
	CHECK_EQ(wisp_write_stdin(writer, "world\n", 6, -1, &error), 6);
	wisp_close_stdin(writer);
	struct wisp_output *output;
	CHECK_EQ(wisp_collect_output(session, &output, &error), 0);
	CHECK_STR((const char *)output->stdout_data, "world\nend\n");
	wisp_free_output(output);
	END(f);
}

static void no_writer_without_a_pipe(void)
{
	BEGIN(f);
	REQUIRE((session = start(&f, "true", WISP_STDIN_NULL, false)));
	CHECK(!wisp_take_stdin(session));
	END(f);
}

/* A program that reads nothing: a bounded amount is taken, then nothing; a kill gets through at once. */
static void back_pressure_and_kill(void)
{
	BEGIN(f);
	static char data[65536];
	size_t sent = 0;
	REQUIRE((session = start(&f, "sleep 1000", WISP_STDIN_PIPE, false)));
	struct wisp_stdin *writer = wisp_take_stdin(session);
	REQUIRE(writer);
	for (int quiet = 0; quiet < 10;) {
		ptrdiff_t n = wisp_write_stdin(writer, data, sizeof(data), 20, &error);
		if (n > 0)
			sent += (size_t)n;
		else
			quiet++;
		if (n <= 0 && n != -EAGAIN)
			printf("# %td %s\n", n, error.message);
		REQUIRE(n > 0 || n == -EAGAIN);
		REQUIRE(sent < 4 << 20);
	}
	CHECK(sent >= 65536 && sent <= 4 * 65536);
	struct pollfd pfd = {.fd = wisp_get_stdin_fd(writer), .events = POLLIN};
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	int64_t began = now_ms();
	CHECK_EQ(wisp_kill_session(session, &error), 0);
	struct wisp_exit_status status;
	CHECK_EQ(wisp_wait_session(session, &status, &error), 0);
	CHECK_EQ(status.signal, SIGKILL);
	CHECK(now_ms() - began < 1000);
	CHECK_EQ(poll(&pfd, 1, 0), 1);
	CHECK_EQ(wisp_write_stdin(writer, data, 1, -1, &error), -EPIPE);
	wisp_close_stdin(writer);
	END(f);
}

/* One thread feeds a program that echoes: by polling both descriptors nothing blocks. */
static void one_thread_feeds_and_receives(void)
{
	BEGIN(f);
	static char data[1 << 20];
	size_t sent = 0, got = 0;
	bool done = false, same = true;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i % 251);
	REQUIRE((session = start(&f, "exec cat", WISP_STDIN_PIPE, false)));
	struct wisp_stdin *writer = wisp_take_stdin(session);
	REQUIRE(writer);
	while (!done) {
		struct pollfd pfds[2] = {{.fd = wisp_get_session_fd(session), .events = POLLIN},
		        {.fd = writer ? wisp_get_stdin_fd(writer) : -1, .events = POLLIN}};
		REQUIRE(poll(pfds, 2, 5000) > 0);
		if (pfds[1].revents) {
			ptrdiff_t n = wisp_write_stdin(writer, data + sent, sizeof(data) - sent, 0, &error);
			REQUIRE(n > 0 || n == -EAGAIN);
			sent += n > 0 ? (size_t)n : 0;
			if (sent == sizeof(data)) {
				wisp_close_stdin(writer);
				writer = NULL;
			}
		}
		int r = wisp_recv_event(session, 0, &event, &error);
		REQUIRE(r == 0 || r == -EAGAIN);
		if (r == 0 && event->type == WISP_EVENT_STDOUT) {
			same = same && got + event->length <= sizeof(data) &&
			       memcmp(event->data, data + got, event->length) == 0;
			got += event->length;
		}
		done = r == 0 && event->type == WISP_EVENT_DONE;
	}
	CHECK_EQ(got, sizeof(data));
	CHECK(same);
	END(f);
}

static void stdin_error_is_told(void)
{
	BEGIN(f);
	REQUIRE((session = start(&f, "exec 0<&-; echo closed; sleep 0.5; exit 2", WISP_STDIN_PIPE, false)));
	struct wisp_stdin *writer = wisp_take_stdin(session);
	REQUIRE(writer && wait_for_output(session, "closed"));
	CHECK_EQ(wisp_write_stdin(writer, "x", 1, -1, &error), 1);
	REQUIRE(wisp_recv_event(session, 5000, &event, &error) == 0);
	CHECK_EQ(event->type, WISP_EVENT_STDIN_ERROR);
	CHECK_EQ(event->errnum, EPIPE);
	CHECK_STR(event->errno_name, "EPIPE");
	CHECK_EQ(wisp_write_stdin(writer, "x", 1, -1, &error), -EPIPE);
	struct wisp_exit_status status;
	CHECK_EQ(wisp_wait_session(session, &status, &error), 0);
	CHECK_EQ(status.code, 2);
	wisp_close_stdin(writer);
	END(f);
}

static void resize_reaches_the_program(void)
{
	BEGIN(f);
	REQUIRE((session = start(&f, "trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.02; done",
	                 WISP_STDIN_PIPE, true)));
	CHECK(wait_for_output(session, "up"));
	CHECK_EQ(wisp_resize_session(session, 0, 80, &error), -EINVAL);
	CHECK_EQ(wisp_resize_session(session, 44, 132, &error), 0);
	CHECK(wait_for_output(session, "44 132"));
	END(f);
}

static void closing_stdin_of_a_tty_types_eof(void)
{
	BEGIN(f);
	REQUIRE((session = start(&f, "cat; echo end", WISP_STDIN_PIPE, true)));
	struct wisp_stdin *writer = wisp_take_stdin(session);
	REQUIRE(writer);
	CHECK_EQ(wisp_write_stdin(writer, "line\n", 5, -1, &error), 5);
	wisp_close_stdin(writer);
	struct wisp_output *output;
	CHECK_EQ(wisp_collect_output(session, &output, &error), 0);
	CHECK(strstr((const char *)output->stdout_data, "end"));
	wisp_free_output(output);
	END(f);
}

/* ---- Reattaching ---- */

static void detach_and_reattach(void)
{
	BEGIN(f);
	uint64_t id;
	REQUIRE((session = start(&f, "echo first; read line; echo got $line; exit 5", WISP_STDIN_PIPE, false)));
	REQUIRE(wisp_get_session_id(session, &id, &error) == 0);
	CHECK(wait_for_output(session, "first"));
	wisp_close_session(session);
	struct wisp_open_options options = {.size = sizeof(options), .write = true};
	REQUIRE(wisp_open_session(f.sandbox, id, &options, &session, &error) == 0);
	REQUIRE(wisp_recv_event(session, -1, &event, &error) == 0);
	CHECK_EQ(event->type, WISP_EVENT_STARTED);
	CHECK_EQ(event->id, id);
	struct wisp_stdin *writer = wisp_take_stdin(session);
	REQUIRE(writer);
	CHECK(wait_for_output(session, "first"));
	CHECK_EQ(wisp_write_stdin(writer, "again\n", 6, -1, &error), 6);
	CHECK(wait_for_output(session, "got again"));
	struct wisp_exit_status status;
	CHECK_EQ(wisp_wait_session(session, &status, &error), 0);
	CHECK_EQ(status.code, 5);
	wisp_close_stdin(writer);
	END(f);
}

/* A program that is abandoned right after its start runs all the same. */
static void abandoned_programs_run(void)
{
	BEGIN(f);
	char script[128];
	snprintf(script, sizeof(script), "sleep 0.2; echo ran > %s/ran", f.root);
	REQUIRE((session = start(&f, script, WISP_STDIN_NULL, false)));
	wisp_close_session(session);
	session = NULL;
	char text[16] = "";
	for (int i = 0; i < 100 && !text[0]; i++) {
		sleep_ms(20);
		read_text(f.root, "ran", text, sizeof(text));
	}
	CHECK_STR(text, "ran\n");
	END(f);
}

static void ended_sessions_replay(void)
{
	BEGIN(f);
	uint64_t id;
	struct wisp_output *output;
	REQUIRE((session = start(&f, "echo out; echo err >&2; exit 3", WISP_STDIN_NULL, false)));
	REQUIRE(wisp_get_session_id(session, &id, &error) == 0);
	CHECK_EQ(wisp_wait_session(session, NULL, &error), 0);
	wisp_close_session(session);
	REQUIRE(wisp_open_session(f.sandbox, id, NULL, &session, &error) == 0);
	CHECK_EQ(wisp_collect_output(session, &output, &error), 0);
	REQUIRE(output);
	CHECK_STR((const char *)output->stdout_data, "out\n");
	CHECK_STR((const char *)output->stderr_data, "err\n");
	CHECK_EQ(output->status.code, 3);
	wisp_free_output(output);
	END(f);
}

/* Without a writer the ring keeps the end; what was lost is said. */
static void what_was_dropped_is_said(void)
{
	BEGIN(f);
	uint64_t id;
	struct wisp_output *output;
	char script[256];
	snprintf(script, sizeof(script),
	        "until [ -e '%s/go' ]; do sleep 0.01; done; head -c 1000000 /dev/zero | tr '\\0' x; echo THE-END",
	        f.dir);
	REQUIRE((session = start(&f, script, WISP_STDIN_NULL, false)));
	REQUIRE(wisp_get_session_id(session, &id, &error) == 0);
	wisp_close_session(session);
	session = NULL;
	write_file(f.dir, "go", "");
	for (bool exited = false; !exited; sleep_ms(10)) {
		struct wisp_session_info **list;
		REQUIRE(wisp_list_sessions(f.sandbox, &list, &error) == 1);
		exited = list[0]->exited;
		wisp_free_session_list(list);
	}
	REQUIRE(wisp_open_session(f.sandbox, id, NULL, &session, &error) == 0);
	CHECK_EQ(wisp_collect_output(session, &output, &error), 0);
	REQUIRE(output);
	CHECK(output->dropped > 0);
	CHECK_EQ(output->dropped + output->stdout_length, 1000008);
	CHECK(output->stdout_length > 8 &&
	        strcmp((const char *)output->stdout_data + output->stdout_length - 8, "THE-END\n") == 0);
	wisp_free_output(output);
	END(f);
}

static void several_watch_and_one_writes(void)
{
	BEGIN(f);
	uint64_t id;
	struct wisp_session *watcher, *second;
	REQUIRE((session = start(&f, "cat", WISP_STDIN_PIPE, false)));
	REQUIRE(wisp_get_session_id(session, &id, &error) == 0);
	struct wisp_open_options options = {.size = sizeof(options), .write = true};
	CHECK_EQ(wisp_open_session(f.sandbox, id, &options, &second, &error), -EBUSY);
	CHECK_EQ(error.status, WISP_ERR_WRITER_TAKEN);
	options = (struct wisp_open_options){.size = sizeof(options), .live = true};
	REQUIRE(wisp_open_session(f.sandbox, id, &options, &watcher, &error) == 0);
	CHECK(!wisp_take_stdin(watcher));
	struct wisp_stdin *writer = wisp_take_stdin(session);
	REQUIRE(writer);
	CHECK_EQ(wisp_write_stdin(writer, "seen\n", 5, -1, &error), 5);
	CHECK(wait_for_output(watcher, "seen"));
	CHECK(wait_for_output(session, "seen"));
	wisp_close_session(watcher);
	wisp_close_stdin(writer);
	END(f);
}

static void no_such_session(void)
{
	BEGIN(f);
	CHECK_EQ(wisp_open_session(f.sandbox, 4711, NULL, &session, &error), -ENOENT);
	CHECK_EQ(error.status, WISP_ERR_NO_SESSION);
	CHECK_EQ(wisp_open_session(f.sandbox, 0, NULL, &session, &error), -ENOENT);
	CHECK(!session);
	END(f);
}

static void ids_are_unique_and_listed(void)
{
	BEGIN(f);
	struct wisp_session_info **list;
	struct wisp_output *output;
	const char *argv[] = {"sh", "-c", "exit 6", NULL};
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(wisp_exec(f.sandbox, argv, NULL, &output, &error), 0);
		wisp_free_output(output);
	}
	REQUIRE((session = start(&f, "sleep 1000", WISP_STDIN_PIPE, true)));
	uint64_t id;
	REQUIRE(wisp_get_session_id(session, &id, &error) == 0);
	CHECK_EQ(id, 4);
	REQUIRE(wisp_list_sessions(f.sandbox, &list, &error) == 4);
	for (uint64_t i = 0; i < 3; i++) {
		CHECK_EQ(list[i]->id, i + 1);
		CHECK(list[i]->exited && list[i]->status.code == 6 && !list[i]->tty);
		CHECK_STR(list[i]->argv[2], "exit 6");
		CHECK(!list[i]->argv[3]);
	}
	CHECK(!list[3]->exited && list[3]->tty && list[3]->has_writer && list[3]->clients == 1 && list[3]->pid > 1);
	CHECK(!list[4]);
	int64_t now = (int64_t)time(NULL) * 1000000000;
	CHECK(list[3]->started_ns > now - 60000000000ll && list[3]->started_ns < now + 60000000000ll);
	wisp_free_session_list(list);
	wisp_kill_session(session, NULL);
	END(f);
}

static void the_client_over_the_limit_is_told(void)
{
	BEGIN(f);
	struct wisp_session *sessions[WISP_CLIENTS_MAX] = {0};
	const char *argv[] = {"sleep", "1000", NULL};
	struct wisp_output *output;
	for (size_t i = 0; i < WISP_CLIENTS_MAX; i++) {
		REQUIRE(wisp_exec_stream(f.sandbox, argv, NULL, &sessions[i], &error) == 0);
		REQUIRE(wisp_recv_event(sessions[i], -1, &event, &error) == 0);
		CHECK_EQ(event->type, WISP_EVENT_STARTED);
	}
	CHECK_EQ(wisp_exec(f.sandbox, argv, NULL, &output, &error), -EBUSY);
	CHECK_EQ(error.status, WISP_ERR_BUSY);
	if (error.status != WISP_ERR_BUSY)
		printf("# %s\n", error.message);
	CHECK(strstr(error.message, "128"));
	for (size_t i = 0; i < WISP_CLIENTS_MAX; i++) {
		wisp_kill_session(sessions[i], NULL);
		CHECK_EQ(wisp_wait_session(sessions[i], NULL, &error), 0);
		wisp_close_session(sessions[i]);
	}
	const char *after[] = {"true", NULL};
	CHECK_EQ(wisp_exec(f.sandbox, after, NULL, &output, &error), 0);
	wisp_free_output(output);
	END(f);
}

/* What the agent's process has used of the processors so far, in nanoseconds. */
static int64_t agent_cpu(const struct fixture *f)
{
	clockid_t clock;
	struct timespec used = {0};
	CHECK_EQ(clock_getcpuclockid(f->agent, &clock), 0);
	CHECK_EQ(clock_gettime(clock, &used), 0);
	return used.tv_sec * 1000000000ll + used.tv_nsec;
}

/* Whether the agent comes to rest: some 30 s at most. */
static bool agent_rests(const struct fixture *f)
{
	for (int i = 0; i < 600; i++) {
		int64_t before = agent_cpu(f);
		sleep_ms(50);
		if (agent_cpu(f) == before)
			return true;
	}
	return false;
}

/* Clients that stop reading, and their flooding programs, cost the agent nothing, and it serves others meanwhile. */
static void a_client_that_does_not_read(void)
{
	static const char *const argv[] = {"true", NULL};
	BEGIN(f);
	struct wisp_session *stuck[8];
	for (int i = 0; i < 8; i++)
		REQUIRE((stuck[i] = start(&f, "yes", WISP_STDIN_NULL, false)));
	CHECK(agent_rests(&f));
	for (int i = 0; i < 30; i++) {
		struct wisp_output *output;
		CHECK_EQ(wisp_exec(f.sandbox, argv, NULL, &output, &error), 0);
		wisp_free_output(output);
	}
	CHECK(agent_rests(&f));
	for (int i = 0; i < 8; i++) {
		CHECK_EQ(wisp_kill_session(stuck[i], &error), 0);
		CHECK_EQ(wisp_wait_session(stuck[i], NULL, &error), 0);
		wisp_close_session(stuck[i]);
	}
	END(f);
}

static void a_sandbox_that_dies_is_told(void)
{
	BEGIN(f);
	struct wisp_output *output;
	REQUIRE((session = start(&f, "echo last words; sleep 3", WISP_STDIN_NULL, false)));
	uint64_t id;
	CHECK_EQ(wisp_get_session_id(session, &id, &error), 0);
	sleep_ms(50);
	kill(f.agent, SIGKILL);
	waitpid(f.agent, NULL, 0);
	f.agent = -1;
	CHECK_EQ(wisp_collect_output(session, &output, &error), -ECONNRESET);
	CHECK_EQ(error.status, WISP_ERR_DISCONNECTED);
	REQUIRE(output);
	CHECK_STR((const char *)output->stdout_data, "last words\n");
	CHECK_EQ(output->status.code, -1);
	wisp_free_output(output);
	const char *argv[] = {"true", NULL};
	CHECK_EQ(wisp_exec(f.sandbox, argv, NULL, &output, &error), -ESRCH);
	CHECK_EQ(error.status, WISP_ERR_NOT_RUNNING);
	END(f);
}

/* The guest's text in a message cannot drive the terminal that the message is shown on. */
static void messages_are_printable(void)
{
	BEGIN(f);
	const char *argv[] = {"/no/\033[2Jsuch\nthing", NULL};
	struct wisp_output *output;
	CHECK(wisp_exec(f.sandbox, argv, NULL, &output, &error) < 0);
	for (const char *at = error.message; *at; at++)
		CHECK((unsigned char)*at >= ' ');
	END(f);
}

TEST_MAIN("lib_session", {"events_come_in_order", events_come_in_order},
        {"a_failure_is_an_event", a_failure_is_an_event}, {"the_descriptor_polls", the_descriptor_polls},
        {"the_descriptor_wakes_at_the_deadline", the_descriptor_wakes_at_the_deadline},
        {"recv_times_out", recv_times_out}, {"timeout_of_a_stream", timeout_of_a_stream},
        {"signals_reach_the_group", signals_reach_the_group}, {"stdin_writer", stdin_writer},
        {"no_writer_without_a_pipe", no_writer_without_a_pipe}, {"back_pressure_and_kill", back_pressure_and_kill},
        {"one_thread_feeds_and_receives", one_thread_feeds_and_receives}, {"stdin_error_is_told", stdin_error_is_told},
        {"resize_reaches_the_program", resize_reaches_the_program},
        {"closing_stdin_of_a_tty_types_eof", closing_stdin_of_a_tty_types_eof},
        {"detach_and_reattach", detach_and_reattach}, {"abandoned_programs_run", abandoned_programs_run},
        {"ended_sessions_replay", ended_sessions_replay}, {"what_was_dropped_is_said", what_was_dropped_is_said},
        {"several_watch_and_one_writes", several_watch_and_one_writes}, {"no_such_session", no_such_session},
        {"ids_are_unique_and_listed", ids_are_unique_and_listed},
        {"the_client_over_the_limit_is_told", the_client_over_the_limit_is_told},
        {"a_client_that_does_not_read", a_client_that_does_not_read},
        {"a_sandbox_that_dies_is_told", a_sandbox_that_dies_is_told},
        {"messages_are_printable", messages_are_printable})
