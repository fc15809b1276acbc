/* SPDX-License-Identifier: Apache-2.0 */
/* exec: round trips into a running sandbox, and the throughput of output. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/bench.h"

#define FLOOR_BATCH 20     /* programs per sample of the guest's own floor */
#define STREAM_MIB 64      /* the default length of a stream */
#define STREAM_RUNS_MAX 10 /* they take long */

/* Runs a program through the library. Nanoseconds, or -errno. */
static int64_t time_exec(struct wisp_sandbox *sandbox, const char *const *argv, struct wisp_error *error)
{
	struct wisp_output *output;
	uint64_t begin = bench_now();
	int r = wisp_exec(sandbox, argv, NULL, &output, error);
	uint64_t end = bench_now();
	bool success = r == 0 && output->status.success;
	wisp_free_output(output);
	if (r == 0 && !success) {
		*error = (struct wisp_error){.status = WISP_ERR_SYSTEM, .errnum = EIO};
		snprintf(error->message, sizeof(error->message), "%s failed in the guest", argv[0]);
		r = -EIO;
	}
	return r < 0 ? r : (int64_t)(end - begin);
}

static int64_t time_true(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	static const char *const argv[] = {"true", NULL};
	return time_exec(sandbox, argv, error);
}

static int64_t time_shell(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	static const char *const argv[] = {"sh", "-c", ":", NULL};
	return time_exec(sandbox, argv, error);
}

static int64_t time_ping(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	int64_t ns;
	int r = wisp_ping_sandbox(sandbox, &ns, error);
	return r < 0 ? r : ns;
}

/* How long the guest needs to start a program and wait for it: a shell loop with programs minus one without. */
static int64_t time_guest(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	static const char *const with[] = {
	        "sh", "-c", "i=0; while [ $i -lt 20 ]; do /bin/true; i=$((i+1)); done", NULL};
	static const char *const without[] = {"sh", "-c", "i=0; while [ $i -lt 20 ]; do :; i=$((i+1)); done", NULL};
	int64_t all = time_exec(sandbox, with, error);
	int64_t loop = all < 0 ? all : time_exec(sandbox, without, error);
	if (loop < 0)
		return loop;
	return all > loop ? (all - loop) / FLOOR_BATCH : 0;
}

/* Measured in interleaved runs, so that disturbances of the host affect all of them alike. */
enum { PING, TRUE, SHELL, FLOOR, OPERATIONS };

static const struct operation {
	const char *name, *what;
	int64_t (*time)(struct wisp_sandbox *sandbox, struct wisp_error *error);
} operations[OPERATIONS] = {
        [PING] = {"ping", "connection, HELLO, answer: no program", time_ping},
        [TRUE] = {"true", "connection, fork, exec, wait, exit status", time_true},
        [SHELL] = {"sh -c :", "the same for a shell", time_shell},
        [FLOOR] = {"guest floor", "fork, exec, wait inside the guest, by its shell", time_guest},
};

/* Measures each operation once. 0, or an exit code after a message. */
static int take_turn(struct wisp_sandbox *sandbox, size_t run, int64_t values[OPERATIONS])
{
	struct wisp_error error;
	for (size_t i = 0; i < OPERATIONS; i++) {
		values[i] = operations[i].time(sandbox, &error);
		if (values[i] < 0)
			return cli_fail("run %zu of %s failed: %s", run, operations[i].name, error.message);
	}
	return 0;
}

/* The target for `true` is a metric too, so that the ratio to it has an interval like others. */
static int measure(struct bench *bench, struct wisp_sandbox *sandbox)
{
	struct bench_metric *metric[OPERATIONS + 1];
	for (size_t i = 0; i < OPERATIONS; i++)
		metric[i] = bench_add_metric(bench, operations[i].name, "ns", operations[i].what, bench->runs);
	metric[OPERATIONS] = bench_add_metric(bench, "2 floor + ping", "ns", "the target for an exec", bench->runs);
	for (size_t i = 0; i <= OPERATIONS; i++)
		if (!metric[i])
			return cli_fail("out of memory");
	metric[TRUE]->reference = metric[OPERATIONS];

	size_t warmup = bench->warmup < bench->runs ? bench->warmup : bench->runs;
	int code = 0;
	for (size_t i = 0; i < warmup + bench->runs && !bench_poll_signal(bench, 0); i++) {
		int64_t values[OPERATIONS + 1];
		bench_progress(bench, "exec", i, warmup + bench->runs);
		int failed = take_turn(sandbox, i + 1, values);
		code |= failed;
		if (failed && i == 0)
			break;
		values[OPERATIONS] = 2 * values[FLOOR] + values[PING];
		for (size_t k = 0; k <= OPERATIONS && i >= warmup && !failed; k++)
			metric[k]->values[metric[k]->count++] = values[k];
	}
	return code;
}

int bench_run_exec(struct bench *bench)
{
	struct wisp_error error;
	if (bench->options->cold)
		return cli_fail("bench exec: the sandbox runs before the measurement begins; omit --cold");
	struct wisp_sandbox *sandbox = bench_boot_sandbox(bench, &bench->config[0], &error);
	int code = sandbox ? measure(bench, sandbox) : CLI_EXIT_FAILED;
	if (sandbox && code == 0)
		code = bench_run_streams(bench, sandbox, bench->runs < STREAM_RUNS_MAX ? bench->runs : STREAM_RUNS_MAX,
		        bench->options->stream_mib ? bench->options->stream_mib : STREAM_MIB);
	wisp_close_sandbox(sandbox);
	return code;
}
