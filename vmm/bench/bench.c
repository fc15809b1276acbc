/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/bench/manifest.h"

static const struct bench_kind kinds[] = {
        {"boot", bench_run_boot, 10, 1, true, false, true, false},
        {"compare", bench_run_boot, 20, 1, true, true, false, false},
        {"floor", bench_run_floor, 100, 3, true, false, true, false},
        {"exec", bench_run_exec, 100, 3, false, false, false, false},
        {"fork", bench_run_fork, 20, 2, false, false, false, false},
        {"restore", bench_run_restore, 20, 2, false, false, false, false},
        {"density", bench_run_density, 8, 1, false, false, false, false},
        {"blk", bench_run_blk, 10, 1, false, false, true, true},
        {"vsock", bench_run_vsock, 10, 1, false, false, true, true},
};

uint64_t bench_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool bench_poll_signal(struct bench *bench, int ms)
{
	struct signalfd_siginfo info;
	struct pollfd pfd = {.fd = bench->signal_fd, .events = POLLIN};
	if (!bench->interrupted && poll(&pfd, 1, ms) > 0 && read(bench->signal_fd, &info, sizeof(info)) == sizeof(info))
		bench->interrupted = (int)info.ssi_signo;
	return bench->interrupted;
}

void bench_progress(const struct bench *bench, const char *what, size_t done, size_t all)
{
	(void)bench;
	if (!isatty(STDERR_FILENO))
		return;
	if (done < all)
		fprintf(stderr, "\r\033[K%s %zu of %zu", what, done + 1, all);
	else
		fputs("\r\033[K", stderr);
}

void bench_fail_run(struct bench_config *config, size_t run, const char *text)
{
	if (config->failures++ == 0)
		snprintf(config->failure, sizeof(config->failure), "%s", text);
	cli_fail("run %zu%s%s failed: %s", run, config->label[0] ? " of " : "", config->label, text);
}

struct bench_metric *bench_add_metric(
        struct bench *bench, const char *name, const char *unit, const char *what, size_t count)
{
	struct bench_metric *metric = &bench->metric[bench->metric_count];
	bool peer = bench->options->peer;
	int64_t *values = calloc(count, (peer ? 2 : 1) * sizeof(*values));
	if (bench->metric_count == BENCH_METRICS_MAX || !values) {
		free(values);
		return NULL;
	}
	*metric = (struct bench_metric){.unit = unit,
	        .room = count,
	        .what = what,
	        .per = "",
	        .values = values,
	        .peer = peer ? values + count : NULL};
	snprintf(metric->name, sizeof(metric->name), "%s", name);
	bench->metric_count++;
	return metric;
}

/* ---- The run ---- */

static const struct bench_kind *find_kind(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	}
	return NULL;
}

static int prepare(struct bench *bench, const struct bench_kind *kind)
{
	int code = bench_add_configs(bench, kind);
	if (code)
		return code;
	if (bench->options->cold && access("/proc/sys/vm/drop_caches", W_OK) < 0)
		return cli_fail("bench: --cold requires root, to drop the page cache: %s", strerror(errno));
	if ((code = bench_open_outputs(bench, kind)))
		return code;
	for (size_t i = 0; i < bench->config_count; i++) {
		bench->config[i].samples = calloc(bench->runs, sizeof(struct bench_sample));
		if (!bench->config[i].samples)
			return cli_fail("out of memory");
	}
	bench->manifest = bench_read_manifest(bench);
	bench->signal_fd = cli_open_signals();
	if (!bench->manifest || bench->signal_fd < 0)
		return cli_fail("bench: cannot begin: %s", strerror(errno));
	return 0;
}

static int measure(struct bench *bench, const struct bench_kind *kind)
{
	size_t measured = 0;
	int code = kind->run(bench);
	bench_progress(bench, "", 0, 0);
	for (size_t i = 0; i < bench->metric_count; i++)
		measured += bench->metric[i].count + bench->metric[i].peer_count;
	for (size_t i = 0; i < bench->config_count; i++)
		measured += bench->config[i].count;
	int written = measured > 0 ? bench_write_outputs(bench) : 0;
	return code ? code : written;
}

int bench_run(const struct cli_call *call)
{
	struct bench_options *options = call->options;
	const struct bench_kind *kind = find_kind(call->operands[0]);
	if (!kind)
		return cli_fail("bench: there is no benchmark '%s'; write boot, compare, floor, exec, fork, restore, "
		                "density, blk or vsock",
		        call->operands[0]);
	struct bench *bench = calloc(1, sizeof(*bench));
	if (!bench)
		return cli_fail("out of memory");
	options->setup.image = call->operands[1];
	options->setup.command = call->command;
	bench->verb = kind->name;
	bench->options = options;
	bench->places = call->places;
	bench->runs = options->runs ? options->runs : kind->runs;
	bench->warmup = options->warmup.given ? options->warmup.runs : kind->warmup;
	int code = prepare(bench, kind);
	if (code == 0)
		code = measure(bench, kind);
	if (bench->interrupted)
		code = CLI_EXIT_SIGNAL + bench->interrupted;
	for (size_t i = 0; i < bench->config_count; i++)
		bench_free_config(&bench->config[i]);
	for (size_t i = 0; i < bench->metric_count; i++)
		free(bench->metric[i].values);
	bench_free_manifest(bench->manifest);
	free(bench);
	return code;
}
