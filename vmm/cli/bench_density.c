/* SPDX-License-Identifier: Apache-2.0 */
/* wisp bench density: how fast sandboxes start beside each other, and what their monitors need of the host's memory. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/bench.h"

struct crowd {
	size_t count, started, ready;
	struct wisp_sandbox **sandbox;
	uint64_t *begun; /* ns; 0: it is ready */
	struct pollfd *pfds;
};

static int start_next(struct bench *bench, struct crowd *crowd, struct wisp_error *error)
{
	struct wisp_create_options options;
	cli_fill_create_options(&bench->config[0].args, false, &options);
	options.console_fd = 0;
	size_t i = crowd->started;
	crowd->begun[i] = bench_now();
	int r = wisp_create_sandbox(&options, &crowd->sandbox[i], error);
	if (r == 0)
		crowd->started++;
	return r;
}

/* Takes in what has become ready. */
static int look(struct crowd *crowd, struct bench_metric *metric, struct wisp_error *error)
{
	for (size_t i = 0; i < crowd->started; i++) {
		if (crowd->begun[i] == 0)
			continue;
		int r = wisp_wait_ready(crowd->sandbox[i], 0, error);
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return r;
		metric->values[metric->count++] = (int64_t)(bench_now() - crowd->begun[i]);
		crowd->begun[i] = 0;
		crowd->ready++;
	}
	return 0;
}

static void wait_some(struct bench *bench, const struct crowd *crowd)
{
	size_t n = 0;
	crowd->pfds[n++] = (struct pollfd){.fd = bench->signal_fd, .events = POLLIN};
	for (size_t i = 0; i < crowd->started; i++) {
		if (crowd->begun[i] != 0)
			crowd->pfds[n++] =
			        (struct pollfd){.fd = wisp_get_sandbox_fd(crowd->sandbox[i]), .events = POLLIN};
	}
	poll(crowd->pfds, n, 1000);
}

static int start_all(struct bench *bench, struct crowd *crowd, struct wisp_error *error)
{
	size_t parallel = bench->args->bench.parallel;
	struct bench_metric *latency =
	        bench_add_metric(bench, "start", "ns", "from creation to ready, each", crowd->count);
	struct bench_metric *rate =
	        bench_add_metric(bench, "rate", "1/ks", "sandboxes ready a second, all of them together", 1);
	if (!latency || !rate)
		return -ENOMEM;
	if (parallel == 0)
		parallel = (size_t)sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t begin = bench_now();
	int r = 0;
	while (r == 0 && crowd->ready < crowd->count && !bench_poll_signal(bench, 0)) {
		bench_progress(bench, "sandbox", crowd->ready, crowd->count);
		while (r == 0 && crowd->started < crowd->count && crowd->started - crowd->ready < parallel)
			r = start_next(bench, crowd, error);
		if (r == 0)
			wait_some(bench, crowd);
		if (r == 0)
			r = look(crowd, latency, error);
	}
	if (crowd->ready > 0)
		rate->values[rate->count++] = (int64_t)(crowd->ready * 1000000000000u / (bench_now() - begin));
	return r;
}

/*
 * A monitor's proportional memory in KiB, without the guest's RAM: by far its largest mappings. False if it is not to
 * be read.
 */
static bool read_memory(int32_t pid, uint64_t guest_kib, int64_t *beside_kib, int64_t *guest_used_kib)
{
	char path[64], line[512];
	unsigned long size = 0, pss;
	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	*beside_kib = *guest_used_kib = 0;
	/* Above 3 GiB it is in two parts. */
	uint64_t part = guest_kib > 3u << 20 ? 1u << 20 : guest_kib;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Size: %lu kB", &size) == 1)
			continue;
		if (sscanf(line, "Pss: %lu kB", &pss) == 1)
			*(size >= part ? guest_used_kib : beside_kib) += (int64_t)pss;
	}
	fclose(file);
	return true;
}

static void measure_memory(struct bench *bench, const struct crowd *crowd)
{
	const struct cli_args *args = &bench->config[0].args;
	uint64_t guest_kib = (uint64_t)(args->memory_mib ? args->memory_mib : WISP_MEMORY_MIB_DEFAULT) << 10;
	struct bench_metric *beside = bench_add_metric(
	        bench, "monitor memory", "KiB", "PSS of wisp-vmm beside the guest's RAM", crowd->count);
	struct bench_metric *used =
	        bench_add_metric(bench, "guest memory", "KiB", "of the guest's RAM, PSS in use", crowd->count);
	for (size_t i = 0; beside && used && i < crowd->started; i++) {
		struct wisp_sandbox_info *info;
		if (crowd->begun[i] != 0 || wisp_inspect_sandbox(cli_state_root(),
		                                    wisp_get_sandbox_name(crowd->sandbox[i]), &info, NULL) < 0)
			continue;
		if (read_memory(info->pid, guest_kib, &beside->values[beside->count], &used->values[used->count])) {
			beside->count++;
			used->count++;
		}
		wisp_free_sandbox_info(info);
	}
}

int bench_run_density(struct bench *bench)
{
	struct wisp_error error = {.message = "out of memory"};
	struct crowd crowd = {.count = bench->runs};
	int code = 0;
	if (bench->args->bench.cold)
		return cli_fail("bench density: only the first would be cold: leave --cold");
	for (size_t i = 0; i < bench->warmup && code == 0; i++) {
		struct wisp_sandbox *first = bench_boot_sandbox(bench, &bench->config[0], &error);
		code = first || bench->interrupted ? 0 : CLI_EXIT_FAILED;
		wisp_close_sandbox(first);
	}
	if (code)
		return code;
	crowd.sandbox = calloc(crowd.count, sizeof(struct wisp_sandbox *));
	crowd.begun = calloc(crowd.count, sizeof(*crowd.begun));
	crowd.pfds = calloc(crowd.count + 1, sizeof(*crowd.pfds));
	if (!crowd.sandbox || !crowd.begun || !crowd.pfds)
		code = cli_fail("out of memory");
	else if (start_all(bench, &crowd, &error) < 0)
		code = cli_fail(
		        "bench: sandbox %zu of %zu did not start: %s", crowd.ready + 1, crowd.count, error.message);
	measure_memory(bench, &crowd);
	for (size_t i = 0; i < crowd.started; i++)
		wisp_close_sandbox(crowd.sandbox[i]);
	free(crowd.sandbox);
	free(crowd.begun);
	free(crowd.pfds);
	return code;
}
