/* SPDX-License-Identifier: Apache-2.0 */
/* wisp help and wisp version. */
#include "vmm/cli/verbs.h"

#define COLUMN 14

void cli_print_usage(FILE *to)
{
	fputs("usage: wisp VERB [OPTION...] ...\n\nRun commands in microVMs.\n\n", to);
	for (const struct cli_verb *const *verb = cli_verbs; *verb; verb++) {
		char left[COLUMN + 1];
		snprintf(left, sizeof(left), "  %s", (*verb)->name);
		cli_print_entry(left, (*verb)->summary, COLUMN, to);
	}
	fputs("\nSee wisp VERB --help for the options of a verb.\n", to);
}

static int help(const struct cli_call *call)
{
	if (call->operand_count == 0) {
		cli_print_usage(stdout);
		return 0;
	}
	const struct cli_verb *verb = cli_find_verb(call->operands[0]);
	if (!verb)
		return cli_fail_verb(call->operands[0]);
	if (verb->program) {
		char program[] = "", option[] = "--help", *argv[] = {program, option, NULL};
		return cli_exec_program(verb, call->places, argv);
	}
	cli_print_help(verb, stdout);
	return 0;
}

const struct cli_verb cli_help = {
        .name = "help",
        .synopsis = "[VERB]",
        .summary = "List the verbs, or describe one",
        .operands = {CLI_VERB},
        .most = 1,
        .run = help,
};

static int version(const struct cli_call *call)
{
	const struct cli_output *options = call->options;
	if (options->json)
		printf("{\"version\":\"%s\"}\n", wisp_get_version());
	else
		printf("wisp %s\n", wisp_get_version());
	return 0;
}

const struct cli_verb cli_version = {
        .name = "version",
        .synopsis = "",
        .summary = "Print wisp's version",
        .groups = cli_output_groups,
        .options_size = sizeof(struct cli_output),
        .run = version,
};
