/* SPDX-License-Identifier: Apache-2.0 */
/* Parses command lines by the tables. Options may come before, between and after operands, up to "--". */
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/command.h"

const struct cli_option cli_help_options[] = {
        {.name = "help", .letter = 'h', CLI_FLAG(struct cli_call, help), .help = "print this text"},
        {0},
};

void cli_each_option(const struct cli_verb *verb,
        void (*visit)(const struct cli_verb *verb, const struct cli_option *option, void *context), void *context)
{
	for (const struct cli_group *group = verb->groups; group && group->options; group++) {
		for (const struct cli_option *option = group->options; option->name; option++) {
			if (option->help)
				visit(verb, option, context);
		}
	}
	visit(verb, cli_help_options, context);
}

/* ---- What was meant by a mistyped word ---- */

/* How many letters are missing, additional, wrong, or swapped with their neighbour. */
static size_t count_slips(const char *a, const char *b)
{
	size_t rows[3][64], m = strlen(a), n = strlen(b);
	if (m >= 64 || n >= 64)
		return SIZE_MAX;
	for (size_t i = 0; i <= m; i++) {
		size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *higher = rows[(i + 1) % 3];
		for (size_t j = 0; j <= n; j++) {
			if (i == 0 || j == 0) {
				row[j] = i + j;
				continue;
			}
			size_t gap = (row[j - 1] < above[j] ? row[j - 1] : above[j]) + 1;
			row[j] = above[j - 1] + (a[i - 1] != b[j - 1]);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && higher[j - 2] < row[j])
				row[j] = higher[j - 2] + 1;
			row[j] = gap < row[j] ? gap : row[j];
		}
	}
	return rows[m % 3][n];
}

const char *cli_suggest(const char *text, const char *best, size_t *slips, const char *candidate)
{
	/* With more slips, it is another word: "pull" is not "kill", "rm" not "rw". */
	size_t length = strlen(text), most = length > 5 ? 2 : length > 2 ? 1 : 0, count = count_slips(text, candidate);
	if (count > most || (best && count >= *slips))
		return best;
	*slips = count;
	return candidate;
}

struct suggestion {
	const char *given, *best;
	size_t slips;
};

static void compare(const struct cli_verb *verb, const struct cli_option *option, void *context)
{
	struct suggestion *suggestion = context;
	(void)verb;
	suggestion->best = cli_suggest(suggestion->given, suggestion->best, &suggestion->slips, option->name);
}

static int fail_unknown(const struct cli_verb *verb, const char *given)
{
	char word[64];
	struct suggestion suggestion = {.given = word};
	if (strncmp(given, "--", 2) == 0) {
		snprintf(word, sizeof(word), "%.*s", (int)strcspn(given + 2, "="), given + 2);
		cli_each_option(verb, compare, &suggestion);
	}
	if (suggestion.best)
		return cli_fail("%s has no option %s; did you mean --%s?", verb->name, given, suggestion.best);
	return cli_fail("%s has no option %s; see wisp %s --help", verb->name, given, verb->name);
}

/* ---- Options ---- */

/* An option of this call, and the struct that its value goes into. */
struct found {
	const struct cli_option *option;
	char *base;
};

static struct found find(struct cli_call *call, const char *name, size_t length, char letter)
{
	const struct cli_group help = {.options = cli_help_options}, none = {0};
	const struct cli_group *group = call->verb->groups ? call->verb->groups : &none;
	for (bool last = false; !last; group++) {
		last = !group->options;
		for (const struct cli_option *option = last ? help.options : group->options; option->name; option++) {
			if (letter ? option->letter == letter
			           : strlen(option->name) == length && strncmp(option->name, name, length) == 0)
				return (struct found){
				        option, last ? (char *)call : (char *)call->options + group->offset};
		}
	}
	return (struct found){NULL, NULL};
}

static int take(const struct found *found, const char *text)
{
	char why[CLI_WHY_SIZE] = "";
	const struct cli_option *option = found->option;
	if (option->take(option, text, found->base + option->offset, why))
		return 0;
	return cli_fail("--%s '%s': %s", option->name, text, why);
}

static int parse_long(struct cli_call *call, int argc, char **argv, int *at)
{
	const char *name = argv[*at] + 2, *equals = strchr(name, '=');
	struct found found = find(call, name, equals ? (size_t)(equals - name) : strlen(name), 0);
	if (!found.option)
		return fail_unknown(call->verb, argv[*at]);
	if (!found.option->value)
		return equals ? cli_fail("--%s takes no value", found.option->name) : take(&found, "");
	if (equals)
		return take(&found, equals + 1);
	if (*at + 1 >= argc)
		return cli_fail("--%s requires a value: %s", found.option->name, found.option->value);
	return take(&found, argv[++*at]);
}

/* Letters; the last one may have a value, in the same word or in the next. */
static int parse_letters(struct cli_call *call, int argc, char **argv, int *at)
{
	for (const char *letter = argv[*at] + 1; *letter; letter++) {
		struct found found = find(call, NULL, 0, *letter);
		char shown[3] = {'-', *letter, '\0'};
		if (!found.option)
			return fail_unknown(call->verb, shown);
		if (found.option->value && letter[1])
			return take(&found, letter + 1);
		if (found.option->value && *at + 1 >= argc)
			return cli_fail("%s requires a value: %s", shown, found.option->value);
		if (found.option->value)
			return take(&found, argv[++*at]);
		int code = take(&found, "");
		if (code != 0)
			return code;
	}
	return 0;
}

/* ---- The command line ---- */

static int check_counts(const struct cli_call *call)
{
	const struct cli_verb *verb = call->verb;
	if (call->operand_count < verb->least)
		return cli_fail("%s: an operand is missing; usage: wisp %s [OPTION...] %s", verb->name, verb->name,
		        verb->synopsis);
	if (call->operand_count > verb->most && verb->takes_command && !call->command)
		return cli_fail("%s: unexpected operand '%s'; write the command after --: wisp %s %s", verb->name,
		        call->operands[verb->most], verb->name, verb->synopsis);
	if (call->operand_count > verb->most)
		return cli_fail("%s: unexpected operand '%s'; usage: wisp %s [OPTION...]%s%s", verb->name,
		        call->operands[verb->most], verb->name, verb->synopsis[0] ? " " : "", verb->synopsis);
	if (!verb->takes_command && call->command && call->command[0])
		return cli_fail("%s takes no command", verb->name);
	if (call->command && call->command[0] && !call->command[0][0])
		return cli_fail("%s: the command after -- is empty; name a program", verb->name);
	return 0;
}

int cli_parse(int argc, char **argv, struct cli_call *call)
{
	call->operands = calloc((size_t)argc + 1, sizeof(*call->operands));
	if (!call->operands)
		return cli_fail("out of memory");
	for (int i = 1; i < argc && !call->help; i++) {
		int code = 0;
		if (strcmp(argv[i], "--") == 0) {
			union {
				char **from;
				const char *const *to;
			} rest = {.from = argv + i + 1};
			call->command = rest.to;
			break;
		}
		/* "-" alone is an operand: standard input or output. */
		if (argv[i][0] != '-' || !argv[i][1])
			call->operands[call->operand_count++] = argv[i];
		else if (argv[i][1] == '-')
			code = parse_long(call, argc, argv, &i);
		else
			code = parse_letters(call, argc, argv, &i);
		if (code != 0)
			return code;
	}
	return call->help ? 0 : check_counts(call);
}

void cli_free_call(struct cli_call *call)
{
	for (const struct cli_group *group = call->verb->groups; group && group->options; group++) {
		if (group->release)
			group->release((char *)call->options + group->offset);
	}
	free(call->operands);
}

int cli_main(const struct cli_verb *verb, const struct cli_places *places, int argc, char **argv)
{
	struct cli_call call = {.verb = verb, .places = places, .options = calloc(1, verb->options_size + 1)};
	if (!call.options)
		return cli_fail("out of memory");
	int code = cli_parse(argc, argv, &call);
	if (code == 0 && call.help)
		cli_print_help(verb, stdout);
	else if (code == 0)
		code = verb->run(&call);
	cli_free_call(&call);
	free(call.options);
	return cli_flush(code);
}
