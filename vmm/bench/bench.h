/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp bench: what its files share. A run of a sandbox is a sample: when it reached each stage, on one clock
 * (CLOCK_MONOTONIC), whether the library, the monitor, the guest's kernel or the agent reached it. Configurations are
 * run in turns, so that what disturbs the host disturbs them alike.
 *
 *	bench.c           the verb: options, configurations, dispatch
 *	boot.c      boot, compare: sandboxes from creation to gone
 *	peer.c      boot --peer: a sandbox's boot and another monitor's
 *	floor.c     floor: the monitor alone, with a payload of a few instructions
 *	exec.c, density.c    exec, density; stream.c: the streams of exec
 *	blk.c, vsock.c       blk, vsock
 *	side.c      for those: a sandbox and a peer, measured alike
 *	count.c     what a monitor costs its host: exits, system calls
 *	guest.c     the program that they run in the guest: not a part of the command
 *	stats.c     percentiles, bootstrap
 *	stages.c    the stages, their order and owners; the monitor's trace
 *	manifest.c  what was measured on what
 *	text.c, json.c, svg.c, perfetto.c    what is written
 */
#ifndef WISP_CLI_BENCH_H
#define WISP_CLI_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "vmm/bench/guest.h"
#include "vmm/cli/cli.h"

/* ---- stats.c ---- */

struct bench_summary {
	size_t n; /* 0: the others do not hold */
	int64_t min, p50, p90, p95, p99, max;
};

/*
 * The percentile of values in ascending order, in thousandths: linear between the two nearest ranks, as spreadsheets
 * and numpy do by default (Hyndman and Fan's type 7). n > 0.
 */
int64_t bench_percentile(const int64_t *sorted, size_t n, unsigned per_mille);
/* Sorts `values`. */
void bench_summarize(int64_t *values, size_t n, struct bench_summary *summary);
/* Leaves them in the order of the runs; `room` is for as many. */
void bench_summarize_copy(const int64_t *values, size_t n, int64_t *room, struct bench_summary *summary);

struct bench_ratio {
	double ratio, low, high; /* of the medians, and its 95 % confidence interval */
};

#define BENCH_RESAMPLES 10000u

/*
 * median(b) / median(a) and the bootstrap's percentile interval, with a fixed seed: the same samples give the same
 * interval. Sorts both. False without samples, without memory, or where a median of `a` is 0.
 */
bool bench_compare(int64_t *a, size_t a_count, int64_t *b, size_t b_count, struct bench_ratio *ratio);

/* ---- stages.c ---- */

enum bench_stage {
	BENCH_CREATE,
	BENCH_SPAWN,
	BENCH_MAIN,
	BENCH_MEMORY_MAPPED,
	BENCH_DEVICES_CREATED,
	BENCH_KERNEL_LOADED,
	BENCH_VM_CREATED,
	BENCH_VCPU_READY,
	BENCH_FIRST_RUN,
	BENCH_SIGNAL, /* of the floor's payload */
	BENCH_START_KERNEL,
	BENCH_REST_INIT,
	BENCH_INITCALLS,
	BENCH_FREE_INITMEM,
	BENCH_INIT_EXEC,
	BENCH_INIT_ENTERED,
	BENCH_AGENT_SERVES,
	BENCH_READY,
	BENCH_FIRST_BYTE,
	BENCH_EXITED,
	BENCH_ENDED,
	BENCH_TORN_DOWN,
	BENCH_GONE,
	BENCH_STAGES,
};

enum bench_owner {
	BENCH_LIBRARY,
	BENCH_MONITOR,
	BENCH_KERNEL,
	BENCH_AGENT,
	BENCH_COMMAND,
	BENCH_TEARDOWN,
	BENCH_OWNERS
};

struct bench_stage_info {
	const char *name;
	const char *what; /* is done until it is reached */
	enum bench_owner owner;
};
extern const struct bench_stage_info bench_stages[BENCH_STAGES];
extern const char *const bench_owners[BENCH_OWNERS];

/* From one stage to another: what one asks for most. */
struct bench_span_info {
	const char *name, *what;
	enum bench_stage from, to;
};
#define BENCH_SPANS 7u
extern const struct bench_span_info bench_spans[BENCH_SPANS];

#define BENCH_COUNTERS 7u
extern const char *const bench_counters[BENCH_COUNTERS];

struct bench_sample {
	size_t run;                /* from 1 */
	uint64_t at[BENCH_STAGES]; /* ns of CLOCK_MONOTONIC; 0: not reached, or not known */
	bool counted[BENCH_STAGES];
	uint64_t counts[BENCH_STAGES][BENCH_COUNTERS]; /* KVM's exits until then */
};

/* Takes in the monitor's trace, line by line. False if a line is none of a trace; stages that are unknown are not. */
bool bench_parse_trace(const char *text, struct bench_sample *sample);
/* When the first stage was reached that there is. */
uint64_t bench_begin(const struct bench_sample *sample);
/* How long a stage took: from the latest one before it. -1 if it was not reached or is the first. */
int64_t bench_took(const struct bench_sample *sample, enum bench_stage stage);
int64_t bench_span(const struct bench_sample *sample, const struct bench_span_info *span); /* or -1 */
/* The exits of one kind since the stage before it that has counts: or -1. */
int64_t bench_exits(const struct bench_sample *sample, enum bench_stage stage, size_t counter);

/* Breakpoints, as "NAME=0xADDRESS", of the stages that System.map's text has a symbol of; ended by NULL. */
#define BENCH_BREAKPOINTS 5u
struct bench_breakpoints {
	char text[BENCH_BREAKPOINTS][64];
	const char *list[BENCH_BREAKPOINTS + 1];
};
size_t bench_find_breakpoints(const char *map, struct bench_breakpoints *breakpoints);

/* ---- what is measured ---- */

struct bench_config {
	char label[32];
	char words[512]; /* what makes it differ */
	struct cli_args args;
	struct bench_breakpoints breakpoints;
	struct bench_sample *samples;
	size_t count, failures;
	bool booted;       /* once at least */
	char failure[256]; /* the first */
};

/* Beside stages: values of one kind. */
struct bench_metric {
	char name[32];
	const char *unit, *what; /* unit: "ns", "KiB", "kB/s", "1/ks" (in 1000 s), "milli" (thousandths) */
	const char *per;         /* what follows `what`: "a request" */
	int64_t *values;
	int64_t *peer; /* with --peer, of the peer, else NULL */
	size_t count, peer_count;
	const struct bench_metric *reference; /* what it is measured against in the same sandbox, or NULL */
};

#define BENCH_METRICS_MAX 30u
#define BENCH_CONFIGS_MAX 16u

struct bench {
	const char *verb;
	struct cli_args *args;
	size_t runs, warmup;
	size_t config_count, metric_count;
	struct bench_config config[BENCH_CONFIGS_MAX];
	struct bench_metric metric[BENCH_METRICS_MAX];
	struct bench_manifest *manifest;
	FILE *text, *json, *csv, *svg, *perfetto; /* all but text may be NULL */
	int signal_fd;
	int interrupted; /* the signal's number */
};

uint64_t bench_now(void);
/* True if a signal came; then it is remembered. Waits up to `ms`. */
bool bench_poll_signal(struct bench *bench, int ms);
/* To a terminal, where the work is. */
void bench_progress(const struct bench *bench, const char *what, size_t done, size_t all);
void bench_fail_run(struct bench_config *config, size_t run, const char *text);
/* Room for the values of one more metric, at most bench->runs; NULL without memory. */
struct bench_metric *bench_add_metric(
        struct bench *bench, const char *name, const char *unit, const char *what, size_t count);
/* A config's samples as values, in `to`, of config->count; the result is how many there are. */
size_t bench_collect_took(const struct bench_config *config, enum bench_stage stage, int64_t *to);
size_t bench_collect_at(const struct bench_config *config, enum bench_stage stage, int64_t *to);
size_t bench_collect_span(const struct bench_config *config, const struct bench_span_info *span, int64_t *to);
size_t bench_collect_exits(const struct bench_config *config, enum bench_stage stage, size_t counter, int64_t *to);
/* The run whose time to the last stage of importance (first_byte, else the last) is the median. NULL: no sample. */
const struct bench_sample *bench_median_run(const struct bench_config *config);

/* ---- count.c ---- */

/* Of a monitor until now. -1: not known. */
struct bench_counts {
	int64_t exits, syscalls;
};

#define BENCH_WATCHED_MAX 64u
/* Counters of the system calls of a process's threads, and of all that they start. Zeroed: none. */
struct bench_syscalls {
	int fd[BENCH_WATCHED_MAX];
	pid_t thread[BENCH_WATCHED_MAX];
	size_t count;
};
/* Begins to count where the kernel lets us (perf's tracepoints: root, and tracefs mounted); else nothing. */
void bench_watch_syscalls(struct bench_syscalls *syscalls, pid_t pid);
void bench_unwatch_syscalls(struct bench_syscalls *syscalls);
/* Since they are watched; -1 if they are not. */
int64_t bench_count_syscalls(const struct bench_syscalls *syscalls);
/* KVM's exits of a process's first machine, from debugfs; -1 where it cannot be read. */
int64_t bench_count_exits(pid_t pid);

/* ---- side.c ---- */

/* A guest that runs bench-guest, and what it says. */
struct bench_side {
	const char *name;
	struct wisp_sandbox *sandbox; /* NULL: the peer */
	struct wisp_session *session; /* of the program, while it runs */
	pid_t pid;                    /* of the monitor; 0: not known */
	int out;                      /* a program's console, while it runs */
	uint64_t began;               /* when it was started: just before its exec() */
	const uint8_t *data;          /* of the session's latest event, what is not in `text` yet */
	size_t held;
	char text[1024]; /* from the beginning of a line */
	size_t length;
	uint64_t read_at; /* when the latest bytes came */
	uint64_t at;      /* when that line's first byte came */
	struct bench_syscalls syscalls;
	struct bench_counts counts; /* then: what the rest of it costs is not the measurement's */
	bool ended;
	char last[200]; /* the latest line that was not bench-guest's */
};

/* An operation of one run. -1: not known. */
struct bench_result {
	uint64_t requests, bytes, ns, p99_ns;
	int64_t exits, interrupts, syscalls;
};

enum bench_line_type { BENCH_LINE_BEGIN = 1, BENCH_LINE_END, BENCH_LINE_READY, BENCH_LINE_FAIL };
struct bench_guest_line {
	enum bench_line_type type;
	char name[64]; /* of the operation; what failed, and why */
	struct bench_result result;
	struct bench_counts counts; /* until then */
	uint64_t at;                /* when its first byte came */
};
/* False if the line is none of bench-guest's. `counts` and `at` are not set. */
bool bench_parse_guest_line(const char *text, struct bench_guest_line *line);

/* What BENCH_RESULT_METRICS metrics show: a rate in `unit`, p99, exits, interrupts and system calls `per`. The first,
 * or NULL. */
#define BENCH_RESULT_METRICS 5u
struct bench_metric *bench_add_results(
        struct bench *bench, const char *name, const char *unit, const char *what, const char *per);
/* What was counted between two moments; where one of them is not known, -1. */
void bench_set_counts(struct bench_result *r, const struct bench_counts *before, const struct bench_counts *after);
/* wisp's, or the peer's; one that is not known (below 0) is left out. */
void bench_add_value(struct bench_metric *metric, bool peer, int64_t value);
void bench_add_result(struct bench_metric *first, bool peer, const struct bench_result *result);

#define BENCH_PROGRAM "/tmp/bench-guest"
/* Puts bench-guest there. 0, or an exit code after a message. */
int bench_send_program(struct wisp_sandbox *sandbox);
/* Boots, and sends the program. 0, also when a signal came (then there is no sandbox); else after a message. */
int bench_open_sandbox_side(struct bench *bench, struct bench_side *side);
/*
 * Runs and measures each side in turns: the sandbox's program with `words` as its arguments, the peer's command as it
 * is. `measure` gets it started, and whether its results count.
 */
int bench_run_sides(struct bench *bench, struct bench_side *wisp, const char *const *words,
        int (*measure)(struct bench *bench, struct bench_side *side, bool counts));
/*
 * Starts a program without input whose descriptor `as` is for us to read, and which dies with us; says in `began` when.
 * bench_stop_side ends it. 0, or an exit code after a message.
 */
int bench_start_program(struct bench_side *side, char *const *argv, int as);
/* Starts the command of --peer; its standard output is its console. 0, or an exit code after a message. */
int bench_start_peer(const struct bench *bench, struct bench_side *side);
/* Ends what a side runs. */
void bench_stop_side(struct bench_side *side);
/* The next of bench-guest's lines; false when there are no more, a signal came, or after a message. */
bool bench_read_side(struct bench *bench, struct bench_side *side, struct bench_guest_line *line);
/* Says why a side ended early, unless it was a signal (then 0). */
int bench_fail_side(const struct bench *bench, const struct bench_side *side, const struct bench_guest_line *line);
/* wisp's median to the peer's; both rooms are for bench->runs. False without samples of both. */
bool bench_compare_peer(
        const struct bench_metric *metric, int64_t *room, int64_t *other_room, struct bench_ratio *ratio);
struct bench_counts bench_count_side(const struct bench_side *side);

#define BENCH_PEER_CID 3u /* by default */
#define BENCH_WORDS_MAX 64
/* Words as a shell splits them, quotes and all, in place. At most `most`. */
int bench_split_words(char *text, char **words, int most);

/* ---- boot.c, peer.c ---- */

/*
 * A sandbox of the configuration, from creation to gone, with the first command. 0; or -errno with the error; when a
 * signal came, 0 with bench->interrupted. Without breakpoints the sample lacks the stages inside the guest's kernel.
 */
int bench_boot_once(
        struct bench *bench, const struct bench_config *config, struct bench_sample *sample, struct wisp_error *error);
/* For --cold: 0 or -errno. */
int bench_drop_caches(void);
/* boot with --peer */
int bench_run_boot_peer(struct bench *bench);

/* The kinds: 0, or an exit code after a message. */
int bench_run_boot(struct bench *bench);
int bench_run_floor(struct bench *bench);
int bench_run_exec(struct bench *bench);
int bench_run_density(struct bench *bench);
int bench_run_blk(struct bench *bench);
int bench_run_vsock(struct bench *bench);
/* Of exec: `runs` of each stream, of `mib` each. */
int bench_run_streams(struct bench *bench, struct wisp_sandbox *sandbox, size_t runs, uint32_t mib);
/* The metric's median to its reference's; both rooms are for bench->runs. False without samples of both. */
bool bench_compare_reference(
        const struct bench_metric *metric, int64_t *room, int64_t *other_room, struct bench_ratio *ratio);
/* A sandbox of the configuration, ready; NULL after a message, or when a signal came. */
struct wisp_sandbox *bench_boot_sandbox(
        struct bench *bench, const struct bench_config *config, struct wisp_error *error);

/* ---- manifest.c, sha256.c ---- */

struct bench_manifest;
struct bench_manifest *bench_read_manifest(const struct bench *bench);
void bench_free_manifest(struct bench_manifest *manifest);
void bench_print_manifest(const struct bench_manifest *manifest, FILE *to);
/* "" where it is not known. */
const char *bench_get_manifest(const struct bench_manifest *manifest, const char *key);
void bench_json_manifest(const struct bench_manifest *manifest, struct cli_json *json);
/* A file's, as 64 hexadecimal digits; false if it cannot be read. */
bool bench_hash_file(const char *path, char hex[65]);
/* The files of a configuration as they will be used: static or the configuration's; NULL where unknown. */
const char *bench_kernel_path(const struct cli_args *args, char *buffer, size_t size);

/* ---- output ---- */

void bench_print_text(const struct bench *bench);
void bench_write_json(const struct bench *bench, FILE *to);
void bench_write_csv(const struct bench *bench, FILE *to);
void bench_write_svg(const struct bench *bench, FILE *to);
void bench_write_perfetto(const struct bench *bench, FILE *to);

#endif
