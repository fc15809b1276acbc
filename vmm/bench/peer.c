/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot --peer: the boot of a sandbox and that of another monitor's guest, in interleaved runs. Both are timed from
 * outside, from just before the exec() of the monitor, by what the guest writes to an I/O port: the guests' clocks do
 * not matter. wisp's kernel is entered when its first vCPU runs; the peer's kernel reports its entry (guest.h).
 */
#include <string.h>

#include "vmm/bench/side.h"

static const struct bench_span_info first_byte = {"first-byte",
        "exec() of wisp-vmm to the first command's first byte; of the peer to its init", BENCH_SPAWN, BENCH_FIRST_BYTE};
static const struct bench_span_info kernel = {"kernel", "kernel entry to PID 1", BENCH_FIRST_RUN, BENCH_INIT_ENTERED};

struct metrics {
	struct bench_metric *first_byte, *kernel, *exits;
};

static int measure_wisp(struct bench *bench, const struct metrics *metrics, size_t run)
{
	struct bench_config *config = &bench->config[0];
	struct bench_sample sample = {.run = run};
	struct wisp_error error;
	int r = bench_boot_once(bench, config, &sample, &error);
	if (r < 0)
		return cli_fail("bench: a run of wisp failed: %s", error.message);
	if (run == 0 || bench->interrupted)
		return 0;
	config->samples[config->count++] = sample;
	bench_add_value(metrics->first_byte, false, bench_span(&sample, &first_byte));
	bench_add_value(metrics->kernel, false, bench_span(&sample, &kernel));
	if (sample.counted[BENCH_FIRST_RUN] && sample.counted[BENCH_INIT_ENTERED])
		bench_add_value(metrics->exits, false,
		        (int64_t)(sample.counts[BENCH_INIT_ENTERED][0] - sample.counts[BENCH_FIRST_RUN][0]) * 1000);
	return 0;
}

static int measure_peer(struct bench *bench, struct bench_side *peer, const struct metrics *metrics, size_t run)
{
	struct bench_guest_line line = {0}, entered = {.counts.exits = -1};
	while (bench_read_side(bench, peer, &line) && line.type != BENCH_LINE_FAIL) {
		if (line.type != BENCH_LINE_BEGIN)
			continue;
		if (strcmp(line.name, BENCH_GUEST_KERNEL) == 0)
			entered = line;
		if (strcmp(line.name, BENCH_GUEST_INIT) != 0)
			continue;
		if (run == 0)
			return 0;
		bench_add_value(metrics->first_byte, true, (int64_t)(line.at - peer->began));
		if (entered.at)
			bench_add_value(metrics->kernel, true, (int64_t)(line.at - entered.at));
		if (entered.counts.exits >= 0 && line.counts.exits >= 0)
			bench_add_value(metrics->exits, true, (line.counts.exits - entered.counts.exits) * 1000);
		return 0;
	}
	return bench_fail_side(bench, peer, &line);
}

static int run_peer(struct bench *bench, const struct metrics *metrics, size_t run)
{
	struct bench_side peer = {.name = "the peer", .out = -1};
	int r = bench->options->cold ? bench_drop_caches() : 0;
	int code = r < 0 ? cli_fail("bench: cannot drop the page cache: %s", strerror(-r)) : 0;
	if (code == 0)
		code = bench_start_peer(bench, &peer);
	if (code == 0)
		code = measure_peer(bench, &peer, metrics, run);
	bench_stop_side(&peer);
	return code;
}

int bench_run_boot_peer(struct bench *bench)
{
	size_t rounds = bench->warmup + bench->runs;
	struct metrics metrics = {
	        .first_byte = bench_add_metric(bench, first_byte.name, "ns", first_byte.what, bench->runs),
	        .kernel = bench_add_metric(bench, kernel.name, "ns", kernel.what, bench->runs),
	        .exits = bench_add_metric(bench, "kernel exits", "milli", "KVM's exits in that time", bench->runs)};
	int code = metrics.first_byte && metrics.kernel && metrics.exits ? 0 : cli_fail("out of memory");
	for (size_t i = 0; i < rounds && code == 0 && !bench_poll_signal(bench, 0); i++) {
		size_t run = i < bench->warmup ? 0 : i - bench->warmup + 1;
		bench_progress(bench, "round", i, rounds);
		code = measure_wisp(bench, &metrics, run);
		if (code == 0 && !bench->interrupted)
			code = run_peer(bench, &metrics, run);
	}
	return code;
}
