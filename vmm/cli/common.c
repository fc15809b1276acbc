/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, exit codes, and where things are. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/cli.h"

int cli_fail(const char *format, ...)
{
	char line[1200];
	va_list ap;
	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	/* One line, whatever was quoted in it. */
	for (char *at = line; *at; at++) {
		if ((unsigned char)*at < ' ')
			*at = ' ';
	}
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

/* These are asked for once or twice in a process's life; nobody frees what they return. */
static const char *join(const char *a, const char *b)
{
	char *joined;
	return asprintf(&joined, "%s%s", a, b) < 0 ? "" : joined;
}

const char *cli_state_root(void)
{
	const char *given = getenv("WISP_STATE"), *runtime = getenv("XDG_RUNTIME_DIR");
	if (given && given[0])
		return given;
	return runtime && runtime[0] ? join(runtime, "/wisp") : "/run/wisp";
}

/* Beside the command, wherever the two were put. */
const char *cli_libdir(void)
{
	const char *given = getenv("WISP_LIBDIR");
	if (given && given[0])
		return given;
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (length <= 0)
		return NULL;
	path[length] = '\0';
	for (int up = 0; up < 2; up++) {
		char *slash = strrchr(path, '/');
		if (!slash)
			return NULL;
		*slash = '\0';
	}
	return join(path, "/lib/wisp");
}

const char *cli_cache_dir(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	if (cache && cache[0])
		return join(cache, "/wisp/images");
	return home && home[0] ? join(home, "/.cache/wisp/images") : "/var/cache/wisp/images";
}

struct wisp_sandbox *cli_open(const char *name, int *exit_code)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	if (wisp_open_sandbox(cli_state_root(), name, &sandbox, &error) == 0)
		return sandbox;
	*exit_code = cli_fail_error(&error);
	return NULL;
}
