/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/vcpu_trace.h"

#include "vmm/monitor/kvm_arch.h"

_Static_assert(TRACE_COUNTERS <= KVM_STATS_MAX, "a place for every counter");

static void read_counts(const struct trace_source *source, struct trace_counts *counts)
{
	const struct vcpu_trace *t = (const struct vcpu_trace *)source; /* its first member */
	uint64_t value[KVM_STATS_MAX];
	bool known[KVM_STATS_MAX];
	kvm_stats_read(&t->stats, value, known);
	for (unsigned c = 0; c < TRACE_COUNTERS; c++) {
		counts->known[c] = known[c];
		counts->value[c] = value[c];
	}
}

void vcpu_trace_begin(struct vcpu_trace *t, struct trace *trace, int vcpu_fd, bool is_source)
{
	if (!trace)
		return;
	*t = (struct vcpu_trace){.source.read = read_counts, .trace = trace, .vcpu_fd = vcpu_fd};
	kvm_stats_open(&t->stats, vcpu_fd);
	kvm_stats_find(&t->stats, trace_counter_name, TRACE_COUNTERS);
	if (is_source)
		__atomic_store_n(&trace->source, &t->source, __ATOMIC_RELEASE);
}

void vcpu_trace_end(struct vcpu_trace *t)
{
	if (t->trace && t->trace->source == &t->source)
		__atomic_store_n(&t->trace->source, NULL, __ATOMIC_RELEASE);
	kvm_stats_close(&t->stats);
	*t = (struct vcpu_trace){0};
}

void vcpu_trace_mark(const struct vcpu_trace *t, const char *name)
{
	trace_mark_from(t->trace, name, &t->source);
}

bool vcpu_trace_hit(const struct vcpu_trace *t, const struct kvm_run *run)
{
	uint64_t addr = t->trace ? kvm_arch_breakpoint(run, t->vcpu_fd) : 0;
	const char *name;
	if (addr == 0 || !trace_hit(t->trace, addr, &name))
		return false;
	if (name)
		vcpu_trace_mark(t, name);
	return kvm_arch_go_to(t->vcpu_fd, addr) == 0;
}
