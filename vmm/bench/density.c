/* SPDX-License-Identifier: Apache-2.0 */
/* density: how fast sandboxes start together, and how much memory their monitors need. */
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
	uint64_t *begun; /* ns; 0: the sandbox is ready */
	struct pollfd *pfds;
};

static int start_next(struct bench *bench, struct crowd *crowd, struct wisp_error *error)
{
	struct wisp_create_options options;
	bench_fill_options(bench, &bench->config[0].setup, &options);
	size_t i = crowd->started;
	crowd->begun[i] = bench_now();
	int r = wisp_create_sandbox(&options, &crowd->sandbox[i], error);
	if (r == 0)
		crowd->started++;
	return r;
}

/* Records the sandboxes that have become ready. */
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
	size_t parallel = bench->options->parallel;
	struct bench_metric *latency =
	        bench_add_metric(bench, "start", "ns", "from creation to ready, for each sandbox", crowd->count);
	struct bench_metric *rate =
	        bench_add_metric(bench, "rate", "1/ks", "sandboxes that become ready per second, in total", 1);
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

/* The number of adjacent mappings from `first` on that are `size` bytes together; 0 if there are none. */
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
 * The proportional set size of a monitor in KiB, split into the guest's RAM and the rest. The RAM has a part below 3
 * GiB and one above; each is several mappings if the kernel's text is mapped into it. False if it cannot be read.
 */
static bool read_memory(int32_t pid, uint64_t guest_kib, int64_t *monitor_kib, int64_t *guest_used_kib)
{
	static const uint64_t low_kib = 3u << 20;
	struct mapping *map = calloc(MAPPINGS_MAX, sizeof(*map));
	size_t count = map ? read_mappings(pid, map) : 0;
	*monitor_kib = *guest_used_kib = 0;
	for (size_t i = 0, ram = 0; i<count; i++, ram -= ram> 0) {
		if (ram == 0)
			ram = tile(map, count, i, (guest_kib < low_kib ? guest_kib : low_kib) << 10);
		if (ram == 0 && guest_kib > low_kib)
			ram = tile(map, count, i, (guest_kib - low_kib) << 10);
		*(ram > 0 ? guest_used_kib : monitor_kib) += map[i].pss;
	}
	free(map);
	return *guest_used_kib > 0;
}

static void measure_memory(struct bench *bench, const struct crowd *crowd)
{
	uint32_t mib = bench->config[0].setup.machine.memory_mib;
	uint64_t guest_kib = (uint64_t)(mib ? mib : WISP_MEMORY_MIB_DEFAULT) << 10;
	struct bench_metric *monitor = bench_add_metric(
	        bench, "monitor memory", "KiB", "PSS of wisp-vmm without the guest's RAM", crowd->count);
	struct bench_metric *used =
	        bench_add_metric(bench, "guest memory", "KiB", "PSS of the guest's RAM", crowd->count);
	for (size_t i = 0; monitor && used && i < crowd->started; i++) {
		struct wisp_sandbox_info *info;
		if (crowd->begun[i] != 0 || wisp_inspect_sandbox(bench->places->state_root,
		                                    wisp_get_sandbox_name(crowd->sandbox[i]), &info, NULL) < 0)
			continue;
		if (read_memory(info->pid, guest_kib, &monitor->values[monitor->count], &used->values[used->count])) {
			monitor->count++;
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
	if (bench->options->cold)
		return cli_fail("bench density: only the first sandbox would be cold; omit --cold");
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
