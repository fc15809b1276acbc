/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drawings. For one configuration: a Gantt chart of the median run, with the spread of each stage, above the
 * distribution of the spans. For several configurations: their time by owner, and one curve for each.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/manifest.h"

#define WIDTH 1240
#define LEFT 150
#define PLOT 650 /* the width of the time axis */
#define ROW 21
#define HEAD 92
#define CURVES 260

static const char *const owner_colours[BENCH_OWNERS] = {
        "#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#e69f00", "#a05a8c"};
static const char *const curve_colours[] = {
        "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b"};
#define CURVE_COLOURS (sizeof(curve_colours) / sizeof(curve_colours[0]))

/* Time to pixels. */
struct axis {
	double from, to; /* ns */
};

static double x_of(const struct axis *axis, double ns)
{
	return LEFT + (ns - axis->from) / (axis->to - axis->from) * PLOT;
}

static void put_text(FILE *to, double x, double y, const char *style, const char *text)
{
	fprintf(to, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, style);
	for (; *text; text++) {
		if (strchr("<>&", *text))
			fprintf(to, "&#%d;", *text);
		else
			fputc(*text, to);
	}
	fputs("</text>\n", to);
}

static void put_line(FILE *to, double x1, double y1, double x2, double y2, const char *style)
{
	fprintf(to, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style);
}

static void put_bar(FILE *to, double x1, double x2, double y, double height, const char *colour)
{
	/* A very short stage is still visible. */
	fprintf(to, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x1, y,
	        x2 - x1 < 1.2 ? 1.2 : x2 - x1, height, colour);
}

/* 1, 2 or 5 times a power of ten, for about eight ticks. */
static double tick_step(double span)
{
	static const double factors[] = {1, 2, 5, 10};
	double power = 1;
	while (power * 10 < span / 8)
		power *= 10;
	for (size_t i = 0; i < 4; i++) {
		if (power * factors[i] >= span / 8)
			return power * factors[i];
	}
	return power * 10;
}

static void put_axis(FILE *to, const struct axis *axis, double top, double bottom)
{
	char text[32];
	double step = tick_step(axis->to - axis->from);
	int digits = step >= 1e6 ? 0 : step >= 1e5 ? 1 : step >= 1e4 ? 2 : 3;
	double first = (double)(int64_t)((axis->from + step - 1) / step) * step;
	for (double at = first; at <= axis->to; at += step) {
		put_line(to, x_of(axis, at), top, x_of(axis, at), bottom, "stroke=\"#dddddd\"");
		snprintf(text, sizeof(text), "%.*f", digits, at / 1e6);
		put_text(to, x_of(axis, at), bottom + 15, "class=\"axis\" text-anchor=\"middle\"", text);
	}
	put_text(to, LEFT + PLOT + 8, bottom + 15, "class=\"axis\"", "ms");
}

static void put_head(const struct bench *bench, FILE *to, double height, const char *title)
{
	char text[1024];
	fprintf(to,
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" viewBox=\"0 0 %d %.0f\">\n"
	        "<style>text{font:13px 'DejaVu Sans',Arial,sans-serif;fill:#222}.axis{font-size:12px;fill:#555}"
	        ".title{font-size:18px;font-weight:bold}.small{font-size:11.5px;fill:#555}</style>\n"
	        "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
	        WIDTH, height, WIDTH, height);
	put_text(to, 20, 28, "class=\"title\"", title);
	snprintf(text, sizeof(text), "%s, %s, %s, %s CPUs, page cache %s", bench_get_manifest(bench->manifest, "date"),
	        bench_get_manifest(bench->manifest, "cpu"), bench_get_manifest(bench->manifest, "host_kernel"),
	        bench_get_manifest(bench->manifest, "cpus"), bench_get_manifest(bench->manifest, "page_cache"));
	put_text(to, 20, 48, "class=\"small\"", text);
	double x = 20;
	for (size_t i = 0; i < BENCH_OWNERS; i++) {
		put_bar(to, x, x + 13, 60, 13, owner_colours[i]);
		put_text(to, x + 18, 71, "", bench_owners[i]);
		x += 40 + 8 * (double)strlen(bench_owners[i]);
	}
}

/* ---- The distribution ---- */

struct curve {
	const char *name;
	int64_t *sorted;
	size_t n;
};

static void put_curve(FILE *to, const struct axis *axis, double top, const struct curve *curve, const char *colour)
{
	fprintf(to, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"M%.1f,%d", colour,
	        x_of(axis, (double)curve->sorted[0]), (int)top + CURVES);
	for (size_t i = 0; i < curve->n; i++)
		fprintf(to, "H%.1fV%.1f", x_of(axis, (double)curve->sorted[i]),
		        top + CURVES - CURVES * (double)(i + 1) / (double)curve->n);
	fputs("\"/>\n", to);
}

static void put_curves(FILE *to, double top, const struct curve *curves, size_t count)
{
	struct axis axis = {.from = 1e300, .to = 0};
	char text[160];
	for (size_t i = 0; i < count; i++) {
		double first = (double)curves[i].sorted[0], last = (double)curves[i].sorted[curves[i].n - 1];
		axis.from = first < axis.from ? first : axis.from;
		axis.to = last > axis.to ? last : axis.to;
	}
	double margin = (axis.to - axis.from) * 0.02 + 1000;
	axis.from = axis.from > margin ? axis.from - margin : 0;
	axis.to += margin;
	put_axis(to, &axis, top, top + CURVES);
	for (int percent = 0; percent <= 100; percent += 25) {
		double y = top + CURVES - CURVES * percent / 100.0;
		put_line(to, LEFT, y, LEFT + PLOT, y, "stroke=\"#dddddd\"");
		snprintf(text, sizeof(text), "%d %%", percent);
		put_text(to, LEFT - 8, y + 4, "class=\"axis\" text-anchor=\"end\"", text);
	}
	for (size_t i = 0; i < count; i++) {
		const char *colour = curve_colours[i % CURVE_COLOURS];
		double y = top + 8 + 36 * (double)i;
		put_curve(to, &axis, top, &curves[i], colour);
		put_bar(to, LEFT + PLOT + 24, LEFT + PLOT + 37, y, 13, colour);
		put_text(to, LEFT + PLOT + 42, y + 11, "", curves[i].name);
		snprintf(text, sizeof(text), "p50 %.3f ms, p95 %.3f ms",
		        (double)bench_percentile(curves[i].sorted, curves[i].n, 500) / 1e6,
		        (double)bench_percentile(curves[i].sorted, curves[i].n, 950) / 1e6);
		put_text(to, LEFT + PLOT + 42, y + 26, "class=\"small\"", text);
	}
}

static bool add_curve(
        struct curve *curve, const char *name, const struct bench_config *config, const struct bench_span_info *span)
{
	struct bench_summary summary;
	int64_t *values = calloc(config->count + 1, sizeof(*values));
	size_t n = values ? bench_collect_span(config, span, values) : 0;
	if (n == 0) {
		free(values);
		return false;
	}
	bench_summarize(values, n, &summary);
	*curve = (struct curve){.name = name, .sorted = values, .n = n};
	return true;
}

static void free_curves(struct curve *curves, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(curves[i].sorted);
}

/* ---- One configuration ---- */

/* A row: the stage in the run that is drawn, and what it took in all. */
struct stage_row {
	double start, end; /* ns from the run's beginning */
	double p5, p50, p95;
	bool spread; /* the last three are known */
};

static struct stage_row stage_row(
        const struct bench_config *config, const struct bench_sample *run, enum bench_stage stage)
{
	double end = (double)(run->at[stage] - bench_begin(run));
	struct stage_row row = {.start = end - (double)bench_took(run, stage), .end = end};
	int64_t *values = calloc(config->count + 1, sizeof(*values));
	size_t n = values ? bench_collect_took(config, stage, values) : 0;
	struct bench_summary summary;
	bench_summarize(values, n, &summary);
	if (n > 0) {
		row.spread = true;
		row.p5 = (double)bench_percentile(values, n, 50);
		row.p50 = (double)summary.p50;
		row.p95 = (double)summary.p95;
	}
	free(values);
	return row;
}

static void put_stage(const struct stage_row *row, enum bench_stage stage, const struct axis *axis, double y, FILE *to)
{
	char text[160];
	put_text(to, LEFT - 8, y + 15, "text-anchor=\"end\"", bench_stages[stage].name);
	put_bar(to, x_of(axis, row->start), x_of(axis, row->end), y + 4, ROW - 8,
	        owner_colours[bench_stages[stage].owner]);
	if (row->spread) {
		double low = x_of(axis, row->start + row->p5), high = x_of(axis, row->start + row->p95);
		put_line(to, low, y + 10.5, high, y + 10.5, "stroke=\"#000000\" stroke-width=\"1.4\"");
		put_line(to, low, y + 7, low, y + 14, "stroke=\"#000000\" stroke-width=\"1.4\"");
		put_line(to, high, y + 7, high, y + 14, "stroke=\"#000000\" stroke-width=\"1.4\"");
		snprintf(text, sizeof(text), "%.3f", row->p50 / 1e6);
		put_text(to, LEFT + PLOT + 60, y + 15, "text-anchor=\"end\"", text);
		put_text(to, LEFT + PLOT + 70, y + 15, "class=\"small\"", bench_stages[stage].what);
	}
}

static void draw_one(const struct bench *bench, FILE *to)
{
	const struct bench_config *config = &bench->config[0];
	const struct bench_sample *run = bench_median_run(config);
	struct axis axis = {.from = 0};
	struct curve curves[BENCH_SPANS];
	char title[160];
	struct stage_row stages[BENCH_STAGES];
	size_t rows = 0, count = 0;
	if (!run)
		return;
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		if (bench_took(run, i) < 0)
			continue;
		stages[i] = stage_row(config, run, i);
		axis.to = stages[i].end > axis.to ? stages[i].end : axis.to;
		axis.to = stages[i].start + stages[i].p95 > axis.to ? stages[i].start + stages[i].p95 : axis.to;
		rows++;
	}
	axis.to *= 1.02;
	double bottom = HEAD + ROW * (double)rows + 4;
	snprintf(title, sizeof(title), "wisp bench %s: the median of %zu runs", bench->verb, config->count);
	put_head(bench, to, bottom + CURVES + 120, title);
	put_axis(to, &axis, HEAD, bottom);
	put_text(to, LEFT + PLOT + 60, HEAD - 6, "class=\"small\" text-anchor=\"end\"", "p50, ms");
	put_text(to, LEFT + PLOT + 70, HEAD - 6, "class=\"small\"", "whiskers: p5 to p95 of the stage");
	size_t row = 0;
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		if (bench_took(run, i) >= 0)
			put_stage(&stages[i], i, &axis, HEAD + ROW * (double)row++, to);
	}
	for (size_t i = 0; i < BENCH_SPANS; i++)
		count += add_curve(&curves[count], bench_spans[i].what, config, &bench_spans[i]);
	put_text(to, 20, bottom + 52, "", "Share of the runs that took at most this long");
	if (count > 0)
		put_curves(to, bottom + 68, curves, count);
	free_curves(curves, count);
}

/* ---- Several ---- */

/* To the first byte: after it one no longer waits. */
static void put_owners(const struct bench_config *config, const struct axis *axis, double y, FILE *to)
{
	const struct bench_sample *run = bench_median_run(config);
	double at = 0;
	char text[64];
	if (!run)
		return;
	for (size_t i = 0; i <= BENCH_FIRST_BYTE; i++) {
		int64_t took = bench_took(run, i);
		if (took < 0)
			continue;
		put_bar(to, x_of(axis, at), x_of(axis, at + (double)took), y + 5, ROW,
		        owner_colours[bench_stages[i].owner]);
		at += (double)took;
	}
	put_text(to, LEFT - 8, y + 20, "text-anchor=\"end\"", config->label);
	snprintf(text, sizeof(text), "%.3f ms", at / 1e6);
	put_text(to, LEFT + PLOT + 42, y + 20, "", text);
}

static void draw_several(const struct bench *bench, FILE *to)
{
	struct axis axis = {.from = 0};
	struct curve curves[BENCH_CONFIGS_MAX];
	size_t count = 0;
	for (size_t i = 0; i < bench->config_count; i++) {
		const struct bench_sample *run = bench_median_run(&bench->config[i]);
		double length = run ? (double)(run->at[BENCH_FIRST_BYTE] - bench_begin(run)) : 0;
		axis.to = length > axis.to ? length : axis.to;
		count += add_curve(&curves[count], bench->config[i].label, &bench->config[i], &bench_spans[4]);
	}
	axis.to = axis.to > 0 ? axis.to * 1.02 : 1e6;
	double bottom = HEAD + (ROW + 10) * (double)bench->config_count + 6;
	double curves_height = CURVES > 36 * (double)count ? CURVES : 36 * (double)count;
	put_head(bench, to, bottom + curves_height + 120,
	        "wisp bench: each configuration's median run, to the first byte");
	put_axis(to, &axis, HEAD, bottom);
	for (size_t i = 0; i < bench->config_count; i++)
		put_owners(&bench->config[i], &axis, HEAD + (ROW + 10) * (double)i, to);
	put_text(to, 20, bottom + 52, "",
	        "Share of the runs that took at most this long, exec() of wisp-vmm to first byte");
	if (count > 0)
		put_curves(to, bottom + 68, curves, count);
	free_curves(curves, count);
}

void bench_write_svg(const struct bench *bench, FILE *to)
{
	if (bench->config_count == 1)
		draw_one(bench, to);
	else
		draw_several(bench, to);
	fputs("</svg>\n", to);
}
