/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of wisp, and what only they share. Each verb is in the file of its name, with its options and its help. */
#ifndef WISP_CLI_VERBS_H
#define WISP_CLI_VERBS_H

#include "vmm/cli/command.h"

extern const struct cli_verb cli_attach, cli_bench, cli_completion, cli_cp, cli_create, cli_doctor, cli_exec, cli_fork,
        cli_help, cli_inspect, cli_kill, cli_logs, cli_ls, cli_pause, cli_port, cli_prune, cli_refresh, cli_resume,
        cli_rm, cli_run, cli_sessions, cli_snapshot, cli_stats, cli_stop, cli_version;

/* verbs.c: all of them, in the order of the usage message; ended by NULL. */
extern const struct cli_verb *const cli_verbs[];
const struct cli_verb *cli_find_verb(const char *name);
/* Prints that there is no such verb, and which one may have been meant. Returns CLI_EXIT_FAILED. */
int cli_fail_verb(const char *given);
/* A sandbox that takes commands. NULL, with *exit_code set, after a message. */
struct wisp_sandbox *cli_open(const struct cli_call *call, const char *name, int *exit_code);
/* The same, also if it is paused or a template. */
struct wisp_sandbox *cli_open_any(const struct cli_call *call, const char *name, int *exit_code);
/* 0; or an exit code after a message, if it is a template or, with `running`, if it is paused. */
int cli_check_state(struct wisp_sandbox *sandbox, bool running);

/*
 * lost.c: after a failure of a command's connection, says what became of the sandbox, as its monitor knows within
 * `wait_ms`. Returns the exit code.
 */
#define CLI_LOST_MS 1000
int cli_fail_lost(struct wisp_sandbox *sandbox, const struct wisp_error *error, int64_t wait_ms);
/*
 * After a command whose exit code is `code`: a sandbox that has reached a limit ends its commands by signals. Returns
 * CLI_EXIT_EXPIRED after a message if that is why, else `code`.
 */
int cli_explain_signal(struct wisp_sandbox *sandbox, const struct cli_call *call, int code);

/* help.c */
void cli_print_usage(FILE *to);

/* program.c: verbs that are programs of their own. */

/* Becomes the verb's program; argv[0] is replaced. Returns only if that fails, with an exit code after a message. */
int cli_exec_program(const struct cli_verb *verb, const struct cli_places *places, char **argv);
/* Runs the program with one option and its value. 0, or an exit code after a message; a program that is not installed
 * prints nothing. */
int cli_describe_program(const struct cli_verb *verb, const struct cli_places *places, const char *format);

/* The options of verbs that print a table or JSON. */
struct cli_output {
	bool json;
};
extern const struct cli_group cli_output_groups[];

/* create.c: boots a sandbox. A signal ends the boot and leaves nothing behind. NULL, with *exit_code set, on failure.
 */
struct wisp_sandbox *cli_launch(const struct wisp_create_options *options, int *exit_code);

/* What IMAGE is, for the verbs that boot one. */
#define CLI_IMAGE_DETAILS                                                                                           \
	"IMAGE is a file with a squashfs, erofs or ext4 file system, or a directory. wisp packs a directory with "  \
	"mksquashfs and caches the result until the directory changes. Without IMAGE, the sandbox runs wisp's own " \
	"small system."

#endif
