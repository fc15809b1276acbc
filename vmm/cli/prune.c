/* SPDX-License-Identifier: Apache-2.0 */
/* wisp prune. */
#include "vmm/cli/verbs.h"

struct options {
	bool dry_run;
};

static int prune(const struct cli_call *call)
{
	const struct options *options = call->options;
	struct wisp_sandbox_info **removed;
	struct wisp_error error;
	if (wisp_prune_sandboxes(call->places->state_root, options->dry_run, &removed, &error) < 0)
		return cli_fail_error(&error);
	for (size_t i = 0; removed[i]; i++)
		printf("%s\n", removed[i]->name);
	wisp_free_sandbox_list(removed);
	return 0;
}

static const struct cli_option own_options[] = {
        {.name = "dry-run", CLI_FLAG(struct options, dry_run), .help = "only print what would be deleted"},
        {0},
};

static const struct cli_group groups[] = {{.options = own_options}, {0}};

const struct cli_verb cli_prune = {
        .name = "prune",
        .synopsis = "",
        .summary = "Delete dead sandboxes, and print their names",
        .details = "A sandbox is dead if its monitor was killed or the host was restarted. wisp also deletes, without "
                   "printing them, unfinished directories of processes that died while they created or deleted a "
                   "sandbox. Running and stopped sandboxes stay; wisp rm deletes stopped ones.",
        .groups = groups,
        .options_size = sizeof(struct options),
        .run = prune,
};
