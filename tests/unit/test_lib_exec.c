/* SPDX-License-Identifier: Apache-2.0 */
/* Collected executions, against the guest's own agent running on this machine. */
#include <pthread.h>

#include "tests/unit/test_lib.h"

static const char config[] =
        "image=\ncpus=1\nmemory_mib=64\nworkdir=/usr\nshell=/bin/sh\nenv=FROM=sandbox\nenv=BOTH=sandbox\n"
        "env=LINES=a\\nb\\\\c\n";

/* Runs `sh -c script`; the output, or NULL with the error. */
static struct wisp_output *shell(
        struct fixture *f, const char *script, const struct wisp_exec_options *options, struct wisp_error *error)
{
	struct wisp_output *output;
	int r = wisp_shell(f->sandbox, script, NULL, options, &output, error);
	if (r == 0)
		*error = (struct wisp_error){.status = WISP_OK};
	CHECK_EQ(r, -error->errnum);
	return output;
}

static void check_stdout(
        struct fixture *f, const char *script, const struct wisp_exec_options *options, const char *wanted)
{
	struct wisp_error error;
	const char *text = "";
	struct wisp_output *output = shell(f, script, options, &error);
	if (!output)
		printf("# %s\n", error.message);
	REQUIRE(output);
	CHECK_EQ(wisp_get_stdout_text(output, &text, NULL), 0);
	CHECK_STR(text, wanted);
	wisp_free_output(output);
}

#define BEGIN(f)                            \
	struct fixture f;                   \
	struct wisp_error error UNUSED;     \
	struct wisp_output *output;         \
	REQUIRE(fixture_start(&f, config)); \
	error.status = WISP_OK;             \
	output = NULL

#define END(f)                    \
	wisp_free_output(output); \
	fixture_end(&f)

static void collects_both_streams(void)
{
	BEGIN(f);
	output = shell(&f, "echo out; echo err >&2; exit 7", NULL, &error);
	REQUIRE(output);
	CHECK_EQ(output->status.code, 7);
	CHECK_EQ(output->status.signal, 0);
	CHECK(!output->status.success && !output->status.timed_out);
	CHECK_STR((const char *)output->stdout_data, "out\n");
	CHECK_STR((const char *)output->stderr_data, "err\n");
	CHECK_EQ(output->stdout_length, 4);
	END(f);
}

static void arguments_are_literal(void)
{
	BEGIN(f);
	const char *argv[] = {"printf", "%s|", "a b", "$HOME", "*", "", "'\"\\", "\xff", NULL};
	REQUIRE(wisp_exec(f.sandbox, argv, NULL, &output, &error) == 0);
	CHECK_STR((const char *)output->stdout_data, "a b|$HOME|*||'\"\\|\xff|");
	CHECK(output->status.success);
	END(f);
}

static void a_signal_is_told(void)
{
	BEGIN(f);
	output = shell(&f, "kill -TERM $$", NULL, &error);
	REQUIRE(output);
	CHECK_EQ(output->status.code, -1);
	CHECK_EQ(output->status.signal, SIGTERM);
	END(f);
}

static void shell_takes_arguments(void)
{
	BEGIN(f);
	const char *args[] = {"zero", "one two", "three", NULL};
	REQUIRE(wisp_shell(f.sandbox, "printf '%s|' \"$0\" \"$@\"", args, NULL, &output, &error) == 0);
	CHECK_STR((const char *)output->stdout_data, "zero|one two|three|");
	END(f);
}

static void environment_is_merged(void)
{
	BEGIN(f);
	const char *env[] = {"BOTH=first", "OWN=x", "BOTH=exec", NULL};
	struct wisp_exec_options options = {.size = sizeof(options), .env = env};
	check_stdout(&f, "printf '%s %s %s %s\\n' $FROM $BOTH $OWN \"$LINES\"", &options, "sandbox exec x a\nb\\c\n");
	check_stdout(&f, "echo $BOTH $OWN", NULL, "sandbox\n");
	check_stdout(&f, "[ -n \"$PATH\" ] && echo $HOME $USER", NULL, "/root root\n");
	END(f);
}

static void working_directory(void)
{
	BEGIN(f);
	struct wisp_exec_options options = {.size = sizeof(options), .cwd = "/tmp"};
	check_stdout(&f, "pwd", NULL, "/usr\n");
	check_stdout(&f, "pwd", &options, "/tmp\n");
	options.cwd = "/no/such";
	output = shell(&f, "true", &options, &error);
	CHECK_EQ(error.status, WISP_ERR_EXEC_FAILED);
	CHECK_EQ(error.failure, WISP_FAILURE_BAD_CWD);
	CHECK_EQ(error.stage, WISP_STAGE_CWD);
	CHECK_EQ(error.errnum, ENOENT);
	CHECK(!output);
	options.cwd = "/etc/passwd";
	output = shell(&f, "true", &options, &error);
	CHECK_EQ(error.failure, WISP_FAILURE_BAD_CWD);
	CHECK_EQ(error.errnum, ENOTDIR);
	options.cwd = "relative";
	output = shell(&f, "true", &options, &error);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	END(f);
}

static void failures_have_kinds(void)
{
	BEGIN(f);
	static const struct {
		const char *program;
		enum wisp_failure failure;
		int errnum;
	} cases[] = {
	        {"/no/such/program", WISP_FAILURE_NOT_FOUND, ENOENT},
	        {"no-such-program", WISP_FAILURE_NOT_FOUND, ENOENT},
	        {"/etc/passwd", WISP_FAILURE_PERMISSION_DENIED, EACCES},
	};
	char script[96];
	snprintf(script, sizeof(script), "%s/garbage", f.root);
	write_file(f.root, "garbage", "\x01\x02garbage");
	chmod(script, 0755);
	for (int tty = 0; tty < 2; tty++) {
		struct wisp_exec_options options = {.size = sizeof(options), .tty = tty};
		for (size_t i = 0; i < 4; i++) {
			const char *argv[] = {i < 3 ? cases[i].program : script, NULL};
			int r = wisp_exec(f.sandbox, argv, &options, &output, &error);
			CHECK_EQ(r, i < 3 ? -cases[i].errnum : -ENOEXEC);
			CHECK_EQ(error.status, WISP_ERR_EXEC_FAILED);
			CHECK_EQ(error.failure, i < 3 ? cases[i].failure : WISP_FAILURE_NOT_EXECUTABLE);
			CHECK_EQ(error.stage, WISP_STAGE_EXEC);
			CHECK(!output);
			CHECK(strstr(error.message, argv[0]));
		}
		options.user = "no-such-user";
		const char *argv[] = {"true", NULL};
		CHECK(wisp_exec(f.sandbox, argv, &options, &output, &error) < 0);
		CHECK_EQ(error.failure, WISP_FAILURE_USER_SETUP_FAILED);
		CHECK_EQ(error.stage, WISP_STAGE_USER);
	}
	END(f);
}

static void users(void)
{
	if (geteuid() != 0)
		SKIP("needs root");
	BEGIN(f);
	struct wisp_exec_options options = {.size = sizeof(options), .user = "nobody"};
	check_stdout(&f, "id -un; echo $USER", &options, "nobody\nnobody\n");
	options.user = "65534:0";
	check_stdout(&f, "id -u; id -g", &options, "65534\n0\n");
	options.user = "daemon:bin";
	check_stdout(&f, "id -un; id -gn", &options, "daemon\nbin\n");
	options.user = "two\nlines";
	output = shell(&f, "true", &options, &error);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	options.user = "";
	output = shell(&f, "true", &options, &error);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	END(f);
}

static void stdin_null_is_the_end(void)
{
	BEGIN(f);
	const char *argv[] = {"cat", NULL};
	struct wisp_exec_options options = {.size = sizeof(options), .timeout_ms = 10000};
	CHECK_EQ(wisp_exec(f.sandbox, argv, &options, &output, &error), 0);
	REQUIRE(output);
	CHECK_EQ(output->stdout_length, 0);
	wisp_free_output(output);
	/* With a tty the same: its input is at its end. */
	options.tty = true;
	CHECK_EQ(wisp_exec(f.sandbox, argv, &options, &output, &error), 0);
	END(f);
}

/* 1 MiB to a reader that sleeps first: it arrives whole, and nothing has to be held in memory meanwhile. */
static void stdin_bytes(void)
{
	BEGIN(f);
	size_t length = 1 << 20;
	uint8_t *data = malloc(length);
	REQUIRE(data);
	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	struct wisp_exec_options options = {
	        .size = sizeof(options), .stdin_mode = WISP_STDIN_BYTES, .stdin_data = data, .stdin_length = length};
	output = shell(&f, "sleep 0.3; cat", &options, &error);
	REQUIRE(output);
	CHECK_EQ(output->stdout_length, length);
	CHECK(output->stdout_length == length && memcmp(output->stdout_data, data, length) == 0);
	wisp_free_output(output);
	/* One who reads none of it. */
	output = shell(&f, "exit 3", &options, &error);
	CHECK(output && output->status.code == 3);
	free(data);
	END(f);
}

static void large_output_on_both_streams(void)
{
	BEGIN(f);
	output = shell(&f,
	        "{ head -c 262144 /dev/zero | tr '\\0' o; echo TAIL-OUT; } & { head -c 262144 /dev/zero | tr '\\0' e; "
	        "echo "
	        "TAIL-ERR; } >&2; wait",
	        NULL, &error);
	REQUIRE(output);
	CHECK_EQ(output->stdout_length, 262144 + 9);
	CHECK_EQ(output->stderr_length, 262144 + 9);
	CHECK_STR((const char *)output->stdout_data + 262144, "TAIL-OUT\n");
	CHECK_STR((const char *)output->stderr_data + 262144, "TAIL-ERR\n");
	END(f);
}

static void bytes_are_kept(void)
{
	BEGIN(f);
	const char *text;
	output = shell(&f, "printf 'a\\000b\\377\\n'; printf '\\303\\274' >&2", NULL, &error);
	REQUIRE(output);
	CHECK_EQ(output->stdout_length, 5);
	CHECK(memcmp(output->stdout_data, "a\0b\xff\n", 5) == 0);
	CHECK_EQ(wisp_get_stdout_text(output, &text, &error), -EILSEQ);
	CHECK_EQ(error.status, WISP_ERR_NOT_UTF8);
	CHECK_EQ(wisp_get_stderr_text(output, &text, &error), 0);
	CHECK_STR(text, "\xc3\xbc");
	END(f);
}

static void output_limit(void)
{
	BEGIN(f);
	struct wisp_exec_options options = {.size = sizeof(options), .output_limit = 100000};
	int64_t began = now_ms();
	output = shell(&f, "while :; do echo 0123456789; done", &options, &error);
	CHECK_EQ(error.status, WISP_ERR_OUTPUT_LIMIT);
	CHECK_EQ(error.errnum, EOVERFLOW);
	REQUIRE(output);
	CHECK_EQ(output->stdout_length, 100000);
	CHECK(now_ms() - began < 10000);
	END(f);
}

static void timeout_gives_what_there_was(void)
{
	BEGIN(f);
	struct wisp_exec_options options = {.size = sizeof(options), .timeout_ms = 300};
	int64_t began = now_ms();
	/* The grandchild holds the pipe: it is killed too. */
	output = shell(&f, "echo before; sleep 1000 & sleep 1000", &options, &error);
	int64_t took = now_ms() - began;
	CHECK_EQ(error.status, WISP_ERR_TIMEOUT);
	CHECK_EQ(error.errnum, ETIMEDOUT);
	REQUIRE(output);
	CHECK_STR((const char *)output->stdout_data, "before\n");
	CHECK(output->status.timed_out);
	CHECK_EQ(output->status.signal, SIGKILL);
	CHECK(took >= 290 && took < 2000);
	options.timeout_ms = -1;
	wisp_free_output(output);
	output = shell(&f, "true", &options, &error);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	END(f);
}

/* The guest stops answering: the library's own, later timeout. */
static void a_hung_guest_does_not_hang_the_caller(void)
{
	BEGIN(f);
	struct wisp_exec_options options = {.size = sizeof(options), .timeout_ms = 200};
	struct wisp_session *session;
	const char *argv[] = {"sleep", "1000", NULL};
	REQUIRE(wisp_exec_stream(f.sandbox, argv, &options, &session, &error) == 0);
	uint64_t id;
	CHECK_EQ(wisp_get_session_id(session, &id, &error), 0);
	stop_process(f.agent);
	int64_t began = now_ms();
	CHECK_EQ(wisp_wait_session(session, NULL, &error), -ETIMEDOUT);
	CHECK_EQ(error.status, WISP_ERR_TIMEOUT);
	CHECK(now_ms() - began < 4000);
	kill(f.agent, SIGCONT);
	wisp_close_session(session);
	END(f);
}

static void rlimits(void)
{
	BEGIN(f);
	struct wisp_rlimit limits[] = {{"nofile", 123, 456}, {"core", 0, 0}};
	struct wisp_exec_options options = {
	        .size = sizeof(options), .rlimits = limits, .rlimit_count = 2, .rlimit_size = sizeof(limits[0])};
	check_stdout(&f, "ulimit -Sn; ulimit -Hn; ulimit -c", &options, "123\n456\n0\n");
	limits[1] = (struct wisp_rlimit){"speed", 1, 1};
	output = shell(&f, "true", &options, &error);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	CHECK(strstr(error.message, "'speed'"));
	limits[1] = (struct wisp_rlimit){"cpu", 2, 1};
	output = shell(&f, "true", &options, &error);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	CHECK(strstr(error.message, "above the hard limit"));
	END(f);
}

static void all_sixteen_rlimits(void)
{
	BEGIN(f);
	static const char *const names[] = {"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue",
	        "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"};
	for (size_t i = 0; i < 16; i++) {
		struct wisp_rlimit limit = {names[i], 1ull << 30, WISP_RLIMIT_INFINITY};
		struct wisp_exec_options options = {
		        .size = sizeof(options), .rlimits = &limit, .rlimit_count = 1, .rlimit_size = sizeof(limit)};
		if (strcmp(names[i], "nofile") == 0)
			limit = (struct wisp_rlimit){names[i], 100, 200};
		const char *argv[] = {"true", NULL};
		int r = wisp_exec(f.sandbox, argv, &options, &output, &error);
		/* What this machine does not let us raise is told as what it is. */
		CHECK(r == 0 || error.failure == WISP_FAILURE_RESOURCE_LIMIT);
		wisp_free_output(output);
	}
	output = NULL;
	END(f);
}

static void tty_merges_and_has_a_size(void)
{
	BEGIN(f);
	struct wisp_exec_options options = {.size = sizeof(options), .tty = true, .rows = 33, .cols = 99};
	check_stdout(&f, "stty size; echo err >&2; tty >/dev/null && echo yes", &options, "33 99\r\nerr\r\nyes\r\n");
	END(f);
}

static void empty_commands_are_refused(void)
{
	BEGIN(f);
	const char *none[] = {NULL}, *empty[] = {"", NULL};
	CHECK_EQ(wisp_exec(f.sandbox, none, NULL, &output, &error), -EINVAL);
	CHECK_EQ(wisp_exec(f.sandbox, NULL, NULL, &output, &error), -EINVAL);
	CHECK_EQ(wisp_exec(f.sandbox, empty, NULL, &output, &error), -EINVAL);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	END(f);
}

/* More than the kernel takes in one argument, and more than the protocol takes in all. */
static void too_many_arguments(void)
{
	BEGIN(f);
	for (size_t size = 1 << 20; size <= 4 << 20; size *= 4) {
		char *argument = malloc(size + 1);
		REQUIRE(argument);
		memset(argument, 'x', size);
		argument[size] = '\0';
		const char *argv[] = {"true", argument, NULL};
		CHECK_EQ(wisp_exec(f.sandbox, argv, NULL, &output, &error), -E2BIG);
		CHECK_EQ(error.status, WISP_ERR_EXEC_FAILED);
		CHECK_EQ(error.failure, WISP_FAILURE_BAD_ARGS);
		free(argument);
	}
	check_stdout(&f, "echo alive", NULL, "alive\n");
	END(f);
}

static void bad_environment_is_refused(void)
{
	BEGIN(f);
	static const char *const bad[] = {"NOVALUE", "=x", "A\nB=x"};
	for (size_t i = 0; i < 3; i++) {
		const char *env[] = {bad[i], NULL};
		struct wisp_exec_options options = {.size = sizeof(options), .env = env};
		output = shell(&f, "true", &options, &error);
		CHECK_EQ(error.status, WISP_ERR_INVALID);
	}
	END(f);
}

/* A background child that keeps the pipe delays the end by the grace only. */
static void a_background_child_does_not_hold_the_end(void)
{
	BEGIN(f);
	int64_t began = now_ms();
	output = shell(&f, "sleep 5 & echo done", NULL, &error);
	REQUIRE(output);
	CHECK_STR((const char *)output->stdout_data, "done\n");
	CHECK(now_ms() - began < 2000);
	END(f);
}

struct one {
	struct wisp_sandbox *sandbox;
	int number;
	int got;
};

static void *run_one(void *context)
{
	struct one *one = context;
	struct wisp_exec_options options = {.size = sizeof(options), .tty = one->number % 2 == 1};
	struct wisp_output *output;
	struct wisp_error error;
	char script[64];
	snprintf(script, sizeof(script), "sleep 0.2; exit %d", one->number);
	if (wisp_shell(one->sandbox, script, NULL, &options, &output, &error) == 0)
		one->got = output->status.code;
	else
		printf("# %s\n", error.message);
	wisp_free_output(output);
	return NULL;
}

static void seventy_two_at_once(void)
{
	BEGIN(f);
	pthread_t threads[72];
	struct one ones[72];
	for (int i = 0; i < 72; i++) {
		ones[i] = (struct one){f.sandbox, i, -1};
		REQUIRE(pthread_create(&threads[i], NULL, run_one, &ones[i]) == 0);
	}
	for (int i = 0; i < 72; i++) {
		pthread_join(threads[i], NULL);
		CHECK_EQ(ones[i].got, i);
	}
	END(f);
}

static void options_of_other_versions(void)
{
	BEGIN(f);
	struct {
		struct wisp_exec_options options;
		uint64_t later;
	} newer = {.options = {.size = sizeof(newer)}};
	check_stdout(&f, "echo ok", &newer.options, "ok\n");
	newer.later = 1;
	output = shell(&f, "true", &newer.options, &error);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	/* An older program's structure ends early. */
	struct wisp_exec_options older = {.size = offsetof(struct wisp_exec_options, env), .cwd = "/tmp"};
	older.timeout_ms = -1;
	check_stdout(&f, "pwd", &older, "/tmp\n");
	older.size = 0;
	output = shell(&f, "true", &older, &error);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	END(f);
}

static void descriptors_are_not_leaked(void)
{
	BEGIN(f);
	int before = count_entries("/proc/self/fd");
	for (int i = 0; i < 20; i++) {
		struct wisp_exec_options options = {.size = sizeof(options), .tty = i % 2};
		output = shell(&f, "echo x", &options, &error);
		wisp_free_output(output);
		output = NULL;
		const char *argv[] = {"/no/such", NULL};
		wisp_exec(f.sandbox, argv, NULL, &output, NULL);
	}
	CHECK_EQ(count_entries("/proc/self/fd"), before);
	END(f);
}

static void ping(void)
{
	BEGIN(f);
	int64_t ns = 0;
	CHECK_EQ(wisp_ping_sandbox(f.sandbox, &ns, &error), 0);
	CHECK(ns > 0 && ns < 5000000000ll);
	END(f);
}

TEST_MAIN("lib_exec", {"collects_both_streams", collects_both_streams},
        {"arguments_are_literal", arguments_are_literal}, {"a_signal_is_told", a_signal_is_told},
        {"shell_takes_arguments", shell_takes_arguments}, {"environment_is_merged", environment_is_merged},
        {"working_directory", working_directory}, {"failures_have_kinds", failures_have_kinds}, {"users", users},
        {"stdin_null_is_the_end", stdin_null_is_the_end}, {"stdin_bytes", stdin_bytes},
        {"large_output_on_both_streams", large_output_on_both_streams}, {"bytes_are_kept", bytes_are_kept},
        {"output_limit", output_limit}, {"timeout_gives_what_there_was", timeout_gives_what_there_was},
        {"a_hung_guest_does_not_hang_the_caller", a_hung_guest_does_not_hang_the_caller}, {"rlimits", rlimits},
        {"all_sixteen_rlimits", all_sixteen_rlimits}, {"tty_merges_and_has_a_size", tty_merges_and_has_a_size},
        {"empty_commands_are_refused", empty_commands_are_refused}, {"too_many_arguments", too_many_arguments},
        {"bad_environment_is_refused", bad_environment_is_refused},
        {"a_background_child_does_not_hold_the_end", a_background_child_does_not_hold_the_end},
        {"seventy_two_at_once", seventy_two_at_once}, {"options_of_other_versions", options_of_other_versions},
        {"descriptors_are_not_leaked", descriptors_are_not_leaked}, {"ping", ping})
