/* SPDX-License-Identifier: Apache-2.0 */
/* Prints one verb's part of the man page. */
#include <ctype.h>
#include <string.h>

#include "vmm/cli/command.h"

/* Roff: a backslash is \e, a dash \-, and a line may not begin with a dot or quote. */
static void man_text(const char *text)
{
	bool begins = true;
	for (; *text; text++) {
		if (begins && (*text == '.' || *text == '\''))
			fputs("\\&", stdout);
		begins = *text == '\n';
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '-')
			fputs("\\-", stdout);
		else
			putchar(*text);
	}
}

static void man_option(const struct cli_verb *verb, const struct cli_option *option, void *context)
{
	(void)verb;
	(void)context;
	fputs(".TP\n", stdout);
	if (option->letter)
		printf("\\fB\\-%c\\fR, ", option->letter);
	fputs("\\fB\\-\\-", stdout);
	man_text(option->name);
	fputs("\\fR", stdout);
	if (option->value) {
		fputs(" \\fI", stdout);
		man_text(option->value);
		fputs("\\fR", stdout);
	}
	putchar('\n');
	/* --help prints a note, the man page a sentence. */
	printf("%c", toupper((unsigned char)option->help[0]));
	man_text(option->help + 1);
	fputs(".\n", stdout);
}

/* Paragraphs are separated by empty lines; lines that begin with two spaces are examples. */
static void man_details(const char *text)
{
	bool example = false;
	while (*text) {
		size_t length = strcspn(text, "\n");
		char line[2048];
		snprintf(line, sizeof(line), "%.*s", (int)length, text);
		bool is_example = strncmp(line, "  ", 2) == 0;
		if (is_example != example)
			puts(is_example ? ".PP\n.nf\n.RS" : ".RE\n.fi");
		example = is_example;
		if (line[0] == '\0') {
			puts(".PP");
		} else {
			man_text(example ? line + 2 : line);
			putchar('\n');
		}
		text += length + (text[length] == '\n');
	}
	if (example)
		puts(".RE\n.fi");
}

void cli_describe_man(const struct cli_verb *verb)
{
	printf(".SS \"wisp %s", verb->name);
	fputs(" [OPTION...] ", stdout);
	man_text(verb->synopsis);
	fputs("\"\n", stdout);
	man_text(verb->summary);
	fputs(".\n", stdout);
	if (verb->alias)
		printf("Also: \\fBwisp %s\\fR.\n", verb->alias);
	if (verb->details) {
		puts(".PP");
		man_details(verb->details);
	}
	cli_each_option(verb, man_option, NULL);
}
