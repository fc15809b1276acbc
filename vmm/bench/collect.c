/* SPDX-License-Identifier: Apache-2.0 */
/* Values of one kind from the samples of a configuration, or from metrics. */
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/bench.h"

size_t bench_collect_took(const struct bench_config *config, enum bench_stage stage, int64_t *to)
{
	size_t n = 0;
	for (size_t i = 0; i < config->count; i++) {
		int64_t value = bench_took(&config->samples[i], stage);
		if (value >= 0)
			to[n++] = value;
	}
	return n;
}

size_t bench_collect_at(const struct bench_config *config, enum bench_stage stage, int64_t *to)
{
	size_t n = 0;
	for (size_t i = 0; i < config->count; i++) {
		const struct bench_sample *sample = &config->samples[i];
		if (sample->at[stage] != 0)
			to[n++] = (int64_t)(sample->at[stage] - bench_begin(sample));
	}
	return n;
}

size_t bench_collect_span(const struct bench_config *config, const struct bench_span_info *span, int64_t *to)
{
	size_t n = 0;
	for (size_t i = 0; i < config->count; i++) {
		int64_t value = bench_span(&config->samples[i], span);
		if (value >= 0)
			to[n++] = value;
	}
	return n;
}

size_t bench_collect_exits(const struct bench_config *config, enum bench_stage stage, size_t counter, int64_t *to)
{
	size_t n = 0;
	for (size_t i = 0; i < config->count; i++) {
		int64_t value = bench_exits(&config->samples[i], stage, counter);
		if (value >= 0)
			to[n++] = value;
	}
	return n;
}

/* Until the command's first byte or, without one, the end. */
static uint64_t length_of(const struct bench_sample *sample)
{
	uint64_t end = sample->at[BENCH_FIRST_BYTE] ? sample->at[BENCH_FIRST_BYTE] : sample->at[BENCH_SIGNAL];
	return (end ? end : sample->at[BENCH_GONE]) - bench_begin(sample);
}

const struct bench_sample *bench_median_run(const struct bench_config *config)
{
	for (size_t i = 0; i < config->count; i++) {
		const struct bench_sample *sample = &config->samples[i];
		size_t before = 0;
		for (size_t j = 0; j < config->count; j++) {
			uint64_t other = length_of(&config->samples[j]), own = length_of(sample);
			before += other < own || (other == own && j < i);
		}
		if (before == (config->count - 1) / 2)
			return sample;
	}
	return NULL;
}

bool bench_compare_reference(
        const struct bench_metric *metric, int64_t *room, int64_t *other_room, struct bench_ratio *ratio)
{
	const struct bench_metric *reference = metric->reference;
	if (!reference)
		return false;
	memcpy(room, reference->values, reference->count * sizeof(*room));
	memcpy(other_room, metric->values, metric->count * sizeof(*room));
	return bench_compare(room, reference->count, other_room, metric->count, ratio);
}

bool bench_compare_peer(
        const struct bench_metric *metric, int64_t *room, int64_t *other_room, struct bench_ratio *ratio)
{
	if (metric->peer_count == 0)
		return false;
	memcpy(room, metric->peer, metric->peer_count * sizeof(*room));
	memcpy(other_room, metric->values, metric->count * sizeof(*room));
	return bench_compare(room, metric->peer_count, other_room, metric->count, ratio);
}
