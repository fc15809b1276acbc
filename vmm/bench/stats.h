/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles, and the ratio of two medians with its confidence interval. */
#ifndef WISP_BENCH_STATS_H
#define WISP_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_summary {
	size_t n; /* if it is 0, the other fields are not set */
	int64_t min, p50, p90, p95, p99, max;
};

/*
 * The percentile of values in ascending order, in thousandths. It interpolates linearly between the two nearest ranks,
 * as spreadsheets and numpy do by default (Hyndman and Fan's type 7). n > 0.
 */
int64_t bench_percentile(const int64_t *sorted, size_t n, unsigned per_mille);
/* Sorts `values`. */
void bench_summarize(int64_t *values, size_t n, struct bench_summary *summary);
/* Keeps the order of `values`; `room` has room for as many. */
void bench_summarize_copy(const int64_t *values, size_t n, int64_t *room, struct bench_summary *summary);

struct bench_ratio {
	double ratio, low, high; /* of the medians, and its 95 % confidence interval */
};

#define BENCH_RESAMPLES 10000u

/*
 * median(b) / median(a) and its bootstrap percentile interval. The seed is fixed: the same samples give the same
 * interval. Sorts both. False without samples, without memory, or if a median of `a` is 0.
 */
bool bench_compare(int64_t *a, size_t a_count, int64_t *b, size_t b_count, struct bench_ratio *ratio);

#endif
