/* SPDX-License-Identifier: Apache-2.0 */
/* Executions: building the request, and the calls that send it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/lib/egress.h"
#include "vmm/lib/session.h"

static void add_string(struct lib_string *out, const char *string)
{
	lib_string_add(out, string, strlen(string) + 1);
}

static uint32_t add_strings(struct lib_string *out, const char *const *strings)
{
	uint32_t count = 0;
	/* Far beyond the limit: it is refused without building all of it. */
	for (; strings && strings[count] && out->length <= PROTO_EXEC_MAX; count++)
		add_string(out, strings[count]);
	return count;
}

static int build(const struct wisp_sandbox *sandbox, const char *const *argv, const struct wisp_exec_options *options,
        uint32_t flags, struct lib_string *out, struct wisp_error *error)
{
	struct proto_exec exec = {
	        .flags = flags | (options->tty ? PROTO_EXEC_TTY : 0) |
	                 (options->stdin_mode != WISP_STDIN_NULL ? PROTO_EXEC_STDIN : 0) |
	                 (options->security == WISP_SECURITY_RESTRICTED ? PROTO_EXEC_RESTRICTED : 0),
	        .rlimit_count = (uint32_t)options->rlimit_count,
	        .rows = options->rows,
	        .cols = options->cols,
	};
	/* A timeout that does not fit the field outlasts any guest. */
	exec.timeout_ns =
	        options->timeout_ms > INT64_MAX / NS_PER_MS ? INT64_MAX : (uint64_t)(options->timeout_ms * NS_PER_MS);
	const char *cwd = options->cwd ? options->cwd : sandbox->config.workdir;
	/* The sandbox's own is created, as in a container; a caller's own is more likely a mistake. */
	if (!options->cwd && cwd)
		exec.flags |= PROTO_EXEC_MAKE_CWD;
	const char *user = options->user ? options->user : sandbox->config.user;
	lib_string_add(out, &exec, sizeof(exec));
	for (size_t i = 0; i < options->rlimit_count; i++) {
		struct wisp_rlimit given;
		int r = lib_copy_rlimit(options, i, &given, error);
		if (r < 0)
			return r;
		struct proto_rlimit limit = {
		        .resource = (uint32_t)lib_rlimit_number(given.resource),
		        .soft = given.soft,
		        .hard = given.hard,
		};
		lib_string_add(out, &limit, sizeof(limit));
	}
	add_string(out, cwd ? cwd : "");
	add_string(out, user ? user : "");
	exec.argc = add_strings(out, argv);
	if (sandbox->config.allow_count > 0) {
		exec.flags |= PROTO_EXEC_EGRESS;
		exec.envc = egress_add_env(sandbox->config.secrets, out);
	}
	exec.envc += add_strings(out, sandbox->config.env);
	exec.envc += add_strings(out, options->env);
	if (out->failed)
		return lib_no_memory(error);
	if (out->length > PROTO_EXEC_MAX) {
		int r = lib_fail(error, WISP_ERR_EXEC_FAILED, E2BIG,
		        "%s: its arguments and environment have more than %u bytes: pass them by stdin or a file",
		        argv[0], PROTO_EXEC_MAX);
		if (error) {
			error->failure = WISP_FAILURE_BAD_ARGS;
			error->stage = WISP_STAGE_REQUEST;
		}
		return r;
	}
	memcpy(out->text, &exec, sizeof(exec));
	return 0;
}

static int prepare(const char *const *argv, const struct wisp_exec_options *given, struct wisp_exec_options *options,
        struct wisp_error *error)
{
	int r = lib_copy_options(options, sizeof(*options), given, "struct wisp_exec_options", error);
	if (r == 0)
		r = lib_check_exec_options(options, error);
	if (r == 0 && (!argv || !argv[0] || !argv[0][0]))
		r = lib_fail(error, WISP_ERR_INVALID, EINVAL, "the command is empty: name a program");
	return r;
}

static int begin(struct wisp_sandbox *sandbox, const struct wisp_exec_options *options, struct lib_string *request,
        struct wisp_session **session, struct wisp_error *error)
{
	struct conn *conn;
	int64_t deadline = INT64_MAX;
	if (options->timeout_ms > 0 && options->timeout_ms < INT64_MAX - CONN_MARGIN_MS)
		deadline = lib_deadline_ns(options->timeout_ms + CONN_MARGIN_MS);
	struct lib_cancel cancel;
	int r = lib_copy_cancel(&cancel, options->cancel, &sandbox->cancel, error);
	if (r == 0)
		r = conn_open(sandbox, &cancel, deadline, &conn, error);
	if (r < 0)
		return r;
	conn->tty = options->tty;
	/* A tty without input gets the end of file as its first line. */
	bool feeds =
	        options->stdin_mode == WISP_STDIN_BYTES || (options->tty && options->stdin_mode == WISP_STDIN_NULL);
	conn->window = feeds || options->stdin_mode == WISP_STDIN_PIPE ? PROTO_WINDOW_INITIAL : 0;
	conn->stdin_closed = !feeds && options->stdin_mode != WISP_STDIN_PIPE;
	r = conn_ask(conn, CONN_EXEC, request->text, request->length, error);
	if (r == 0 && feeds)
		r = conn_feed_stdin(conn, options->stdin_mode == WISP_STDIN_BYTES ? options->stdin_data : NULL,
		        options->stdin_mode == WISP_STDIN_BYTES ? options->stdin_length : 0, error);
	if (r == 0 && options->stdin_mode == WISP_STDIN_PIPE)
		r = conn_make_wakeups(conn, error);
	if (r < 0) {
		conn_unref(conn);
		return r;
	}
	r = session_new(conn, session, error);
	if (r == 0) {
		(*session)->has_stdin = options->stdin_mode == WISP_STDIN_PIPE;
		(*session)->timeout_ms = options->timeout_ms;
		if (options->output_limit)
			(*session)->output_limit = options->output_limit;
	}
	return r;
}

/* `flags`: PROTO_EXEC_COLLECT or 0. */
static int start(struct wisp_sandbox *sandbox, const char *const *argv, const struct wisp_exec_options *given,
        uint32_t flags, struct wisp_session **session, struct wisp_error *error)
{
	struct wisp_exec_options options;
	struct lib_string request = {0};
	*session = NULL;
	int r = prepare(argv, given, &options, error);
	if (r == 0)
		r = build(sandbox, argv, &options, flags, &request, error);
	if (r == 0)
		r = begin(sandbox, &options, &request, session, error);
	free(request.text);
	return r;
}

int wisp_exec_stream(struct wisp_sandbox *sandbox, const char *const *argv, const struct wisp_exec_options *options,
        struct wisp_session **session, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(session, "session", error))
		return -EINVAL;
	return start(sandbox, argv, options, 0, session, error);
}

static int start_shell(struct wisp_sandbox *sandbox, const char *script, const char *const *args,
        const struct wisp_exec_options *options, uint32_t flags, struct wisp_session **session,
        struct wisp_error *error)
{
	size_t count = 0;
	*session = NULL;
	if (!script)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the script is NULL");
	while (args && args[count])
		count++;
	const char **argv = calloc(count + 4, sizeof(*argv));
	if (!argv)
		return lib_no_memory(error);
	argv[0] = sandbox->config.shell ? sandbox->config.shell : "/bin/sh";
	argv[1] = "-c";
	argv[2] = script;
	for (size_t i = 0; i < count; i++)
		argv[3 + i] = args[i];
	int r = start(sandbox, argv, options, flags, session, error);
	free(argv);
	return r;
}

int wisp_shell_stream(struct wisp_sandbox *sandbox, const char *script, const char *const *args,
        const struct wisp_exec_options *options, struct wisp_session **session, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(session, "session", error))
		return -EINVAL;
	return start_shell(sandbox, script, args, options, 0, session, error);
}

static int finish(struct wisp_session *session, struct wisp_output **output, struct wisp_error *error)
{
	int r = wisp_collect_output(session, output, error);
	wisp_close_session(session);
	return r;
}

/* wisp_exec and wisp_shell hand out no session to take a stdin writer from. */
static int refuse_pipe(const struct wisp_exec_options *given, struct wisp_error *error)
{
	struct wisp_exec_options options;
	int r = lib_copy_options(&options, sizeof(options), given, "struct wisp_exec_options", error);
	if (r == 0 && options.stdin_mode == WISP_STDIN_PIPE)
		r = lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a collected execution has no stdin writer: use WISP_STDIN_BYTES, or wisp_exec_stream");
	return r;
}

int wisp_exec(struct wisp_sandbox *sandbox, const char *const *argv, const struct wisp_exec_options *options,
        struct wisp_output **output, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(output, "output", error))
		return -EINVAL;
	struct wisp_session *session;
	*output = NULL;
	int r = refuse_pipe(options, error);
	if (r == 0)
		r = start(sandbox, argv, options, PROTO_EXEC_COLLECT, &session, error);
	return r < 0 ? r : finish(session, output, error);
}

int wisp_shell(struct wisp_sandbox *sandbox, const char *script, const char *const *args,
        const struct wisp_exec_options *options, struct wisp_output **output, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(output, "output", error))
		return -EINVAL;
	struct wisp_session *session;
	*output = NULL;
	int r = refuse_pipe(options, error);
	if (r == 0)
		r = start_shell(sandbox, script, args, options, PROTO_EXEC_COLLECT, &session, error);
	return r < 0 ? r : finish(session, output, error);
}
