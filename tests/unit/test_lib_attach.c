/* SPDX-License-Identifier: Apache-2.0 */
/* Terminals: the library's attach on a real pseudo-terminal, whose other end the test types on. */
#include <pthread.h>
#include <pty.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "tests/unit/test_lib.h"

struct terminal {
	int keyboard; /* the test's end */
	int tty;
	int resize, cancel;
	struct termios before;
	char seen[65536];
	size_t length;
};

static bool open_terminal(struct terminal *t, unsigned short rows, unsigned short cols)
{
	struct winsize size = {.ws_row = rows, .ws_col = cols};
	*t = (struct terminal){0};
	if (openpty(&t->keyboard, &t->tty, NULL, NULL, &size) < 0 || tcgetattr(t->tty, &t->before) < 0)
		return false;
	t->resize = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->cancel = eventfd(0, EFD_CLOEXEC);
	return t->resize >= 0 && t->cancel >= 0;
}

static void close_terminal(struct terminal *t)
{
	struct termios after;
	/* Set back, whatever happened. */
	if (tcgetattr(t->tty, &after) == 0) {
		CHECK_EQ(after.c_lflag, t->before.c_lflag);
		CHECK_EQ(after.c_iflag, t->before.c_iflag);
		CHECK_EQ(after.c_oflag, t->before.c_oflag);
	}
	close(t->keyboard);
	close(t->tty);
	close(t->resize);
	close(t->cancel);
}

static bool see(struct terminal *t, const char *wanted)
{
	int64_t deadline = now_ms() + 10000;
	while (!strstr(t->seen, wanted)) {
		struct pollfd pfd = {.fd = t->keyboard, .events = POLLIN};
		if (now_ms() > deadline || poll(&pfd, 1, 1000) < 0 || t->length + 1 >= sizeof(t->seen)) {
			printf("# no \"%s\" in \"%s\"\n", wanted, t->seen);
			return false;
		}
		if (!(pfd.revents & POLLIN))
			continue;
		ssize_t n = read(t->keyboard, t->seen + t->length, sizeof(t->seen) - 1 - t->length);
		if (n > 0)
			t->length += (size_t)n;
		t->seen[t->length] = '\0';
	}
	/* What came after it is for the next. */
	char *rest = strstr(t->seen, wanted) + strlen(wanted);
	t->length = strlen(rest);
	memmove(t->seen, rest, t->length + 1);
	return true;
}

static void type(struct terminal *t, const char *keys)
{
	CHECK_EQ(write(t->keyboard, keys, strlen(keys)), (long long)strlen(keys));
}

/* An attach, in a thread of its own. */
struct job {
	struct fixture *f;
	struct terminal *t;
	const char *script;
	const char *keys;
	int output_fd;
	int64_t timeout_ms;
	uint64_t reattach;
	bool watch;
	uint64_t id;
	int result;
	struct wisp_exit_status status;
	struct wisp_error error;
	pthread_t thread;
};

static void *attach(void *context)
{
	struct job *job = context;
	struct wisp_attach_options options = {.size = sizeof(options),
	        .input_fd = job->t->tty,
	        .output_fd = job->output_fd ? &job->output_fd : NULL,
	        .detach_keys = job->keys,
	        .resize_fd = &job->t->resize,
	        .cancel_fd = &job->t->cancel};
	struct wisp_exec_options exec = {.size = sizeof(exec), .timeout_ms = job->timeout_ms};
	if (job->reattach) {
		struct wisp_open_options open = {.size = sizeof(open), .write = !job->watch};
		struct wisp_session *session;
		job->result = wisp_open_session(job->f->sandbox, job->reattach, &open, &session, &job->error);
		if (job->result == 0) {
			job->result = wisp_attach_session(session, &options, &job->status, &job->error);
			wisp_close_session(session);
		}
		return NULL;
	}
	const char *argv[] = {"sh", "-c", job->script, NULL};
	job->result = wisp_attach(
	        job->f->sandbox, job->script ? argv : NULL, &exec, &options, &job->id, &job->status, &job->error);
	return NULL;
}

static bool start(struct job *job)
{
	return pthread_create(&job->thread, NULL, attach, job) == 0;
}

#define BEGIN(f, t)                                            \
	struct fixture f;                                      \
	struct terminal t;                                     \
	struct job job = {.f = &f, .t = &t};                   \
	REQUIRE(fixture_start(&f, "cpus=1\nshell=/bin/sh\n")); \
	REQUIRE(open_terminal(&t, 30, 100))

#define END(f, t)           \
	close_terminal(&t); \
	fixture_end(&f)

static void keys_and_screen(void)
{
	BEGIN(f, t);
	job.script = "stty size; printf 'ready\\n'; read line; echo \"[$line]\"; exit 42";
	REQUIRE(start(&job));
	CHECK(see(&t, "30 100\r\nready\r\n"));
	type(&t, "hello\r");
	CHECK(see(&t, "[hello]\r\n"));
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, 0);
	CHECK_EQ(job.status.code, 42);
	END(f, t);
}

static void the_default_shell(void)
{
	BEGIN(f, t);
	REQUIRE(start(&job));
	type(&t, "echo $((6 * 7)); exit 3\r");
	CHECK(see(&t, "42\r\n"));
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, 0);
	CHECK_EQ(job.status.code, 3);
	END(f, t);
}

static void control_keys_are_the_guests(void)
{
	BEGIN(f, t);
	/* Wherever the shell is when the key comes: between two commands it has no child that would end of it. */
	job.script = "trap 'echo interrupted; exit 7' INT; echo up; while :; do sleep 0.02; done";
	REQUIRE(start(&job));
	CHECK(see(&t, "up"));
	type(&t, "\x03");
	CHECK(see(&t, "interrupted"));
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.status.code, 7);
	END(f, t);
}

static void the_size_follows(void)
{
	BEGIN(f, t);
	job.script = "trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.02; done";
	REQUIRE(start(&job));
	CHECK(see(&t, "up"));
	struct winsize size = {.ws_row = 40, .ws_col = 120};
	CHECK_EQ(ioctl(t.keyboard, TIOCSWINSZ, &size), 0);
	CHECK_EQ(eventfd_write(t.resize, 1), 0);
	CHECK(see(&t, "40 120"));
	pthread_join(job.thread, NULL);
	END(f, t);
}

static void detach_and_come_back(void)
{
	BEGIN(f, t);
	job.keys = "ctrl-p,ctrl-q";
	job.script = "echo first; while read line; do echo \"<$line>\"; done";
	REQUIRE(start(&job));
	CHECK(see(&t, "first"));
	/* What turns out not to be the sequence is delivered: ^P alone. */
	type(&t, "a\x10z\r");
	CHECK(see(&t, "<a\x10z>"));
	type(&t, "\x10\x11");
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, 1);
	CHECK(job.id > 0);
	struct job again = {.f = &f, .t = &t, .reattach = job.id};
	REQUIRE(start(&again));
	CHECK(see(&t, "first"));
	CHECK(see(&t, "<a\x10z>"));
	type(&t, "back\r");
	CHECK(see(&t, "<back>"));
	type(&t, "\x04");
	pthread_join(again.thread, NULL);
	CHECK_EQ(again.result, 0);
	CHECK_EQ(again.status.code, 0);
	END(f, t);
}

/* The terminal answers what is asked now, and not once more what was asked before. */
static void queries_are_not_replayed(void)
{
	BEGIN(f, t);
	job.script = "printf 'up\\033[6n\\033]11;?\\033\\\\past'; read line; printf 'now\\033[6n!'; read line";
	REQUIRE(start(&job));
	CHECK(see(&t, "up\033[6n\033]11;?\033\\past"));
	type(&t, "\x1d");
	pthread_join(job.thread, NULL);
	REQUIRE(job.result == 1);
	struct job again = {.f = &f, .t = &t, .reattach = job.id};
	REQUIRE(start(&again));
	CHECK(see(&t, "uppast"));
	type(&t, "\r");
	CHECK(see(&t, "now\033[6n!"));
	type(&t, "\r");
	pthread_join(again.thread, NULL);
	CHECK_EQ(again.status.code, 0);
	END(f, t);
}

/* The keys work although the program reads nothing, and the terminal can be left although it shows nothing. */
static void detach_from_a_deaf_program(void)
{
	BEGIN(f, t);
	job.script = "stty raw -echo; echo up; sleep 1000";
	REQUIRE(start(&job));
	CHECK(see(&t, "up"));
	char much[1000];
	memset(much, 'x', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	for (int i = 0; i < 20; i++) {
		type(&t, much);
		sleep_ms(5);
	}
	type(&t, "\x1d");
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, 1);
	END(f, t);
}

static void cancel_ends_it(void)
{
	BEGIN(f, t);
	job.script = "echo up; yes";
	REQUIRE(start(&job));
	CHECK(see(&t, "up"));
	/* Nobody reads the screen any more. */
	sleep_ms(100);
	CHECK_EQ(eventfd_write(t.cancel, 1), 0);
	/* Restoring waits for the screen to be written. */
	char buffer[4096];
	fcntl(t.keyboard, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 200; i++) {
		while (read(t.keyboard, buffer, sizeof(buffer)) > 0)
			;
		sleep_ms(1);
	}
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, -ECANCELED);
	CHECK_EQ(job.error.status, WISP_ERR_CANCELLED);
	END(f, t);
}

/* Before the program has started, and while it runs. */
static void a_guest_that_hangs(void)
{
	BEGIN(f, t);
	stop_process(f.agent);
	CHECK_EQ(eventfd_write(t.cancel, 1), 0);
	REQUIRE(start(&job));
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, -ECANCELED);
	CHECK_EQ(job.error.status, WISP_ERR_CANCELLED);
	kill(f.agent, SIGCONT);
	eventfd_t value;
	CHECK_EQ(eventfd_read(t.cancel, &value), 0);
	job.script = "echo up; sleep 1000";
	REQUIRE(start(&job));
	CHECK(see(&t, "up"));
	stop_process(f.agent);
	type(&t, "x");
	CHECK_EQ(eventfd_write(t.cancel, 1), 0);
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, -ECANCELED);
	kill(f.agent, SIGCONT);
	END(f, t);
}

static void a_watcher_types_nothing(void)
{
	BEGIN(f, t);
	struct terminal screen;
	struct job watcher = {.f = &f, .t = &screen, .watch = true};
	REQUIRE(open_terminal(&screen, 40, 120));
	job.script = "echo up; read line; echo \"<$line>\"; stty size";
	REQUIRE(start(&job));
	CHECK(see(&t, "up\r\n"));
	struct wisp_session_info **list;
	REQUIRE(wisp_list_sessions(f.sandbox, &list, &watcher.error) == 1);
	watcher.reattach = list[0]->id;
	wisp_free_session_list(list);
	REQUIRE(start(&watcher));
	CHECK(see(&screen, "up\r\n"));
	type(&screen, "no\r\x03\x1d");
	pthread_join(watcher.thread, NULL);
	CHECK_EQ(watcher.result, 1);
	type(&t, "yes\r");
	CHECK(see(&t, "yes\r\n<yes>\r\n30 100\r\n"));
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.status.code, 0);
	close_terminal(&screen);
	END(f, t);
}

static void a_timeout_holds(void)
{
	BEGIN(f, t);
	job.script = "echo up; sleep 1000";
	job.timeout_ms = 300;
	REQUIRE(start(&job));
	CHECK(see(&t, "up"));
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, -ETIMEDOUT);
	CHECK(job.status.timed_out);
	END(f, t);
}

static void failures_leave_the_terminal_alone(void)
{
	BEGIN(f, t);
	struct wisp_attach_options options = {.size = sizeof(options), .input_fd = t.tty};
	struct wisp_exit_status status;
	const char *argv[] = {"/no/such", NULL};
	CHECK_EQ(wisp_attach(f.sandbox, argv, NULL, &options, NULL, &status, &job.error), -ENOENT);
	CHECK_EQ(job.error.failure, WISP_FAILURE_NOT_FOUND);
	options.detach_keys = "nonsense";
	CHECK_EQ(wisp_attach(f.sandbox, NULL, NULL, &options, NULL, &status, &job.error), -EINVAL);
	options = (struct wisp_attach_options){.size = sizeof(options), .input_fd = t.cancel};
	CHECK_EQ(wisp_attach(f.sandbox, NULL, NULL, &options, NULL, &status, &job.error), -ENOTTY);
	CHECK_EQ(job.error.status, WISP_ERR_NO_TERMINAL);
	END(f, t);
}

static void a_session_without_terminal_is_refused(void)
{
	BEGIN(f, t);
	const char *argv[] = {"sleep", "1000", NULL};
	struct wisp_session *session;
	struct wisp_attach_options options = {.size = sizeof(options), .input_fd = t.tty};
	REQUIRE(wisp_exec_stream(f.sandbox, argv, NULL, &session, &job.error) == 0);
	CHECK_EQ(wisp_attach_session(session, &options, NULL, &job.error), -EINVAL);
	wisp_close_session(session);
	END(f, t);
}

/* A window that is closed: the program goes on. */
static void hang_up_detaches(void)
{
	BEGIN(f, t);
	job.script = "echo up; sleep 1000";
	REQUIRE(start(&job));
	CHECK(see(&t, "up"));
	struct wisp_session_info **list;
	close(t.keyboard);
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, 1);
	REQUIRE(wisp_list_sessions(f.sandbox, &list, &job.error) == 1);
	CHECK(!list[0]->exited);
	wisp_free_session_list(list);
	t.keyboard = -1;
	close(t.tty);
	t.tty = -1;
	END(f, t);
}

/* A terminal that shows nothing any more, although its keys still work. */
static void output_that_hangs_up_detaches(void)
{
	BEGIN(f, t);
	int screen, tty;
	REQUIRE(openpty(&screen, &tty, NULL, NULL, NULL) == 0);
	job.script = "echo up; sleep 1000";
	job.output_fd = tty;
	REQUIRE(start(&job));
	char text[2];
	CHECK_EQ(read(screen, text, 2), 2);
	close(screen);
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, 1);
	close(tty);
	END(f, t);
}

static void detaching_sets_the_screen_back(void)
{
	BEGIN(f, t);
	job.script = "printf '\\033[?1049h\\033[?25l\\033[?2004;1006h\\033=\\033[?1004h\\033[?1004l up'; sleep 1000";
	REQUIRE(start(&job));
	CHECK(see(&t, " up"));
	type(&t, "\x1d");
	CHECK(see(&t, "\033[?1049l\033[?25h\033[?1006l\033[?2004l\033>\033[m"));
	pthread_join(job.thread, NULL);
	CHECK_EQ(job.result, 1);
	/* The program that ends has the last word. */
	job.script = "printf '\\033[?25l up'; read line; printf end";
	REQUIRE(start(&job));
	CHECK(see(&t, " up"));
	type(&t, "\r");
	pthread_join(job.thread, NULL);
	CHECK(see(&t, "end"));
	CHECK_STR(t.seen, "");
	struct pollfd pfd = {.fd = t.keyboard, .events = POLLIN};
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	END(f, t);
}

/* As a shell does between stopping and continuing a job. */
static void raw_mode_comes_back(void)
{
	BEGIN(f, t);
	struct termios modes;
	job.script = "echo up; sleep 1000";
	REQUIRE(start(&job));
	CHECK(see(&t, "up"));
	CHECK_EQ(tcsetattr(t.tty, TCSANOW, &t.before), 0);
	CHECK_EQ(eventfd_write(t.resize, 1), 0);
	int64_t deadline = now_ms() + 10000;
	while (tcgetattr(t.tty, &modes) == 0 && (modes.c_lflag & ICANON) && now_ms() < deadline)
		sleep_ms(1);
	CHECK(!(modes.c_lflag & ICANON));
	CHECK_EQ(eventfd_write(t.cancel, 1), 0);
	pthread_join(job.thread, NULL);
	END(f, t);
}

TEST_MAIN("lib_attach", {"keys_and_screen", keys_and_screen}, {"the_default_shell", the_default_shell},
        {"control_keys_are_the_guests", control_keys_are_the_guests}, {"the_size_follows", the_size_follows},
        {"detach_and_come_back", detach_and_come_back}, {"queries_are_not_replayed", queries_are_not_replayed},
        {"detach_from_a_deaf_program", detach_from_a_deaf_program}, {"cancel_ends_it", cancel_ends_it},
        {"a_guest_that_hangs", a_guest_that_hangs}, {"a_watcher_types_nothing", a_watcher_types_nothing},
        {"a_timeout_holds", a_timeout_holds}, {"failures_leave_the_terminal_alone", failures_leave_the_terminal_alone},
        {"a_session_without_terminal_is_refused", a_session_without_terminal_is_refused},
        {"hang_up_detaches", hang_up_detaches}, {"output_that_hangs_up_detaches", output_that_hangs_up_detaches},
        {"detaching_sets_the_screen_back", detaching_sets_the_screen_back},
        {"raw_mode_comes_back", raw_mode_comes_back})
