/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/execution.h"
#include "vmm/cli/verbs.h"

struct options {
	struct cli_execution execution;
};

static int exec(const struct cli_call *call)
{
	const struct options *options = call->options;
	struct wisp_error error;
	int code = cli_check_execution(call, &options->execution);
	if (code != 0)
		return code;
	struct wisp_sandbox *sandbox = cli_open_any(call, call->operands[0], &code);
	if (!sandbox)
		return code;
	code = cli_bridge_exec(sandbox, call->command, &options->execution, &error);
	if (code >= 0)
		code = cli_explain_signal(sandbox, call, code);
	/* The library looks at the state itself. It is asked for only to say more. */
	else if (error.status != WISP_ERR_NOT_RUNNING || (code = cli_check_state(sandbox, true)) == 0)
		code = cli_fail_lost(sandbox, &error, CLI_LOST_MS);
	wisp_close_sandbox(sandbox);
	return code;
}

static const struct cli_option own_options[] = {
        {.name = "no-stdin",
                .letter = 'n',
                CLI_FLAG(struct options, execution.no_stdin),
                .help = "do not read standard input; use it in scripts and loops that read it themselves"},
        {.name = "detach",
                .letter = 'd',
                CLI_FLAG(struct options, execution.detach),
                .help = "start the command, print its session number, and return"},
        {0},
};

static const struct cli_group groups[] = {
        CLI_EXECUTION_GROUPS(struct options, execution), {.options = own_options}, {0}};

const struct cli_verb cli_exec = {
        .name = "exec",
        .synopsis = "NAME [-- COMMAND [ARG...]]",
        .summary = "Run a command in a sandbox, and exit with its exit code",
        .details =
                "Standard streams and signals work as in wisp run. With -t and no command, wisp starts the sandbox's "
                "shell.\n\n"
                "  wisp exec box -- ls -l /\n"
                "  echo data | wisp exec box -- wc -c\n"
                "  while read -r file; do wisp exec -n box -- rm \"$file\"; done <list\n"
                "  wisp exec -t box",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_SANDBOX},
        .least = 1,
        .most = 1,
        .takes_command = true,
        .run = exec,
};
