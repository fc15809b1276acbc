/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "vmm/cli/command.h"
#include "vmm/shared/utf8.h"

/* A message may quote a file's name or the guest: it stays one line, and no escape sequence reaches the terminal. */
static void make_printable(char *text)
{
	uint8_t *at = (uint8_t *)text, *end = at + strlen(text);
	while (at < end) {
		size_t length = utf8_length(at, (size_t)(end - at));
		bool c1 = length == 2 && at[0] == 0xc2 && at[1] < 0xa0;
		if (*at == '\n' || *at == '\t')
			*at = ' ';
		else if (length == 0 || *at < ' ' || *at == 0x7f || c1)
			memset(at, '?', c1 ? 2 : 1);
		at += length ? length : 1;
	}
}

int cli_fail(const char *format, ...)
{
	char line[1200];
	va_list ap;
	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	make_printable(line);
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
