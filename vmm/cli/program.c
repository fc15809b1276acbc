/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/cli/verbs.h"

static int fail(const struct cli_verb *verb, const char *path, int errnum)
{
	return cli_fail("%s: cannot run %s: %s; install wisp again, or set WISP_LIBDIR to the directory that holds %s",
	        verb->name, path, strerror(errnum), verb->program);
}

int cli_exec_program(const struct cli_verb *verb, const struct cli_places *places, char **argv)
{
	char *path;
	if (asprintf(&path, "%s/%s", places->libdir, verb->program) < 0)
		return cli_fail("out of memory");
	argv[0] = path;
	execv(path, argv);
	int code = fail(verb, path, errno);
	free(path);
	return code;
}

int cli_describe_program(const struct cli_verb *verb, const struct cli_places *places, const char *format)
{
	char *path, *word = strdup(format), option[] = "--describe";
	pid_t pid;
	int status, code = 0;
	if (!word || asprintf(&path, "%s/%s", places->libdir, verb->program) < 0) {
		free(word);
		return cli_fail("out of memory");
	}
	char *argv[] = {path, option, word, NULL};
	fflush(stdout);
	int errnum = posix_spawn(&pid, path, NULL, NULL, argv, environ);
	if (errnum != 0 && errnum != ENOENT)
		code = fail(verb, path, errnum);
	while (errnum == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (errnum == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
		code = cli_fail("%s: %s did not describe itself", verb->name, path);
	free(path);
	free(word);
	return code;
}
