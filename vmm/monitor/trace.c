/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

bool trace_meet(struct trace *trace, uint64_t addr, const char **name)
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

void trace_mark_at(struct trace *trace, const char *name, uint64_t ns, const char *counts)
{
	if (!trace)
		return;
	unsigned i = __atomic_fetch_add(&trace->count, 1, __ATOMIC_ACQ_REL);
	if (i >= TRACE_STAMPS_MAX)
		return;
	struct trace_stamp *s = &trace->stamp[i];
	if (!counts && trace->count_exits)
		trace->count_exits(trace->context, s->counts, sizeof(s->counts));
	else
		snprintf(s->counts, sizeof(s->counts), "%s", counts ? counts : "");
	s->ns = ns;
	snprintf(s->name, sizeof(s->name), "%s", name);
}

void trace_mark(struct trace *trace, const char *name, const char *counts)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	trace_mark_at(trace, name, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, counts);
}

static int by_time(const void *a, const void *b)
{
	const struct trace_stamp *x = a, *y = b;
	return (x->ns > y->ns) - (x->ns < y->ns);
}

int trace_write(const struct trace *trace, const char *path)
{
	struct trace sorted = *trace;
	unsigned count = trace->count < TRACE_STAMPS_MAX ? trace->count : TRACE_STAMPS_MAX;
	qsort(sorted.stamp, count, sizeof(sorted.stamp[0]), by_time);
	FILE *file = fopen(path, "we");
	if (!file)
		return -errno;
	for (unsigned i = 0; i < count; i++)
		fprintf(file, "{\"stage\":\"%s\",\"ns\":%" PRIu64 "%s}\n", sorted.stamp[i].name, sorted.stamp[i].ns,
		        sorted.stamp[i].counts);
	return fclose(file) == 0 ? 0 : -errno;
}
