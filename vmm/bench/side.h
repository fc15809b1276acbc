/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two sides that are measured: a sandbox and, with --peer, the guest of another monitor. Both run the same program,
 * bench-guest, and are read the same way: the sandbox through a session, the peer from its console, which is the
 * standard output of its command. (With boot, only the peer is a side; with floor, both sides are monitors with a
 * console.)
 */
#ifndef WISP_BENCH_SIDE_H
#define WISP_BENCH_SIDE_H

#include "vmm/bench/bench.h"
#include "vmm/bench/counts.h"
#include "vmm/bench/guest.h"

/* A guest that runs bench-guest, and what it prints. */
struct bench_side {
	const char *name;
	struct wisp_sandbox *sandbox; /* NULL: the peer */
	struct wisp_session *session; /* of the program, while it runs */
	pid_t pid;                    /* of the monitor; 0: unknown */
	int out;                      /* the console of a program, while it runs */
	uint64_t began;               /* just before the exec() that started it */
	const uint8_t *data;          /* the part of the latest event that is not in `text` yet */
	size_t held;
	char text[1024]; /* from the beginning of a line */
	size_t length;
	uint64_t read_at; /* when the latest bytes arrived */
	uint64_t at;      /* when the first byte of the line arrived */
	struct bench_syscalls syscalls;
	struct bench_counts counts; /* at that time: what the rest of the line costs is not measured */
	bool ended;
	char last[200]; /* the latest line that was not bench-guest's */
};

/* An operation of one run. -1: unknown. */
struct bench_result {
	uint64_t requests, bytes, ns, p99_ns;
	int64_t exits, interrupts, syscalls;
};

enum bench_line_type { BENCH_LINE_BEGIN = 1, BENCH_LINE_END, BENCH_LINE_READY, BENCH_LINE_FAIL };
struct bench_guest_line {
	enum bench_line_type type;
	char name[64]; /* of the operation; or what failed, and why */
	struct bench_result result;
	struct bench_counts counts; /* until then */
	uint64_t at;                /* when the first byte arrived */
};

/* ---- side.c ---- */

#define BENCH_PROGRAM "/tmp/bench-guest"
/* Copies bench-guest to that path. 0, or an exit code after a message. */
int bench_send_program(const struct bench *bench, struct wisp_sandbox *sandbox);
/* Boots, and sends the program. 0, also if a signal arrived (then there is no sandbox); else after a message. */
int bench_open_sandbox_side(struct bench *bench, struct bench_side *side);
/*
 * Starts and measures each side in interleaved runs: the sandbox's program with `words` as its arguments, the peer's
 * command as it is. `measure` gets a side that was started, and whether its results count.
 */
int bench_run_sides(struct bench *bench, struct bench_side *wisp, const char *const *words,
        int (*measure)(struct bench *bench, struct bench_side *side, bool counts));
/*
 * Starts the command of --peer, without input; its standard output is its console, and it dies with this process.
 * Stores the time in `began`. 0, or an exit code after a message.
 */
int bench_start_peer(const struct bench *bench, struct bench_side *side);
/* Ends what a side runs. */
void bench_stop_side(struct bench_side *side);
/* Prints why a side ended early, unless it was a signal (then it returns 0). */
int bench_fail_side(const struct bench *bench, const struct bench_side *side, const struct bench_guest_line *line);
struct bench_counts bench_count_side(const struct bench_side *side);

#define BENCH_PEER_CID 3u /* by default */

/* ---- lines.c ---- */

/* False if the line is not bench-guest's. Does not set `counts` and `at`. */
bool bench_parse_guest_line(const char *text, struct bench_guest_line *line);
/* The next of bench-guest's lines. False if there are no more, if a signal arrived, or after a message. */
bool bench_read_side(struct bench *bench, struct bench_side *side, struct bench_guest_line *line);

/* ---- results.c ---- */

/* Adds BENCH_RESULT_METRICS metrics: a rate in `unit`, p99, and exits, interrupts and system calls `per` request.
 * Returns the first, or NULL. */
#define BENCH_RESULT_METRICS 5u
struct bench_metric *bench_add_results(
        struct bench *bench, const char *name, const char *unit, const char *what, const char *per);
/* What was counted between two moments, or -1 if one of the counts is unknown. */
void bench_set_counts(struct bench_result *r, const struct bench_counts *before, const struct bench_counts *after);
/* A value of wisp, or of the peer. Omits an unknown one (below 0). */
void bench_add_value(struct bench_metric *metric, bool peer, int64_t value);
void bench_add_result(struct bench_metric *first, bool peer, const struct bench_result *result);

#endif
