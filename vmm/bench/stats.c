/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/stats.h"

#define SEED 0x77697370u

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

int64_t bench_percentile(const int64_t *sorted, size_t n, unsigned per_mille)
{
	uint64_t position = (uint64_t)(n - 1) * per_mille;
	size_t below = position / 1000;
	int64_t part = (int64_t)(position % 1000);
	if (part == 0)
		return sorted[below];
	int64_t step = sorted[below + 1] - sorted[below];
	/* In two parts: the product of a whole step may overflow. */
	return sorted[below] + step / 1000 * part + (step % 1000 * part + 500) / 1000;
}

void bench_summarize(int64_t *values, size_t n, struct bench_summary *summary)
{
	*summary = (struct bench_summary){.n = n};
	if (n == 0)
		return;
	qsort(values, n, sizeof(*values), by_value);
	summary->min = values[0];
	summary->p50 = bench_percentile(values, n, 500);
	summary->p90 = bench_percentile(values, n, 900);
	summary->p95 = bench_percentile(values, n, 950);
	summary->p99 = bench_percentile(values, n, 990);
	summary->max = values[n - 1];
}

void bench_summarize_copy(const int64_t *values, size_t n, int64_t *room, struct bench_summary *summary)
{
	memcpy(room, values, n * sizeof(*room));
	bench_summarize(room, n, summary);
}

/* splitmix64 (Steele, Lea and Flood): any seed will do. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* The median of n values drawn from `sorted` with replacement, from how often each was drawn. */
static double resampled_median(const int64_t *sorted, size_t n, uint32_t *drawn, uint64_t *state)
{
	memset(drawn, 0, n * sizeof(*drawn));
	for (size_t i = 0; i < n; i++)
		drawn[next_random(state) % n]++;
	size_t lower = (n - 1) / 2, upper = n / 2, seen = 0;
	double sum = 0;
	for (size_t i = 0; i < n; i++) {
		if (seen <= lower && lower < seen + drawn[i])
			sum += (double)sorted[i];
		if (seen <= upper && upper < seen + drawn[i])
			sum += (double)sorted[i];
		seen += drawn[i];
	}
	return sum / 2;
}

static int by_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

bool bench_compare(int64_t *a, size_t a_count, int64_t *b, size_t b_count, struct bench_ratio *ratio)
{
	if (a_count == 0 || b_count == 0)
		return false;
	qsort(a, a_count, sizeof(*a), by_value);
	qsort(b, b_count, sizeof(*b), by_value);
	int64_t a_median = bench_percentile(a, a_count, 500);
	double *ratios = calloc(BENCH_RESAMPLES, sizeof(*ratios));
	uint32_t *drawn = calloc(a_count > b_count ? a_count : b_count, sizeof(*drawn));
	bool done = a_median > 0 && ratios && drawn;
	uint64_t state = SEED;
	for (size_t i = 0; i < BENCH_RESAMPLES && done; i++) {
		double below = resampled_median(a, a_count, drawn, &state);
		ratios[i] = below > 0 ? resampled_median(b, b_count, drawn, &state) / below : 0;
		done = below > 0;
	}
	if (done) {
		qsort(ratios, BENCH_RESAMPLES, sizeof(*ratios), by_double);
		ratio->ratio = (double)bench_percentile(b, b_count, 500) / (double)a_median;
		ratio->low = ratios[BENCH_RESAMPLES * 25 / 1000];
		ratio->high = ratios[BENCH_RESAMPLES * 975 / 1000 - 1];
	}
	free(ratios);
	free(drawn);
	return done;
}
