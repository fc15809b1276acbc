/* SPDX-License-Identifier: Apache-2.0 */
/* The traced side of a vCPU: KVM's statistics of it at each stage, and breakpoints in the guest's kernel. */
#ifndef WISP_MONITOR_VCPU_TRACE_H
#define WISP_MONITOR_VCPU_TRACE_H

#include <stdbool.h>

#include "vmm/monitor/kvm_stats.h"
#include "vmm/monitor/trace.h"

struct kvm_run;

struct vcpu_trace {
	struct trace_source source; /* reads this vCPU's counters */
	struct trace *trace;
	int vcpu_fd;
	struct kvm_stats stats;
};

/*
 * Finds KVM's counters of the vCPU. With `is_source`, stamps of other threads record them as well, until
 * vcpu_trace_end. Does nothing if `trace` is NULL.
 */
void vcpu_trace_begin(struct vcpu_trace *t, struct trace *trace, int vcpu_fd, bool is_source);

/* Takes a zeroed object. */
void vcpu_trace_end(struct vcpu_trace *t);

/* Stamps a stage with this vCPU's counts. Takes a zeroed object, and does nothing then. */
void vcpu_trace_mark(const struct vcpu_trace *t, const char *name);

/*
 * Whether the exit in `run` is a breakpoint of the trace. If so, it is stamped, and the vCPU continues with the
 * instruction that the breakpoint replaced. On the vCPU's thread; takes a zeroed object.
 */
bool vcpu_trace_hit(const struct vcpu_trace *t, const struct kvm_run *run);

#endif
