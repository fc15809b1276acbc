/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage stamps of one machine, for `wisp bench`: names and times, kept in memory and written to a file at the end. A
 * machine that is not traced has no trace object; every call takes NULL and does nothing then.
 *
 * Stages inside the guest's kernel are breakpoints at its symbols, each met once: an instruction in the loaded image
 * that leaves the guest (arch_breakpoint), and which is undone then. The kernel is any, and
 * nothing is paid when off. KVM's own guest debugging would do without, but the emulated host does not emulate what it
 * needs.
 */
#ifndef WISP_MONITOR_TRACE_H
#define WISP_MONITOR_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/monitor/err.h"

#define TRACE_NAME_MAX 24u
#define TRACE_STAMPS_MAX 32u
#define TRACE_BREAKPOINTS_MAX 8u
#define TRACE_INSTRUCTION_SIZE 2u

struct trace_breakpoint {
	char name[TRACE_NAME_MAX];
	uint64_t addr;                       /* of an instruction, as the guest's kernel sees it */
	uint8_t *host;                       /* the same, in guest memory; NULL: not set, or met already (atomic) */
	uint8_t was[TRACE_INSTRUCTION_SIZE]; /* what the breakpoint instruction replaced */
};

struct trace_stamp {
	char name[TRACE_NAME_MAX];
	uint64_t ns;      /* CLOCK_MONOTONIC */
	char counts[192]; /* ,"key":value... of the exits so far; "" where they are not known */
};

struct trace {
	unsigned count; /* atomic; may pass the maximum: later stamps are lost */
	struct trace_stamp stamp[TRACE_STAMPS_MAX];
	unsigned breakpoint_count;
	struct trace_breakpoint breakpoint[TRACE_BREAKPOINTS_MAX];
	/* Fills in the counts of marks that bring none: set while there is a vCPU whose exits can be read. */
	void (*count_exits)(void *context, char *to, size_t size);
	void *context;
};

/*
 * Replaces the instruction at `host`, which the guest's kernel sees at `addr`, by a breakpoint. Before the guest runs;
 * at most TRACE_BREAKPOINTS_MAX.
 */
void trace_set_breakpoint(struct trace *trace, const char *name, uint64_t addr, uint8_t *host,
        const uint8_t instruction[TRACE_INSTRUCTION_SIZE]);

/*
 * A vCPU met a breakpoint instruction at `addr`: true if it is one of ours. It is undone then, and the vCPU has to go
 * back to it. `*name` is its name for whoever came first, NULL for others. Any thread.
 */
bool trace_meet(struct trace *trace, uint64_t addr, const char **name);

/* At a time of CLOCK_MONOTONIC, or now. `counts` may be NULL. Any thread. */
void trace_mark_at(struct trace *trace, const char *name, uint64_t ns, const char *counts);
void trace_mark(struct trace *trace, const char *name, const char *counts);

/* One JSON line a stamp, in the order of their times; nothing of it is lost quietly: 0 or -errno. */
int trace_write(const struct trace *trace, const char *path);

#endif
