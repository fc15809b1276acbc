/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "vmm/bench/bench.h"

static int open_output(struct bench *bench, const char *path, FILE **file)
{
	if (!path)
		return 0;
	*file = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	if (!*file)
		return cli_fail("bench: cannot write to %s: %s", path, strerror(errno));
	if (*file == stdout && bench->text == stderr)
		return cli_fail("bench: only one of the outputs can be standard output");
	if (*file == stdout)
		bench->text = stderr;
	return 0;
}

int bench_open_outputs(struct bench *bench, const struct bench_kind *kind)
{
	const struct bench_options *options = bench->options;
	int code;
	bench->text = stdout;
	if (!kind->stages && (options->svg || options->perfetto))
		return cli_fail("bench %s: --svg and --perfetto draw stages, which only boot, compare and floor have",
		        kind->name);
	if (kind->run == bench_run_floor && options->peer && (options->svg || options->perfetto))
		return cli_fail("bench floor: with --peer there are no stages; omit --svg and --perfetto");
	if ((code = open_output(bench, options->json, &bench->json)) ||
	        (code = open_output(bench, options->csv, &bench->csv)) ||
	        (code = open_output(bench, options->svg, &bench->svg)))
		return code;
	return open_output(bench, options->perfetto, &bench->perfetto);
}

static int write_output(
        const struct bench *bench, const char *path, FILE *file, void (*write)(const struct bench *bench, FILE *to))
{
	if (!file)
		return 0;
	write(bench, file);
	bool failed = fflush(file) != 0 || ferror(file);
	if (file != stdout)
		failed |= fclose(file) != 0;
	return failed ? cli_fail("bench: cannot write to %s: %s", path, strerror(errno)) : 0;
}

int bench_write_outputs(const struct bench *bench)
{
	const struct bench_options *options = bench->options;
	bench_print_text(bench);
	fflush(bench->text);
	int code = write_output(bench, options->json, bench->json, bench_write_json);
	code |= write_output(bench, options->csv, bench->csv, bench_write_csv);
	code |= write_output(bench, options->svg, bench->svg, bench_write_svg);
	return code | write_output(bench, options->perfetto, bench->perfetto, bench_write_perfetto);
}
