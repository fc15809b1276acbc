/* SPDX-License-Identifier: Apache-2.0 */
/* wisp prune. */
#include "vmm/cli/verbs.h"

struct options {
	bool dry_run;
	bool cache;
};

static int prune_cache(const struct cli_call *call)
{
	const struct options *options = call->options;
	struct wisp_error error;
	if (options->dry_run)
		return cli_fail(
		        "prune: --dry-run and --cache cannot be combined; what is deleted is made again when it is "
		        "used");
	int count = wisp_prune_cache(call->places->cache_dir, 0, &error);
	if (count < 0)
		return cli_fail_error(&error);
	printf("%d %s deleted from %s\n", count, count == 1 ? "file" : "files", call->places->cache_dir);
	return 0;
}

static int prune_sandboxes(const struct cli_call *call)
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

static int prune(const struct cli_call *call)
{
	const struct options *options = call->options;
	return options->cache ? prune_cache(call) : prune_sandboxes(call);
}

static const struct cli_option own_options[] = {
        {.name = "dry-run", CLI_FLAG(struct options, dry_run), .help = "only print what would be deleted"},
        {.name = "cache",
                CLI_FLAG(struct options, cache),
                .help = "delete packed directories and expanded snapshots from the cache instead, and print how many"},
        {0},
};

static const struct cli_group groups[] = {{.options = own_options}, {0}};

const struct cli_verb cli_prune = {
        .name = "prune",
        .synopsis = "",
        .summary = "Delete dead sandboxes, and print their names",
        .details =
                "A sandbox is dead if its monitor was killed or the host was restarted. wisp also deletes, without "
                "printing them, unfinished directories of processes that died while they created or deleted a "
                "sandbox. Running and stopped sandboxes stay; wisp rm deletes stopped ones.\n\n"
                "With --cache, wisp deletes the images that it has made of directories (wisp run ./DIRECTORY), and the "
                "files that it has made of compressed snapshots. Those that a running sandbox uses stay, and those "
                "that were used in the last minute. The cache is "
                "bounded without this command: 32 files, 8 GiB, and 30 days since the last use.",
        .groups = groups,
        .options_size = sizeof(struct options),
        .run = prune,
};
