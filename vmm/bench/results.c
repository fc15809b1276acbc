/* SPDX-License-Identifier: Apache-2.0 */
/* Results of operations, as metrics. */
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/side.h"

struct bench_metric *bench_add_results(
        struct bench *bench, const char *name, const char *unit, const char *what, const char *per)
{
	static const struct {
		const char *suffix, *unit, *what;
	} others[BENCH_RESULT_METRICS - 1] = {
	        {"p99", "ns", "the 99th percentile of each run"},
	        {"exits", "milli", "KVM's exits"},
	        {"interrupts", "milli", "interrupts of the guest's virtio devices"},
	        {"syscalls", "milli", "system calls of the monitor's threads"},
	};
	char text[32];
	struct bench_metric *first = bench_add_metric(bench, name, unit, what, bench->runs);
	for (size_t i = 0; first && i < BENCH_RESULT_METRICS - 1; i++) {
		snprintf(text, sizeof(text), "%s %s", name, others[i].suffix);
		struct bench_metric *metric =
		        bench_add_metric(bench, text, others[i].unit, others[i].what, bench->runs);
		if (!metric)
			return NULL;
		metric->per = i > 0 ? per : "";
	}
	return first;
}

void bench_add_value(struct bench_metric *metric, bool peer, int64_t value)
{
	if (value < 0)
		return;
	if (peer)
		metric->peer[metric->peer_count++] = value;
	else
		metric->values[metric->count++] = value;
}

void bench_add_result(struct bench_metric *first, bool peer, const struct bench_result *r)
{
	bool bytes = strcmp(first->unit, "kB/s") == 0;
	double rate = bytes ? (double)r->bytes * 1e6 / (double)r->ns : (double)r->requests * 1e12 / (double)r->ns;
	bench_add_value(first, peer, (int64_t)rate);
	if (r->p99_ns > 0)
		bench_add_value(first + 1, peer, (int64_t)r->p99_ns);
	if (r->exits >= 0)
		bench_add_value(first + 2, peer, r->exits * 1000 / (int64_t)r->requests);
	if (r->interrupts >= 0)
		bench_add_value(first + 3, peer, r->interrupts * 1000 / (int64_t)r->requests);
	if (r->syscalls >= 0)
		bench_add_value(first + 4, peer, r->syscalls * 1000 / (int64_t)r->requests);
}

void bench_set_counts(struct bench_result *r, const struct bench_counts *before, const struct bench_counts *after)
{
	r->exits = before->exits >= 0 && after->exits >= 0 ? after->exits - before->exits : -1;
	r->syscalls = before->syscalls >= 0 && after->syscalls >= 0 ? after->syscalls - before->syscalls : -1;
}
