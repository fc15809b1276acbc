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

static void set_default(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void set_default(const char *name, const char *format, ...)
{
	char path[PATH_MAX];
	const char *given = getenv(name);
	va_list ap;
	if (given && given[0])
		return;
	va_start(ap, format);
	if (vsnprintf(path, sizeof(path), format, ap) < (int)sizeof(path))
		setenv(name, path, 1);
	va_end(ap);
}

static const char *setting(const char *name)
{
	const char *value = getenv(name);
	return value && value[0] ? value : NULL;
}

/* wisp's own files are beside the command, wherever the two were put. */
static void set_libdir(void)
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[length > 0 ? length : 0] = '\0';
	for (int up = 0; up < 2; up++) {
		char *slash = strrchr(path, '/');
		if (!slash)
			return;
		*slash = '\0';
	}
	set_default("WISP_LIBDIR", "%s/lib/wisp", path);
}

void cli_set_places(void)
{
	const char *runtime = setting("XDG_RUNTIME_DIR"), *cache = setting("XDG_CACHE_HOME"), *home = setting("HOME");
	set_default("WISP_STATE", "%s/wisp", runtime ? runtime : "/run");
	set_default("WISP_CACHE", "%s%s/wisp/images",
	        cache  ? cache
	        : home ? home
	               : "/var/cache",
	        cache || !home ? "" : "/.cache");
	set_libdir();
}

const char *cli_state_root(void)
{
	return getenv("WISP_STATE");
}

const char *cli_libdir(void)
{
	return getenv("WISP_LIBDIR");
}

const char *cli_cache_dir(void)
{
	return getenv("WISP_CACHE");
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
