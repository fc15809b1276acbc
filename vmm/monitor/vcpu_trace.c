/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/vcpu_trace.h"

#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/monitor/kvm_arch.h"

/* Finds each counter's place once: a search at every stage would cost more than a stage does. */
static void find_counters(struct vcpu_trace *t)
{
	struct kvm_stats_header header;
	char all[16384]; /* KVM has some fifty descriptors: one read */
	if (t->stats_fd <= 0 || pread(t->stats_fd, &header, sizeof(header), 0) != sizeof(header))
		return;
	t->from = header.data_offset;
	size_t step = sizeof(struct kvm_stats_desc) + header.name_size;
	ssize_t size = pread(t->stats_fd, all, sizeof(all), header.desc_offset);
	for (size_t i = 0; i < header.num_desc && (ssize_t)((i + 1) * step) <= size; i++) {
		struct kvm_stats_desc desc;
		const char *name = all + i * step + sizeof(desc);
		memcpy(&desc, all + i * step, sizeof(desc));
		for (unsigned c = 0; c < TRACE_COUNTERS; c++) {
			if (strncmp(name, trace_counter_name[c], header.name_size) == 0)
				t->offset[c] = (off_t)desc.offset;
		}
	}
}

static void read_counts(const struct trace_source *source, struct trace_counts *counts)
{
	const struct vcpu_trace *t = (const struct vcpu_trace *)source; /* its first member */
	char values[4096];                                              /* KVM has some KiB of them: one read */
	ssize_t length = t->stats_fd > 0 ? pread(t->stats_fd, values, sizeof(values), t->from) : 0;
	for (unsigned c = 0; c < TRACE_COUNTERS; c++) {
		off_t end = t->offset[c] + (off_t)sizeof(counts->value[c]);
		counts->known[c] = t->offset[c] >= 0 && end <= length;
		if (counts->known[c])
			memcpy(&counts->value[c], values + t->offset[c], sizeof(counts->value[c]));
	}
}

void vcpu_trace_begin(struct vcpu_trace *t, struct trace *trace, int vcpu_fd, bool is_source)
{
	if (!trace)
		return;
	int fd = ioctl(vcpu_fd, KVM_GET_STATS_FD, NULL);
	*t = (struct vcpu_trace){
	        .source.read = read_counts, .trace = trace, .vcpu_fd = vcpu_fd, .stats_fd = fd > 0 ? fd : 0};
	for (unsigned c = 0; c < TRACE_COUNTERS; c++)
		t->offset[c] = -1;
	find_counters(t);
	if (is_source)
		__atomic_store_n(&trace->source, &t->source, __ATOMIC_RELEASE);
}

void vcpu_trace_end(struct vcpu_trace *t)
{
	if (t->trace && t->trace->source == &t->source)
		__atomic_store_n(&t->trace->source, NULL, __ATOMIC_RELEASE);
	if (t->stats_fd > 0)
		close(t->stats_fd);
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
