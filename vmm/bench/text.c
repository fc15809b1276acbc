/* SPDX-License-Identifier: Apache-2.0 */
/* Results for people, in milliseconds. */
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/manifest.h"

static double ms(int64_t ns)
{
	return (double)ns / 1e6;
}

static void print_summary(FILE *to, const struct bench_summary *s, double unit)
{
	fprintf(to, " %9.3f %9.3f %9.3f %9.3f %9.3f %9.3f", (double)s->min / unit, (double)s->p50 / unit,
	        (double)s->p90 / unit, (double)s->p95 / unit, (double)s->p99 / unit, (double)s->max / unit);
}

static void print_stages(const struct bench_config *config, int64_t *values, FILE *to)
{
	fprintf(to, "\n%-16s %9s | %9s %9s %9s %9s %9s %9s | %9s\n", "milliseconds", "at p50", "took min", "p50", "p90",
	        "p95", "p99", "max", "exits p50");
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		struct bench_summary at, took, exits;
		bench_summarize(values, bench_collect_at(config, i, values), &at);
		if (at.n == 0)
			continue;
		fprintf(to, "%-16s %9.3f |", bench_stages[i].name, ms(at.p50));
		bench_summarize(values, bench_collect_took(config, i, values), &took);
		if (took.n > 0)
			print_summary(to, &took, 1e6);
		else
			fprintf(to, "%60s", "");
		bench_summarize(values, bench_collect_exits(config, i, 0, values), &exits);
		if (exits.n > 0)
			fprintf(to, " | %9lld", (long long)exits.p50);
		else
			fputs(" |", to);
		if (at.n < config->count)
			fprintf(to, "  (%zu of %zu runs)", at.n, config->count);
		fputc('\n', to);
	}
}

static void print_spans(const struct bench_config *config, int64_t *values, FILE *to)
{
	fprintf(to, "\n%-26s | %9s %9s %9s %9s %9s %9s\n", "milliseconds", "min", "p50", "p90", "p95", "p99", "max");
	for (size_t i = 0; i < BENCH_SPANS; i++) {
		struct bench_summary summary;
		bench_summarize(values, bench_collect_span(config, &bench_spans[i], values), &summary);
		if (summary.n == 0)
			continue;
		fprintf(to, "%-26s |", bench_spans[i].name);
		print_summary(to, &summary, 1e6);
		fprintf(to, "  %s\n", bench_spans[i].what);
	}
}

/* The time that each owner takes. */
static void print_owners(const struct bench_config *config, int64_t *values, FILE *to)
{
	fputs("\nby owner, p50 of each:", to);
	for (size_t owner = 0; owner < BENCH_OWNERS; owner++) {
		size_t n = 0;
		for (size_t i = 0; i < config->count; i++) {
			int64_t sum = -1;
			for (size_t stage = 0; stage < BENCH_STAGES; stage++) {
				int64_t took = bench_stages[stage].owner == owner
				                       ? bench_took(&config->samples[i], stage)
				                       : -1;
				if (took >= 0)
					sum = (sum < 0 ? 0 : sum) + took;
			}
			if (sum >= 0)
				values[n++] = sum;
		}
		struct bench_summary summary;
		bench_summarize(values, n, &summary);
		if (n > 0)
			fprintf(to, " %s %.3f", bench_owners[owner], ms(summary.p50));
	}
	fputs(" ms\n", to);
}

static void print_config(const struct bench *bench, const struct bench_config *config, int64_t *values)
{
	FILE *to = bench->text;
	fprintf(to, "\n%s%s%s: %zu of %zu runs", config->label, config->words[0] ? ": " : "",
	        strcmp(config->words, config->label) == 0 ? "" : config->words, config->count, bench->runs);
	if (config->failures)
		fprintf(to, ", %zu failed (the first: %s)", config->failures, config->failure);
	fputc('\n', to);
	if (config->count == 0)
		return;
	print_stages(config, values, to);
	print_spans(config, values, to);
	print_owners(config, values, to);
}

/* ---- A and B ---- */

static const char *verdict(const struct bench_ratio *ratio)
{
	return ratio->low <= 1 && ratio->high >= 1 ? "noise" : ratio->ratio < 1 ? "b is faster" : "b is slower";
}

static void print_ratio(FILE *to, const char *name, int64_t *a, size_t a_count, int64_t *b, size_t b_count)
{
	struct bench_ratio ratio;
	if (!bench_compare(a, a_count, b, b_count, &ratio))
		return;
	fprintf(to, "%-26s | %9.3f %9.3f | %6.3f [%.3f, %.3f]  %s\n", name, ms(bench_percentile(a, a_count, 500)),
	        ms(bench_percentile(b, b_count, 500)), ratio.ratio, ratio.low, ratio.high, verdict(&ratio));
}

static void print_exits(const struct bench_config *a, const struct bench_config *b, int64_t *values, FILE *to)
{
	fprintf(to, "\n%-16s", "exits p50, a>b");
	for (size_t c = 0; c < BENCH_COUNTERS; c++)
		fprintf(to, " %14s", bench_counters[c]);
	fputc('\n', to);
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		bool any = false;
		for (size_t c = 0; c < BENCH_COUNTERS; c++) {
			struct bench_summary of_a, of_b;
			char text[48];
			bench_summarize(values, bench_collect_exits(a, i, c, values), &of_a);
			bench_summarize(values, bench_collect_exits(b, i, c, values), &of_b);
			if (of_a.n == 0 || of_b.n == 0)
				break;
			if (!any)
				fprintf(to, "%-16s", bench_stages[i].name);
			any = true;
			snprintf(text, sizeof(text), "%lld>%lld", (long long)of_a.p50, (long long)of_b.p50);
			fprintf(to, " %14s", text);
		}
		if (any)
			fputc('\n', to);
	}
}

static void print_comparison(const struct bench *bench, int64_t *values, int64_t *others)
{
	const struct bench_config *a = &bench->config[0], *b = &bench->config[1];
	FILE *to = bench->text;
	fprintf(to,
	        "\nb / a, ratio of medians with its 95 %% interval (bootstrap, %u resamples)\n\n%-26s | %9s %9s |\n",
	        BENCH_RESAMPLES, "milliseconds", "a p50", "b p50");
	for (size_t i = 0; i < BENCH_SPANS; i++) {
		size_t n = bench_collect_span(a, &bench_spans[i], values);
		print_ratio(to, bench_spans[i].name, values, n, others, bench_collect_span(b, &bench_spans[i], others));
	}
	fputc('\n', to);
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		size_t n = bench_collect_took(a, i, values);
		print_ratio(to, bench_stages[i].name, values, n, others, bench_collect_took(b, i, others));
	}
	print_exits(a, b, values, to);
}

/* ---- Metrics ---- */

struct unit {
	const char *name, *shown;
	double scale;
};

static const struct unit units[] = {
        {"ns", "ms", 1e6}, {"KiB", "KiB", 1}, {"kB/s", "MB/s", 1e3}, {"1/ks", "1/s", 1e3}, {"milli", "", 1e3}};

static const struct unit *find_unit(const char *name)
{
	const struct unit *unit = units;
	while (strcmp(unit->name, name) != 0)
		unit++;
	return unit;
}

static void print_metrics(const struct bench *bench, int64_t *values, int64_t *others)
{
	FILE *to = bench->text;
	fprintf(to, "\n%-22s %-4s | %9s %9s %9s %9s %9s %9s\n", "", "", "min", "p50", "p90", "p95", "p99", "max");
	for (size_t i = 0; i < bench->metric_count; i++) {
		const struct bench_metric *metric = &bench->metric[i];
		const struct unit *unit = find_unit(metric->unit);
		struct bench_summary summary;
		struct bench_ratio ratio;
		bench_summarize_copy(metric->values, metric->count, values, &summary);
		if (metric->count == 0)
			continue;
		fprintf(to, "%-22s %-4s |", metric->name, unit->shown);
		print_summary(to, &summary, unit->scale);
		fprintf(to, "  %s%s%s (%zu)\n", metric->what, metric->per[0] ? " per " : "", metric->per,
		        metric->count);
		if (metric->peer_count == 0)
			continue;
		bench_summarize_copy(metric->peer, metric->peer_count, values, &summary);
		fprintf(to, "%22s %-4s |", "the peer's", unit->shown);
		print_summary(to, &summary, unit->scale);
		if (bench_compare_peer(metric, values, others, &ratio))
			fprintf(to, "  wisp / peer %.2f [%.2f, %.2f]", ratio.ratio, ratio.low, ratio.high);
		fprintf(to, " (%zu)\n", metric->peer_count);
	}
	for (size_t i = 0; i < bench->metric_count; i++) {
		const struct bench_metric *metric = &bench->metric[i];
		struct bench_ratio ratio;
		if (bench_compare_reference(metric, values, others, &ratio))
			fprintf(to, "\n%s / %s: %.3f of the medians, 95 %% interval [%.3f, %.3f]\n", metric->name,
			        metric->reference->name, ratio.ratio, ratio.low, ratio.high);
	}
}

void bench_print_text(const struct bench *bench)
{
	int64_t *values = calloc(bench->runs, sizeof(*values)), *others = calloc(bench->runs, sizeof(*others));
	bench_print_manifest(bench->manifest, bench->text);
	if (bench->interrupted)
		fputs("interrupted: these are the runs until then\n", bench->text);
	if (values && others && bench->metric_count > 0)
		print_metrics(bench, values, others);
	else if (values && others) {
		for (size_t i = 0; i < bench->config_count; i++)
			print_config(bench, &bench->config[i], values);
		if (strcmp(bench->verb, "compare") == 0)
			print_comparison(bench, values, others);
	}
	free(values);
	free(others);
}
