/* SPDX-License-Identifier: Apache-2.0 */
/* What a broken or hostile agent can do to the library: end one connection with a clear error, and nothing else. */
#include <sys/eventfd.h>
#include <sys/time.h>

#include "tests/unit/test_lib.h"
#include "vmm/shared/proto.h"

/* What the agent will say, as bytes. */
struct script {
	uint8_t bytes[400000];
	size_t length;
};

static void put(struct script *script, const void *data, size_t length)
{
	memcpy(script->bytes + script->length, data, length);
	script->length += length;
}

static void frame(struct script *script, uint8_t type, const void *payload, size_t length)
{
	struct proto_frame head = {.length = (uint32_t)length, .type = type};
	put(script, &head, sizeof(head));
	put(script, payload, length);
}

static void hello(struct script *script)
{
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	script->length = 0;
	frame(script, PROTO_HELLO, &hello, sizeof(hello));
}

static void started(struct script *script)
{
	struct proto_started started = {.session = 1, .pid = 2, .flags = PROTO_SESSION_WRITER};
	hello(script);
	frame(script, PROTO_STARTED, &started, sizeof(started));
}

static void exited(struct script *script, int32_t code, uint32_t signal)
{
	struct proto_exited exited = {.code = code, .signal = signal};
	frame(script, PROTO_EXITED, &exited, sizeof(exited));
}

static int listen_in(const char *dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/vsock.sock", dir);
	unlink(address.sun_path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 4) < 0)
		abort();
	return listener;
}

/* In a process of its own: takes one connection and its request, and answers CONNECT. */
static int take_client(int listener, const char *ok)
{
	char buffer[256];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int fd = accept(listener, NULL, NULL);
	if (read(fd, buffer, 13) != 13 || memcmp(buffer, "CONNECT 1024\n", 13) != 0)
		_exit(1);
	/* Greeting and request are there at once: nothing waits for the answer to CONNECT. */
	const size_t greeting = sizeof(struct proto_frame) + sizeof(struct proto_hello) + sizeof(struct proto_frame);
	if (recv(fd, buffer, greeting, MSG_WAITALL) != (ssize_t)greeting)
		_exit(2);
	send(fd, ok, strlen(ok), MSG_NOSIGNAL);
	return fd;
}

/* Serves one connection: the answer to CONNECT, the script in pieces of `step` bytes, then the end, or silence. */
static pid_t serve(const char *dir, const char *ok, const struct script *script, size_t step, bool silence)
{
	int listener = listen_in(dir);
	pid_t pid = fork();
	if (pid != 0) {
		close(listener);
		return pid;
	}
	char buffer[4096];
	int fd = take_client(listener, ok);
	for (size_t at = 0; at < script->length; at += step) {
		size_t length = script->length - at < step ? script->length - at : step;
		if (send(fd, script->bytes + at, length, MSG_NOSIGNAL) < 0)
			break;
	}
	if (!silence)
		shutdown(fd, SHUT_WR);
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
	_exit(0);
}

/* One execution against the script. */
static int run(const char *ok, const struct script *script, size_t step, bool tty, struct wisp_output **output,
        struct wisp_error *error)
{
	struct fixture f;
	const char *argv[] = {"true", NULL};
	struct wisp_exec_options options = {.size = sizeof(options), .tty = tty};
	*output = NULL;
	if (!fixture_dir(&f, "cpus=1\n") || wisp_open_sandbox(f.root, "box", &f.sandbox, error) < 0)
		abort();
	pid_t pid = serve(f.dir, ok, script, step, false);
	int r = wisp_exec(f.sandbox, argv, &options, output, error);
	wisp_close_sandbox(f.sandbox); /* and with it the connection */
	f.sandbox = NULL;
	int status;
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	fixture_end(&f);
	return r;
}

static void expect(const char *what, const struct script *script, int result, enum wisp_status status)
{
	struct wisp_output *output;
	/* Whole, and byte by byte: where the pieces end must not matter. */
	for (size_t step = 1; step <= sizeof(script->bytes); step *= sizeof(script->bytes)) {
		struct wisp_error error = {0};
		if (step == 1 && script->length > 4096)
			continue;
		int r = run("OK 1024\n", script, step, false, &output, &error);
		wisp_free_output(output);
		if (r != result || error.status != status) {
			printf("# %s, step %zu: %d, status %s: %s\n", what, step, r, wisp_get_status_name(error.status),
			        error.message);
			test_failed = true;
		}
	}
}

static void a_good_agent_is_understood(void)
{
	struct script *s = calloc(1, sizeof(*s));
	started(s);
	frame(s, PROTO_STDOUT, "hi", 2);
	frame(s, PROTO_PING, "12345678", 8);
	exited(s, 0, 0);
	frame(s, PROTO_DONE, "", 0);
	expect("good", s, 0, WISP_OK);
	free(s);
}

static void broken_frames(void)
{
	struct script *s = calloc(1, sizeof(*s));
	struct proto_frame head;
	static uint8_t big[PROTO_DATA_MAX + 1];

	hello(s);
	frame(s, 0, "", 0);
	expect("type 0", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	frame(s, 200, "x", 1);
	expect("type 200", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	frame(s, PROTO_STDIN, "x", 1);
	expect("a client's type", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	frame(s, PROTO_EVENT, big, sizeof(struct proto_event));
	expect("the control connection's type", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	head = (struct proto_frame){.length = 0xffffffff, .type = PROTO_STDOUT};
	put(s, &head, sizeof(head));
	expect("4 GiB", s, -EPROTO, WISP_ERR_PROTOCOL);
	started(s);
	frame(s, PROTO_STDOUT, big, sizeof(big));
	expect("one byte too many", s, -EPROTO, WISP_ERR_PROTOCOL);
	started(s);
	frame(s, PROTO_STDOUT, "", 0);
	expect("empty stdout", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	frame(s, PROTO_STARTED, big, sizeof(struct proto_started) - 1);
	expect("short STARTED", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	frame(s, PROTO_FAILED, big, sizeof(struct proto_failed) + PROTO_STRING_MAX + 1);
	expect("long FAILED", s, -EPROTO, WISP_ERR_PROTOCOL);
	started(s);
	head = (struct proto_frame){.type = PROTO_DONE, .zero = {0, 1, 0}};
	put(s, &head, sizeof(head));
	expect("non-zero zero", s, -EPROTO, WISP_ERR_PROTOCOL);
	free(s);
}

static void wrong_order(void)
{
	struct script *s = calloc(1, sizeof(*s));
	s->length = 0;
	frame(s, PROTO_STDOUT, "x", 1);
	expect("no HELLO", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	frame(s, PROTO_STDOUT, "x", 1);
	expect("output before STARTED", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	exited(s, 0, 0);
	expect("end before STARTED", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	frame(s, PROTO_DONE, "", 0);
	expect("DONE at once", s, -EPROTO, WISP_ERR_PROTOCOL);
	started(s);
	frame(s, PROTO_DONE, "", 0);
	expect("DONE without EXITED", s, -EPROTO, WISP_ERR_PROTOCOL);
	started(s);
	exited(s, 0, 0);
	exited(s, 0, 0);
	expect("EXITED twice", s, -EPROTO, WISP_ERR_PROTOCOL);
	started(s);
	exited(s, 0, 0);
	frame(s, PROTO_STDOUT, "x", 1);
	expect("output after EXITED", s, -EPROTO, WISP_ERR_PROTOCOL);
	started(s);
	struct proto_started again = {.session = 2};
	frame(s, PROTO_STARTED, &again, sizeof(again));
	expect("STARTED twice", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	frame(s, PROTO_PONG, "", 0);
	expect("a PONG nobody asked for", s, -EPROTO, WISP_ERR_PROTOCOL);
	hello(s);
	struct proto_session session = {.session = 1};
	frame(s, PROTO_SESSION, &session, sizeof(session));
	expect("a list nobody asked for", s, -EPROTO, WISP_ERR_PROTOCOL);
	free(s);
}

static void impossible_values(void)
{
	struct script *s = calloc(1, sizeof(*s));
	static const struct {
		int32_t code;
		uint32_t signal;
	} ends[] = {{-1, 0}, {256, 0}, {0, 9}, {-1, 65}, {-1, 0xffffffff}};
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		started(s);
		exited(s, ends[i].code, ends[i].signal);
		expect("impossible end", s, -EPROTO, WISP_ERR_PROTOCOL);
	}
	/* A failure of unknown kind and stage is one of kind other. */
	struct {
		struct proto_failed failed;
		char text[4];
	} failed = {.failed = {.error = 999999, .kind = 77, .stage = 88}, .text = {'\033', '[', 'J', '\n'}};
	hello(s);
	frame(s, PROTO_FAILED, &failed, sizeof(failed));
	frame(s, PROTO_DONE, "", 0);
	expect("unknown kind", s, -EIO, WISP_ERR_EXEC_FAILED);
	free(s);
}

static void early_ends(void)
{
	struct script *s = calloc(1, sizeof(*s));
	expect("nothing", s, -ECONNRESET, WISP_ERR_DISCONNECTED);
	started(s);
	expect("after STARTED", s, -ECONNRESET, WISP_ERR_DISCONNECTED);
	for (size_t cut = 1; cut < 40; cut++) {
		started(s);
		s->length -= cut;
		expect("cut", s, -ECONNRESET, WISP_ERR_DISCONNECTED);
	}
	free(s);
}

static void refusals(void)
{
	struct script *s = calloc(1, sizeof(*s));
	static const struct {
		uint32_t code;
		int result;
		enum wisp_status status;
	} codes[] = {{PROTO_ERROR_PROTOCOL, -EPROTO, WISP_ERR_PROTOCOL},
	        {PROTO_ERROR_VERSION, -EPROTONOSUPPORT, WISP_ERR_VERSION}, {PROTO_ERROR_BUSY, -EBUSY, WISP_ERR_BUSY},
	        {PROTO_ERROR_NO_SESSION, -ENOENT, WISP_ERR_NO_SESSION},
	        {PROTO_ERROR_WRITER, -EBUSY, WISP_ERR_WRITER_TAKEN}, {4711, -EPROTO, WISP_ERR_PROTOCOL}};
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct proto_error refusal = {.code = codes[i].code};
		hello(s);
		frame(s, PROTO_ERROR, &refusal, sizeof(refusal));
		expect("refusal", s, codes[i].result, codes[i].status);
	}
	struct proto_hello other = {.magic = PROTO_MAGIC, .version = PROTO_VERSION + 1};
	s->length = 0;
	frame(s, PROTO_HELLO, &other, sizeof(other));
	expect("other version", s, -EPROTONOSUPPORT, WISP_ERR_VERSION);
	other = (struct proto_hello){.magic = 0x12345678, .version = PROTO_VERSION};
	s->length = 0;
	frame(s, PROTO_HELLO, &other, sizeof(other));
	expect("no agent", s, -EPROTO, WISP_ERR_PROTOCOL);
	free(s);
}

static void a_tty_has_no_stderr(void)
{
	struct script *s = calloc(1, sizeof(*s));
	struct wisp_output *output;
	struct wisp_error error = {0};
	started(s);
	frame(s, PROTO_STDERR, "x", 1);
	CHECK_EQ(run("OK 1024\n", s, 1 << 20, true, &output, &error), -EPROTO);
	wisp_free_output(output);
	free(s);
}

static void bad_answers_to_connect(void)
{
	static const char *const answers[] = {"NO\n", "\n", "OK\n",
	        "OKAY 1024 but this line is far too long to be one\n", "0123456789012345678901234567890123456789"};
	struct script *s = calloc(1, sizeof(*s));
	struct wisp_output *output;
	struct wisp_error error = {0};
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		CHECK_EQ(run(answers[i], s, 1, false, &output, &error), -EPROTO);
		CHECK_EQ(error.status, WISP_ERR_PROTOCOL);
	}
	CHECK_EQ(run("", s, 1, false, &output, &error), -ECONNRESET);
	CHECK_EQ(error.status, WISP_ERR_DISCONNECTED);
	free(s);
}

/* A guest that answers nothing at all is waited for as long as the execution may take, not for ever. */
static void silence(void)
{
	struct fixture f;
	struct script *s = calloc(1, sizeof(*s));
	struct wisp_error error;
	struct wisp_output *output;
	const char *argv[] = {"true", NULL};
	struct wisp_exec_options options = {.size = sizeof(options), .timeout_ms = 1};
	static const char *const answers[] = {"", "OK 1024\n"};
	for (int i = 0; i < 2; i++) {
		REQUIRE(fixture_dir(&f, "cpus=1\n"));
		REQUIRE(wisp_open_sandbox(f.root, "box", &f.sandbox, &error) == 0);
		pid_t pid = serve(f.dir, answers[i], s, 1, true);
		int64_t began = now_ms();
		CHECK_EQ(wisp_exec(f.sandbox, argv, &options, &output, &error), -ETIMEDOUT);
		CHECK_EQ(error.status, WISP_ERR_TIMEOUT);
		CHECK(now_ms() - began < 3500);
		waitpid(pid, NULL, 0);
		fixture_end(&f);
	}
	free(s);
}

/* Output that is read late arrives late. Only a guest from which nothing more comes hangs. */
static void late_output_is_no_timeout(void)
{
	static const uint8_t data[PROTO_DATA_MAX];
	struct fixture f;
	struct script *first = calloc(1, sizeof(*first)), *rest = calloc(1, sizeof(*rest));
	struct wisp_error error;
	const struct wisp_event *event;
	struct wisp_session *session;
	const char *argv[] = {"true", NULL};
	struct wisp_exec_options options = {.size = sizeof(options), .timeout_ms = 1};
	int go[2], received = 0, r;
	started(first);
	for (int i = 0; i < 3; i++) {
		frame(first, PROTO_STDOUT, data, sizeof(data));
		frame(rest, PROTO_STDOUT, data, sizeof(data));
	}
	exited(rest, 0, 0);
	frame(rest, PROTO_DONE, "", 0);
	REQUIRE(pipe(go) == 0 && fixture_dir(&f, "cpus=1\n"));
	REQUIRE(wisp_open_sandbox(f.root, "box", &f.sandbox, &error) == 0);
	int listener = listen_in(f.dir);
	pid_t pid = fork();
	if (pid == 0) {
		char byte;
		int fd = take_client(listener, "OK 1024\n");
		bool sent = send(fd, first->bytes, first->length, 0) > 0 && read(go[0], &byte, 1) == 1 &&
		            send(fd, rest->bytes, rest->length, 0) > 0;
		_exit(sent ? 0 : 3);
	}
	close(listener);
	REQUIRE(wisp_exec_stream(f.sandbox, argv, &options, &session, &error) == 0);
	sleep_ms(2010); /* beyond the deadline: the reader of the output is slow */
	while ((r = wisp_recv_event(session, 0, &event, &error)) == 0)
		received += (int)event->length;
	CHECK_EQ(r, -EAGAIN);
	CHECK_EQ(received, 3 * PROTO_DATA_MAX);
	/* The descriptor does not stay readable. */
	struct pollfd pfd = {.fd = wisp_get_session_fd(session), .events = POLLIN};
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	CHECK_EQ(write(go[1], "", 1), 1);
	struct wisp_output *output;
	CHECK_EQ(wisp_collect_output(session, &output, &error), 0);
	REQUIRE(output);
	CHECK_EQ(output->stdout_length, 3 * PROTO_DATA_MAX);
	CHECK(output->status.success);
	wisp_free_output(output);
	wisp_close_session(session);
	waitpid(pid, NULL, 0);
	close(go[0]);
	close(go[1]);
	fixture_end(&f);
	free(first);
	free(rest);
}

/* ---- Calls that the caller ends ---- */

/* A sandbox whose agent accepts connections, and then says `script` and no more. */
static pid_t serve_many(const char *dir, const char *ok, const struct script *script)
{
	int listener = listen_in(dir);
	pid_t pid = fork();
	if (pid != 0) {
		close(listener);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		send(fd, ok, strlen(ok), MSG_NOSIGNAL);
		send(fd, script->bytes, script->length, MSG_NOSIGNAL);
	}
}

static void end_server(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Every call that asks the agent, for one that never answers. */
static void expect_ends(struct wisp_sandbox *sandbox, int result)
{
	const char *argv[] = {"true", NULL};
	struct wisp_error error = {0};
	struct wisp_output *output;
	struct wisp_session *session;
	struct wisp_session_info **list;
	int fd;
	CHECK_EQ(wisp_exec(sandbox, argv, NULL, &output, &error), result);
	CHECK_EQ(error.status, WISP_ERR_CANCELLED);
	CHECK_EQ(wisp_shell(sandbox, "true", NULL, NULL, &output, &error), result);
	CHECK_EQ(wisp_exec_stream(sandbox, argv, NULL, &session, &error), result);
	CHECK_EQ(wisp_shell_stream(sandbox, "true", NULL, NULL, &session, &error), result);
	CHECK_EQ(wisp_open_session(sandbox, 1, NULL, &session, &error), result);
	CHECK_EQ(wisp_list_sessions(sandbox, &list, &error), result);
	CHECK_EQ(wisp_ping_sandbox(sandbox, NULL, &error), result);
	CHECK_EQ(wisp_connect_port(sandbox, 5000, -1, &fd, &error), result);
	CHECK_EQ(wisp_wait_sandbox(sandbox, -1, NULL, &error), result);
	CHECK_EQ(error.status, WISP_ERR_CANCELLED);
}

static void calls_are_cancelled(void)
{
	struct fixture f;
	struct wisp_error error;
	struct script *s = calloc(1, sizeof(*s));
	int fd = eventfd(1, EFD_CLOEXEC);
	struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = &fd};
	REQUIRE(fixture_dir(&f, "cpus=1\n"));
	REQUIRE(wisp_open_sandbox(f.root, "box", &f.sandbox, &error) == 0);
	CHECK_EQ(wisp_set_cancel(f.sandbox, &cancel, &error), 0);
	pid_t pid = serve_many(f.dir, "", s);
	expect_ends(f.sandbox, -ECANCELED);
	end_server(pid);
	close(fd);
	fd = -1;
	CHECK_EQ(wisp_set_cancel(f.sandbox, &cancel, &error), -EBADF);
	fixture_end(&f);
	free(s);
}

static void on_alarm(int number)
{
	(void)number;
}

/* Rings again and again, so that one ring comes while the call waits. */
static void ring(int ms)
{
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct itimerval every = {.it_value.tv_usec = ms * 1000, .it_interval.tv_usec = ms * 1000};
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static void calls_are_interrupted(void)
{
	struct fixture f;
	struct wisp_error error;
	struct script *s = calloc(1, sizeof(*s));
	struct wisp_cancel cancel = {.size = sizeof(cancel), .interruptible = true};
	REQUIRE(fixture_dir(&f, "cpus=1\n"));
	REQUIRE(wisp_open_sandbox(f.root, "box", &f.sandbox, &error) == 0);
	CHECK_EQ(wisp_set_cancel(f.sandbox, &cancel, &error), 0);
	pid_t pid = serve_many(f.dir, "", s);
	ring(5);
	expect_ends(f.sandbox, -EINTR);
	ring(0);
	end_server(pid);
	fixture_end(&f);
	free(s);
}

/* A session's own descriptor, which replaces the sandbox's. The session stays usable. */
static void sessions_are_cancelled(void)
{
	struct fixture f;
	struct wisp_error error;
	struct wisp_output *output;
	struct wisp_session *session;
	const struct wisp_event *event;
	uint64_t id;
	char much[PROTO_WINDOW_INITIAL] = "";
	const char *argv[] = {"true", NULL};
	struct script *s = calloc(1, sizeof(*s));
	int fd = eventfd(0, EFD_CLOEXEC);
	struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = &fd};
	struct wisp_exec_options options = {.size = sizeof(options), .stdin_mode = WISP_STDIN_PIPE, .cancel = &cancel};
	REQUIRE(fixture_dir(&f, "cpus=1\n"));
	REQUIRE(wisp_open_sandbox(f.root, "box", &f.sandbox, &error) == 0);
	hello(s);
	pid_t pid = serve_many(f.dir, "OK 1024\n", s);
	REQUIRE(wisp_exec_stream(f.sandbox, argv, &options, &session, &error) == 0);
	struct wisp_stdin *writer = wisp_take_stdin(session);
	CHECK_EQ(wisp_write_stdin(writer, much, sizeof(much), -1, &error), sizeof(much));
	CHECK_EQ(wisp_recv_event(session, 0, &event, &error), -EAGAIN);
	CHECK_EQ(eventfd_write(fd, 1), 0);
	CHECK_EQ(wisp_write_stdin(writer, "x", 1, -1, &error), -ECANCELED);
	CHECK_EQ(wisp_recv_event(session, -1, &event, &error), -ECANCELED);
	CHECK_EQ(wisp_get_session_id(session, &id, &error), -ECANCELED);
	CHECK_EQ(wisp_wait_session(session, NULL, &error), -ECANCELED);
	CHECK_EQ(wisp_collect_output(session, &output, &error), -ECANCELED);
	CHECK_EQ(error.status, WISP_ERR_CANCELLED);
	CHECK_EQ(wisp_recv_event(session, 0, &event, &error), -EAGAIN);
	wisp_close_stdin(writer);
	wisp_close_session(session);
	end_server(pid);
	close(fd);
	fixture_end(&f);
	free(s);
}

/* Random bytes after a good beginning: no crash, no hang. The seed is fixed: a failure can be repeated. */
static void random_bytes(void)
{
	struct script *s = calloc(1, sizeof(*s));
	uint32_t x = 2463534242u;
	for (int round = 0; round < 300; round++) {
		struct wisp_output *output;
		started(s);
		for (int i = 0; i < 200; i++) {
			x ^= x << 13;
			x ^= x >> 17;
			x ^= x << 5;
			uint8_t byte = (uint8_t)(x >> 8);
			/* Now and then a header that makes sense up to its length. */
			if (i % 40 == 0) {
				struct proto_frame head = {.length = x % 90, .type = (uint8_t)(64 + x % 11)};
				put(s, &head, sizeof(head));
			}
			put(s, &byte, 1);
		}
		run("OK 1024\n", s, 1 + x % 500, false, &output, NULL);
		wisp_free_output(output);
	}
	free(s);
}

/* Windows without end do not make the library send or hold more than it is given. */
static void endless_windows(void)
{
	struct script *s = calloc(1, sizeof(*s));
	struct proto_window window = {.bytes = UINT32_MAX};
	started(s);
	for (int i = 0; i < 100; i++)
		frame(s, PROTO_STDIN_WINDOW, &window, sizeof(window));
	exited(s, 0, 0);
	frame(s, PROTO_STDIN_WINDOW, &window, sizeof(window));
	frame(s, PROTO_DONE, "", 0);
	expect("windows", s, 0, WISP_OK);
	free(s);
}

TEST_MAIN("lib_hostile", {"a_good_agent_is_understood", a_good_agent_is_understood}, {"broken_frames", broken_frames},
        {"wrong_order", wrong_order}, {"impossible_values", impossible_values}, {"early_ends", early_ends},
        {"refusals", refusals}, {"a_tty_has_no_stderr", a_tty_has_no_stderr},
        {"bad_answers_to_connect", bad_answers_to_connect}, {"silence", silence},
        {"late_output_is_no_timeout", late_output_is_no_timeout}, {"calls_are_cancelled", calls_are_cancelled},
        {"calls_are_interrupted", calls_are_interrupted}, {"sessions_are_cancelled", sessions_are_cancelled},
        {"random_bytes", random_bytes}, {"endless_windows", endless_windows})
