/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage stamps of one machine, for `wisp bench`: names and times, kept in memory and written to a file at the end. A
 * machine that is not traced has no trace object: every call takes NULL and does nothing.
 *
 * Stages inside the guest's kernel are breakpoints at its symbols. Each is a port write placed in the loaded image
 * (arch_breakpoint), which leaves the guest once and is then undone. Any kernel will do, and an untraced one pays
 * nothing. KVM's own guest debugging needs features that the emulated host of the tests lacks.
 */
#ifndef WISP_MONITOR_TRACE_H
#define WISP_MONITOR_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_NAME_MAX 24u
#define TRACE_STAMPS_MAX 32u
#define TRACE_BREAKPOINTS_MAX 8u
#define TRACE_INSTRUCTION_SIZE 2u
#define TRACE_COUNTERS 7u

/* KVM's counters that a stamp records, by the names that KVM gives them. */
extern const char *const trace_counter_name[TRACE_COUNTERS];

struct trace_counts {
	bool known[TRACE_COUNTERS]; /* this KVM has the counter */
	uint64_t value[TRACE_COUNTERS];
};

/* Where stamps get their counts from. */
struct trace_source {
	void (*read)(const struct trace_source *source, struct trace_counts *counts);
};

struct trace_breakpoint {
	char name[TRACE_NAME_MAX];
	uint64_t addr;                       /* of the instruction, as the guest's kernel sees it */
	uint8_t *host;                       /* the same, in guest memory; NULL: not set, or hit already (atomic) */
	uint8_t was[TRACE_INSTRUCTION_SIZE]; /* what the breakpoint instruction replaced */
};

struct trace_stamp {
	char name[TRACE_NAME_MAX];
	uint64_t ns; /* CLOCK_MONOTONIC */
	struct trace_counts counts;
};

struct trace {
	unsigned count; /* atomic; may exceed the maximum: later stamps are lost */
	struct trace_stamp stamp[TRACE_STAMPS_MAX];
	unsigned breakpoint_count;
	struct trace_breakpoint breakpoint[TRACE_BREAKPOINTS_MAX];
	const struct trace_source *source; /* atomic; NULL: stamps have no counts */
};

/*
 * Replaces the instruction at `host`, which the guest's kernel sees at `addr`, with a breakpoint. Before the guest
 * runs; at most TRACE_BREAKPOINTS_MAX.
 */
void trace_set_breakpoint(struct trace *trace, const char *name, uint64_t addr, uint8_t *host,
        const uint8_t instruction[TRACE_INSTRUCTION_SIZE]);

/*
 * A vCPU hit a breakpoint instruction at `addr`. Returns whether the trace set it; if so, the instruction is undone and
 * the vCPU must return to it. `*name` is the breakpoint's name for the first vCPU that hits it, NULL for others. Any
 * thread.
 */
bool trace_hit(struct trace *trace, uint64_t addr, const char **name);

/* Stamps a stage now, with the counts of the trace's source, or of the given one. Any thread. */
void trace_mark(struct trace *trace, const char *name);
void trace_mark_from(struct trace *trace, const char *name, const struct trace_source *source);

/* Stamps a stage without counts: now, before the guest runs; or at `ns` of CLOCK_MONOTONIC. Any thread. */
void trace_mark_uncounted(struct trace *trace, const char *name);
void trace_mark_at(struct trace *trace, const char *name, uint64_t ns);

/* Writes one JSON line for each stamp, in the order of their times: 0 or -errno. */
int trace_write(const struct trace *trace, int dir_fd, const char *name);

#endif
