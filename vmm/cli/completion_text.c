/* SPDX-License-Identifier: Apache-2.0 */
/* Prints one verb's part of each shell's completion script; completion.c prints what is around them. */
#include <string.h>

#include "vmm/cli/command.h"

bool cli_describe(const struct cli_verb *verb, const char *format)
{
	static const struct {
		const char *name;
		void (*describe)(const struct cli_verb *verb);
	} formats[] = {{"bash", cli_describe_bash}, {"zsh", cli_describe_zsh}, {"fish", cli_describe_fish},
	        {"man", cli_describe_man}};
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (strcmp(formats[i].name, format) == 0) {
			formats[i].describe(verb);
			return true;
		}
	}
	return false;
}

/* ---- bash ---- */

static void bash_flag(const struct cli_verb *verb, const struct cli_option *option, void *context)
{
	const bool *only_values = context;
	(void)verb;
	if (*only_values && !option->value)
		return;
	printf("--%s ", option->name);
	if (option->letter)
		printf("-%c ", option->letter);
}

/* An arm of the script's `case`, which sets what the rest of the script completes from. */
void cli_describe_bash(const struct cli_verb *verb)
{
	static const char *const kinds[] = {
	        [CLI_NONE] = "none",
	        [CLI_SANDBOX] = "sandbox",
	        [CLI_SESSION] = "session",
	        [CLI_FILE] = "file",
	        [CLI_PATH] = "path",
	        [CLI_VERB] = "verb",
	        [CLI_WORD] = "word",
	};
	bool only_values = false;
	printf("	%s%s%s) flags='", verb->name, verb->alias ? "|" : "", verb->alias ? verb->alias : "");
	cli_each_option(verb, bash_flag, &only_values);
	only_values = true;
	fputs("' values=' ", stdout);
	cli_each_option(verb, bash_flag, &only_values);
	fputs("' kinds=(", stdout);
	for (size_t i = 0; i < CLI_OPERANDS; i++)
		printf("%s%s", i > 0 ? " " : "", kinds[verb->operands[i]]);
	printf(") words='%s' ;;\n", verb->words ? verb->words : "");
}

/* ---- zsh ---- */

/* Escapes what has a meaning to _arguments inside single quotes. */
void cli_print_zsh_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else if (strchr("[]:\\", *text))
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

static void zsh_option(const struct cli_verb *verb, const struct cli_option *option, void *context)
{
	(void)verb;
	(void)context;
	bool repeats = strstr(option->help, "repeat") != NULL;
	for (int form = option->letter ? 0 : 1; form < 2; form++) {
		fputs("\t\t'", stdout);
		if (repeats)
			putchar('*');
		if (form == 0)
			printf("-%c", option->letter);
		else
			printf("--%s", option->name);
		if (option->value)
			putchar(form == 0 ? '+' : '=');
		putchar('[');
		cli_print_zsh_text(option->help);
		putchar(']');
		if (option->value) {
			putchar(':');
			cli_print_zsh_text(option->value);
			fputs(strstr(option->value, "PATH") ? ":_files" : ": ", stdout);
		}
		fputs("' \\\n", stdout);
	}
}

static void zsh_operand(const struct cli_verb *verb, size_t index)
{
	static const char *const actions[] = {
	        [CLI_NONE] = "",
	        [CLI_SANDBOX] = "sandbox:_wisp_sandboxes",
	        [CLI_SESSION] = "session:_wisp_sessions",
	        [CLI_FILE] = "file:_files",
	        [CLI_PATH] = "path:_wisp_paths",
	        [CLI_VERB] = "verb:_wisp_verbs",
	};
	if (verb->operands[index] == CLI_WORD)
		printf("word:(%s)", verb->words);
	else
		fputs(actions[verb->operands[index]], stdout);
}

/* An arm of the script's `case`. */
void cli_describe_zsh(const struct cli_verb *verb)
{
	printf("\t%s%s%s) _arguments -s \\\n", verb->name, verb->alias ? "|" : "", verb->alias ? verb->alias : "");
	cli_each_option(verb, zsh_option, NULL);
	for (size_t i = 0; i < CLI_OPERANDS && i < verb->most && verb->operands[i]; i++) {
		printf("\t\t'%zu:", i + 1);
		zsh_operand(verb, i);
		fputs("' \\\n", stdout);
	}
	if (verb->most > CLI_OPERANDS) {
		fputs("\t\t'*:", stdout);
		zsh_operand(verb, CLI_OPERANDS - 1);
		fputs("' \\\n", stdout);
	}
	fputs("\t\t;;\n", stdout);
}

/* ---- fish ---- */

void cli_print_fish_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			putchar('\\');
		putchar(*text);
	}
}

static void fish_option(const struct cli_verb *verb, const struct cli_option *option, void *context)
{
	(void)context;
	printf("complete -c wisp -n '__fish_seen_subcommand_from %s%s%s' -l %s", verb->name, verb->alias ? " " : "",
	        verb->alias ? verb->alias : "", option->name);
	if (option->letter)
		printf(" -s %c", option->letter);
	if (option->value)
		fputs(strstr(option->value, "PATH") ? " -rF" : " -x", stdout);
	fputs(" -d '", stdout);
	cli_print_fish_text(option->help);
	fputs("'\n", stdout);
}

void cli_describe_fish(const struct cli_verb *verb)
{
	static const char *const actions[] = {
	        [CLI_SANDBOX] = "-fa '(wisp ls -q 2>/dev/null)'",
	        [CLI_SESSION] =
	                "-fa '(wisp sessions (commandline -opc)[3] 2>/dev/null | awk \"NR > 1 { print \\$1 }\")'",
	        [CLI_FILE] = "-F",
	        [CLI_PATH] = "-Fa '(wisp ls -q 2>/dev/null)'",
	        [CLI_WORD] = NULL,
	};
	for (size_t i = 0; i < 2; i++) {
		enum cli_operand operand = verb->operands[i];
		if (i > 0 && operand == verb->operands[0])
			continue;
		if (operand == CLI_WORD)
			printf("complete -c wisp -n '__fish_seen_subcommand_from %s' -fa '%s'\n", verb->name,
			        verb->words);
		else if (actions[operand])
			printf("complete -c wisp -n '__fish_seen_subcommand_from %s' %s\n", verb->name,
			        actions[operand]);
	}
	cli_each_option(verb, fish_option, NULL);
}
