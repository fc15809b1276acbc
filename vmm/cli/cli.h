/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wisp command: one file a verb, and what they share. Options are described once, in tables (options.c), from which
 * come parsing, --help, the shells' completions and the man page.
 */
#ifndef WISP_CLI_H
#define WISP_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "wisp.h"

/* Of ours; a command's own is anything else. As docker's. */
enum {
	CLI_EXIT_TIMEOUT = 124,
	CLI_EXIT_FAILED = 125,
	CLI_EXIT_NOT_EXECUTABLE = 126,
	CLI_EXIT_NOT_FOUND = 127,
	CLI_EXIT_SIGNAL = 128, /* and the signal's number */
};

/* What the options and operands of a command line say; each verb uses what it takes. */
struct cli_args {
	const char **operands;
	size_t operand_count;
	const char *const *command; /* after "--", ended by NULL; NULL where there was no "--" */

	/* of a machine */
	const char *name, *overlay, *hostname, *shell, *kernel, *kernel_args, *initramfs, *helper;
	uint32_t cpus, memory_mib;
	struct wisp_disk *disks;
	size_t disk_count;
	bool writable, console, remove;
	int64_t boot_timeout_ms, grace_ms;

	/* of an execution */
	const char **env; /* ended by NULL */
	size_t env_count;
	const char *workdir, *user, *detach_keys;
	int64_t timeout_ms;
	struct wisp_rlimit *rlimits;
	size_t rlimit_count;
	bool tty, no_tty, detach;

	/* of logs */
	bool follow, events;
	uint64_t tail, session;
	bool has_tail;
	int64_t since_ns;
	const char *source, *grep;

	/* of benchmarks; the texts of --a, --b and --sweep are looked at by the verb */
	struct {
		uint64_t runs, warmup, parallel, peer_cid, cycles;
		uint32_t stream_mib;
		bool has_warmup, cold, untraced, overwrite;
		const char *json, *csv, *svg, *perfetto, *payload, *symbols, *sweep, *a, *b, *peer;
	} bench;

	bool json, quiet, force, live, watch, help;
};

struct cli_option {
	const char *name;  /* without the dashes */
	const char *value; /* what --help calls it; NULL: a flag */
	const char *help;
	/* Stores what was given; false with a message in `why`, of 200 bytes, if it cannot be that. */
	bool (*take)(struct cli_args *args, const char *text, char *why);
	char letter; /* 0: none */
};

/* What an operand is, for completion. */
enum cli_operand { CLI_NONE, CLI_SANDBOX, CLI_SESSION, CLI_IMAGE, CLI_SHELL, CLI_PATH, CLI_VERB, CLI_BENCH };

struct cli_verb {
	const char *name;
	const char *alias;    /* or NULL */
	const char *synopsis; /* what follows the name and [OPTION...] */
	const char *summary;  /* half a line */
	const char *details;  /* a paragraph or more, in plain text; lines that begin with two spaces are examples */
	const struct cli_option *const *options; /* tables, ended by NULL; each ends with a NULL name */
	enum cli_operand operands[3];
	size_t least, most; /* operands */
	enum { CLI_NO_COMMAND, CLI_MAY_COMMAND, CLI_MUST_COMMAND } command;
	int (*run)(struct cli_args *args);
};

/* verbs.c: ended by a NULL name. */
extern const struct cli_verb cli_verbs[];
const struct cli_verb *cli_find_verb(const char *name);

/* options.c */
extern const struct cli_option cli_machine_options[], cli_name_option[], cli_exec_options[], cli_bench_options[],
        cli_bench_config_options[], cli_tty_options[], cli_json_option[], cli_create_options[], cli_run_options[],
        cli_stop_options[], cli_rm_options[], cli_logs_options[], cli_ls_options[], cli_attach_options[],
        cli_cp_options[], cli_exec_only_options[], cli_help_option[];

/* parse.c: 0, or the exit code after a message. argv[0] is the verb. */
int cli_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_args *args);
void cli_free_args(struct cli_args *args);

/* values.c */
bool cli_parse_duration(const char *text, int64_t *ms, char *why);
bool cli_parse_memory(const char *text, uint32_t *mib, char *why);
bool cli_parse_count(const char *text, uint64_t most, uint64_t *value, char *why);
bool cli_parse_rlimit(char *text, struct wisp_rlimit *limit, char *why);
/* RFC 3339, or a duration that is that long ago. */
bool cli_parse_time(const char *text, int64_t *realtime_ns, char *why);

/* Room for why a value is refused. */
#define CLI_WHY_SIZE 200

/* help.c */
void cli_print_help(const struct cli_verb *verb, FILE *to);
void cli_print_usage(FILE *to);
/* Says that there is no such verb, and what may have been meant. */
int cli_fail_verb(const char *given);
/* The nearest of the names to a mistyped one, or NULL. */
const char *cli_suggest(const char *text, const char *best, size_t *distance, const char *candidate);

/* common.c */
/* "wisp: " and one line on standard error; returns CLI_EXIT_FAILED. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same from the library's error, with its own exit code. */
int cli_fail_error(const struct wisp_error *error);
int cli_exit_code(const struct wisp_exit_status *status);
/* Where things are: variables of the environment, which cli_set_places fills where the user did not. */
void cli_set_places(void);
const char *cli_state_root(void);
const char *cli_libdir(void);
const char *cli_cache_dir(void);
struct wisp_sandbox *cli_open(const char *name, int *exit_code);

/* json.c: one value after another; commas and quoting are its business. */
struct cli_json {
	FILE *to;
	bool comma;
};
void cli_json_open(struct cli_json *json, const char *key, char bracket);
void cli_json_close(struct cli_json *json, char bracket);
void cli_json_string(struct cli_json *json, const char *key, const char *value);
void cli_json_number(struct cli_json *json, const char *key, int64_t value);
void cli_json_bool(struct cli_json *json, const char *key, bool value);
void cli_json_time(struct cli_json *json, const char *key, int64_t realtime_ns);
void cli_json_strings(struct cli_json *json, const char *key, const char *const *values);
/* A NULL key where it is an element of an array. */

/* create_common.c: boots; a signal meanwhile gives up, and leaves nothing. */
struct wisp_sandbox *cli_create(const struct cli_args *args, bool detach, int *exit_code);
/* Its parts. The options borrow from `args`. */
void cli_fill_create_options(const struct cli_args *args, bool detach, struct wisp_create_options *options);
/* Until it is ready: 0; the number of a signal that came first (from a signalfd); or -errno. */
int cli_wait_ready(struct wisp_sandbox *sandbox, int signal_fd, struct wisp_error *error);

/* bridge.c */
void cli_block_signals(void);
void cli_fill_exec_options(const struct cli_args *args, struct wisp_exec_options *options);
/* Runs the command with our standard streams, or on our terminal with -t; the exit code. */
int cli_bridge_exec(struct wisp_sandbox *sandbox, const struct cli_args *args, struct wisp_error *error);
/* A session that exists, the same way. */
int cli_bridge_session(struct wisp_session *session, struct wisp_error *error);
/* All these: the exit code, or -1 with the error filled. terminal.c: `session` NULL: a new one. */
int cli_bridge_terminal(struct wisp_sandbox *sandbox, const struct cli_args *args, struct wisp_session *session,
        uint64_t id, struct wisp_error *error);

/* The verbs. */
int cli_attach(struct cli_args *args);
int cli_bench(struct cli_args *args);
int cli_completion(struct cli_args *args);
int cli_cp(struct cli_args *args);
int cli_create_verb(struct cli_args *args);
int cli_doctor(struct cli_args *args);
int cli_exec(struct cli_args *args);
int cli_help(struct cli_args *args);
int cli_inspect(struct cli_args *args);
int cli_logs(struct cli_args *args);
int cli_ls(struct cli_args *args);
int cli_rm(struct cli_args *args);
int cli_run(struct cli_args *args);
int cli_sessions(struct cli_args *args);
int cli_stop(struct cli_args *args);
int cli_version(struct cli_args *args);

#endif
