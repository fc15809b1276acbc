/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/cli/json.h"
#include "vmm/cli/prometheus.h"
#include "vmm/cli/verbs.h"

#define INTERVAL_MS_DEFAULT 2000

struct options {
	bool watch, json, prometheus;
	int64_t interval_ms;
};

struct list {
	struct wisp_stats **stats;
	size_t count;
};

static void free_list(struct list *list)
{
	for (size_t i = 0; i < list->count; i++)
		wisp_free_stats(list->stats[i]);
	free(list->stats);
	*list = (struct list){0};
}

static int add(struct list *list, const struct cli_call *call, const char *name, struct wisp_error *error)
{
	struct wisp_sandbox *sandbox;
	struct wisp_stats **grown = reallocarray(list->stats, list->count + 1, sizeof(struct wisp_stats *));
	if (!grown)
		return cli_fail("out of memory");
	list->stats = grown;
	int r = wisp_open_sandbox(call->places->state_root, name, &sandbox, error);
	if (r < 0)
		return r;
	r = wisp_sandbox_stats(sandbox, &list->stats[list->count], error);
	wisp_close_sandbox(sandbox);
	list->count += r == 0;
	return r;
}

/* One that ends meanwhile is left out. */
static int collect_all(struct list *list, const struct cli_call *call)
{
	struct wisp_sandbox_info **all;
	struct wisp_error error;
	if (wisp_list_sandboxes(call->places->state_root, &all, &error) < 0)
		return cli_fail_error(&error);
	for (size_t i = 0; all[i]; i++) {
		if (all[i]->state == WISP_SANDBOX_RUNNING || all[i]->state == WISP_SANDBOX_PAUSED ||
		        all[i]->state == WISP_SANDBOX_TEMPLATE)
			add(list, call, all[i]->name, &error);
	}
	wisp_free_sandbox_list(all);
	return 0;
}

static int collect(struct list *list, const struct cli_call *call)
{
	struct wisp_error error;
	if (call->operand_count == 0)
		return collect_all(list, call);
	for (size_t i = 0; i < call->operand_count; i++) {
		int r = add(list, call, call->operands[i], &error);
		if (r != 0)
			return r < 0 ? cli_fail_error(&error) : r;
	}
	return 0;
}

/* ---- JSON ---- */

static void print_memory(struct cli_json *json, const char *key, const struct wisp_memory_stats *memory)
{
	cli_json_open(json, key, '{');
	cli_json_number(json, "resident", (int64_t)memory->resident);
	cli_json_number(json, "pss", (int64_t)memory->proportional);
	cli_json_number(json, "private", (int64_t)memory->private_only);
	cli_json_number(json, "swapped", (int64_t)memory->swapped);
	cli_json_close(json, '}');
}

static const char *state_name(const struct wisp_stats *stats)
{
	return stats->state == WISP_SANDBOX_TEMPLATE ? "template"
	       : stats->state == WISP_SANDBOX_PAUSED ? "paused"
	                                             : "running";
}

static void print_cpu(struct cli_json *json, const struct wisp_stats *stats)
{
	cli_json_open(json, "cpu_ns", '{');
	cli_json_number(json, "total", (int64_t)stats->cpu_ns);
	if (stats->guest_ns_known)
		cli_json_number(json, "guest", (int64_t)stats->guest_ns);
	cli_json_number(json, "loop", (int64_t)stats->loop_ns);
	cli_json_open(json, "vcpus", '[');
	for (uint32_t i = 0; i < stats->cpus; i++)
		cli_json_number(json, NULL, (int64_t)stats->vcpu_ns[i]);
	cli_json_close(json, ']');
	cli_json_close(json, '}');
}

static void print_devices(struct cli_json *json, const struct wisp_stats *stats)
{
	cli_json_open(json, "devices", '{');
	for (size_t i = 0; i < stats->device_count; i++) {
		const struct wisp_device_stats *device = &stats->devices[i];
		cli_json_open(json, device->name, '{');
		cli_json_number(json, "bytes_to_guest", (int64_t)device->bytes_to_guest);
		cli_json_number(json, "bytes_from_guest", (int64_t)device->bytes_from_guest);
		cli_json_number(json, "operations_to_guest", (int64_t)device->operations_to_guest);
		cli_json_number(json, "operations_from_guest", (int64_t)device->operations_from_guest);
		cli_json_number(json, "operations_other", (int64_t)device->operations_other);
		cli_json_close(json, '}');
	}
	cli_json_close(json, '}');
}

static void print_exits(struct cli_json *json, const struct wisp_stats *stats)
{
	if (!stats->exits_known)
		return;
	cli_json_open(json, "exits", '{');
	cli_json_number(json, "total", (int64_t)stats->exits);
	for (size_t i = 0; i < stats->exit_count; i++)
		cli_json_number(json, stats->exit_kinds[i].kind, (int64_t)stats->exit_kinds[i].count);
	cli_json_close(json, '}');
}

static void print_json(struct cli_json *json, const struct wisp_stats *stats)
{
	cli_json_open(json, NULL, '{');
	cli_json_string(json, "name", stats->name);
	cli_json_string(json, "state", state_name(stats));
	cli_json_number(json, "uptime_ns", stats->uptime_ns);
	print_cpu(json, stats);
	cli_json_number(json, "resident", (int64_t)stats->resident);
	if (stats->memory_known) {
		print_memory(json, "guest_memory", &stats->guest_memory);
		print_memory(json, "monitor_memory", &stats->monitor_memory);
	}
	print_devices(json, stats);
	print_exits(json, stats);
	cli_json_open(json, "sessions", '{');
	cli_json_number(json, "running", (int64_t)stats->sessions_running);
	cli_json_number(json, "ended", (int64_t)stats->sessions_ended);
	cli_json_number(json, "failed", (int64_t)stats->sessions_failed);
	cli_json_close(json, '}');
	cli_json_close(json, '}');
}

/* ---- For people ---- */

struct text {
	char text[32];
};

/* "12.3 MiB" */
static struct text size_text(uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	struct text t;
	double value = (double)bytes;
	size_t unit = 0;
	while (value >= 1024 && unit < sizeof(units) / sizeof(units[0]) - 1) {
		value /= 1024;
		unit++;
	}
	snprintf(t.text, sizeof(t.text), unit > 0 ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return t;
}

static struct text seconds_text(uint64_t ns)
{
	struct text t;
	snprintf(t.text, sizeof(t.text), "%.2f s", (double)ns / 1e9);
	return t;
}

static void print_row(const struct wisp_stats *stats)
{
	uint64_t to_disks = 0, from_disks = 0, memory = stats->resident;
	for (size_t i = 0; i < stats->device_count; i++) {
		if (strncmp(stats->devices[i].name, "vd", 2) != 0)
			continue;
		from_disks += stats->devices[i].bytes_to_guest;
		to_disks += stats->devices[i].bytes_from_guest;
	}
	if (stats->memory_known)
		memory = stats->guest_memory.proportional + stats->monitor_memory.proportional;
	printf("%-24s %-8s %11s %11s %10s %10s %10s %8llu\n", stats->name, state_name(stats),
	        seconds_text((uint64_t)stats->uptime_ns).text, seconds_text(stats->cpu_ns).text, size_text(memory).text,
	        size_text(from_disks).text, size_text(to_disks).text, (unsigned long long)stats->sessions_running);
}

static void print_memory_line(const char *what, const struct wisp_memory_stats *memory)
{
	printf("%-16s %s in memory, %s shared in proportion, %s private, %s swapped\n", what,
	        size_text(memory->resident).text, size_text(memory->proportional).text,
	        size_text(memory->private_only).text, size_text(memory->swapped).text);
}

static void print_details(const struct wisp_stats *stats)
{
	printf("%-16s %s, %s for %s\n", "sandbox", stats->name, state_name(stats),
	        seconds_text((uint64_t)stats->uptime_ns).text);
	printf("%-16s %s: %s for devices, %s of virtual CPUs", "processor time", seconds_text(stats->cpu_ns).text,
	        seconds_text(stats->loop_ns).text, seconds_text(stats->vcpus_ns).text);
	if (stats->guest_ns_known)
		printf(", of which %s in the guest", seconds_text(stats->guest_ns).text);
	putchar('\n');
	if (stats->memory_known) {
		print_memory_line("guest's memory", &stats->guest_memory);
		print_memory_line("monitor's memory", &stats->monitor_memory);
	} else {
		printf("%-16s %s in memory\n", "memory", size_text(stats->resident).text);
	}
	for (size_t i = 0; i < stats->device_count; i++) {
		const struct wisp_device_stats *device = &stats->devices[i];
		printf("%-16s %s in %llu operations to the guest, %s in %llu from it", device->name,
		        size_text(device->bytes_to_guest).text, (unsigned long long)device->operations_to_guest,
		        size_text(device->bytes_from_guest).text, (unsigned long long)device->operations_from_guest);
		if (device->operations_other > 0)
			printf(", %llu others", (unsigned long long)device->operations_other);
		putchar('\n');
	}
	if (stats->exits_known)
		printf("%-16s %llu:", "exits", (unsigned long long)stats->exits);
	for (size_t i = 0; stats->exits_known && i < stats->exit_count; i++)
		printf("%s %s %llu", i ? "," : "", stats->exit_kinds[i].kind,
		        (unsigned long long)stats->exit_kinds[i].count);
	printf("%s%-16s %llu running, %llu ended, %llu failed to start\n", stats->exits_known ? "\n" : "", "sessions",
	        (unsigned long long)stats->sessions_running, (unsigned long long)stats->sessions_ended,
	        (unsigned long long)stats->sessions_failed);
}

static void print_text(const struct list *list, bool details)
{
	if (!details)
		printf("%-24s %-8s %11s %11s %10s %10s %10s %8s\n", "NAME", "STATE", "UPTIME", "CPU TIME", "MEMORY",
		        "DISK READ", "WRITTEN", "SESSIONS");
	for (size_t i = 0; i < list->count; i++) {
		if (details && i > 0)
			putchar('\n');
		if (details)
			print_details(list->stats[i]);
		else
			print_row(list->stats[i]);
	}
}

static void print(const struct list *list, const struct options *options, bool details)
{
	struct cli_json json = {.to = stdout};
	if (options->prometheus) {
		cli_print_prometheus(list->stats, list->count, stdout);
	} else if (options->json) {
		cli_json_open(&json, NULL, '[');
		for (size_t i = 0; i < list->count; i++)
			print_json(&json, list->stats[i]);
		cli_json_close(&json, ']');
		putchar('\n');
	} else {
		print_text(list, details);
	}
}

/* ---- The verb ---- */

static int show_once(const struct cli_call *call)
{
	struct list list = {0};
	int code = collect(&list, call);
	if (code == 0) {
		print(&list, call->options, call->operand_count > 0);
		code = cli_flush(0);
	}
	free_list(&list);
	return code;
}

/* Until a signal, or the end of a sandbox that was named. */
static int watch(const struct cli_call *call, int64_t interval_ms)
{
	const struct options *options = call->options;
	bool redraw = !options->json && isatty(STDOUT_FILENO);
	struct signalfd_siginfo info;
	struct pollfd pfd = {.fd = cli_open_signals(), .events = POLLIN};
	int code = 0;
	if (pfd.fd < 0)
		return cli_fail("cannot make a signalfd");
	while (code == 0) {
		if (redraw)
			fputs("\033[H\033[2J", stdout);
		code = show_once(call);
		if (code == 0 && poll(&pfd, 1, (int)interval_ms) > 0 &&
		        read(pfd.fd, &info, sizeof(info)) == sizeof(info))
			code = CLI_EXIT_SIGNAL + (int)info.ssi_signo;
	}
	close(pfd.fd);
	return code;
}

static int stats(const struct cli_call *call)
{
	const struct options *options = call->options;
	if (options->json && options->prometheus)
		return cli_fail("stats: --json and --prometheus contradict each other");
	if (options->watch && options->prometheus)
		return cli_fail("stats: --prometheus prints once; omit --watch");
	if (!options->watch && options->interval_ms > 0)
		return cli_fail("stats: --interval requires --watch");
	if (!options->watch)
		return show_once(call);
	int64_t interval_ms = options->interval_ms > 0 ? options->interval_ms : INTERVAL_MS_DEFAULT;
	return watch(call, interval_ms < INT_MAX ? interval_ms : INT_MAX);
}

static const struct cli_option own_options[] = {
        {.name = "watch", CLI_FLAG(struct options, watch), .help = "print again and again, until a signal"},
        {.name = "interval",
                .value = "DURATION",
                CLI_DURATION(struct options, interval_ms),
                .help = "with --watch, the time in between; default 2s"},
        {.name = "json", CLI_FLAG(struct options, json), .help = "print JSON: an array, with --watch in a line each"},
        {.name = "prometheus",
                CLI_FLAG(struct options, prometheus),
                .help = "print metrics for Prometheus, as its text format 0.0.4"},
        {0},
};

static const struct cli_group groups[] = {{.options = own_options}, {0}};

const struct cli_verb cli_stats = {
        .name = "stats",
        .synopsis = "[NAME...]",
        .summary = "Show what sandboxes use: processor time, memory, devices, sessions",
        .details = "Without a name, wisp prints a line for each sandbox that runs, is paused or is a template. With "
                   "names, it prints all that is known of each. Counts begin with the sandbox's monitor. The guest is "
                   "not asked, and need not answer.\n\n"
                   "  wisp stats\n"
                   "  wisp stats --watch box\n"
                   "  wisp stats --prometheus >/var/lib/node_exporter/wisp.prom",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_SANDBOX},
        .most = SIZE_MAX,
        .run = stats,
};
