/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int trace_add_breakpoint(struct trace *trace, const char *text, struct err *err)
{
	const char *equals = strchr(text, '=');
	char *end;
	if (!equals || equals == text || (size_t)(equals - text) >= TRACE_NAME_MAX)
		return err_set(err, EINVAL, "a breakpoint is NAME=0xADDRESS, not \"%s\"", text);
	if (trace->breakpoint_count == TRACE_BREAKPOINTS_MAX)
		return err_set(err, EINVAL, "at most %u breakpoints", TRACE_BREAKPOINTS_MAX);
	struct trace_breakpoint *b = &trace->breakpoint[trace->breakpoint_count];
	b->host = NULL;
	b->addr = strtoull(equals + 1, &end, 16);
	if (end == equals + 1 || *end != '\0')
		return err_set(err, EINVAL, "a breakpoint is NAME=0xADDRESS, not \"%s\"", text);
	memcpy(b->name, text, (size_t)(equals - text));
	trace->breakpoint_count++;
	return 0;
}

void trace_set_breakpoint(
        struct trace *trace, unsigned i, uint8_t *host, const uint8_t instruction[TRACE_INSTRUCTION_SIZE])
{
	memcpy(trace->breakpoint[i].was, host, TRACE_INSTRUCTION_SIZE);
	memcpy(host, instruction, TRACE_INSTRUCTION_SIZE);
	trace->breakpoint[i].host = host;
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
