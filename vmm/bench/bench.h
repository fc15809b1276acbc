/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp-bench, the program that is the verb bench of wisp: what is measured, and on which configurations.
 * Configurations are measured in interleaved runs, so that disturbances of the host affect all of them alike.
 *
 *	main.c, options.c       the program, its options and its help
 *	configs.c, outputs.c    configurations; the files that results go to
 *	bench.c                 the kinds of benchmark, and what they share
 *	boot.c                  boot, compare: sandboxes from creation to removal
 *	peer.c                  boot --peer: the boot of a sandbox and that of another monitor's guest
 *	floor.c                 floor: the monitor alone, with a payload of a few instructions
 *	exec.c, stream.c        exec: round trips, and the throughput of output
 *	clone.c, payload.c      fork, restore: of a guest, and with --bare of a payload
 *	density.c, blk.c, vsock.c
 *	side.c, lines.c, results.c    for those with a peer: a sandbox and a peer, measured alike (side.h)
 *	count.c                 exits and system calls of a monitor (counts.h)
 *	stats.c, stages.c, collect.c, manifest.c
 *	text.c, json.c, svg.c, perfetto.c    what is printed and written
 *	guest.c                 bench-guest, the program that some of them run in the guest (guest.h)
 */
#ifndef WISP_BENCH_BENCH_H
#define WISP_BENCH_BENCH_H

#include <stdio.h>

#include "vmm/bench/stages.h"
#include "vmm/bench/stats.h"
#include "vmm/cli/machine.h"

/* ---- options.c ---- */

/* What makes up a configuration: the options that --a and --b take. */
struct bench_setup {
	struct cli_machine machine;
	bool console, untraced;
	const char *symbols;
	const char *image;          /* NULL: wisp's own */
	const char *const *command; /* NULL: echo */
};

struct bench_warmup {
	bool given;
	uint64_t runs;
};

struct bench_options {
	struct bench_setup setup;
	struct bench_warmup warmup;
	uint64_t runs, parallel, peer_cid, cycles; /* 0: the default */
	uint32_t stream_mib;
	bool cold, overwrite, bare, small_pages, prefetch, idle;
	const char *json, *csv, *svg, *perfetto, *payload, *sweep, *a, *b, *peer;
};

extern const struct cli_verb bench_verb;
/* Of the words of --a and --b; its options are struct bench_setup. */
extern const struct cli_verb bench_setup_verb;

/* ---- What is measured ---- */

struct bench_config {
	char label[32];
	char words[512]; /* how it differs from the others */
	struct bench_setup setup;
	/* With --a and --b, what `setup` borrows from. */
	struct bench_setup parsed;
	struct cli_call call;
	char *split;
	struct bench_breakpoints breakpoints;
	struct bench_sample *samples;
	size_t count, failures;
	bool booted;       /* at least once */
	char failure[256]; /* the first one */
};

/* Values of one kind, where they are not the stages of a sample. */
struct bench_metric {
	char name[32];
	const char *unit, *what; /* unit: "ns", "KiB", "kB/s", "1/ks" (per 1000 s), "milli" (thousandths) */
	const char *per;         /* what `what` is counted per: "request"; or "" */
	int64_t *values;         /* room for `room` */
	int64_t *peer;           /* with --peer: the values of the peer, else NULL */
	size_t count, peer_count, room;
	const struct bench_metric *reference; /* what it is compared with in the same sandbox, or NULL */
};

#define BENCH_METRICS_MAX 40u
#define BENCH_CONFIGS_MAX 16u

struct bench {
	const char *verb;
	const struct bench_options *options;
	const struct cli_places *places;
	size_t runs, warmup;
	size_t config_count, metric_count;
	struct bench_config config[BENCH_CONFIGS_MAX];
	struct bench_metric metric[BENCH_METRICS_MAX];
	struct bench_manifest *manifest;
	FILE *text, *json, *csv, *svg, *perfetto; /* all but text may be NULL */
	int signal_fd;
	int interrupted; /* the signal's number */
};

/* ---- bench.c ---- */

/* The benchmark that the operand names. Returns the exit code. */
int bench_run(const struct cli_call *call);

uint64_t bench_now(void);
/* True if a signal arrived, which is remembered. Waits up to `ms`. */
bool bench_poll_signal(struct bench *bench, int ms);
/* Shows on a terminal how far the work is. */
void bench_progress(const struct bench *bench, const char *what, size_t done, size_t all);
void bench_fail_run(struct bench_config *config, size_t run, const char *text);
/* Adds a metric of up to `count` values, at most bench->runs. NULL without memory. */
struct bench_metric *bench_add_metric(
        struct bench *bench, const char *name, const char *unit, const char *what, size_t count);

struct bench_kind {
	const char *name;
	int (*run)(struct bench *bench); /* 0, or an exit code after a message */
	size_t runs, warmup;             /* by default */
	bool stages, configs, peers, devices;
};

int bench_run_boot(struct bench *bench);
int bench_run_boot_peer(struct bench *bench);
int bench_run_floor(struct bench *bench);
int bench_run_fork(struct bench *bench);
int bench_run_restore(struct bench *bench);
/* With --bare. */
int bench_run_payload(struct bench *bench, const char *dir, bool from_file);
int bench_run_exec(struct bench *bench);
int bench_run_density(struct bench *bench);
int bench_run_blk(struct bench *bench);
int bench_run_vsock(struct bench *bench);
/* Of exec: `runs` of each stream, `mib` long. */
int bench_run_streams(struct bench *bench, struct wisp_sandbox *sandbox, size_t runs, uint32_t mib);

/* ---- floor_x86_64.c, floor_aarch64.c: payloads. 0, or an exit code after a message ---- */

/* One that sends its signal and ends. If it `says` so, it first writes "begin kernel" (guest.h) to a serial port. */
int bench_write_payload(const char *path, bool says);

/* One that fills `pages` pages of 4 KiB from BENCH_FILL_START on, and then sends the signal again and again. */
#define BENCH_FILL_START_MIB 16u
#define BENCH_FILL_MIB_MAX 1008u /* where x86-64's page tables of the boot end */
int bench_write_filler(const char *path, uint32_t pages);

/* ---- floor.c ---- */

/* 0, or an exit code after a message. */
int bench_write_file(const char *path, const void *data, size_t size);

/* Creates a directory of a benchmark's own, and removes it. `dir` has room for PATH_MAX. */
int bench_make_dir(char *dir);
void bench_remove_dir(const char *dir);

/* ---- configs.c ---- */

/* 0, or an exit code after a message. */
int bench_add_configs(struct bench *bench, const struct bench_kind *kind);
void bench_free_config(struct bench_config *config);
#define BENCH_WORDS_MAX 64
/* Splits words as a shell does, with quotes, in place. Returns their number, at most `most`. */
int bench_split_words(char *text, char **words, int most);

/* ---- outputs.c: 0, or an exit code after a message ---- */

/* Opens the files before anything is measured. */
int bench_open_outputs(struct bench *bench, const struct bench_kind *kind);
int bench_write_outputs(const struct bench *bench);

void bench_print_text(const struct bench *bench);
void bench_write_json(const struct bench *bench, FILE *to);
void bench_write_csv(const struct bench *bench, FILE *to);
void bench_write_svg(const struct bench *bench, FILE *to);
void bench_write_perfetto(const struct bench *bench, FILE *to);

/* ---- boot.c ---- */

/*
 * One sandbox of the configuration, from creation to removal, with the first command. 0; or -errno with the error; if a
 * signal arrived, 0 with bench->interrupted. Without breakpoints the sample lacks the stages inside the guest's kernel.
 */
int bench_boot_once(
        struct bench *bench, const struct bench_config *config, struct bench_sample *sample, struct wisp_error *error);
/* Options for a sandbox of the configuration that ends with this process. */
void bench_fill_options(
        const struct bench *bench, const struct bench_setup *setup, struct wisp_create_options *options);
/* For --cold: 0 or -errno. */
int bench_drop_caches(void);
/* A sandbox of the configuration that is ready. NULL after a message, or if a signal arrived. */
struct wisp_sandbox *bench_boot_sandbox(
        struct bench *bench, const struct bench_config *config, struct wisp_error *error);

/* ---- collect.c ---- */

/* The values of a configuration's samples, in `to`, which has room for config->count. Each returns their number. */
size_t bench_collect_took(const struct bench_config *config, enum bench_stage stage, int64_t *to);
size_t bench_collect_at(const struct bench_config *config, enum bench_stage stage, int64_t *to);
size_t bench_collect_span(const struct bench_config *config, const struct bench_span_info *span, int64_t *to);
size_t bench_collect_exits(const struct bench_config *config, enum bench_stage stage, size_t counter, int64_t *to);
/* The run whose time to the first byte, or else to the end, is the median. NULL without samples. */
const struct bench_sample *bench_median_run(const struct bench_config *config);
/* The median of a metric to that of its reference, and that of wisp to that of the peer. The rooms are for bench->runs
 * values. False without samples of both. */
bool bench_compare_reference(
        const struct bench_metric *metric, int64_t *room, int64_t *other_room, struct bench_ratio *ratio);
bool bench_compare_peer(
        const struct bench_metric *metric, int64_t *room, int64_t *other_room, struct bench_ratio *ratio);

#endif
