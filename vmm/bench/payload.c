/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork and restore with --bare: the monitor's own time, from the call to the clone's next signal. The guest is a
 * payload (floor.c) that has touched most of its memory and then signals again and again, so the first signal of a
 * clone follows its first instructions.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/bench/bench.h"

#define NOT_FILLED_MIB 32u /* of the machine's memory */
#define FILL_MS 60000
#define STOP_MS 5000

/* The stages of a clone's start that become metrics, if one machine alone is measured. */
static const enum bench_stage stages[] = {BENCH_SPAWN, BENCH_MAIN, BENCH_MEMORY_RESTORED, BENCH_MEMORY_MAPPED,
        BENCH_DEVICES_CREATED, BENCH_KERNEL_LOADED, BENCH_VM_CREATED, BENCH_VCPU_READY, BENCH_FIRST_RUN, BENCH_SIGNAL};
#define STAGES (sizeof(stages) / sizeof(stages[0]))

/* What is measured of one configuration. */
struct rig {
	struct bench *bench;
	const struct bench_config *config;
	const char *dir;
	char file[PATH_MAX + 16]; /* of restore: the snapshot */
	struct wisp_sandbox *source;
	struct bench_metric *signal, *pause, *stage[STAGES];
};

static void pause_ms(long ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	nanosleep(&pause, NULL);
}

static int64_t read_rss_kib(int32_t pid)
{
	char path[64], line[256];
	int64_t kib = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file) && sscanf(line, "VmRSS: %" SCNd64, &kib) != 1)
		;
	if (file)
		fclose(file);
	return kib;
}

static int32_t find_pid(const struct rig *rig)
{
	struct wisp_sandbox_info *info;
	int32_t pid = 0;
	if (wisp_inspect_sandbox(rig->dir, wisp_get_sandbox_name(rig->source), &info, NULL) == 0) {
		pid = info->pid;
		wisp_free_sandbox_info(info);
	}
	return pid;
}

/* The payload cannot tell: what it has touched is counted. The kernel's count is approximate. */
static int await_fill(const struct rig *rig, uint32_t mib)
{
	int64_t left = FILL_MS;
	int32_t pid = 0;
	while (left > 0 && !bench_poll_signal(rig->bench, 10)) {
		pid = pid ? pid : find_pid(rig); /* 0 until the monitor has said */
		if (pid && read_rss_kib(pid) + 2048 >= (int64_t)mib << 10)
			break;
		left -= 10;
	}
	pause_ms(20);
	return left > 0 ? 0 : cli_fail("bench: the payload did not fill its memory in %d s", FILL_MS / 1000);
}

static int start_source(struct rig *rig)
{
	const struct cli_machine *machine = &rig->config->setup.machine;
	uint32_t mib = machine->memory_mib ? machine->memory_mib : WISP_MEMORY_MIB_DEFAULT;
	uint32_t fill = mib > NOT_FILLED_MIB ? mib - NOT_FILLED_MIB : 0;
	char kernel[PATH_MAX + 16];
	struct wisp_error error;
	if (fill > BENCH_FILL_MIB_MAX)
		return cli_fail("bench: a payload fills at most %u MiB: choose at most -m %u", BENCH_FILL_MIB_MAX,
		        BENCH_FILL_MIB_MAX + NOT_FILLED_MIB);
	snprintf(kernel, sizeof(kernel), "%s/payload", rig->dir);
	int code = bench_write_filler(kernel, fill << 8);
	if (code)
		return code;
	struct wisp_create_options options = {.size = sizeof(options),
	        .state_root = rig->dir,
	        .libdir = rig->bench->places->libdir,
	        .helper = machine->monitor,
	        .kernel = kernel,
	        .cpus = (uint32_t)machine->cpus,
	        .memory_mib = mib,
	        .bare = true,
	        .no_wait = true,
	        .jail = cli_jail_mode(machine)};
	if (wisp_create_sandbox(&options, &rig->source, &error) < 0)
		return cli_fail_error(&error);
	return await_fill(rig, fill);
}

static int fork_clone(const struct rig *rig, struct wisp_sandbox **clone, struct wisp_error *error)
{
	struct wisp_fork_options options = {
	        .size = sizeof(options), .keep = true, .trace = true, .prefetch = rig->bench->options->prefetch};
	return wisp_fork_sandbox(rig->source, 1, &options, clone, error);
}

static int restore(const struct rig *rig, struct wisp_sandbox **clone, struct wisp_error *error)
{
	struct wisp_create_options options = {.size = sizeof(options),
	        .state_root = rig->dir,
	        .libdir = rig->bench->places->libdir,
	        .helper = rig->config->setup.machine.monitor,
	        .from = rig->file,
	        .no_wait = true,
	        .keep = true,
	        .trace = true,
	        .prefetch = rig->bench->options->prefetch,
	        .jail = cli_jail_mode(&rig->config->setup.machine)};
	return wisp_create_sandbox(&options, clone, error);
}

/* Stops the clone, and reads when it reached which stage. */
static int finish(const struct rig *rig, struct wisp_sandbox *clone, struct bench_sample *sample)
{
	char *text, name[WISP_NAME_MAX + 1];
	struct wisp_error error;
	snprintf(name, sizeof(name), "%s", wisp_get_sandbox_name(clone));
	int r = wisp_wait_ready(clone, STOP_MS, &error);
	/* It runs, or is about to: the first signal comes at once. */
	pause_ms(100);
	if (r == 0)
		r = wisp_stop_sandbox(clone, STOP_MS, &error);
	if (r == 0)
		r = wisp_read_trace(rig->dir, name, &text, NULL, &error);
	int code = r < 0 ? cli_fail_error(&error) : 0;
	if (r == 0) {
		bench_parse_trace(text, sample);
		wisp_free_text(text);
	}
	wisp_close_sandbox(clone);
	wisp_remove_sandbox(rig->dir, name, NULL);
	sample->at[BENCH_SIGNAL] = sample->at[BENCH_INIT_ENTERED];
	sample->at[BENCH_INIT_ENTERED] = 0;
	return code == 0 && !sample->at[BENCH_SIGNAL] ? cli_fail("bench: the clone's signal did not arrive") : code;
}

static void add_value(struct bench_metric *metric, int64_t value)
{
	if (metric)
		metric->values[metric->count++] = value;
}

static int run_once(struct rig *rig, bool counts)
{
	struct bench_sample sample = {.run = 1};
	struct wisp_sandbox *clone;
	struct wisp_error error;
	sample.at[BENCH_CREATE] = bench_now();
	int r = rig->file[0] ? restore(rig, &clone, &error) : fork_clone(rig, &clone, &error);
	if (r < 0)
		return cli_fail_error(&error);
	int code = finish(rig, clone, &sample);
	if (code || !counts)
		return code;
	uint64_t from = sample.at[rig->file[0] ? BENCH_SPAWN : BENCH_CREATE];
	add_value(rig->signal, (int64_t)(sample.at[BENCH_SIGNAL] - from));
	if (!rig->file[0])
		add_value(rig->pause, wisp_get_pause_us(rig->source) * 1000);
	for (size_t i = 0; i < STAGES; i++)
		add_value(rig->stage[i], bench_took(&sample, stages[i]));
	return 0;
}

static struct bench_metric *add_metric(struct rig *rig, const char *name, const char *what)
{
	char full[32];
	bool several = rig->bench->config_count > 1;
	snprintf(full, sizeof(full), "%s%s%s", name, several ? " " : "", several ? rig->config->label : "");
	return bench_add_metric(rig->bench, full, "ns", what, rig->bench->runs);
}

static bool add_metrics(struct rig *rig)
{
	bool from_file = rig->file[0];
	rig->signal = add_metric(rig, "to_signal",
	        from_file ? "exec() of the monitor to the clone's signal" : "the call to the clone's signal");
	if (!from_file)
		rig->pause = add_metric(rig, "pause", "how long the source is paused");
	for (size_t i = 0; i < STAGES && rig->bench->config_count == 1; i++) {
		rig->stage[i] = add_metric(rig, bench_stages[stages[i]].name, bench_stages[stages[i]].what);
		if (!rig->stage[i])
			return false;
	}
	return rig->signal && (from_file || rig->pause);
}

static int measure(struct rig *rig, bool from_file)
{
	struct bench *bench = rig->bench;
	struct wisp_error error;
	int code = start_source(rig);
	/* With --idle, the source's vCPUs do not compete with the clone's. */
	if (code == 0 && (bench->options->idle || from_file) && wisp_pause_sandbox(rig->source, &error) < 0)
		code = cli_fail_error(&error);
	if (code == 0 && from_file) {
		snprintf(rig->file, sizeof(rig->file), "%s/snapshot", rig->dir);
		struct wisp_snapshot_options options = {.size = sizeof(options), .replace = true};
		if (wisp_snapshot_sandbox(rig->source, rig->file, &options, &error) < 0)
			code = cli_fail_error(&error);
	}
	if (code == 0 && !add_metrics(rig))
		code = cli_fail("bench: too many configurations, or out of memory");
	for (size_t i = 0; i < bench->warmup + bench->runs && code == 0 && !bench_poll_signal(bench, 0); i++) {
		bench_progress(bench, rig->config->label, i, bench->warmup + bench->runs);
		code = run_once(rig, i >= bench->warmup);
	}
	wisp_close_sandbox(rig->source);
	return code;
}

int bench_run_payload(struct bench *bench, const char *dir, bool from_file)
{
	int code = 0;
	for (size_t i = 0; i < bench->config_count && code == 0 && !bench->interrupted; i++) {
		struct rig rig = {.bench = bench, .config = &bench->config[i], .dir = dir};
		code = measure(&rig, from_file);
	}
	return code;
}
