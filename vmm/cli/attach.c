/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/execution.h"
#include "vmm/cli/verbs.h"

struct options {
	const char *detach_keys;
	bool live, watch;
};

/* As the writer, unless the user only watches or another client writes. */
static int open_session(struct wisp_sandbox *sandbox, uint64_t id, const struct options *options, enum cli_role *role,
        struct wisp_session **session, struct wisp_error *error)
{
	struct wisp_open_options open = {.size = sizeof(open), .live = options->live, .write = !options->watch};
	*role = options->watch ? CLI_WATCHER : CLI_WRITER;
	int r = wisp_open_session(sandbox, id, &open, session, error);
	if (r < 0 && open.write && error->status == WISP_ERR_WRITER_TAKEN) {
		cli_fail("another client writes to session %llu; only watching it", (unsigned long long)id);
		open.write = false;
		*role = CLI_WATCHER;
		r = wisp_open_session(sandbox, id, &open, session, error);
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

static int attach(const struct cli_call *call)
{
	const struct options *options = call->options;
	struct wisp_session *session;
	struct wisp_error error;
	char why[CLI_WHY_SIZE];
	enum cli_role role;
	uint64_t id;
	int code = 0;
	if (!cli_parse_count(call->operands[1], UINT64_MAX, &id, why))
		return cli_fail(
		        "attach: session '%s': %s; see wisp sessions %s", call->operands[1], why, call->operands[0]);
	struct wisp_sandbox *sandbox = cli_open(call, call->operands[0], &code);
	if (!sandbox)
		return code;
	if (open_session(sandbox, id, options, &role, &session, &error) < 0) {
		code = cli_fail_error(&error);
		wisp_close_sandbox(sandbox);
		return code;
	}
	if (has_tty(sandbox, id))
		code = cli_bridge_terminal_session(sandbox, session, id, options->detach_keys, &error);
	else
		code = cli_bridge_session(session, role, &error);
	code = code < 0 ? cli_fail_lost(sandbox, &error, CLI_LOST_MS) : cli_explain_signal(sandbox, call, code);
	wisp_close_session(session);
	wisp_close_sandbox(sandbox);
	return code;
}

static const struct cli_option own_options[] = {
        {.name = "detach-keys",
                .value = "KEYS",
                CLI_TEXT(struct options, detach_keys),
                .help = "the keys that detach from the session and leave it running; default ctrl-]"},
        {.name = "live",
                CLI_FLAG(struct options, live),
                .help = "show only new output; default: first the last 256 KiB that the session wrote"},
        {.name = "watch",
                CLI_FLAG(struct options, watch),
                .help = "only watch; default: also type, unless another client does"},
        {0},
};

static const struct cli_group groups[] = {{.options = own_options}, {0}};

const struct cli_verb cli_attach = {
        .name = "attach",
        .synopsis = "NAME SESSION",
        .summary = "Connect to a running session, or show what an ended one wrote",
        .details = "SESSION is a number that wisp sessions lists. A session with a terminal is connected to this "
                   "terminal; any other session is connected to the standard streams.\n\n"
                   "SIGHUP, and a reader of the output that has gone, end wisp and not the session. With --watch, so "
                   "does every signal. Other signals are forwarded as in wisp run. Standard input that is a terminal "
                   "or /dev/null is not forwarded, and the session's own stays open.",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_SANDBOX, CLI_SESSION},
        .least = 2,
        .most = 2,
        .run = attach,
};
