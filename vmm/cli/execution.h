/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a command in a sandbox, and its bridge to this process's standard streams or terminal. */
#ifndef WISP_CLI_EXECUTION_H
#define WISP_CLI_EXECUTION_H

#include "vmm/cli/command.h"

/* What a command starts with: of wisp create, the default of every command. */
struct cli_process {
	const char **env; /* ended by NULL; or NULL */
	size_t env_count;
	const char *workdir, *user;
};

struct cli_execution {
	struct cli_process process;
	int64_t timeout_ms;
	struct wisp_rlimit *rlimits;
	size_t rlimit_count;
	bool tty, no_tty, detach, interactive, no_stdin;
	const char *detach_keys;
	enum wisp_security security;
};

/* execution.c */
extern const struct cli_option cli_process_options[], cli_execution_options[];
void cli_release_process(void *process);
void cli_release_execution(void *execution);
/* Rows of a verb's groups. */
#define CLI_PROCESS_GROUP(type, field)                                                                 \
	{                                                                                              \
		.options = cli_process_options, .offset = CLI_OFFSET(type, field, struct cli_process), \
		.release = cli_release_process                                                         \
	}
#define CLI_EXECUTION_GROUPS(type, field)                                                                  \
	CLI_PROCESS_GROUP(type, field.process),                                                            \
	{                                                                                                  \
		.options = cli_execution_options, .offset = CLI_OFFSET(type, field, struct cli_execution), \
		.release = cli_release_execution                                                           \
	}

/* 0, or the exit code after a message: a command is required, except with --tty. */
int cli_check_execution(const struct cli_call *call, const struct cli_execution *execution);
/* The options borrow from `execution`. */
void cli_fill_execution(const struct cli_execution *execution, struct wisp_exec_options *options);

/* bridge.c and terminal.c: the exit code, or -1 with the error filled. */

/* Runs the command on this process's standard streams, or on its terminal with --tty. */
int cli_bridge_exec(struct wisp_sandbox *sandbox, const char *const *command, const struct cli_execution *execution,
        struct wisp_error *error);
/* What a client is to the session: who started it kills it with itself; a watcher has no effect on it. */
enum cli_role { CLI_OWNER, CLI_WRITER, CLI_WATCHER };
/* Bridges a session that exists to the standard streams. */
int cli_bridge_session(struct wisp_session *session, enum cli_role role, struct wisp_error *error);
/* Runs the command, or the sandbox's shell without one, on the terminal. */
int cli_bridge_terminal(struct wisp_sandbox *sandbox, const char *const *command, const struct cli_execution *execution,
        struct wisp_error *error);
/* Bridges a session that exists to the terminal. */
int cli_bridge_terminal_session(struct wisp_sandbox *sandbox, struct wisp_session *session, uint64_t id,
        const char *detach_keys, struct wisp_error *error);

#endif
