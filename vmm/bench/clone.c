/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork and restore: sandboxes that continue instead of booting. Each way is taken once in every run, and so is a boot,
 * so that all of them see the same host.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/prctl.h>

#include "vmm/bench/bench.h"

#define CROWD 8u /* clones of one call, for the rate */

enum way { COLD, PLAIN, EAGER, OF_TEMPLATE, OF_TEMPLATE_EAGER, WAYS };

struct rig {
	struct bench *bench;
	bool restores;
	char file[PATH_MAX + 16];
	struct wisp_sandbox *source, *template;
	struct bench_metric *first_byte[WAYS], *whole[WAYS], *ready[WAYS], *pss[WAYS], *own[WAYS];
	struct bench_metric *faults[WAYS], *all_faults[WAYS];
	struct bench_metric *pause, *rate;
};

static const char *const *command(const struct rig *rig)
{
	static const char *const echo[] = {"echo", "first", NULL};
	const char *const *given = rig->bench->config[0].setup.command;
	return given ? given : echo;
}

static int create(const struct rig *rig, enum way way, struct wisp_sandbox **sandbox, struct wisp_error *error)
{
	struct wisp_create_options options;
	bench_fill_options(rig->bench, &rig->bench->config[0].setup, &options);
	options.no_wait = false;
	options.trace = options.keep = true;
	if (way != COLD) {
		options = (struct wisp_create_options){.size = sizeof(options),
		        .state_root = options.state_root,
		        .libdir = options.libdir,
		        .helper = options.helper,
		        .from = rig->file,
		        .trace = true,
		        .keep = true,
		        .prefetch = way == EAGER,
		        .jail = options.jail};
	}
	return wisp_create_sandbox(&options, sandbox, error);
}

static int start(const struct rig *rig, enum way way, struct wisp_sandbox **sandbox, struct wisp_error *error)
{
	struct wisp_fork_options options = {.size = sizeof(options),
	        .trace = true,
	        .keep = true,
	        .prefetch = way == EAGER || way == OF_TEMPLATE_EAGER};
	if (way == COLD || rig->restores)
		return create(rig, way, sandbox, error);
	return wisp_fork_sandbox(way >= OF_TEMPLATE ? rig->template : rig->source, 1, &options, sandbox, error);
}

static void add_value(struct bench_metric *metric, int64_t value, bool counts)
{
	if (metric && counts && metric->count < metric->room)
		metric->values[metric->count++] = value;
}

/*
 * The monitor's memory, and what of it no other process has. A mapping of a file that was just written counts its pages
 * as private and dirty, though they are the page cache's: only as much as is anonymous can be the clone's own.
 */
static void measure_memory(const struct rig *rig, enum way way, const char *name, bool counts)
{
	struct wisp_sandbox_info *info;
	char path[64], line[256];
	int64_t kib, dirty = 0, own = 0, pss = 0;
	if (wisp_inspect_sandbox(rig->bench->places->state_root, name, &info, NULL) < 0)
		return;
	snprintf(path, sizeof(path), "/proc/%d/smaps", info->pid);
	wisp_free_sandbox_info(info);
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Pss: %" SCNd64, &kib) == 1)
			pss += kib;
		else if (sscanf(line, "Private_Dirty: %" SCNd64, &kib) == 1)
			dirty = kib;
		else if (sscanf(line, "Anonymous: %" SCNd64, &kib) == 1) /* follows it in each mapping */
			own += kib < dirty ? kib : dirty;
	}
	add_value(rig->pss[way], pss, counts && pss > 0);
	add_value(rig->own[way], own, counts && own > 0);
	if (file)
		fclose(file);
}

/* Page faults of the guest, if KVM's counts can be read. Removes what is left of the sandbox. */
static void read_faults(const struct rig *rig, enum way way, const char *name, bool counts)
{
	enum { PF_TAKEN = BENCH_COUNTERS - 1 };
	struct bench_sample sample = {0};
	char *text;
	if (wisp_read_trace(rig->bench->places->state_root, name, &text, NULL, NULL) == 0) {
		bench_parse_trace(text, &sample);
		wisp_free_text(text);
	}
	wisp_remove_sandbox(rig->bench->places->state_root, name, NULL);
	if (sample.counted[BENCH_READY])
		add_value(rig->faults[way], (int64_t)sample.counts[BENCH_READY][PF_TAKEN] * 1000, counts);
	if (sample.counted[BENCH_ENDED])
		add_value(rig->all_faults[way], (int64_t)sample.counts[BENCH_ENDED][PF_TAKEN] * 1000, counts);
}

/* Runs the command, up to its end. */
static int run_command(const struct rig *rig, struct wisp_sandbox *sandbox, uint64_t *first, struct wisp_error *error)
{
	struct wisp_session *session;
	const struct wisp_event *event;
	int r = wisp_exec_stream(sandbox, command(rig), NULL, &session, error);
	if (r < 0)
		return r;
	*first = 0;
	while ((r = wisp_recv_event(session, -1, &event, error)) == 0 && event->type != WISP_EVENT_DONE &&
	        event->type != WISP_EVENT_FAILED) {
		if (event->type == WISP_EVENT_STDOUT && *first == 0)
			*first = bench_now();
	}
	wisp_close_session(session);
	return r;
}

static int take_way(const struct rig *rig, enum way way, bool counts)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	char name[WISP_NAME_MAX + 1];
	uint64_t begin = bench_now(), first = 0;
	int r = start(rig, way, &sandbox, &error);
	if (r < 0)
		return cli_fail_error(&error);
	uint64_t ready = bench_now();
	r = run_command(rig, sandbox, &first, &error);
	uint64_t exited = bench_now();
	snprintf(name, sizeof(name), "%s", wisp_get_sandbox_name(sandbox));
	measure_memory(rig, way, name, counts);
	uint64_t measured = bench_now() - exited;
	wisp_close_sandbox(sandbox);
	uint64_t gone = bench_now() - measured;
	read_faults(rig, way, name, counts);
	if (r < 0 || first == 0)
		return r < 0 ? cli_fail_error(&error) : cli_fail("bench: the command printed nothing");
	add_value(rig->ready[way], (int64_t)(ready - begin), counts);
	add_value(rig->first_byte[way], (int64_t)(first - begin), counts);
	add_value(rig->whole[way], (int64_t)(gone - begin), counts);
	if (way == PLAIN && !rig->restores)
		add_value(rig->pause, wisp_get_pause_us(rig->source) * 1000, counts);
	return 0;
}

/* Many clones in one call, each of which answers. */
static int fork_crowd(const struct rig *rig, bool counts)
{
	struct wisp_fork_options options = {.size = sizeof(options)};
	struct wisp_sandbox *clones[CROWD];
	struct wisp_error error;
	uint64_t begin = bench_now(), first;
	int r = wisp_fork_sandbox(rig->template, CROWD, &options, clones, &error);
	uint64_t took = bench_now() - begin;
	if (r < 0)
		return cli_fail_error(&error);
	for (size_t i = 0; i < CROWD && r == 0; i++)
		r = run_command(rig, clones[i], &first, &error);
	for (size_t i = 0; i < CROWD; i++)
		wisp_close_sandbox(clones[i]);
	if (r < 0)
		return cli_fail_error(&error);
	add_value(rig->rate, (int64_t)(CROWD * 1000000000000ull / took), counts);
	return 0;
}

static bool add(const struct rig *rig, struct bench_metric **metric, const char *name, const char *unit,
        const char *what, const struct bench_metric *reference)
{
	*metric = bench_add_metric(rig->bench, name, unit, what, rig->bench->runs);
	if (*metric)
		(*metric)->reference = reference;
	return *metric;
}

static bool add_way(struct rig *rig, enum way way, const char *name)
{
	char full[sizeof(((struct bench_metric *)0)->name)];
	const struct bench_metric *cold = way == COLD ? NULL : rig->whole[COLD];
	snprintf(full, sizeof(full), "%s", name);
	bool good = add(rig, &rig->whole[way], full, "ns", "from the call until the sandbox is gone", cold);
	snprintf(full, sizeof(full), "%s ready", name);
	good &= add(rig, &rig->ready[way], full, "ns", "... until it accepts commands", NULL);
	snprintf(full, sizeof(full), "%s first byte", name);
	good &= add(rig, &rig->first_byte[way], full, "ns", "... until the command's first byte", rig->whole[COLD]);
	snprintf(full, sizeof(full), "%s faults", name);
	good &= add(rig, &rig->faults[way], full, "milli", "page faults of the guest until it is ready", NULL);
	snprintf(full, sizeof(full), "%s all faults", name);
	good &= add(rig, &rig->all_faults[way], full, "milli", "... until its end", NULL);
	snprintf(full, sizeof(full), "%s PSS", name);
	good &= add(rig, &rig->pss[way], full, "KiB", "after the command, with its share of shared pages", NULL);
	snprintf(full, sizeof(full), "%s own", name);
	return good & add(rig, &rig->own[way], full, "KiB", "after the command, pages that it alone has", NULL);
}

static bool add_metrics(struct rig *rig)
{
	static const char *const forks[WAYS] = {"cold", "fork", "fork --prefetch", "template", "template --prefetch"};
	static const char *const restores[WAYS] = {"cold", "--from", "--from --prefetch"};
	bool good = true;
	for (enum way way = 0; way < WAYS && good; way++) {
		const char *name = rig->restores ? restores[way] : forks[way];
		good = !name || add_way(rig, way, name);
	}
	if (good && !rig->restores)
		good = add(rig, &rig->pause, "pause", "ns", "how long a fork pauses its source", rig->whole[COLD]) &&
		       add(rig, &rig->rate, "forks", "1/ks", "clones per second that are ready, eight in a call", NULL);
	return good;
}

/* The sandbox that is forked or saved has run a command: its programs and the agent's code are in memory. */
static int prepare(struct rig *rig)
{
	struct bench *bench = rig->bench;
	struct wisp_error error;
	uint64_t first;
	rig->source = bench_boot_sandbox(bench, &bench->config[0], &error);
	if (!rig->source)
		return bench->interrupted ? 0 : CLI_EXIT_FAILED;
	struct wisp_snapshot_options options = {.size = sizeof(options)};
	struct wisp_create_options from = {.size = sizeof(from),
	        .state_root = bench->places->state_root,
	        .libdir = bench->places->libdir,
	        .helper = bench->config[0].setup.machine.monitor,
	        .from = rig->file,
	        .is_template = true,
	        .detach = true,
	        .jail = cli_jail_mode(&bench->config[0].setup.machine)};
	int r = run_command(rig, rig->source, &first, &error);
	if (r == 0)
		r = wisp_snapshot_sandbox(rig->source, rig->file, &options, &error);
	if (r == 0 && !rig->restores)
		r = wisp_create_sandbox(&from, &rig->template, &error);
	if (r == 0 && !add_metrics(rig))
		return cli_fail("out of memory");
	return r < 0 ? cli_fail_error(&error) : 0;
}

static int measure(struct rig *rig)
{
	struct bench *bench = rig->bench;
	enum way ways = rig->restores ? OF_TEMPLATE : WAYS;
	int code = prepare(rig);
	for (size_t i = 0; i < bench->warmup + bench->runs && code == 0 && !bench_poll_signal(bench, 0); i++) {
		bench_progress(bench, "run", i, bench->warmup + bench->runs);
		for (enum way way = 0; way < ways && code == 0 && !bench_poll_signal(bench, 0); way++)
			code = take_way(rig, way, i >= bench->warmup);
		if (code == 0 && !rig->restores && !bench->interrupted)
			code = fork_crowd(rig, i >= bench->warmup);
	}
	wisp_close_sandbox(rig->source);
	if (rig->template)
		wisp_kill_sandbox(rig->template, NULL);
	wisp_close_sandbox(rig->template);
	return code;
}

static int run(struct bench *bench, bool restores)
{
	struct rig rig = {.bench = bench, .restores = restores};
	char dir[PATH_MAX];
	/* Inherited by the monitors. */
	if (bench->options->small_pages && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) < 0)
		return cli_fail("bench: cannot disable huge pages: %s", strerror(errno));
	int code = bench_make_dir(dir);
	if (code)
		return code;
	snprintf(rig.file, sizeof(rig.file), "%s/snapshot", dir);
	code = bench->options->bare ? bench_run_payload(bench, dir, restores) : measure(&rig);
	bench_remove_dir(dir);
	return code;
}

int bench_run_fork(struct bench *bench)
{
	return run(bench, false);
}

int bench_run_restore(struct bench *bench)
{
	return run(bench, true);
}
