/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stages of a sandbox's life. A run of a sandbox is a sample: when it reached each stage, on one clock
 * (CLOCK_MONOTONIC), whether the library, the monitor, the guest's kernel or the agent reached it.
 */
#ifndef WISP_BENCH_STAGES_H
#define WISP_BENCH_STAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bench_stage {
	BENCH_CREATE,
	BENCH_SPAWN,
	BENCH_MAIN,
	BENCH_MEMORY_RESTORED, /* of a sandbox from a snapshot, or a clone */
	BENCH_MEMORY_MAPPED,
	BENCH_DEVICES_CREATED,
	BENCH_KERNEL_LOADED,
	BENCH_VM_CREATED,
	BENCH_VCPU_READY,
	BENCH_FIRST_RUN,
	BENCH_SIGNAL, /* of the payload of wisp bench floor */
	BENCH_START_KERNEL,
	BENCH_REST_INIT,
	BENCH_INITCALLS,
	BENCH_FREE_INITMEM,
	BENCH_INIT_EXEC,
	BENCH_INIT_ENTERED,
	BENCH_AGENT_SERVES,
	BENCH_READY,
	BENCH_FIRST_BYTE,
	BENCH_EXITED,
	BENCH_ENDED,
	BENCH_TORN_DOWN,
	BENCH_GONE,
	BENCH_STAGES,
};

enum bench_owner {
	BENCH_LIBRARY,
	BENCH_MONITOR,
	BENCH_KERNEL,
	BENCH_AGENT,
	BENCH_COMMAND,
	BENCH_TEARDOWN,
	BENCH_OWNERS
};

struct bench_stage_info {
	const char *name;
	const char *what; /* the work that ends when the stage is reached */
	enum bench_owner owner;
};
extern const struct bench_stage_info bench_stages[BENCH_STAGES];
extern const char *const bench_owners[BENCH_OWNERS];

/* From one stage to another. */
struct bench_span_info {
	const char *name, *what;
	enum bench_stage from, to;
};
#define BENCH_SPANS 7u
extern const struct bench_span_info bench_spans[BENCH_SPANS];

#define BENCH_COUNTERS 7u
extern const char *const bench_counters[BENCH_COUNTERS];

struct bench_sample {
	size_t run;                /* from 1 */
	uint64_t at[BENCH_STAGES]; /* ns of CLOCK_MONOTONIC; 0: not reached, or unknown */
	bool counted[BENCH_STAGES];
	uint64_t counts[BENCH_STAGES][BENCH_COUNTERS]; /* KVM's exits until the stage was reached */
};

/* Reads the monitor's trace into *sample. Ignores unknown stages. False if a line is not part of a trace. */
bool bench_parse_trace(const char *text, struct bench_sample *sample);
/* When the first stage of the sample was reached. */
uint64_t bench_begin(const struct bench_sample *sample);
/* How long a stage took, from the latest one before it. -1 if it was not reached, or is the first. */
int64_t bench_took(const struct bench_sample *sample, enum bench_stage stage);
int64_t bench_span(const struct bench_sample *sample, const struct bench_span_info *span); /* or -1 */
/* The exits of one kind since the previous stage that has counts, or -1. */
int64_t bench_exits(const struct bench_sample *sample, enum bench_stage stage, size_t counter);

/* Breakpoints, as "NAME=0xADDRESS", of the stages whose symbol is in the text of System.map. Ended by NULL. */
#define BENCH_BREAKPOINTS 5u
struct bench_breakpoints {
	char text[BENCH_BREAKPOINTS][64];
	const char *list[BENCH_BREAKPOINTS + 1];
};
size_t bench_find_breakpoints(const char *map, struct bench_breakpoints *breakpoints);

#endif
