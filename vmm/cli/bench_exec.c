/* SPDX-License-Identifier: Apache-2.0 */
/* wisp bench exec: round trips into a running sandbox, and its output's throughput. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/bench.h"

#define FLOOR_BATCH 20     /* programs a sample of the guest's own floor */
#define STREAM_MIB 64      /* a run of a stream, by default */
#define STREAM_RUNS_MAX 10 /* of them: they are long */

/* A program's run through the library: 0 or -errno. */
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

/* What the guest itself needs to start a program and wait for it: a shell's loop with and without them. */
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

struct operation {
	const char *name, *unit, *what;
	int64_t (*time)(struct wisp_sandbox *sandbox, struct wisp_error *error);
	size_t most; /* runs; 0: as many as asked for */
};

static const struct operation operations[] = {
        {"ping", "ns", "connection, HELLO, answer: no program", time_ping, 0},
        {"true", "ns", "connection, fork, exec, wait, exit status", time_true, 0},
        {"sh -c :", "ns", "the same of a shell", time_shell, 0},
        {"guest floor", "ns", "fork, exec, wait inside the guest, by its shell", time_guest, 50},
};

static int measure(struct bench *bench, struct wisp_sandbox *sandbox, const struct operation *operation)
{
	struct wisp_error error;
	size_t runs = operation->most && operation->most < bench->runs ? operation->most : bench->runs;
	size_t warmup = bench->warmup < runs ? bench->warmup : runs;
	struct bench_metric *metric = bench_add_metric(bench, operation->name, operation->unit, operation->what, runs);
	if (!metric)
		return cli_fail("out of memory");
	int code = 0;
	for (size_t i = 0; i < warmup + runs && !bench_poll_signal(bench, 0); i++) {
		bench_progress(bench, operation->name, i, warmup + runs);
		int64_t value = operation->time(sandbox, &error);
		if (value < 0 && i == 0)
			return cli_fail("bench: %s: %s", operation->name, error.message);
		if (value < 0)
			code = cli_fail("run %zu of %s failed: %s", i + 1, operation->name, error.message);
		else if (i >= warmup)
			metric->values[metric->count++] = value;
	}
	return code;
}

int bench_run_exec(struct bench *bench)
{
	struct wisp_error error;
	if (bench->args->bench.cold)
		return cli_fail("bench exec: its sandbox is running: leave --cold");
	struct wisp_sandbox *sandbox = bench_boot_sandbox(bench, &bench->config[0], &error);
	int code = sandbox ? 0 : CLI_EXIT_FAILED;
	for (size_t i = 0; sandbox && i < sizeof(operations) / sizeof(operations[0]); i++)
		code |= measure(bench, sandbox, &operations[i]);
	if (sandbox && code == 0)
		code = bench_run_streams(bench, sandbox, bench->runs < STREAM_RUNS_MAX ? bench->runs : STREAM_RUNS_MAX,
		        bench->args->bench.stream_mib ? bench->args->bench.stream_mib : STREAM_MIB);
	wisp_close_sandbox(sandbox);
	return code;
}
