/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "vmm/cli/verbs.h"

const struct cli_verb *const cli_verbs[] = {
        &cli_run,
        &cli_create,
        &cli_exec,
        &cli_attach,
        &cli_sessions,
        &cli_ls,
        &cli_inspect,
        &cli_stats,
        &cli_logs,
        &cli_cp,
        &cli_port,
        &cli_kill,
        &cli_snapshot,
        &cli_fork,
        &cli_pause,
        &cli_resume,
        &cli_stop,
        &cli_refresh,
        &cli_rm,
        &cli_prune,
        &cli_doctor,
        &cli_bench,
        &cli_completion,
        &cli_version,
        &cli_help,
        NULL,
};

static const struct cli_option json_options[] = {
        {.name = "json", CLI_FLAG(struct cli_output, json), .help = "print JSON"},
        {0},
};

const struct cli_group cli_output_groups[] = {{.options = json_options}, {0}};

const struct cli_verb *cli_find_verb(const char *name)
{
	for (const struct cli_verb *const *verb = cli_verbs; *verb; verb++) {
		if (strcmp((*verb)->name, name) == 0 || ((*verb)->alias && strcmp((*verb)->alias, name) == 0))
			return *verb;
	}
	return NULL;
}

int cli_fail_verb(const char *given)
{
	const char *best = NULL;
	if (given[0] == '-')
		return cli_fail("wisp has no option %s; options follow a verb; see wisp --help", given);
	size_t slips = 0;
	for (const struct cli_verb *const *verb = cli_verbs; *verb; verb++)
		best = cli_suggest(given, best, &slips, (*verb)->name);
	if (best)
		return cli_fail("there is no verb '%s'; did you mean %s?", given, best);
	return cli_fail("there is no verb '%s'; see wisp --help", given);
}

struct wisp_sandbox *cli_open_any(const struct cli_call *call, const char *name, int *exit_code)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	if (wisp_open_sandbox(call->places->state_root, name, &sandbox, &error) == 0)
		return sandbox;
	*exit_code = cli_fail_error(&error);
	return NULL;
}

int cli_check_state(struct wisp_sandbox *sandbox, bool running)
{
	enum wisp_sandbox_state state;
	struct wisp_error error;
	const char *name = wisp_get_sandbox_name(sandbox);
	if (wisp_get_sandbox_state(sandbox, &state, &error) < 0)
		return cli_fail_error(&error);
	if (state == WISP_SANDBOX_TEMPLATE)
		cli_fail("the sandbox '%s' is a template, which never runs: use a clone of it: wisp fork %s", name,
		        name);
	else if (state == WISP_SANDBOX_PAUSED && running)
		cli_fail("the sandbox '%s' is paused: resume it first: wisp resume %s", name, name);
	else
		return 0;
	return CLI_EXIT_PAUSED;
}

struct wisp_sandbox *cli_open(const struct cli_call *call, const char *name, int *exit_code)
{
	struct wisp_sandbox *sandbox = cli_open_any(call, name, exit_code);
	if (!sandbox)
		return NULL;
	/* A guest that does not run would keep its client waiting. */
	*exit_code = cli_check_state(sandbox, true);
	if (*exit_code == 0)
		return sandbox;
	wisp_close_sandbox(sandbox);
	return NULL;
}
