/* SPDX-License-Identifier: Apache-2.0 */
/* wisp attach. */
#include "vmm/cli/cli.h"

/* As the writer, unless only watching was asked for or another client writes. */
static int open_session(struct wisp_sandbox *sandbox, uint64_t id, const struct cli_args *args,
        struct wisp_session **session, struct wisp_error *error)
{
	struct wisp_open_options options = {.size = sizeof(options), .live = args->live, .write = !args->watch};
	int r = wisp_open_session(sandbox, id, &options, session, error);
	if (r < 0 && options.write && error->status == WISP_ERR_WRITER_TAKEN) {
		cli_fail("another client writes to session %llu: only watching it", (unsigned long long)id);
		options.write = false;
		r = wisp_open_session(sandbox, id, &options, session, error);
	}
	return r;
}

static bool has_tty(struct wisp_sandbox *sandbox, uint64_t id)
{
	struct wisp_session_info **list;
	bool tty = false;
	if (wisp_list_sessions(sandbox, &list, NULL) < 0)
		return false;
	for (size_t i = 0; list[i]; i++)
		tty |= list[i]->id == id && list[i]->tty;
	wisp_free_session_list(list);
	return tty;
}

int cli_attach(struct cli_args *args)
{
	struct wisp_session *session;
	struct wisp_error error;
	char why[CLI_WHY_SIZE];
	uint64_t id;
	int code = 0;
	if (!cli_parse_count(args->operands[1], UINT64_MAX, &id, why))
		return cli_fail(
		        "attach: session '%s': %s: see wisp sessions %s", args->operands[1], why, args->operands[0]);
	struct wisp_sandbox *sandbox = cli_open(args->operands[0], &code);
	if (!sandbox)
		return code;
	if (open_session(sandbox, id, args, &session, &error) < 0) {
		code = cli_fail_error(&error);
		wisp_close_sandbox(sandbox);
		return code;
	}
	if (has_tty(sandbox, id)) {
		code = cli_bridge_terminal(sandbox, args, session, id, &error);
	} else {
		cli_block_signals();
		code = cli_bridge_session(session, &error);
	}
	if (code < 0)
		code = cli_fail_error(&error);
	wisp_close_session(session);
	wisp_close_sandbox(sandbox);
	return code;
}
