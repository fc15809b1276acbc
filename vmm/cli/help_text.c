/* SPDX-License-Identifier: Apache-2.0 */
/* Prints --help from the tables, wrapped at the width of the terminal. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/cli/command.h"

#define WIDTH_DEFAULT 80
#define WIDTH_MIN 40
#define WIDTH_MAX 120 /* longer lines are hard to read */

/* Where descriptions of options begin. On a narrow terminal each is below its option. */
#define COLUMN 30
#define COLUMN_NARROW 8
#define WIDTH_NARROW 72

static size_t width_of(FILE *to)
{
	struct winsize size;
	const char *columns = getenv("COLUMNS");
	size_t width = columns ? strtoul(columns, NULL, 10) : 0;
	if (ioctl(to == stdout ? STDOUT_FILENO : STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		width = size.ws_col;
	if (width == 0)
		width = WIDTH_DEFAULT;
	return width < WIDTH_MIN ? WIDTH_MIN : width > WIDTH_MAX ? WIDTH_MAX : width;
}

/* Prints `length` bytes of text. The first line begins at `column`, the others are indented by `indent`. */
static void print_wrapped(const char *text, size_t length, size_t column, size_t indent, size_t width, FILE *to)
{
	const char *end = text + length;
	bool begun = false;
	while (text < end) {
		size_t word = strcspn(text, " ");
		if (word > (size_t)(end - text))
			word = (size_t)(end - text);
		if (begun && column + 1 + word > width) {
			fprintf(to, "\n%*s", (int)indent, "");
			column = indent;
		} else if (begun) {
			fputc(' ', to);
			column++;
		}
		fwrite(text, 1, word, to);
		column += word;
		begun = true;
		text += word;
		while (text < end && *text == ' ')
			text++;
	}
	fputc('\n', to);
}

void cli_print_entry(const char *left, const char *text, size_t column, FILE *to)
{
	size_t length = strlen(left);
	if (length + 2 > column)
		fprintf(to, "%s\n%*s", left, (int)column, "");
	else
		fprintf(to, "%-*s", (int)column, left);
	print_wrapped(text, strlen(text), column, column, width_of(to), to);
}

static void print_option(const struct cli_verb *verb, const struct cli_option *option, void *context)
{
	FILE *to = context;
	char left[80];
	(void)verb;
	int n = option->letter ? snprintf(left, sizeof(left), "  -%c, --%s", option->letter, option->name)
	                       : snprintf(left, sizeof(left), "      --%s", option->name);
	if (option->value)
		snprintf(left + n, sizeof(left) - (size_t)n, " %s", option->value);
	cli_print_entry(left, option->help, width_of(to) < WIDTH_NARROW ? COLUMN_NARROW : COLUMN, to);
}

/* Examples are lines that begin with two spaces: those are printed as they are. */
static void print_details(const char *text, FILE *to)
{
	while (*text) {
		size_t length = strcspn(text, "\n");
		if (strncmp(text, "  ", 2) == 0)
			fprintf(to, "%.*s\n", (int)length, text);
		else
			print_wrapped(text, length, 0, 0, width_of(to), to);
		text += length + (text[length] == '\n');
	}
}

void cli_print_help(const struct cli_verb *verb, FILE *to)
{
	char text[512];
	int indent = snprintf(text, sizeof(text), "usage: wisp %s ", verb->name);
	snprintf(text + indent, sizeof(text) - (size_t)indent, "[OPTION...]%s%s", verb->synopsis[0] ? " " : "",
	        verb->synopsis);
	print_wrapped(text, strlen(text), 0, (size_t)indent, width_of(to), to);
	snprintf(text, sizeof(text), "%s.%s%s%s", verb->summary, verb->alias ? " Also: wisp " : "",
	        verb->alias ? verb->alias : "", verb->alias ? "." : "");
	fputc('\n', to);
	print_wrapped(text, strlen(text), 0, 0, width_of(to), to);
	if (verb->details) {
		fputc('\n', to);
		print_details(verb->details, to);
	}
	fputs("\noptions:\n", to);
	cli_each_option(verb, print_option, to);
}
