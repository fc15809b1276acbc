/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles of one session in several threads, for ThreadSanitizer: the agent here is a child process of a few lines that
 * echoes stdin and ends by a signal.
 */
#include <pthread.h>

#include "vmm/shared/proto.h"
#include "vmm/lib/state.h"
#include "tests/unit/test_lib.h"

static void send_frame(int fd, uint8_t type, const void *payload, size_t length)
{
	struct proto_frame head = {.length = (uint32_t)length, .type = type};
	if (send(fd, &head, sizeof(head), MSG_NOSIGNAL) < 0 ||
	        (length > 0 && send(fd, payload, length, MSG_NOSIGNAL) < 0))
		_exit(0);
}

static void read_exactly(int fd, void *to, size_t length)
{
	char *at = to;
	while (length > 0) {
		ssize_t n = read(fd, at, length);
		if (n <= 0)
			_exit(0);
		at += n;
		length -= (size_t)n;
	}
}

/* The agent looks at nothing but the first request before it is told how many signals there are to come. */
static int gate[2] = {-1, -1};

static void count_signals(int fd)
{
	struct proto_frame head;
	struct proto_signal payload;
	struct proto_exited exited = {.code = 7};
	unsigned count;
	read_exactly(gate[0], &count, sizeof(count));
	for (; count > 0; count--) {
		read_exactly(fd, &head, sizeof(head));
		read_exactly(fd, &payload, sizeof(payload));
	}
	send_frame(fd, PROTO_EXITED, &exited, sizeof(exited));
	send_frame(fd, PROTO_DONE, "", 0);
	_exit(0);
}

/* A session's id is that of its connection's process. After SIGUSR2, something follows the end of the session. */
static _Noreturn void echo_session(int fd)
{
	static uint8_t payload[PROTO_EXEC_MAX];
	bool babbles = false;
	struct proto_frame head;
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	struct proto_started started = {.session = (uint64_t)getpid(), .pid = 2, .flags = PROTO_SESSION_WRITER};
	read_exactly(fd, payload, 13);
	if (send(fd, "OK 1024\n", 8, MSG_NOSIGNAL) != 8)
		_exit(0);
	send_frame(fd, PROTO_HELLO, &hello, sizeof(hello));
	for (;;) {
		read_exactly(fd, &head, sizeof(head));
		if (head.length > sizeof(payload))
			_exit(1);
		read_exactly(fd, payload, head.length);
		struct proto_window window = {.bytes = head.length};
		struct proto_exited exited = {.code = -1};
		switch (head.type) {
		case PROTO_EXEC:
			send_frame(fd, PROTO_STARTED, &started, sizeof(started));
			if (gate[0] >= 0)
				count_signals(fd);
			break;
		case PROTO_STDIN:
			send_frame(fd, PROTO_STDOUT, payload, head.length);
			send_frame(fd, PROTO_STDIN_WINDOW, &window, sizeof(window));
			break;
		case PROTO_SIGNAL:
			memcpy(&exited.signal, payload, sizeof(exited.signal));
			if (exited.signal == SIGUSR2)
				babbles = true;
			if (exited.signal != SIGKILL)
				break;
			send_frame(fd, PROTO_EXITED, &exited, sizeof(exited));
			struct proto_frame last[2] = {{.type = PROTO_DONE}, {.type = PROTO_PONG}};
			if (send(fd, last, babbles ? sizeof(last) : sizeof(last[0]), MSG_NOSIGNAL) < 0)
				_exit(0);
			break;
		default: break;
		}
	}
}

static pid_t start_echo(const char *dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/vsock.sock", dir);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 64) < 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGCHLD, SIG_IGN);
		for (;;) {
			int fd = accept(listener, NULL, NULL);
			if (fd >= 0 && fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				echo_session(fd);
			}
			close(fd);
		}
	}
	close(listener);
	return pid;
}

#define TOTAL ((size_t)8 << 20)

static void *write_all(void *context)
{
	struct wisp_stdin *writer = context;
	static const char data[50000];
	for (size_t sent = 0; sent < TOTAL;) {
		size_t length = TOTAL - sent < sizeof(data) ? TOTAL - sent : sizeof(data);
		ptrdiff_t n = wisp_write_stdin(writer, data, length, -1, NULL);
		if (n < 0)
			break;
		sent += (size_t)n;
	}
	return NULL;
}

static void *control_much(void *context)
{
	struct wisp_control *control = context;
	for (uint16_t i = 1; i < 200; i++) {
		wisp_resize_control(control, i, i, NULL);
		wisp_signal_control(control, SIGUSR1, NULL);
		wisp_get_control_id(control);
	}
	return NULL;
}

static bool begin(struct fixture *f)
{
	struct wisp_error error;
	if (!fixture_dir(f, "cpus=1\n"))
		return false;
	f->agent = start_echo(f->dir);
	return wisp_open_sandbox(f->root, "box", &f->sandbox, &error) == 0;
}

static struct wisp_session *start(struct fixture *f)
{
	struct wisp_exec_options options = {.size = sizeof(options), .stdin_mode = WISP_STDIN_PIPE};
	struct wisp_session *session;
	const char *argv[] = {"cat", NULL};
	return wisp_exec_stream(f->sandbox, argv, &options, &session, NULL) == 0 ? session : NULL;
}

static void write_receive_and_control(void)
{
	struct fixture f;
	REQUIRE(begin(&f));
	struct wisp_session *session = start(&f);
	struct wisp_control *controls[2];
	pthread_t threads[3];
	REQUIRE(session);
	struct wisp_stdin *writer = wisp_take_stdin(session);
	REQUIRE(writer);
	for (int i = 0; i < 2; i++) {
		REQUIRE(wisp_open_control(session, &controls[i], NULL) == 0);
		REQUIRE(pthread_create(&threads[i], NULL, control_much, controls[i]) == 0);
	}
	REQUIRE(pthread_create(&threads[2], NULL, write_all, writer) == 0);
	size_t got = 0;
	while (got < TOTAL) {
		const struct wisp_event *event;
		REQUIRE(wisp_recv_event(session, 20000, &event, NULL) == 0);
		if (event->type == WISP_EVENT_STDOUT)
			got += event->length;
	}
	CHECK_EQ(got, TOTAL);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(wisp_kill_control(controls[0], NULL), 0);
	struct wisp_exit_status status;
	CHECK_EQ(wisp_wait_session(session, &status, NULL), 0);
	CHECK_EQ(status.signal, SIGKILL);
	for (int i = 0; i < 2; i++)
		wisp_close_control(controls[i]);
	wisp_close_stdin(writer);
	wisp_close_session(session);
	fixture_end(&f);
}

static void *kill_later(void *context)
{
	sleep_ms(50);
	wisp_kill_control(context, NULL);
	return NULL;
}

/* The owner waits in one thread; another ends what it waits for. */
static void kill_while_another_waits(void)
{
	struct fixture f;
	REQUIRE(begin(&f));
	struct wisp_session *session = start(&f);
	struct wisp_control *control;
	pthread_t thread;
	REQUIRE(session && wisp_open_control(session, &control, NULL) == 0);
	REQUIRE(pthread_create(&thread, NULL, kill_later, control) == 0);
	struct wisp_exit_status status;
	CHECK_EQ(wisp_wait_session(session, &status, NULL), 0);
	CHECK_EQ(status.signal, SIGKILL);
	pthread_join(thread, NULL);
	wisp_close_control(control);
	wisp_close_session(session);
	fixture_end(&f);
}

static void *signal_until_full(void *context)
{
	unsigned count = 0;
	sleep_ms(100); /* the owner waits by now, most likely */
	while (wisp_signal_control(context, SIGUSR1, NULL) == 0)
		count++;
	CHECK(write(gate[1], &count, sizeof(count)) == sizeof(count));
	return NULL;
}

/* What one thread could not send goes out while another waits to receive. */
static void waiting_sends_what_another_left(void)
{
	struct fixture f;
	REQUIRE(pipe(gate) == 0 && begin(&f));
	struct wisp_session *session = start(&f);
	struct wisp_control *control;
	pthread_t thread;
	const struct wisp_event *event;
	REQUIRE(session && wisp_open_control(session, &control, NULL) == 0);
	CHECK_EQ(wisp_recv_event(session, 20000, &event, NULL), 0); /* it started */
	REQUIRE(pthread_create(&thread, NULL, signal_until_full, control) == 0);
	CHECK_EQ(wisp_recv_event(session, 20000, &event, NULL), 0);
	CHECK(event && event->type == WISP_EVENT_EXITED);
	pthread_join(thread, NULL);
	wisp_close_control(control);
	wisp_close_session(session);
	close(gate[0]);
	close(gate[1]);
	gate[0] = -1;
	fixture_end(&f);
}

/* Handles that outlive the session's: errors, no crash, no other connection's descriptor. */
static void handles_outlive_the_session(void)
{
	struct fixture f;
	struct wisp_error error;
	REQUIRE(begin(&f));
	struct wisp_session *session = start(&f);
	struct wisp_control *control;
	uint64_t id;
	REQUIRE(session && wisp_open_control(session, &control, NULL) == 0);
	CHECK_EQ(wisp_get_session_id(session, &id, &error), 0);
	struct wisp_stdin *writer = wisp_take_stdin(session);
	wisp_close_session(session);
	CHECK_EQ(wisp_get_control_id(control), id);
	CHECK_EQ(wisp_kill_control(control, &error), -ENOTCONN);
	CHECK_EQ(wisp_write_stdin(writer, "x", 1, -1, &error), -ENOTCONN);
	wisp_close_control(control);
	wisp_close_stdin(writer);
	fixture_end(&f);
}

/* A writer that waits is woken by the end of the session's handle. */
static void closing_wakes_the_writer(void)
{
	struct fixture f;
	REQUIRE(begin(&f));
	struct wisp_session *session = start(&f);
	REQUIRE(session);
	struct wisp_stdin *writer = wisp_take_stdin(session);
	pthread_t thread;
	/* Nobody receives: the echo comes to a stop, and with it the writer. */
	REQUIRE(pthread_create(&thread, NULL, write_all, writer) == 0);
	sleep_ms(200);
	wisp_close_session(session);
	pthread_join(thread, NULL);
	wisp_close_stdin(writer);
	fixture_end(&f);
}

struct client {
	struct fixture *f;
	bool ok;
};

static void *one_client(void *context)
{
	struct client *client = context;
	for (int i = 0; i < 5; i++) {
		struct wisp_session *session = start(client->f);
		struct wisp_exit_status status = {0};
		client->ok = session && wisp_kill_session(session, NULL) == 0 &&
		             wisp_wait_session(session, &status, NULL) == 0 && status.signal == SIGKILL;
		wisp_close_session(session);
		if (!client->ok)
			break;
	}
	return NULL;
}

static void many_threads_share_a_sandbox(void)
{
	struct fixture f;
	REQUIRE(begin(&f));
	struct client clients[16];
	pthread_t threads[16];
	for (int i = 0; i < 16; i++) {
		clients[i] = (struct client){.f = &f};
		REQUIRE(pthread_create(&threads[i], NULL, one_client, &clients[i]) == 0);
	}
	for (int i = 0; i < 16; i++) {
		pthread_join(threads[i], NULL);
		CHECK(clients[i].ok);
	}
	fixture_end(&f);
}

/* ---- The connection that a handle keeps ---- */

/* Ends the session, and returns which connection it had. */
static uint64_t finish(struct wisp_session *session)
{
	uint64_t id = 0;
	struct wisp_exit_status status;
	CHECK(wisp_get_session_id(session, &id, NULL) == 0);
	CHECK(wisp_kill_session(session, NULL) == 0 && wisp_wait_session(session, &status, NULL) == 0);
	wisp_close_session(session);
	return id;
}

static void wait_gone(uint64_t connection)
{
	for (int i = 0; i < 10000 && kill((pid_t)connection, 0) == 0; i++)
		sleep_ms(1);
	CHECK(kill((pid_t)connection, 0) < 0);
}

static void requests_share_a_connection(void)
{
	struct fixture f;
	REQUIRE(begin(&f));
	uint64_t first = finish(start(&f));
	for (int i = 0; i < 3; i++)
		CHECK_EQ(finish(start(&f)), first);
	fixture_end(&f);
}

/* Two at once have two connections, and one of them is kept. */
static void sessions_at_once_have_their_own(void)
{
	struct fixture f;
	REQUIRE(begin(&f));
	struct wisp_session *sessions[2] = {start(&f), start(&f)};
	uint64_t ids[2] = {finish(sessions[0]), finish(sessions[1])};
	CHECK(ids[0] != ids[1]);
	CHECK_EQ(finish(start(&f)), ids[0]);
	/* Abandoned before its end: its connection is ended, which is how the agent learns of it. */
	struct wisp_session *session = start(&f);
	uint64_t id = 0;
	CHECK(wisp_get_session_id(session, &id, NULL) == 0);
	CHECK_EQ(id, ids[0]);
	wisp_close_session(session);
	CHECK(finish(start(&f)) != ids[0]);
	fixture_end(&f);
}

static void a_connection_that_broke_is_not_used(void)
{
	struct fixture f;
	REQUIRE(begin(&f));
	uint64_t first = finish(start(&f));
	REQUIRE(kill((pid_t)first, SIGKILL) == 0);
	wait_gone(first);
	uint64_t second = finish(start(&f));
	CHECK(second != first);
	/* Nor one on which more came than was asked for. */
	struct wisp_session *session = start(&f);
	CHECK(wisp_signal_session(session, SIGUSR2, NULL) == 0);
	CHECK_EQ(finish(session), second);
	CHECK(finish(start(&f)) != second);
	fixture_end(&f);
}

static void a_session_outlives_its_handle(void)
{
	struct fixture f;
	REQUIRE(begin(&f));
	struct wisp_session *session = start(&f);
	uint64_t kept = finish(start(&f));
	wisp_close_sandbox(f.sandbox);
	f.sandbox = NULL;
	wait_gone(kept);
	uint64_t last = finish(session);
	wait_gone(last);
	fixture_end(&f);
}

/* A child of the caller's, which has copies of all descriptors, does not keep connections that are ended. */
static void a_child_holds_no_connection(void)
{
	struct fixture f;
	REQUIRE(begin(&f));
	uint64_t kept = finish(start(&f));
	pid_t child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	REQUIRE(child > 0);
	wisp_close_sandbox(f.sandbox);
	f.sandbox = NULL;
	wait_gone(kept);
	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	fixture_end(&f);
}

/* A sandbox that has ended, made as the library makes one: complete before it gets its name. */
static bool make_ended(const char *root)
{
	char hidden[96], path[128], box[96];
	snprintf(hidden, sizeof(hidden), "%s/.wisp-0123456789abcdef", root);
	snprintf(path, sizeof(path), "%s/config", hidden);
	snprintf(box, sizeof(box), "%s/box", root);
	if (mkdir(hidden, 0700) < 0)
		return false;
	write_file(hidden, "config", SANDBOX_FILES_MAGIC);
	write_file(hidden, "lock", "");
	write_file(hidden, "state", "exit poweroff done\n");
	return chmod(path, 0600) == 0 && rename(hidden, box) == 0;
}

static void *remove_again_and_again(void *arg)
{
	const char *root = arg;
	for (int i = 0; i < 300; i++) {
		int r = -EBUSY;
		if (!make_ended(root))
			return arg;
		/* A reader that looks at the lock has it for a moment, which may be a long one. */
		while (r == -EBUSY)
			r = wisp_remove_sandbox(root, "box", NULL);
		if (r < 0)
			return arg;
	}
	return NULL;
}

/* One that is being removed is listed as it was, or not at all: never as one whose monitor died. */
static void listing_while_removing(void)
{
	char root[] = "/tmp/wisp-test-XXXXXX";
	pthread_t thread;
	void *failed;
	REQUIRE(mkdtemp(root));
	REQUIRE(pthread_create(&thread, NULL, remove_again_and_again, root) == 0);
	int other = 0;
	while (pthread_tryjoin_np(thread, &failed) != 0) {
		struct wisp_sandbox_info **list;
		int count = wisp_list_sandboxes(root, &list, NULL);
		if (count < 0)
			continue;
		other += count > 0 && list[0]->state != WISP_SANDBOX_STOPPED;
		wisp_free_sandbox_list(list);
	}
	CHECK(!failed);
	CHECK_EQ(other, 0);
	remove_all(root);
}

static void *claim_again_and_again(void *arg)
{
	struct config config = {0};
	char name[WISP_NAME_MAX + 1];
	int dir_fd, lock_fd, root_fd = open(arg, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 1000; i++) {
		if (state_claim(root_fd, "box", &config, name, &dir_fd, &lock_fd, NULL) < 0)
			return arg;
		if (state_prove(root_fd, dir_fd) != 1)
			return arg;
		state_discard(root_fd, dir_fd, name, lock_fd); /* or the other thread does */
		close(dir_fd);
	}
	close(root_fd);
	return NULL;
}

/* What is made at the moment is no leftover, or is made again. */
static void pruning_while_creating(void)
{
	char root[] = "/tmp/wisp-test-XXXXXX";
	pthread_t thread;
	void *failed;
	REQUIRE(mkdtemp(root));
	REQUIRE(pthread_create(&thread, NULL, claim_again_and_again, root) == 0);
	while (pthread_tryjoin_np(thread, &failed) != 0)
		CHECK(wisp_prune_sandboxes(root, false, NULL, NULL) >= 0);
	CHECK(!failed);
	CHECK_EQ(count_entries(root), 0);
	remove_all(root);
}

TEST_MAIN("lib_threads", {"write_receive_and_control", write_receive_and_control},
        {"kill_while_another_waits", kill_while_another_waits},
        {"waiting_sends_what_another_left", waiting_sends_what_another_left},
        {"handles_outlive_the_session", handles_outlive_the_session},
        {"closing_wakes_the_writer", closing_wakes_the_writer},
        {"requests_share_a_connection", requests_share_a_connection},
        {"sessions_at_once_have_their_own", sessions_at_once_have_their_own},
        {"a_connection_that_broke_is_not_used", a_connection_that_broke_is_not_used},
        {"a_session_outlives_its_handle", a_session_outlives_its_handle},
        {"a_child_holds_no_connection", a_child_holds_no_connection},
        {"many_threads_share_a_sandbox", many_threads_share_a_sandbox},
        {"listing_while_removing", listing_while_removing}, {"pruning_while_creating", pruning_while_creating})
