/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor: the monitor's own time, from its exec() to its guest's first signal and to its end. The guest is a few
 * instructions, which any /dev/kvm runs natively. The library starts it without disks and initramfs. With --peer,
 * another monitor starts the same guest in interleaved runs. Both are then timed from exec() to the line that the guest
 * writes to the first serial port, which the monitor copies to a pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench/side.h"

int bench_write_file(const char *path, const void *data, size_t size)
{
	FILE *file = fopen(path, "we");
	bool written = file && fwrite(data, size, 1, file) == 1;
	if (file)
		written &= fclose(file) == 0;
	return written ? 0 : cli_fail("bench: cannot write to %s: %s", path, strerror(errno));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* ---- The monitor alone ---- */

/* Starts the payload in `dir`. What it prints goes to console_fd, if that is not 0. */
static int start(const struct bench *bench, const char *dir, int console_fd, struct wisp_sandbox **sandbox,
        struct wisp_error *error)
{
	const struct cli_machine *machine = &bench->config[0].setup.machine;
	char kernel[PATH_MAX + 16];
	snprintf(kernel, sizeof(kernel), "%s/payload", dir);
	struct wisp_create_options options = {.size = sizeof(options),
	        .state_root = dir,
	        .libdir = bench->places->libdir,
	        .helper = machine->monitor,
	        .kernel = kernel,
	        .cpus = (uint32_t)machine->cpus,
	        .memory_mib = machine->memory_mib ? machine->memory_mib : WISP_MEMORY_MIB_MIN,
	        .bare = true,
	        .no_wait = true,
	        .keep = true,
	        .trace = true,
	        .jail = cli_jail_mode(machine),
	        .console = console_fd > 0,
	        .console_fd = console_fd > 0 ? &console_fd : NULL};
	return wisp_create_sandbox(&options, sandbox, error);
}

/* Waits for the end, reads the trace, and removes the sandbox. Returns when it was gone, or 0 after an error. */
static uint64_t finish(const char *dir, struct wisp_sandbox *sandbox, struct bench_sample *sample)
{
	char *text, name[WISP_NAME_MAX + 1];
	enum wisp_end end = WISP_END_UNKNOWN;
	snprintf(name, sizeof(name), "%s", wisp_get_sandbox_name(sandbox));
	int r = wisp_wait_sandbox(sandbox, -1, &end, NULL);
	uint64_t gone = bench_now();
	bool good = r == 0 && end == WISP_END_POWEROFF && wisp_read_trace(dir, name, &text, NULL, NULL) == 0;
	if (good) {
		good = bench_parse_trace(text, sample);
		wisp_free_text(text);
	}
	wisp_close_sandbox(sandbox);
	wisp_remove_sandbox(dir, name, NULL);
	return good ? gone : 0;
}

static int run_once(const struct bench *bench, const char *dir, struct bench_sample *sample, char *why, size_t size)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	if (start(bench, dir, 0, &sandbox, &error) < 0) {
		snprintf(why, size, "%s", error.message);
		return -1;
	}
	sample->at[BENCH_GONE] = finish(dir, sandbox, sample);
	/* The payload sends its signal as the agent sends its first stamp. */
	sample->at[BENCH_SIGNAL] = sample->at[BENCH_INIT_ENTERED];
	sample->counted[BENCH_SIGNAL] = sample->counted[BENCH_INIT_ENTERED];
	memcpy(sample->counts[BENCH_SIGNAL], sample->counts[BENCH_INIT_ENTERED], sizeof(sample->counts[0]));
	sample->at[BENCH_INIT_ENTERED] = 0;
	sample->counted[BENCH_INIT_ENTERED] = false;
	if (sample->at[BENCH_GONE] && sample->at[BENCH_SIGNAL])
		return 0;
	snprintf(why, size, "the payload's signal did not arrive; see wisp doctor");
	return -1;
}

static int run_all(struct bench *bench, const char *dir)
{
	struct bench_config *config = &bench->config[0];
	char why[200];
	int code = 0;
	size_t all = bench->warmup + bench->runs;
	for (size_t i = 0; i < all && code == 0 && !bench_poll_signal(bench, 0); i++) {
		struct bench_sample sample = {.run = i < bench->warmup ? 0 : i - bench->warmup + 1};
		bench_progress(bench, "run", i, all);
		int r = run_once(bench, dir, &sample, why, sizeof(why));
		if (bench_poll_signal(bench, 0))
			break;
		if (r < 0 && !config->booted)
			return cli_fail("bench: the first run failed: %s", why);
		if (r < 0)
			bench_fail_run(config, sample.run, why);
		config->booted = true;
		if (r == 0 && sample.run > 0)
			config->samples[config->count++] = sample;
	}
	return code ? code : config->failures > 0 ? CLI_EXIT_FAILED : 0;
}

/* ---- Compared with a peer ---- */

/* Waits for the payload's first line. */
static int await_line(struct bench *bench, struct bench_side *side, struct bench_guest_line *line)
{
	while (line->type != BENCH_LINE_BEGIN) {
		if (!bench_read_side(bench, side, line) || line->type == BENCH_LINE_FAIL)
			return bench_fail_side(bench, side, line);
	}
	return 0;
}

static int run_own(struct bench *bench, const char *dir, struct bench_metric *to_signal, bool counts)
{
	struct bench_side side = {.name = "wisp-vmm", .out = -1};
	struct bench_guest_line line = {0};
	struct bench_sample sample = {0};
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	int out[2];
	if (pipe2(out, O_CLOEXEC) < 0)
		return cli_fail("bench: cannot make a pipe: %s", strerror(errno));
	side.out = out[0];
	int r = start(bench, dir, out[1], &sandbox, &error);
	close(out[1]);
	int code = r < 0 ? cli_fail_error(&error) : await_line(bench, &side, &line);
	if (r == 0 && !finish(dir, sandbox, &sample) && code == 0)
		code = cli_fail("bench: the payload did not end; see wisp doctor");
	if (code == 0 && counts)
		bench_add_value(to_signal, false, (int64_t)(line.at - sample.at[BENCH_SPAWN]));
	bench_stop_side(&side);
	return code;
}

static int run_peer(struct bench *bench, struct bench_metric *to_signal, bool counts)
{
	struct bench_side side = {.name = "the peer", .out = -1};
	struct bench_guest_line line = {0};
	int code = bench_start_peer(bench, &side);
	if (code == 0)
		code = await_line(bench, &side, &line);
	if (code == 0 && counts)
		bench_add_value(to_signal, true, (int64_t)(line.at - side.began));
	bench_stop_side(&side);
	return code;
}

static int run_with_peer(struct bench *bench, const char *dir)
{
	struct bench_metric *to_signal = bench_add_metric(
	        bench, "to_signal", "ns", "exec() of the monitor to the payload's first byte in a pipe", bench->runs);
	size_t all = bench->warmup + bench->runs;
	int code = to_signal ? 0 : cli_fail("out of memory");
	for (size_t i = 0; i < all && code == 0 && !bench_poll_signal(bench, 0); i++) {
		bench_progress(bench, "run", i, all);
		code = run_own(bench, dir, to_signal, i >= bench->warmup);
		if (code == 0 && !bench->interrupted)
			code = run_peer(bench, to_signal, i >= bench->warmup);
	}
	return code;
}

int bench_make_dir(char *dir)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, PATH_MAX - 32, "%s/wisp-bench-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
	return mkdtemp(dir) ? 0 : cli_fail("bench: cannot create the directory %s: %s", dir, strerror(errno));
}

void bench_remove_dir(const char *dir)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int bench_run_floor(struct bench *bench)
{
	char dir[PATH_MAX], path[PATH_MAX + 16];
	bool peer = bench->options->peer;
	if (bench->options->cold)
		return cli_fail("bench floor: it measures the warm case; omit --cold");
	int code = bench_make_dir(dir);
	if (code)
		return code;
	snprintf(path, sizeof(path), "%s/payload", dir);
	code = bench_write_payload(path, peer);
	if (code == 0 && bench->options->payload)
		code = bench_write_payload(bench->options->payload, true);
	if (code == 0)
		code = peer ? run_with_peer(bench, dir) : run_all(bench, dir);
	bench_remove_dir(dir);
	return code;
}
