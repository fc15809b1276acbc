/* SPDX-License-Identifier: Apache-2.0 */
/* Every public call refuses a NULL for what it requires, and says which argument it is. */
#include "tests/unit/test_lib.h"

static const char config[] = "cpus=1\nmemory_mib=64\nshell=/bin/sh\n";

/* The other arguments of a call: valid, so that only the NULL can be refused. */
static const char *const command[] = {"true", NULL};

#define REFUSED(name, call)                                             \
	do {                                                            \
		struct wisp_error error = {0};                          \
		CHECK_EQ(call, -EINVAL);                                \
		CHECK_EQ(error.status, WISP_ERR_INVALID);               \
		if (!strstr(error.message, "'" name "'")) {             \
			test_failed = true;                             \
			printf("# %s: \"%s\"\n", #call, error.message); \
		}                                                       \
	} while (0)

static void sandbox_calls(void)
{
	struct fixture f;
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	enum wisp_sandbox_state state;
	struct wisp_output *output;
	struct wisp_session *session;
	struct wisp_session_info **sessions;
	struct wisp_port_info **ports;
	struct wisp_stats *stats;
	char *text;
	int fd;
	REQUIRE(fixture_start(&f, config));
	REFUSED("sandbox", wisp_create_sandbox(NULL, NULL, &error));
	REFUSED("sandbox", wisp_set_cancel(NULL, NULL, &error));
	REFUSED("sandbox", wisp_wait_ready(NULL, 0, &error));
	REFUSED("sandbox", wisp_stop_sandbox(NULL, 0, &error));
	REFUSED("sandbox", wisp_kill_sandbox(NULL, &error));
	REFUSED("sandbox", wisp_refresh_disks(NULL, &error));
	REFUSED("sandbox", wisp_add_port(NULL, "0", 80, &error));
	REFUSED("host", wisp_add_port(f.sandbox, NULL, 80, &error));
	REFUSED("sandbox", wisp_remove_port(NULL, "80", &error));
	REFUSED("host", wisp_remove_port(f.sandbox, NULL, &error));
	REFUSED("sandbox", wisp_list_ports(NULL, &ports, &error));
	REFUSED("list", wisp_list_ports(f.sandbox, NULL, &error));
	wisp_free_port_list(NULL);
	REFUSED("sandbox", wisp_get_sandbox_state(NULL, &state, &error));
	REFUSED("state", wisp_get_sandbox_state(f.sandbox, NULL, &error));
	REFUSED("sandbox", wisp_wait_sandbox(NULL, 0, NULL, &error));
	REFUSED("name", wisp_read_trace(f.root, NULL, &text, NULL, &error));
	REFUSED("text", wisp_read_trace(f.root, "box", NULL, NULL, &error));
	REFUSED("name", wisp_open_sandbox(f.root, NULL, &sandbox, &error));
	REFUSED("sandbox", wisp_open_sandbox(f.root, "box", NULL, &error));
	REFUSED("name", wisp_inspect_sandbox(f.root, NULL, &info, &error));
	REFUSED("info", wisp_inspect_sandbox(f.root, "box", NULL, &error));
	REFUSED("name", wisp_remove_sandbox(f.root, NULL, &error));
	REFUSED("list", wisp_list_sandboxes(f.root, NULL, &error));
	REFUSED("sandbox", wisp_exec(NULL, command, NULL, &output, &error));
	REFUSED("output", wisp_exec(f.sandbox, command, NULL, NULL, &error));
	REFUSED("sandbox", wisp_shell(NULL, "true", NULL, NULL, &output, &error));
	REFUSED("output", wisp_shell(f.sandbox, "true", NULL, NULL, NULL, &error));
	REFUSED("sandbox", wisp_exec_stream(NULL, command, NULL, &session, &error));
	REFUSED("session", wisp_exec_stream(f.sandbox, command, NULL, NULL, &error));
	REFUSED("sandbox", wisp_shell_stream(NULL, "true", NULL, NULL, &session, &error));
	REFUSED("session", wisp_shell_stream(f.sandbox, "true", NULL, NULL, NULL, &error));
	REFUSED("sandbox", wisp_open_session(NULL, 1, NULL, &session, &error));
	REFUSED("session", wisp_open_session(f.sandbox, 1, NULL, NULL, &error));
	REFUSED("sandbox", wisp_list_sessions(NULL, &sessions, &error));
	REFUSED("list", wisp_list_sessions(f.sandbox, NULL, &error));
	REFUSED("sandbox", wisp_ping_sandbox(NULL, NULL, &error));
	REFUSED("sandbox", wisp_connect_port(NULL, 5000, 0, &fd, &error));
	REFUSED("fd", wisp_connect_port(f.sandbox, 5000, 0, NULL, &error));
	REFUSED("sandbox", wisp_listen_port(NULL, 5000, &fd, &error));
	REFUSED("fd", wisp_listen_port(f.sandbox, 5000, NULL, &error));
	REFUSED("sandbox", wisp_sandbox_stats(NULL, &stats, &error));
	REFUSED("stats", wisp_sandbox_stats(f.sandbox, NULL, &error));
	REFUSED("sandbox", wisp_pause_sandbox(NULL, &error));
	REFUSED("sandbox", wisp_resume_sandbox(NULL, &error));
	REFUSED("sandbox", wisp_snapshot_sandbox(NULL, "/tmp/x", NULL, &error));
	REFUSED("file", wisp_snapshot_sandbox(f.sandbox, NULL, NULL, &error));
	REFUSED("file", wisp_verify_snapshot(NULL, NULL, &error));
	REFUSED("sandbox", wisp_fork_sandbox(NULL, 1, NULL, &sandbox, &error));
	REFUSED("clones", wisp_fork_sandbox(f.sandbox, 1, NULL, NULL, &error));
	REFUSED("sandbox", wisp_attach(NULL, command, NULL, NULL, NULL, NULL, &error));
	fixture_end(&f);
}

static void session_calls(void)
{
	struct fixture f;
	struct wisp_session *session;
	struct wisp_control *control;
	struct wisp_output *output;
	const struct wisp_event *event;
	const char *text;
	uint64_t id;
	uint32_t pid;
	const struct wisp_exec_options options = {.size = sizeof(options), .stdin_mode = WISP_STDIN_PIPE};
	REQUIRE(fixture_start(&f, config));
	REQUIRE(wisp_exec_stream(f.sandbox, command, &options, &session, NULL) == 0);
	struct wisp_stdin *writer = wisp_take_stdin(session);
	REFUSED("session", wisp_recv_event(NULL, 0, &event, &error));
	REFUSED("event", wisp_recv_event(session, 0, NULL, &error));
	REFUSED("session", wisp_get_session_id(NULL, &id, &error));
	REFUSED("id", wisp_get_session_id(session, NULL, &error));
	REFUSED("session", wisp_get_session_pid(NULL, &pid, &error));
	REFUSED("pid", wisp_get_session_pid(session, NULL, &error));
	REFUSED("session", wisp_wait_session(NULL, NULL, &error));
	REFUSED("session", wisp_collect_output(NULL, &output, &error));
	REFUSED("output", wisp_collect_output(session, NULL, &error));
	REFUSED("session", wisp_signal_session(NULL, SIGTERM, &error));
	REFUSED("session", wisp_kill_session(NULL, &error));
	REFUSED("session", wisp_resize_session(NULL, 24, 80, &error));
	REFUSED("session", wisp_open_control(NULL, &control, &error));
	REFUSED("control", wisp_open_control(session, NULL, &error));
	REFUSED("control", wisp_signal_control(NULL, SIGTERM, &error));
	REFUSED("control", wisp_kill_control(NULL, &error));
	REFUSED("control", wisp_resize_control(NULL, 24, 80, &error));
	REFUSED("writer", wisp_write_stdin(NULL, "x", 1, 0, &error));
	REFUSED("data", wisp_write_stdin(writer, NULL, 1, 0, &error));
	REFUSED("session", wisp_attach_session(NULL, NULL, NULL, &error));
	REFUSED("output", wisp_get_stdout_text(NULL, &text, &error));
	REFUSED("output", wisp_get_stderr_text(NULL, &text, &error));
	wisp_close_stdin(writer);
	CHECK_EQ(wisp_collect_output(session, &output, NULL), 0);
	REFUSED("text", wisp_get_stdout_text(output, NULL, &error));
	REFUSED("text", wisp_get_stderr_text(output, NULL, &error));
	wisp_free_output(output);
	wisp_close_session(session);
	fixture_end(&f);
}

static void log_calls(void)
{
	struct fixture f;
	struct wisp_logs *logs;
	const struct wisp_log_record *record;
	REQUIRE(fixture_dir(&f, config));
	REFUSED("name", wisp_open_logs(f.root, NULL, NULL, &logs, &error));
	REFUSED("logs", wisp_open_logs(f.root, "box", NULL, NULL, &error));
	REQUIRE(wisp_open_logs(f.root, "box", NULL, &logs, NULL) == 0);
	REFUSED("logs", wisp_recv_log(NULL, 0, &record, &error));
	REFUSED("record", wisp_recv_log(logs, 0, NULL, &error));
	wisp_close_logs(logs);
	fixture_end(&f);
}

/* What has no error to return has a value that says nothing. */
static void getters(void)
{
	CHECK_STR(wisp_get_sandbox_name(NULL), "");
	CHECK_STR(wisp_get_sandbox_dir(NULL), "");
	CHECK_EQ(wisp_get_sandbox_fd(NULL), -1);
	CHECK_EQ(wisp_get_session_fd(NULL), -1);
	CHECK(!wisp_session_has_tty(NULL));
	CHECK_EQ(wisp_get_pause_us(NULL), 0);
	CHECK(!wisp_writes_disks(NULL));
	CHECK(!wisp_is_warm(NULL));
	CHECK_EQ(wisp_get_stdin_fd(NULL), -1);
	CHECK_EQ(wisp_get_logs_fd(NULL), -1);
	CHECK_EQ(wisp_get_control_id(NULL), 0);
	CHECK(!wisp_take_stdin(NULL));
}

static void releases(void)
{
	wisp_close_sandbox(NULL);
	wisp_close_session(NULL);
	wisp_close_control(NULL);
	wisp_close_stdin(NULL);
	wisp_close_logs(NULL);
	wisp_free_output(NULL);
	wisp_free_session_list(NULL);
	wisp_free_sandbox_list(NULL);
	wisp_free_sandbox_info(NULL);
	wisp_free_text(NULL);
	wisp_free_stats(NULL);
}

/* A NULL state root, and an error nobody asks for. */
static void the_rest(void)
{
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info **list;
	CHECK_EQ(wisp_list_sandboxes(NULL, &list, &error), -EINVAL);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	CHECK_EQ(wisp_prune_sandboxes(NULL, true, NULL, &error), -EINVAL);
	CHECK_EQ(wisp_open_sandbox(NULL, "box", &sandbox, &error), -EINVAL);
	CHECK(wisp_create_sandbox(NULL, &sandbox, &error) < 0);
	CHECK_EQ(wisp_make_warm(NULL, &error), -EINVAL);
	CHECK_EQ(wisp_prune_cache(NULL, 0, &error), -EINVAL);
	CHECK_EQ(wisp_check_host(NULL, &error), -EINVAL);
	CHECK_EQ(wisp_kill_sandbox(NULL, NULL), -EINVAL);
}

TEST_MAIN("lib_null", {"sandbox_calls", sandbox_calls}, {"session_calls", session_calls}, {"log_calls", log_calls},
        {"getters", getters}, {"releases", releases}, {"the_rest", the_rest})
