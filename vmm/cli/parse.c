/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines, by the tables. Options may come before, between and after operands, up to "--". */
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/cli.h"

/* `visit` for each option of the verb, until it returns true. */
static const struct cli_option *find(const struct cli_verb *verb, const char *name, size_t length, char letter)
{
	const struct cli_option *const only_help[] = {cli_help_option, NULL};
	const struct cli_option *const *sets[] = {verb->options, only_help};
	for (size_t s = 0; s < 2; s++) {
		for (const struct cli_option *const *table = sets[s]; table && *table; table++) {
			for (const struct cli_option *option = *table; option->name; option++) {
				if (letter ? option->letter == letter
				           : strlen(option->name) == length && strncmp(option->name, name, length) == 0)
					return option;
			}
		}
	}
	return NULL;
}

static int fail_unknown(const struct cli_verb *verb, const char *given)
{
	const char *best = NULL;
	size_t distance = 3; /* more than two slips are another word */
	if (strncmp(given, "--", 2) == 0) {
		char word[64];
		snprintf(word, sizeof(word), "%.*s", (int)strcspn(given + 2, "="), given + 2);
		for (const struct cli_option *const *table = verb->options; table && *table; table++) {
			for (const struct cli_option *option = *table; option->name; option++)
				best = cli_suggest(word, best, &distance, option->name);
		}
	}
	if (best)
		return cli_fail("%s has no option %s: did you mean --%s?", verb->name, given, best);
	return cli_fail("%s has no option %s: see wisp %s --help", verb->name, given, verb->name);
}

static int take(const struct cli_option *option, struct cli_args *args, const char *text)
{
	char why[CLI_WHY_SIZE] = "it cannot be used";
	if (option->take(args, text, why))
		return 0;
	return cli_fail("--%s '%s': %s", option->name, text, why);
}

/* A word that begins with a dash. *at is advanced over a value of its own. */
static int parse_option(const struct cli_verb *verb, int argc, char **argv, int *at, struct cli_args *args)
{
	char *word = argv[*at];
	if (word[1] == '-') {
		const char *name = word + 2, *equals = strchr(name, '=');
		size_t length = equals ? (size_t)(equals - name) : strlen(name);
		const struct cli_option *option = find(verb, name, length, 0);
		if (!option)
			return fail_unknown(verb, word);
		if (!option->value)
			return equals ? cli_fail("--%s takes no value", option->name) : take(option, args, "");
		if (equals)
			return take(option, args, equals + 1);
		if (*at + 1 >= argc)
			return cli_fail("--%s wants a value: %s", option->name, option->value);
		return take(option, args, argv[++*at]);
	}
	for (const char *letter = word + 1; *letter; letter++) {
		const struct cli_option *option = find(verb, NULL, 0, *letter);
		char shown[3] = {'-', *letter, '\0'};
		if (!option)
			return fail_unknown(verb, shown);
		int r;
		if (!option->value) {
			if ((r = take(option, args, "")) != 0)
				return r;
			continue;
		}
		if (letter[1])
			return take(option, args, letter + 1);
		if (*at + 1 >= argc)
			return cli_fail("%s wants a value: %s", shown, option->value);
		return take(option, args, argv[++*at]);
	}
	return 0;
}

static int check_counts(const struct cli_verb *verb, const struct cli_args *args)
{
	if (args->operand_count < verb->least)
		return cli_fail(
		        "%s: something is missing: wisp %s [OPTION...] %s", verb->name, verb->name, verb->synopsis);
	if (args->operand_count > verb->most && verb->command != CLI_NO_COMMAND && !args->command)
		return cli_fail("%s: '%s' is one word too many: write the command after --: wisp %s %s", verb->name,
		        args->operands[verb->most], verb->name, verb->synopsis);
	if (args->operand_count > verb->most)
		return cli_fail("%s: '%s' is one word too many: wisp %s [OPTION...] %s", verb->name,
		        args->operands[verb->most], verb->name, verb->synopsis);
	if (verb->command == CLI_NO_COMMAND && args->command && args->command[0])
		return cli_fail("%s takes no command", verb->name);
	bool wanted = verb->command == CLI_MUST_COMMAND && !args->tty;
	if (wanted && !args->command)
		return cli_fail("%s: there is no command: write it after --: wisp %s %s", verb->name, verb->name,
		        verb->synopsis);
	if ((wanted && !args->command[0]) || (args->command && args->command[0] && !args->command[0][0]))
		return cli_fail("%s: the command after -- is empty: name a program", verb->name);
	return 0;
}

int cli_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_args *args)
{
	*args = (struct cli_args){0};
	size_t most = (size_t)argc + 1; /* of anything that may be repeated */
	args->operands = calloc(most, sizeof(*args->operands));
	args->env = calloc(most, sizeof(*args->env));
	args->disks = calloc(most, sizeof(*args->disks));
	args->rlimits = calloc(most, sizeof(*args->rlimits));
	if (!args->operands || !args->env || !args->disks || !args->rlimits)
		return cli_fail("out of memory");
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			union {
				char **from;
				const char *const *to;
			} rest = {.from = argv + i + 1};
			args->command = rest.to;
			break;
		}
		int r = 0;
		/* "-" alone is an operand: standard input or output. */
		if (argv[i][0] == '-' && argv[i][1])
			r = parse_option(verb, argc, argv, &i, args);
		else
			args->operands[args->operand_count++] = argv[i];
		if (r != 0)
			return r;
		if (args->help)
			return 0;
	}
	if (args->tty && args->no_tty)
		return cli_fail("--tty and --no-tty contradict each other");
	return check_counts(verb, args);
}

void cli_free_args(struct cli_args *args)
{
	/* Made by the functions that took them. */
	union {
		const char *from;
		char *to;
	} text;
	for (size_t i = 0; i < args->env_count; i++) {
		text.from = args->env[i];
		free(text.to);
	}
	for (size_t i = 0; i < args->disk_count; i++) {
		text.from = args->disks[i].path;
		free(text.to);
	}
	for (size_t i = 0; i < args->rlimit_count; i++) {
		text.from = args->rlimits[i].resource;
		free(text.to);
	}
	free(args->operands);
	free(args->env);
	free(args->disks);
	free(args->rlimits);
}
