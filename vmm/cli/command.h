/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The toolkit of the wisp command, for its verbs and for verbs that are programs of their own (wisp-bench): options and
 * verbs in tables, their parser and help, messages, values, signals, and where files are.
 *
 * A verb has its own struct of options. A table row names an option and says which function reads its value and at
 * which offset of the struct the value goes. --help, the shells' completions and the man page are printed from the same
 * rows.
 */
#ifndef WISP_CLI_COMMAND_H
#define WISP_CLI_COMMAND_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "wisp.h"

/* ---- Messages and exit codes: messages.c ---- */

/* Exit codes of wisp's own; those from 124 on are docker's too. Any other code is the command's. */
enum {
	CLI_EXIT_EXPIRED = 122, /* a sandbox reached its maximum duration or idle timeout before the command ended */
	CLI_EXIT_PAUSED = 123,
	CLI_EXIT_TIMEOUT = 124,
	CLI_EXIT_FAILED = 125,
	CLI_EXIT_NOT_EXECUTABLE = 126,
	CLI_EXIT_NOT_FOUND = 127,
	CLI_EXIT_SIGNAL = 128, /* plus the signal's number */
};

/* Prints "wisp: " and one line to standard error. Returns CLI_EXIT_FAILED. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Prints the library's error in the same form. Returns the exit code that belongs to it. */
int cli_fail_error(const struct wisp_error *error);
int cli_exit_code(const struct wisp_exit_status *status);
/* Text of a guest must not control the terminal: replaces every control character, and what is not UTF-8, by '?'. */
void cli_make_printable(char *text, size_t length);
/* Prints the text after the same replacement. */
void cli_print_text(const char *text, size_t length, FILE *to);
/* Flushes standard output: a full disk must not look like success. Returns `code`, or CLI_EXIT_FAILED if that fails. */
int cli_flush(int code);

/* ---- Places: places.c ---- */

/* From WISP_STATE, WISP_LIBDIR and WISP_CACHE, or their defaults. None is NULL. */
struct cli_places {
	char *state_root, *libdir, *cache_dir;
};
/* The default libdir is `below` in the directory that is `up` levels above the program's own file. False: no memory. */
bool cli_find_places(struct cli_places *places, unsigned up, const char *below);
void cli_free_places(struct cli_places *places);
/* What to do if sandboxes cannot be kept in state_root. */
#define CLI_PLACE_ADVICE "set HOME, XDG_STATE_HOME or WISP_STATE to a directory that you own"
/*
 * Stores the state directory, or the nearest directory above it that exists, in which the library creates the others.
 * Returns whether this process may create files in it; errno if not.
 */
bool cli_may_keep_state(const char *state_root, char existing[PATH_MAX]);

/* ---- Options and verbs ---- */

/* Room for the reason why a value is refused. */
#define CLI_WHY_SIZE 200

struct cli_option {
	const char *name;  /* without the dashes */
	const char *value; /* what --help calls the value; NULL: the option is a flag */
	const char *help;  /* NULL: it is not listed anywhere, and the verb refuses it with an explanation */
	/* Stores the value at `to`, the field at `offset`. False, with the reason in `why`, if it refuses the value. */
	bool (*take)(const struct cli_option *option, const char *text, void *to, char *why);
	size_t offset;
	uint64_t least, most; /* limits, for cli_take_number */
	char letter;          /* 0: none */
};

/* values.c. CLI_FLAG and the others below name the type of the field that each one stores into. */
bool cli_take_flag(const struct cli_option *option, const char *text, void *to, char *why);
bool cli_take_text(const struct cli_option *option, const char *text, void *to, char *why);
bool cli_take_number(const struct cli_option *option, const char *text, void *to, char *why);
bool cli_take_memory(const struct cli_option *option, const char *text, void *to, char *why);
bool cli_take_duration(const struct cli_option *option, const char *text, void *to, char *why);
bool cli_take_time(const struct cli_option *option, const char *text, void *to, char *why);

/* A field's offset; a field of another type does not compile. */
#define CLI_OFFSET(type, field, field_type) \
	(offsetof(type, field) + 0 * sizeof(_Generic(((type *)0)->field, field_type : 0)))
#define CLI_FLAG(type, field) .take = cli_take_flag, .offset = CLI_OFFSET(type, field, bool)
#define CLI_TEXT(type, field) .take = cli_take_text, .offset = CLI_OFFSET(type, field, const char *)
#define CLI_NUMBER(type, field, low, high) \
	.take = cli_take_number, .offset = CLI_OFFSET(type, field, uint64_t), .least = (low), .most = (high)
#define CLI_MEMORY(type, field) .take = cli_take_memory, .offset = CLI_OFFSET(type, field, uint32_t)
#define CLI_DURATION(type, field) .take = cli_take_duration, .offset = CLI_OFFSET(type, field, int64_t)
#define CLI_TIME(type, field) .take = cli_take_time, .offset = CLI_OFFSET(type, field, int64_t)

/* Options that belong together, and where their struct is in the verb's. */
struct cli_group {
	const struct cli_option *options; /* ended by a NULL name */
	size_t offset;
	void (*release)(void *group); /* frees what the options allocated; NULL: nothing */
};

/* What an operand is, for completion. */
enum cli_operand { CLI_NONE, CLI_SANDBOX, CLI_SESSION, CLI_FILE, CLI_PATH, CLI_VERB, CLI_WORD };
#define CLI_OPERANDS 3

struct cli_call;

struct cli_verb {
	const char *name;
	const char *alias;              /* or NULL */
	const char *program;            /* a program of libdir that is this verb; then only name and summary are set */
	const char *synopsis;           /* what follows the name and [OPTION...] */
	const char *summary;            /* half a line */
	const char *details;            /* paragraphs; lines that begin with two spaces are examples. NULL: none */
	const struct cli_group *groups; /* ended by NULL options; NULL: none */
	size_t options_size;
	enum cli_operand operands[CLI_OPERANDS]; /* the last one stands for all that follow */
	const char *words;                       /* what a CLI_WORD may be, separated by spaces */
	size_t least, most;                      /* operands */
	bool takes_command;                      /* after "--" */
	int (*run)(const struct cli_call *call); /* returns the exit code */
};

/* A verb and what its command line says. */
struct cli_call {
	const struct cli_verb *verb;
	const struct cli_places *places;
	void *options; /* the verb's own struct */
	const char **operands;
	size_t operand_count;
	const char *const *command; /* what follows "--", ended by NULL; NULL if there was no "--" */
	bool help;
};

/* Parses, then runs the verb or prints its help. argv[0] is the verb. Returns the exit code. */
int cli_main(const struct cli_verb *verb, const struct cli_places *places, int argc, char **argv);

/* ---- parse.c ---- */

/* --help and -h, which every verb has; the struct is struct cli_call. */
extern const struct cli_option cli_help_options[];
/*
 * Fills in *call, whose verb, places and options the caller has set; options hold the defaults. Returns 0, or the exit
 * code after a message. Call cli_free_call in both cases.
 */
int cli_parse(int argc, char **argv, struct cli_call *call);
/* Frees what cli_parse allocated, also in the options, but not the options themselves. */
void cli_free_call(struct cli_call *call);
/* Calls `visit` for each option of the verb that has a help text, --help included. */
void cli_each_option(const struct cli_verb *verb,
        void (*visit)(const struct cli_verb *verb, const struct cli_option *option, void *context), void *context);
/*
 * Finds the name that a mistyped one means: call it for each candidate, with the previous result as `best`, NULL at
 * first. *slips belongs to `best`.
 */
const char *cli_suggest(const char *text, const char *best, size_t *slips, const char *candidate);

/* ---- values.c: false, with the reason in `why` (CLI_WHY_SIZE), if the text is refused ---- */

bool cli_refuse(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool cli_parse_count(const char *text, uint64_t most, uint64_t *value, char *why);
bool cli_parse_memory(const char *text, uint32_t *mib, char *why);
bool cli_parse_duration(const char *text, int64_t *ms, char *why);

/* ---- Descriptions of verbs: help_text.c, completion_text.c, man_text.c ---- */

/* Both wrap at the width of the terminal, else at $COLUMNS, else at 80. */
void cli_print_help(const struct cli_verb *verb, FILE *to);
/* One line of a list, `left` and its description; the descriptions begin at `column`. */
void cli_print_entry(const char *left, const char *text, size_t column, FILE *to);

/*
 * Prints one verb's part of what `wisp completion FORMAT` prints, for FORMAT bash, zsh, fish or man. False if there is
 * no such format. A verb that is a program of its own prints its part when it is run with --describe FORMAT.
 */
bool cli_describe(const struct cli_verb *verb, const char *format);
void cli_describe_bash(const struct cli_verb *verb);
void cli_describe_zsh(const struct cli_verb *verb);
void cli_describe_fish(const struct cli_verb *verb);
void cli_describe_man(const struct cli_verb *verb);
/* Prints text inside single quotes of zsh's _arguments and _describe, and of fish. */
void cli_print_zsh_text(const char *text);
void cli_print_fish_text(const char *text);

/* ---- streams.c ---- */

/*
 * Call it first in main. Opens /dev/null for standard streams that are closed, and undoes what a parent did to signals
 * that would break the command. From then on, stdout and stderr wait where their descriptors do not block.
 */
void cli_begin(void);
/* read(2), and write(2) of everything: they wait where the descriptor does not block, and go on after a signal. */
ssize_t cli_read(int fd, void *buffer, size_t size);
bool cli_write(int fd, const void *data, size_t length);

/* ---- signals.c ---- */

/*
 * Does this process ignore the signal, because of nohup or a script's "&"? It must go on ignoring it. While the signal
 * is blocked, the kernel keeps it for sigwait() nevertheless.
 */
bool cli_ignores(int number);

/* The signals that end wisp: SIGINT, SIGTERM, SIGHUP, SIGQUIT. */
void cli_fill_ending(sigset_t *set);
/* The signals that are forwarded to a command: those, and others that mean nothing to wisp itself. */
void cli_fill_forwarded(sigset_t *set);
/*
 * Blocks the signals that end wisp and are not ignored, and returns a signalfd of them, or -1 with errno. Ignores
 * SIGPIPE: a reader that has gone is an error of write(2).
 */
int cli_open_signals(void);
/*
 * For a call that failed and that the signalfd cancels. Returns the exit code: that of a signal which has arrived, or
 * the error's after a message.
 */
int cli_fail_cancelled(int signal_fd, const struct wisp_error *error);

#endif
