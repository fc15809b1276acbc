/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's counters of one vCPU, which a descriptor of KVM's gives in binary form (KVM_GET_STATS_FD). */
#ifndef WISP_MONITOR_KVM_STATS_H
#define WISP_MONITOR_KVM_STATS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KVM_STATS_MAX 8u

struct kvm_stats {
	int fd; /* 0: this KVM has none */
	unsigned count;
	off_t from;                  /* where the counters begin in it */
	off_t offset[KVM_STATS_MAX]; /* from there; -1: this KVM does not have the counter */
};

/* While the vCPU does not run, because KVM answers a vCPU that runs only when it has left the guest. */
void kvm_stats_open(struct kvm_stats *stats, int vcpu_fd);

/* Finds the counters of these names, at most KVM_STATS_MAX, for kvm_stats_read. Any thread, one at a time. */
void kvm_stats_find(struct kvm_stats *stats, const char *const *names, unsigned count);

/* Reads them, whether the vCPU runs or not. A counter that KVM does not have is not `known`. */
void kvm_stats_read(const struct kvm_stats *stats, uint64_t value[KVM_STATS_MAX], bool known[KVM_STATS_MAX]);

/* Takes a zeroed object. */
void kvm_stats_close(struct kvm_stats *stats);

#endif
