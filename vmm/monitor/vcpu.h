/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's thread: runs the guest, carries out its bus accesses, and tells the machine when it ends and why. The first
 * one's sets up the VM before (machine.c).
 */
#ifndef WISP_MONITOR_VCPU_H
#define WISP_MONITOR_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "vmm/monitor/bus.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/kvm.h"
#include "vmm/monitor/kvm_arch.h"
#include "vmm/monitor/trace.h"
#include "vmm/monitor/vcpu_trace.h"

enum vcpu_end {
	VCPU_SHUTDOWN, /* the processor shut down: a triple fault */
	VCPU_ERROR,    /* KVM cannot go on; `text` says why */
};

struct vcpu {
	int fd;
	unsigned index;
	struct kvm_run *run;
	size_t run_size;
	const struct bus *memory_bus;
	const struct arch *arch;
	/* Called at most once, on the vCPU's thread, when it ends by itself. */
	void (*ended)(void *context, enum vcpu_end end, const char *text);
	void *context;
	/* Called first on the vCPU's thread; false: there is nothing to run. It may create the vCPU. NULL: nothing. */
	bool (*prepare)(void *context);
	struct trace *trace; /* NULL: not traced */
	struct vcpu_trace tracing;
	pthread_t thread;
	bool started;
	bool stop; /* atomic */
};

/* Creates the vCPU. The caller has filled in `index`, buses, `ended` and `context`. 0 or -errno with `err`. */
int vcpu_create(struct vcpu *vcpu, const struct kvm *kvm, struct err *err);

/* Records KVM's counters in vcpu->trace from now on, if it is not NULL. After vcpu_create. */
void vcpu_start_tracing(struct vcpu *vcpu);

/* Starts the thread: 0 or -errno with `err`. */
int vcpu_start(struct vcpu *vcpu, struct err *err);

/*
 * Has the thread run on another processor than the caller's, where there is one that it may use. For a thread that is
 * still to begin: there are schedulers that leave it where its parent runs, until the next balancing milliseconds
 * later.
 */
void vcpu_send_away(struct vcpu *vcpu);

/*
 * Makes the thread leave the guest for good; returns at once. Any thread but its own; not before `prepare` is over; may
 * be repeated.
 */
void vcpu_stop(struct vcpu *vcpu);

/* Waits for the thread (vcpu_stop first) and releases everything. Takes a half-created or zeroed object. */
void vcpu_destroy(struct vcpu *vcpu);

#endif
