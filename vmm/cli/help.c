/* SPDX-License-Identifier: Apache-2.0 */
/* --help, from the tables; the verbs help and version. */
#include <string.h>

#include "vmm/cli/cli.h"

/* Levenshtein's distance, for words. */
static size_t distance_of(const char *a, const char *b)
{
	size_t row[64], n = strlen(b);
	if (n >= sizeof(row) / sizeof(row[0]) || strlen(a) >= 64)
		return 64;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t corner = row[0];
		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t change = corner + (a[i - 1] != b[j - 1]);
			size_t step = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
			corner = row[j];
			row[j] = change < step ? change : step;
		}
	}
	return row[n];
}

const char *cli_suggest(const char *text, const char *best, size_t *distance, const char *candidate)
{
	size_t d = distance_of(text, candidate);
	if (d >= *distance || d >= strlen(candidate))
		return best;
	*distance = d;
	return candidate;
}

static void print_options(const struct cli_option *const *tables, FILE *to)
{
	for (; tables && *tables; tables++) {
		for (const struct cli_option *option = *tables; option->name; option++) {
			char left[64];
			int n = option->letter
			                ? snprintf(left, sizeof(left), "  -%c, --%s", option->letter, option->name)
			                : snprintf(left, sizeof(left), "      --%s", option->name);
			if (option->value)
				snprintf(left + n, sizeof(left) - (size_t)n, " %s", option->value);
			/* Help stands in its own column, or on its own line. */
			if (strlen(left) > 30)
				fprintf(to, "%s\n%32s%s\n", left, "", option->help);
			else
				fprintf(to, "%-32s%s\n", left, option->help);
		}
	}
}

void cli_print_help(const struct cli_verb *verb, FILE *to)
{
	const struct cli_option *const help[] = {cli_help_option, NULL};
	fprintf(to, "usage: wisp %s [OPTION...]%s%s\n\n%s.", verb->name, verb->synopsis[0] ? " " : "", verb->synopsis,
	        verb->summary);
	if (verb->alias)
		fprintf(to, " Also: wisp %s.", verb->alias);
	fputc('\n', to);
	if (verb->details[0])
		fprintf(to, "\n%s\n", verb->details);
	fputs("\noptions:\n", to);
	print_options(verb->options, to);
	print_options(help, to);
}

void cli_print_usage(FILE *to)
{
	fputs("usage: wisp VERB [OPTION...] ...\n\nRuns commands in microVMs.\n\n", to);
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++)
		fprintf(to, "  %-12s%s\n", verb->name, verb->summary);
	fputs("\nwisp VERB --help says more.\n", to);
}

int cli_fail_verb(const char *given)
{
	const char *best = NULL;
	size_t distance = 3;
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++)
		best = cli_suggest(given, best, &distance, verb->name);
	if (best)
		return cli_fail("there is no verb '%s': did you mean %s?", given, best);
	return cli_fail("there is no verb '%s': see wisp --help", given);
}

int cli_help(struct cli_args *args)
{
	if (args->operand_count == 0) {
		cli_print_usage(stdout);
		return 0;
	}
	const struct cli_verb *verb = cli_find_verb(args->operands[0]);
	if (!verb)
		return cli_fail_verb(args->operands[0]);
	cli_print_help(verb, stdout);
	return 0;
}

int cli_version(struct cli_args *args)
{
	if (args->json)
		printf("{\"version\":\"%s\"}\n", wisp_get_version());
	else
		printf("wisp %s\n", wisp_get_version());
	return 0;
}
