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
        &cli_logs,
        &cli_cp,
        &cli_kill,
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

struct wisp_sandbox *cli_open(const struct cli_call *call, const char *name, int *exit_code)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	if (wisp_open_sandbox(call->places->state_root, name, &sandbox, &error) == 0)
		return sandbox;
	*exit_code = cli_fail_error(&error);
	return NULL;
}
