/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "vmm/cli/command.h"
#include "vmm/shared/utf8.h"

/* The bytes of the printable character at `text`, of which `left` may be read; 0 if there is none. */
static size_t printable_length(const char *text, size_t left)
{
	const uint8_t *s = (const uint8_t *)text;
	size_t length = utf8_length(s, left);
	/* C0 and DEL; C1, of which some terminals obey even the UTF-8 form. */
	bool control = s[0] < 0x20 || s[0] == 0x7f || (length == 2 && s[0] == 0xc2 && s[1] < 0xa0);
	return control ? 0 : length;
}

void cli_make_printable(char *text, size_t length)
{
	for (size_t at = 0; at < length;) {
		size_t good = printable_length(text + at, length - at);
		if (good == 0)
			text[at] = '?';
		at += good ? good : 1;
	}
}

void cli_print_text(const char *text, size_t length, FILE *to)
{
	for (size_t at = 0; at < length;) {
		size_t good = printable_length(text + at, length - at);
		if (good)
			fwrite(text + at, 1, good, to);
		else
			fputc('?', to);
		at += good ? good : 1;
	}
}

int cli_fail(const char *format, ...)
{
	char line[1200];
	va_list ap;
	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	/* One line, whatever the message quotes. */
	for (char *at = line; *at; at++) {
		if (*at == '\n' || *at == '\t')
			*at = ' ';
	}
	cli_make_printable(line, strlen(line));
	fflush(stdout);
	fprintf(stderr, "wisp: %s\n", line);
	return CLI_EXIT_FAILED;
}

int cli_fail_error(const struct wisp_error *error)
{
	if (error->status != WISP_ERR_EXEC_FAILED) {
		cli_fail("%s", error->message);
		return error->status == WISP_ERR_TIMEOUT ? CLI_EXIT_TIMEOUT : CLI_EXIT_FAILED;
	}
	const char *name = wisp_get_errno_name(error->errnum);
	cli_fail("%s (%s%s%s at %s)", error->message, wisp_get_failure_name(error->failure), name[0] ? ", " : "", name,
	        wisp_get_stage_name(error->stage));
	switch (error->failure) {
	case WISP_FAILURE_NOT_FOUND: return CLI_EXIT_NOT_FOUND;
	case WISP_FAILURE_PERMISSION_DENIED:
	case WISP_FAILURE_NOT_EXECUTABLE: return CLI_EXIT_NOT_EXECUTABLE;
	default: return CLI_EXIT_FAILED;
	}
}

int cli_exit_code(const struct wisp_exit_status *status)
{
	return status->signal ? CLI_EXIT_SIGNAL + status->signal : status->code;
}

int cli_flush(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	return code ? code : cli_fail("cannot write to standard output: %s", strerror(errno));
}
