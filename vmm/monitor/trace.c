/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const trace_counter_name[TRACE_COUNTERS] = {
        "exits", "io_exits", "mmio_exits", "halt_exits", "irq_exits", "irq_injections", "pf_taken"};

void trace_set_breakpoint(struct trace *trace, const char *name, uint64_t addr, uint8_t *host,
        const uint8_t instruction[TRACE_INSTRUCTION_SIZE])
{
	if (trace->breakpoint_count == TRACE_BREAKPOINTS_MAX)
		return;
	struct trace_breakpoint *b = &trace->breakpoint[trace->breakpoint_count++];
	*b = (struct trace_breakpoint){.addr = addr, .host = host};
	snprintf(b->name, sizeof(b->name), "%s", name);
	memcpy(b->was, host, TRACE_INSTRUCTION_SIZE);
	memcpy(host, instruction, TRACE_INSTRUCTION_SIZE);
}

bool trace_hit(struct trace *trace, uint64_t addr, const char **name)
{
	for (unsigned i = 0; i < trace->breakpoint_count; i++) {
		struct trace_breakpoint *b = &trace->breakpoint[i];
		if (b->addr != addr)
			continue;
		uint8_t *host = __atomic_exchange_n(&b->host, NULL, __ATOMIC_ACQ_REL);
		if (host)
			memcpy(host, b->was, TRACE_INSTRUCTION_SIZE);
		*name = host ? b->name : NULL;
		return true;
	}
	return false;
}

static void stamp(struct trace *trace, const char *name, uint64_t ns, const struct trace_source *source)
{
	unsigned i = __atomic_fetch_add(&trace->count, 1, __ATOMIC_ACQ_REL);
	if (i >= TRACE_STAMPS_MAX)
		return;
	struct trace_stamp *s = &trace->stamp[i];
	*s = (struct trace_stamp){.ns = ns};
	snprintf(s->name, sizeof(s->name), "%s", name);
	if (source)
		source->read(source, &s->counts);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void trace_mark(struct trace *trace, const char *name)
{
	if (trace)
		stamp(trace, name, now_ns(), __atomic_load_n(&trace->source, __ATOMIC_ACQUIRE));
}

void trace_mark_from(struct trace *trace, const char *name, const struct trace_source *source)
{
	if (trace)
		stamp(trace, name, now_ns(), source);
}

void trace_mark_uncounted(struct trace *trace, const char *name)
{
	trace_mark_from(trace, name, NULL);
}

void trace_mark_at(struct trace *trace, const char *name, uint64_t ns)
{
	if (trace)
		stamp(trace, name, ns, NULL);
}

static int by_time(const void *a, const void *b)
{
	const struct trace_stamp *x = a, *y = b;
	return (x->ns > y->ns) - (x->ns < y->ns);
}

static void write_stamp(FILE *file, const struct trace_stamp *s)
{
	fprintf(file, "{\"stage\":\"%s\",\"ns\":%" PRIu64, s->name, s->ns);
	for (unsigned i = 0; i < TRACE_COUNTERS; i++) {
		if (s->counts.known[i])
			fprintf(file, ",\"%s\":%" PRIu64, trace_counter_name[i], s->counts.value[i]);
	}
	fputs("}\n", file);
}

int trace_write(const struct trace *trace, int dir_fd, const char *name)
{
	struct trace sorted = *trace;
	unsigned count = trace->count < TRACE_STAMPS_MAX ? trace->count : TRACE_STAMPS_MAX;
	qsort(sorted.stamp, count, sizeof(sorted.stamp[0]), by_time);
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!file) {
		int ret = -errno;
		if (fd >= 0)
			close(fd);
		return ret;
	}
	for (unsigned i = 0; i < count; i++)
		write_stamp(file, &sorted.stamp[i]);
	return fclose(file) == 0 ? 0 : -errno;
}
