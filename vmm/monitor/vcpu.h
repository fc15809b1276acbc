/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's thread: runs the guest, carries out its bus accesses, and tells the machine when and why it ends. The first
 * vCPU's thread sets up the VM before that (machine.c).
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
#include "vmm/monitor/kvm_stats.h"
#include "vmm/monitor/trace.h"
#include "vmm/monitor/vcpu_trace.h"

enum vcpu_end {
	VCPU_SHUTDOWN, /* the processor shut down: a triple fault */
	VCPU_ERROR,    /* KVM cannot go on; `text` says why */
};

enum vcpu_state { VCPU_NEW, VCPU_RUNS, VCPU_PAUSED, VCPU_ENDED };

struct vcpu {
	int fd;
	unsigned index;
	struct kvm_run *run;
	size_t run_size;
	const struct bus *memory_bus;
	const struct arch *arch;
	/* Called at most once, on the vCPU's thread, when it ends by itself. */
	void (*ended)(void *context, enum vcpu_end end, const char *text);
	/* Called on the vCPU's thread when it has paused, and when it ends. May be NULL. */
	void (*paused)(void *context);
	void *context;
	/* Called first on the vCPU's thread, and may create the vCPU; false: there is nothing to run. May be NULL. */
	bool (*prepare)(void *context);
	struct trace *trace; /* NULL: not traced */
	bool jailed;         /* the thread calls jail_enter_vcpu before it runs the guest */
	struct vcpu_trace tracing;
	struct kvm_stats stats;
	uint64_t bus_locks_ns; /* its locks of the memory bus are paid for until then: CLOCK_MONOTONIC */
	pthread_t thread;
	bool started;
	bool stop;            /* atomic */
	bool pause;           /* atomic: the thread is to stay outside the guest */
	pthread_mutex_t lock; /* with `resumed`, for a thread that has paused */
	pthread_cond_t resumed;
	enum vcpu_state state; /* atomic; of the thread, once `prepare` is over */
	bool pc_wanted;        /* atomic: the thread is to record `pc` */
	uint64_t pc;           /* atomic */
};

/* Creates the vCPU. The caller has filled in `index`, the lock, buses, `ended` and `context`. 0 or -errno with `err`.
 */
int vcpu_create(struct vcpu *vcpu, const struct kvm *kvm, struct err *err);

/* Records KVM's counters in vcpu->trace from now on, if it is not NULL. After vcpu_create. */
void vcpu_start_tracing(struct vcpu *vcpu);

/* Starts the thread: 0 or -errno with `err`. */
int vcpu_start(struct vcpu *vcpu, struct err *err);

/*
 * Moves the thread to a processor other than the caller's, if there is one that it may use. For a thread that has not
 * begun to run: some schedulers leave it on its parent's processor until they balance the load, milliseconds later.
 */
void vcpu_send_away(struct vcpu *vcpu);

/*
 * Makes the thread leave the guest for good; returns at once. Any thread but its own, after `prepare` is over. May be
 * repeated.
 */
void vcpu_stop(struct vcpu *vcpu);

/*
 * Makes the thread leave the guest, with every exit carried out and completed, and wait. vcpu_pause returns at once;
 * vcpu_is_paused tells when it is so, and `paused` when to look. Then KVM's state of the vCPU may be read. Any thread
 * but its own, after vcpu_start.
 */
void vcpu_pause(struct vcpu *vcpu);
bool vcpu_is_paused(const struct vcpu *vcpu);
void vcpu_resume(struct vcpu *vcpu);

/*
 * Writes where the vCPU is, for a message: "vCPU 0 at rip 0xffffffff81000123". The guest is interrupted and continues.
 * Waits for at most a tenth of a second. Any thread, after vcpu_start and before vcpu_destroy; one at a time.
 */
void vcpu_describe(struct vcpu *vcpu, char *to, size_t size);

/* The processor time of the thread, the guest's included, in nanoseconds. Any thread, before vcpu_destroy. */
uint64_t vcpu_cpu_ns(const struct vcpu *vcpu);

/* Waits for the thread (vcpu_stop first) and releases everything. Takes a half-created or zeroed object. */
void vcpu_destroy(struct vcpu *vcpu);

#endif
