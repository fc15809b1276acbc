/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/prometheus.h"

#include <inttypes.h>

struct metric {
	const char *name; /* without "wisp_sandbox_" */
	const char *type;
	const char *help;
	void (*print)(const struct metric *metric, const struct wisp_stats *stats, FILE *to);
};

static void print_escaped(const char *text, FILE *to)
{
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", to);
		else if (*text == '\\' || *text == '"')
			fprintf(to, "\\%c", *text);
		else
			fputc(*text, to);
	}
}

static void print_label(const char *name, const char *value, FILE *to)
{
	if (!name)
		return;
	fprintf(to, ",%s=\"", name);
	print_escaped(value, to);
	fputc('"', to);
}

/* Up to the value; a label whose name is NULL is left out. */
static void begin(const struct metric *metric, const struct wisp_stats *stats, const char *first, const char *value,
        const char *second, const char *second_value, FILE *to)
{
	fprintf(to, "wisp_sandbox_%s{sandbox=\"", metric->name);
	print_escaped(stats->name, to);
	fputc('"', to);
	print_label(first, value, to);
	print_label(second, second_value, to);
	fputs("} ", to);
}

static void print_number(const struct metric *metric, const struct wisp_stats *stats, const char *label,
        const char *label_value, uint64_t value, FILE *to)
{
	begin(metric, stats, label, label_value, NULL, NULL, to);
	fprintf(to, "%" PRIu64 "\n", value);
}

static void print_seconds(const struct metric *metric, const struct wisp_stats *stats, const char *label,
        const char *label_value, uint64_t ns, FILE *to)
{
	begin(metric, stats, label, label_value, NULL, NULL, to);
	fprintf(to, "%" PRIu64 ".%09" PRIu64 "\n", ns / 1000000000, ns % 1000000000);
}

static void uptime(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_seconds(metric, stats, NULL, NULL, (uint64_t)stats->uptime_ns, to);
}

static void paused(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_number(metric, stats, NULL, NULL, stats->state != WISP_SANDBOX_RUNNING, to);
}

static void cpu(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_seconds(metric, stats, NULL, NULL, stats->cpu_ns, to);
}

static void guest_cpu(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	if (stats->guest_ns_known)
		print_seconds(metric, stats, NULL, NULL, stats->guest_ns, to);
}

static void loop(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_seconds(metric, stats, NULL, NULL, stats->loop_ns, to);
}

static void vcpus(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	char number[16];
	for (uint32_t i = 0; i < stats->cpus; i++) {
		snprintf(number, sizeof(number), "%u", i);
		print_seconds(metric, stats, "vcpu", number, stats->vcpu_ns[i], to);
	}
}

static void resident(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	if (stats->resident > 0)
		print_number(metric, stats, NULL, NULL, stats->resident, to);
}

/* One field of struct wisp_memory_stats, of the guest's memory and of the monitor's. */
static void print_memory(const struct metric *metric, const struct wisp_stats *stats, size_t field, FILE *to)
{
	if (!stats->memory_known)
		return;
	const char *guest = (const char *)&stats->guest_memory, *monitor = (const char *)&stats->monitor_memory;
	print_number(metric, stats, "part", "guest", *(const uint64_t *)(const void *)(guest + field), to);
	print_number(metric, stats, "part", "monitor", *(const uint64_t *)(const void *)(monitor + field), to);
}

static void proportional(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_memory(metric, stats, offsetof(struct wisp_memory_stats, proportional), to);
}

static void private_only(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_memory(metric, stats, offsetof(struct wisp_memory_stats, private_only), to);
}

static void swapped(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_memory(metric, stats, offsetof(struct wisp_memory_stats, swapped), to);
}

static void print_device(const struct metric *metric, const struct wisp_stats *stats,
        const struct wisp_device_stats *device, const char *direction, uint64_t value, FILE *to)
{
	begin(metric, stats, "device", device->name, "direction", direction, to);
	fprintf(to, "%" PRIu64 "\n", value);
}

static void device_bytes(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	for (size_t i = 0; i < stats->device_count; i++) {
		const struct wisp_device_stats *device = &stats->devices[i];
		print_device(metric, stats, device, "to_guest", device->bytes_to_guest, to);
		print_device(metric, stats, device, "from_guest", device->bytes_from_guest, to);
	}
}

static void device_operations(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	for (size_t i = 0; i < stats->device_count; i++) {
		const struct wisp_device_stats *device = &stats->devices[i];
		print_device(metric, stats, device, "to_guest", device->operations_to_guest, to);
		print_device(metric, stats, device, "from_guest", device->operations_from_guest, to);
		print_device(metric, stats, device, "other", device->operations_other, to);
	}
}

static void exits(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	if (stats->exits_known)
		print_number(metric, stats, NULL, NULL, stats->exits, to);
}

static void exit_kinds(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	for (size_t i = 0; i < stats->exit_count; i++)
		print_number(metric, stats, "kind", stats->exit_kinds[i].kind, stats->exit_kinds[i].count, to);
}

static void running(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_number(metric, stats, NULL, NULL, stats->sessions_running, to);
}

static void ended(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_number(metric, stats, NULL, NULL, stats->sessions_ended, to);
}

static void failed(const struct metric *metric, const struct wisp_stats *stats, FILE *to)
{
	print_number(metric, stats, NULL, NULL, stats->sessions_failed, to);
}

static const struct metric metrics[] = {
        {"uptime_seconds", "gauge", "Time since the start of the monitor.", uptime},
        {"paused", "gauge", "Whether the sandbox is paused or a template.", paused},
        {"cpu_seconds_total", "counter", "Processor time of the monitor, its guest's included.", cpu},
        {"guest_cpu_seconds_total", "counter", "Processor time of the guest itself.", guest_cpu},
        {"vcpu_seconds_total", "counter", "Processor time of a virtual CPU's thread.", vcpus},
        {"loop_seconds_total", "counter", "Processor time of the thread that serves the devices.", loop},
        {"resident_bytes", "gauge", "Memory of monitor and guest.", resident},
        {"memory_proportional_bytes", "gauge", "Memory, shared pages divided by the number of their users (PSS).",
                proportional},
        {"memory_private_bytes", "gauge", "Memory that no other process has (USS).", private_only},
        {"memory_swapped_bytes", "gauge", "Memory that is in swap.", swapped},
        {"device_bytes_total", "counter", "Bytes that passed through a device.", device_bytes},
        {"device_operations_total", "counter", "Requests, packets or buffers of a device.", device_operations},
        {"vcpu_exits_total", "counter", "Exits of the guest's processors.", exits},
        {"vcpu_exits_by_kind_total", "counter", "Exits of the guest's processors for one reason.", exit_kinds},
        {"sessions_running", "gauge", "Commands that run.", running},
        {"sessions_ended_total", "counter", "Commands that have ended.", ended},
        {"sessions_failed_total", "counter", "Commands that could not start.", failed},
};

void cli_print_prometheus(struct wisp_stats *const *list, size_t count, FILE *to)
{
	for (size_t m = 0; m < sizeof(metrics) / sizeof(metrics[0]); m++) {
		fprintf(to, "# HELP wisp_sandbox_%s %s\n", metrics[m].name, metrics[m].help);
		fprintf(to, "# TYPE wisp_sandbox_%s %s\n", metrics[m].name, metrics[m].type);
		for (size_t i = 0; i < count; i++)
			metrics[m].print(&metrics[m], list[i], to);
	}
}
