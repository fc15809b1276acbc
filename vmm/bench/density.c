/* SPDX-License-Identifier: Apache-2.0 */
/* wisp bench density: how fast sandboxes start beside each other, and what their monitors need of the host's memory. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench/bench.h"

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

#define MAPPINGS_MAX 512
#define RAM_ALIGN (2u << 20)

struct mapping {
	uint64_t start, end;
	int64_t pss; /* KiB */
};

static size_t read_mappings(int32_t pid, struct mapping *map)
{
	char path[64], line[512];
	size_t count = 0;
	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		struct mapping next = {0};
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &next.start, &next.end) == 2 && count < MAPPINGS_MAX)
			map[count++] = next;
		else if (count > 0)
			sscanf(line, "Pss: %" SCNd64 " kB", &map[count - 1].pss);
	}
	if (file)
		fclose(file);
	return count;
}

/* Mappings from `first` on without a gap that make up exactly `size` bytes: how many, 0 if they do not. */
static size_t tile(const struct mapping *map, size_t count, size_t first, uint64_t size)
{
	if (map[first].start % RAM_ALIGN != 0)
		return 0;
	for (size_t i = first; i < count && (i == first || map[i].start == map[i - 1].end); i++) {
		if (map[i].end - map[first].start == size)
			return i + 1 - first;
	}
	return 0;
}

/*
 * A monitor's proportional memory in KiB, and apart from it the guest's RAM: a part of that size below 3 GiB, one
 * above, each in several mappings when the kernel's text is mapped into it. False if it is not to be read.
 */
static bool read_memory(int32_t pid, uint64_t guest_kib, int64_t *beside_kib, int64_t *guest_used_kib)
{
	static const uint64_t low_kib = 3u << 20;
	struct mapping *map = calloc(MAPPINGS_MAX, sizeof(*map));
	size_t count = map ? read_mappings(pid, map) : 0;
	*beside_kib = *guest_used_kib = 0;
	for (size_t i = 0, ram = 0; i<count; i++, ram -= ram> 0) {
		if (ram == 0)
			ram = tile(map, count, i, (guest_kib < low_kib ? guest_kib : low_kib) << 10);
		if (ram == 0 && guest_kib > low_kib)
			ram = tile(map, count, i, (guest_kib - low_kib) << 10);
		*(ram > 0 ? guest_used_kib : beside_kib) += map[i].pss;
	}
	free(map);
	return *guest_used_kib > 0;
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
