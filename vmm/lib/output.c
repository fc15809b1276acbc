/* SPDX-License-Identifier: Apache-2.0 */
/* Waits for a session's end and collects its output. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/lib/session.h"

/* Owns the bytes of a wisp_output. */
struct collected {
	struct wisp_output output;
	struct lib_string out, err;
};

void wisp_free_output(struct wisp_output *output)
{
	if (!output)
		return;
	struct collected *collected = (struct collected *)output;
	free(collected->out.text);
	free(collected->err.text);
	free(collected);
}

static int collect_data(
        struct collected *collected, const struct wisp_event *event, size_t limit, struct wisp_error *error)
{
	struct lib_string *to = event->type == WISP_EVENT_STDOUT ? &collected->out : &collected->err;
	size_t left = limit - collected->out.length - collected->err.length;
	size_t length = event->length < left ? event->length : left;
	lib_string_add(to, event->data, length);
	if (to->failed)
		return lib_no_memory(error);
	if (length < event->length)
		return lib_fail(error, WISP_ERR_OUTPUT_LIMIT, EOVERFLOW,
		        "the program wrote more than %zu bytes, the limit of what is collected, and was killed: raise "
		        "output_limit, or receive it as a stream",
		        limit);
	return 0;
}

static int fail_exec(const struct wisp_event *event, struct wisp_error *error)
{
	int errnum = event->errnum ? event->errnum : EIO;
	lib_fail(error, WISP_ERR_EXEC_FAILED, errnum, "the program did not start: %s", event->message);
	if (error) {
		error->failure = event->failure;
		error->stage = event->stage;
	}
	return -errnum;
}

static int fail_timeout(const struct wisp_session *session, struct wisp_error *error)
{
	if (session->timeout_ms == 0)
		return lib_fail(error, WISP_ERR_TIMEOUT, ETIMEDOUT, "the program was killed by its timeout");
	return lib_fail(error, WISP_ERR_TIMEOUT, ETIMEDOUT,
	        "the program was killed: it ran longer than its timeout, %lld.%03lld s",
	        (long long)session->timeout_ms / 1000, (long long)session->timeout_ms % 1000);
}

/*
 * Receives to the end of the session; discards output if `collected` is NULL. Sets *started once there is a result that
 * an error should not hide.
 */
static int run_to_end(struct wisp_session *session, struct collected *collected, struct wisp_exit_status *status,
        bool *started, struct wisp_error *error)
{
	int result = 0;
	for (;;) {
		const struct wisp_event *event;
		int r = wisp_recv_event(session, -1, &event, error);
		if (r < 0)
			return r;
		switch (event->type) {
		case WISP_EVENT_STARTED: *started = true; break;
		case WISP_EVENT_STDOUT:
		case WISP_EVENT_STDERR:
			*started = true;
			r = collected ? collect_data(collected, event, session->output_limit, error) : 0;
			if (r < 0) {
				/* The rest of its output would wait for ever. */
				wisp_kill_session(session, NULL);
				return r;
			}
			break;
		case WISP_EVENT_DROPPED:
			if (collected)
				collected->output.dropped += event->dropped;
			break;
		case WISP_EVENT_EXITED:
			*started = true;
			*status = event->status;
			if (event->status.timed_out)
				result = fail_timeout(session, error);
			break;
		case WISP_EVENT_FAILED: result = fail_exec(event, error); break;
		case WISP_EVENT_STDIN_ERROR: break;
		case WISP_EVENT_DONE: return result;
		}
	}
}

int wisp_wait_session(struct wisp_session *session, struct wisp_exit_status *status, struct wisp_error *error)
{
	if (lib_is_null(session, "session", error))
		return -EINVAL;
	struct wisp_exit_status unused;
	bool started;
	if (!status)
		status = &unused;
	*status = (struct wisp_exit_status){.code = -1};
	return run_to_end(session, NULL, status, &started, error);
}

int wisp_collect_output(struct wisp_session *session, struct wisp_output **output, struct wisp_error *error)
{
	if (lib_is_null(session, "session", error) || lib_is_null(output, "output", error))
		return -EINVAL;
	bool started = false;
	*output = NULL;
	struct collected *collected = calloc(1, sizeof(*collected));
	if (!collected)
		return lib_no_memory(error);
	collected->output.status.code = -1;
	lib_string_add(&collected->out, "", 0);
	lib_string_add(&collected->err, "", 0);
	int r = collected->out.failed || collected->err.failed
	                ? lib_no_memory(error)
	                : run_to_end(session, collected, &collected->output.status, &started, error);
	if (r < 0 && !started) {
		wisp_free_output(&collected->output);
		return r;
	}
	collected->output.stdout_data = (const uint8_t *)collected->out.text;
	collected->output.stdout_length = collected->out.length;
	collected->output.stderr_data = (const uint8_t *)collected->err.text;
	collected->output.stderr_length = collected->err.length;
	*output = &collected->output;
	return r;
}

static int get_text(const uint8_t *data, size_t length, const char *what, const char **text, struct wisp_error *error)
{
	size_t valid;
	*text = NULL;
	if (!lib_is_utf8(data, length, &valid))
		return lib_fail(error, WISP_ERR_NOT_UTF8, EILSEQ,
		        "%s is not valid UTF-8 from byte %zu on: use its bytes", what, valid);
	*text = (const char *)data;
	return 0;
}

int wisp_get_stdout_text(const struct wisp_output *output, const char **text, struct wisp_error *error)
{
	if (lib_is_null(output, "output", error) || lib_is_null(text, "text", error))
		return -EINVAL;
	return get_text(output->stdout_data, output->stdout_length, "stdout", text, error);
}

int wisp_get_stderr_text(const struct wisp_output *output, const char **text, struct wisp_error *error)
{
	if (lib_is_null(output, "output", error) || lib_is_null(text, "text", error))
		return -EINVAL;
	return get_text(output->stderr_data, output->stderr_length, "stderr", text, error);
}
