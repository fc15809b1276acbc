/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results for programs. The JSON is one object with "schema": "wisp-bench-1"; times are integers in nanoseconds, and
 * at_ns counts from the first stage of the run. The CSV has a line for each stage of each run, or for each value of a
 * metric.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/manifest.h"

static void put_summary(struct cli_json *json, const char *key, const struct bench_summary *s)
{
	cli_json_open(json, key, '{');
	cli_json_number(json, "n", (int64_t)s->n);
	if (s->n > 0) {
		cli_json_number(json, "min", s->min);
		cli_json_number(json, "p50", s->p50);
		cli_json_number(json, "p90", s->p90);
		cli_json_number(json, "p95", s->p95);
		cli_json_number(json, "p99", s->p99);
		cli_json_number(json, "max", s->max);
	}
	cli_json_close(json, '}');
}

static void put_stages(struct cli_json *json, const struct bench_config *config, int64_t *values)
{
	struct bench_summary summary;
	cli_json_open(json, "stages", '[');
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		bench_summarize(values, bench_collect_at(config, i, values), &summary);
		if (summary.n == 0)
			continue;
		cli_json_open(json, NULL, '{');
		cli_json_string(json, "name", bench_stages[i].name);
		cli_json_string(json, "owner", bench_owners[bench_stages[i].owner]);
		cli_json_string(json, "what", bench_stages[i].what);
		put_summary(json, "at_ns", &summary);
		bench_summarize(values, bench_collect_took(config, i, values), &summary);
		put_summary(json, "took_ns", &summary);
		cli_json_open(json, "exits", '{');
		for (size_t c = 0; c < BENCH_COUNTERS; c++) {
			bench_summarize(values, bench_collect_exits(config, i, c, values), &summary);
			if (summary.n > 0)
				put_summary(json, bench_counters[c], &summary);
		}
		cli_json_close(json, '}');
		cli_json_close(json, '}');
	}
	cli_json_close(json, ']');
}

static void put_spans(struct cli_json *json, const struct bench_config *config, int64_t *values)
{
	cli_json_open(json, "spans", '[');
	for (size_t i = 0; i < BENCH_SPANS; i++) {
		struct bench_summary summary;
		bench_summarize(values, bench_collect_span(config, &bench_spans[i], values), &summary);
		if (summary.n == 0)
			continue;
		cli_json_open(json, NULL, '{');
		cli_json_string(json, "name", bench_spans[i].name);
		cli_json_string(json, "from", bench_stages[bench_spans[i].from].name);
		cli_json_string(json, "to", bench_stages[bench_spans[i].to].name);
		put_summary(json, "took_ns", &summary);
		cli_json_close(json, '}');
	}
	cli_json_close(json, ']');
}

static void put_sample(struct cli_json *json, const struct bench_sample *sample)
{
	cli_json_open(json, NULL, '{');
	cli_json_number(json, "run", (int64_t)sample->run);
	cli_json_number(json, "begin_ns", (int64_t)bench_begin(sample));
	cli_json_open(json, "at_ns", '{');
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		if (sample->at[i])
			cli_json_number(json, bench_stages[i].name, (int64_t)(sample->at[i] - bench_begin(sample)));
	}
	cli_json_close(json, '}');
	cli_json_open(json, "exits_until", '{');
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		if (!sample->counted[i])
			continue;
		cli_json_open(json, bench_stages[i].name, '{');
		for (size_t c = 0; c < BENCH_COUNTERS; c++)
			cli_json_number(json, bench_counters[c], (int64_t)sample->counts[i][c]);
		cli_json_close(json, '}');
	}
	cli_json_close(json, '}');
	cli_json_close(json, '}');
}

static void put_config(
        struct cli_json *json, const struct bench *bench, const struct bench_config *config, int64_t *values)
{
	cli_json_open(json, NULL, '{');
	cli_json_string(json, "name", config->label);
	cli_json_string(json, "options", config->words);
	cli_json_number(json, "runs", (int64_t)bench->runs);
	cli_json_number(json, "completed", (int64_t)config->count);
	cli_json_number(json, "failed", (int64_t)config->failures);
	if (config->failures)
		cli_json_string(json, "first_failure", config->failure);
	put_stages(json, config, values);
	put_spans(json, config, values);
	cli_json_open(json, "samples", '[');
	for (size_t i = 0; i < config->count; i++)
		put_sample(json, &config->samples[i]);
	cli_json_close(json, ']');
	cli_json_close(json, '}');
}

/* In millionths: every reader of JSON keeps integers exact. */
static void put_ratio(struct cli_json *json, const struct bench_ratio *ratio)
{
	cli_json_number(json, "ratio_ppm", (int64_t)(ratio->ratio * 1e6 + 0.5));
	cli_json_number(json, "low_ppm", (int64_t)(ratio->low * 1e6 + 0.5));
	cli_json_number(json, "high_ppm", (int64_t)(ratio->high * 1e6 + 0.5));
}

static void put_comparison_of(
        struct cli_json *json, const char *name, int64_t *a, size_t a_count, int64_t *b, size_t b_count)
{
	struct bench_ratio ratio;
	if (!bench_compare(a, a_count, b, b_count, &ratio))
		return;
	cli_json_open(json, NULL, '{');
	cli_json_string(json, "name", name);
	put_ratio(json, &ratio);
	cli_json_close(json, '}');
}

static void put_comparison(struct cli_json *json, const struct bench *bench, int64_t *values, int64_t *others)
{
	const struct bench_config *a = &bench->config[0], *b = &bench->config[1];
	cli_json_open(json, "comparison", '[');
	for (size_t i = 0; i < BENCH_SPANS; i++) {
		size_t n = bench_collect_span(a, &bench_spans[i], values);
		put_comparison_of(
		        json, bench_spans[i].name, values, n, others, bench_collect_span(b, &bench_spans[i], others));
	}
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		size_t n = bench_collect_took(a, i, values);
		put_comparison_of(json, bench_stages[i].name, values, n, others, bench_collect_took(b, i, others));
	}
	cli_json_close(json, ']');
}

static void put_samples(struct cli_json *json, const int64_t *samples, size_t count, int64_t *values)
{
	struct bench_summary summary;
	cli_json_open(json, "samples", '[');
	for (size_t i = 0; i < count; i++)
		cli_json_number(json, NULL, samples[i]);
	cli_json_close(json, ']');
	bench_summarize_copy(samples, count, values, &summary);
	put_summary(json, "summary", &summary);
}

static void put_metric(struct cli_json *json, const struct bench_metric *metric, int64_t *values, int64_t *others)
{
	struct bench_ratio ratio;
	cli_json_open(json, NULL, '{');
	cli_json_string(json, "name", metric->name);
	cli_json_string(json, "unit", metric->unit);
	cli_json_string(json, "what", metric->what);
	if (metric->per[0])
		cli_json_string(json, "per", metric->per);
	put_samples(json, metric->values, metric->count, values);
	if (metric->peer) {
		cli_json_open(json, "peer", '{');
		put_samples(json, metric->peer, metric->peer_count, values);
		cli_json_close(json, '}');
	}
	if (bench_compare_reference(metric, values, others, &ratio)) {
		cli_json_open(json, "to_reference", '{');
		cli_json_string(json, "name", metric->reference->name);
		put_ratio(json, &ratio);
		cli_json_close(json, '}');
	}
	if (bench_compare_peer(metric, values, others, &ratio)) {
		cli_json_open(json, "wisp_to_peer", '{');
		put_ratio(json, &ratio);
		cli_json_close(json, '}');
	}
	cli_json_close(json, '}');
}

static void put_metrics(struct cli_json *json, const struct bench *bench, int64_t *values, int64_t *others)
{
	cli_json_open(json, "metrics", '[');
	for (size_t i = 0; i < bench->metric_count; i++)
		put_metric(json, &bench->metric[i], values, others);
	cli_json_close(json, ']');
}

void bench_write_json(const struct bench *bench, FILE *to)
{
	struct cli_json json = {.to = to};
	int64_t *values = calloc(bench->runs, sizeof(*values)), *others = calloc(bench->runs, sizeof(*others));
	if (values && others) {
		cli_json_open(&json, NULL, '{');
		cli_json_string(&json, "schema", "wisp-bench-1");
		cli_json_string(&json, "benchmark", bench->verb);
		cli_json_bool(&json, "interrupted", bench->interrupted);
		cli_json_number(&json, "warmup", (int64_t)bench->warmup);
		cli_json_string(&json, "percentiles", "linear interpolation of ranks (type 7)");
		bench_json_manifest(bench->manifest, &json);
		if (bench->metric_count > 0)
			put_metrics(&json, bench, values, others);
		cli_json_open(&json, "configurations", '[');
		for (size_t i = 0; i < bench->config_count && bench->metric_count == 0; i++)
			put_config(&json, bench, &bench->config[i], values);
		cli_json_close(&json, ']');
		if (strcmp(bench->verb, "compare") == 0)
			put_comparison(&json, bench, values, others);
		cli_json_close(&json, '}');
		fputc('\n', to);
	}
	free(values);
	free(others);
}

/* ---- CSV ---- */

static void csv_sample(const struct bench_config *config, const struct bench_sample *sample, FILE *to)
{
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		if (!sample->at[i])
			continue;
		int64_t took = bench_took(sample, i);
		fprintf(to, "%s,%zu,%s,%s,%lld,", config->label, sample->run, bench_stages[i].name,
		        bench_owners[bench_stages[i].owner], (long long)(sample->at[i] - bench_begin(sample)));
		if (took >= 0)
			fprintf(to, "%lld", (long long)took);
		for (size_t c = 0; c < BENCH_COUNTERS; c++) {
			int64_t exits = bench_exits(sample, i, c);
			fputc(',', to);
			if (exits >= 0)
				fprintf(to, "%lld", (long long)exits);
		}
		fputc('\n', to);
	}
}

void bench_write_csv(const struct bench *bench, FILE *to)
{
	if (bench->metric_count > 0)
		fputs("metric,unit,sample,value,of\n", to);
	for (size_t i = 0; i < bench->metric_count; i++) {
		const struct bench_metric *metric = &bench->metric[i];
		for (size_t v = 0; v < metric->count; v++)
			fprintf(to, "%s,%s,%zu,%lld,wisp\n", metric->name, metric->unit, v + 1,
			        (long long)metric->values[v]);
		for (size_t v = 0; v < metric->peer_count; v++)
			fprintf(to, "%s,%s,%zu,%lld,peer\n", metric->name, metric->unit, v + 1,
			        (long long)metric->peer[v]);
	}
	if (bench->metric_count > 0)
		return;
	fputs("configuration,run,stage,owner,at_ns,took_ns", to);
	for (size_t c = 0; c < BENCH_COUNTERS; c++)
		fprintf(to, ",%s", bench_counters[c]);
	fputc('\n', to);
	for (size_t i = 0; i < bench->config_count; i++) {
		for (size_t s = 0; s < bench->config[i].count; s++)
			csv_sample(&bench->config[i], &bench->config[i].samples[s], to);
	}
}
