/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/execution.h"

/* Without a value, the variable is the host's, as with docker; one that is not set there is left out. */
static bool take_env(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_process *process = to;
	char *pair;
	const char *value = strchr(text, '=') ? NULL : getenv(text);
	(void)option;
	if (!strchr(text, '=') && !value)
		return true;
	const char **grown = reallocarray(process->env, process->env_count + 2, sizeof(*grown));
	if (grown)
		process->env = grown;
	if (!grown || asprintf(&pair, value ? "%s=%s" : "%s", text, value) < 0)
		return cli_refuse(why, "out of memory");
	process->env[process->env_count++] = pair;
	process->env[process->env_count] = NULL;
	return true;
}

static bool parse_limit(const char *text, uint64_t *value, char *why)
{
	if (strcmp(text, "unlimited") == 0) {
		*value = WISP_RLIMIT_INFINITY;
		return true;
	}
	return cli_parse_count(text, UINT64_MAX, value, why);
}

static bool parse_rlimit(char *text, struct wisp_rlimit *limit, char *why)
{
	char *equals = strchr(text, '=');
	if (!equals || equals == text || !equals[1])
		return cli_refuse(why, "write NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:2048");
	*equals = '\0';
	char *soft = equals + 1, *colon = strchr(soft, ':');
	if (colon)
		*colon = '\0';
	limit->resource = text;
	return parse_limit(soft, &limit->soft, why) && parse_limit(colon ? colon + 1 : soft, &limit->hard, why);
}

static bool take_rlimit(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_execution *execution = to;
	struct wisp_rlimit limit,
	        *grown = reallocarray(execution->rlimits, execution->rlimit_count + 1, sizeof(*grown));
	char *copy = strdup(text);
	(void)option;
	if (grown)
		execution->rlimits = grown;
	bool good = grown && copy ? parse_rlimit(copy, &limit, why) : cli_refuse(why, "out of memory");
	if (good)
		execution->rlimits[execution->rlimit_count++] = limit;
	else
		free(copy);
	return good;
}

static bool take_security(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_execution *execution = to;
	(void)option;
	if (strcmp(text, "default") == 0)
		execution->security = WISP_SECURITY_DEFAULT;
	else if (strcmp(text, "restricted") == 0)
		execution->security = WISP_SECURITY_RESTRICTED;
	else
		return cli_refuse(why, "write default or restricted");
	return true;
}

const struct cli_option cli_process_options[] = {
        {.name = "env",
                .letter = 'e',
                .value = "NAME[=VALUE]",
                .take = take_env,
                .help = "set an environment variable; without a value, copy it from here; may be repeated"},
        {.name = "workdir",
                .letter = 'w',
                .value = "DIR",
                CLI_TEXT(struct cli_process, workdir),
                .help = "the working directory, an absolute path"},
        {.name = "user",
                .letter = 'u',
                .value = "USER",
                CLI_TEXT(struct cli_process, user),
                .help = "run as name, uid, name:group or uid:gid"},
        {0},
};

const struct cli_option cli_execution_options[] = {
        {.name = "timeout",
                .value = "DURATION",
                CLI_DURATION(struct cli_execution, timeout_ms),
                .help = "kill the command after this time, as in 30s or 1.5m, and exit with 124"},
        {.name = "rlimit",
                .value = "NAME=SOFT[:HARD]",
                .take = take_rlimit,
                .help = "set a resource limit, as in nofile=1024; may be repeated"},
        {.name = "security",
                .value = "LEVEL",
                .take = take_security,
                .help = "restricted: no capabilities, no dangerous system calls, and a user of its own unless -u names "
                        "one; default: what its user may do"},
        {.name = "interactive",
                .letter = 'i',
                CLI_FLAG(struct cli_execution, interactive),
                .help = "forward standard input, whatever it is; default: if it is a pipe, a file or a socket"},
        {.name = "tty",
                .letter = 't',
                CLI_FLAG(struct cli_execution, tty),
                .help = "give the command a terminal, connected to this one"},
        {.name = "no-tty",
                CLI_FLAG(struct cli_execution, no_tty),
                .help = "do not give the command a terminal; the default"},
        {.name = "detach-keys",
                .value = "KEYS",
                CLI_TEXT(struct cli_execution, detach_keys),
                .help = "the keys that detach from the terminal and leave the command running (with run, they end the "
                        "sandbox); default ctrl-]"},
        {0},
};

/* take_env and take_rlimit allocated the strings. */
static void free_text(const char *text)
{
	union {
		const char *from;
		char *to;
	} cast = {.from = text};
	free(cast.to);
}

void cli_release_process(void *group)
{
	struct cli_process *process = group;
	for (size_t i = 0; i < process->env_count; i++)
		free_text(process->env[i]);
	free(process->env);
}

void cli_release_execution(void *group)
{
	struct cli_execution *execution = group;
	for (size_t i = 0; i < execution->rlimit_count; i++)
		free_text(execution->rlimits[i].resource);
	free(execution->rlimits);
}

int cli_check_execution(const struct cli_call *call, const struct cli_execution *execution)
{
	const struct cli_verb *verb = call->verb;
	if (execution->tty && execution->no_tty)
		return cli_fail("--tty and --no-tty contradict each other");
	if (execution->no_stdin && (execution->interactive || (execution->tty && !execution->detach)))
		return cli_fail(
		        "--no-stdin and --%s contradict each other", execution->interactive ? "interactive" : "tty");
	if (execution->tty)
		return 0;
	if (!call->command)
		return cli_fail("%s: a command is missing; write it after --, or add -t for a shell: wisp %s %s",
		        verb->name, verb->name, verb->synopsis);
	if (!call->command[0])
		return cli_fail("%s: the command after -- is empty; name a program", verb->name);
	return 0;
}

void cli_fill_execution(const struct cli_execution *execution, struct wisp_exec_options *options)
{
	*options = (struct wisp_exec_options){
	        .size = sizeof(*options),
	        .cwd = execution->process.workdir,
	        .env = execution->process.env,
	        .user = execution->process.user,
	        .timeout_ms = execution->timeout_ms,
	        .rlimits = execution->rlimits,
	        .rlimit_count = execution->rlimit_count,
	        .rlimit_size = sizeof(*execution->rlimits),
	        .security = execution->security,
	};
}
