/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/vcpu.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "vmm/monitor/jail.h"
#include "vmm/monitor/thread.h"

/* Interrupts KVM_RUN. */
#define KICK_SIGNAL SIGRTMIN

#define BUS_LOCKS_PER_SECOND 1000u
#define BUS_LOCKS_BURST 100u
#define VCPU_STACK_BYTES (128u << 10)

/*
 * KVM_RUN's EAGAIN is usual, once, of a vCPU that the guest starts, and means a shortage of the host if it repeats (KVM
 * cannot create a thread of its own: a cgroup's pids.max). It is tried again for about half a second.
 */
#define RUN_TRIES 500u
#define RUN_TRIES_AT_ONCE 10u
#define RUN_PAUSE_NS 1000000

/* How long vcpu_describe waits for a vCPU, in milliseconds. */
#define DESCRIBE_MS 100u

void vcpu_start_tracing(struct vcpu *vcpu)
{
	vcpu_trace_begin(&vcpu->tracing, vcpu->trace, vcpu->fd, vcpu->index == 0);
}

int vcpu_create(struct vcpu *vcpu, const struct kvm *kvm, struct err *err)
{
	vcpu->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, vcpu->index);
	if (vcpu->fd < 0)
		return err_set(err, errno, "KVM cannot create vCPU %u: %s", vcpu->index, strerror(errno));
	vcpu->run_size = kvm->run_size;
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		return err_set(err, errno, "cannot map vCPU %u: %s", vcpu->index, strerror(errno));
	}
	/* A clone's process would keep this machine's VM alive. */
	madvise(vcpu->run, vcpu->run_size, MADV_DONTFORK);
	kvm_stats_open(&vcpu->stats, vcpu->fd);
	return 0;
}

static void end(struct vcpu *vcpu, enum vcpu_end why, const char *text)
{
	vcpu->ended(vcpu->context, why, text);
}

static void fail(struct vcpu *vcpu, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct vcpu *vcpu, const char *format, ...)
{
	char text[320];
	va_list args;
	va_start(args, format);
	size_t n = (size_t)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < sizeof(text))
		snprintf(text + n, sizeof(text) - n, " (vCPU %u at %s 0x%" PRIx64 ")", vcpu->index, kvm_arch_pc_name,
		        kvm_arch_pc(vcpu->fd));
	end(vcpu, VCPU_ERROR, text);
}

/* One exit. False when the vCPU cannot go on. */
static bool handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		bus_access(vcpu->memory_bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write);
		return true;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN: return true;
	case KVM_EXIT_NOTIFY:
		if (!(run->notify.flags & KVM_NOTIFY_CONTEXT_INVALID))
			return true;
		fail(vcpu, "the guest kept its processor from taking interrupts, and its state was lost");
		return false;
	case KVM_EXIT_SHUTDOWN:
		end(vcpu, VCPU_SHUTDOWN, "the guest's processor shut down (triple fault)");
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		fail(vcpu, "KVM cannot emulate an instruction of the guest: internal error %u", run->internal.suberror);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		fail(vcpu, "the processor refused to enter the guest: reason 0x%" PRIx64,
		        (uint64_t)run->fail_entry.hardware_entry_failure_reason);
		return false;
	default:
		if (vcpu_trace_hit(&vcpu->tracing, run) || kvm_arch_handle_exit(vcpu->arch, run))
			return true;
		fail(vcpu, "KVM left the guest for a reason that is not handled: exit %u", run->exit_reason);
		return false;
	}
}

/*
 * A lock of the memory bus stops all processors of the host for about a microsecond. Each costs the vCPU its share of a
 * second; only a burst is free. A kick ends the sleep.
 */
static void ration_bus_locks(struct vcpu *vcpu)
{
	const uint64_t share_ns = 1000000000 / BUS_LOCKS_PER_SECOND;
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	uint64_t now_ns = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
	vcpu->bus_locks_ns = (vcpu->bus_locks_ns > now_ns ? vcpu->bus_locks_ns : now_ns) + share_ns;
	uint64_t debt_ns = vcpu->bus_locks_ns - now_ns;
	if (debt_ns <= BUS_LOCKS_BURST * share_ns)
		return;
	debt_ns -= BUS_LOCKS_BURST * share_ns;
	time = (struct timespec){.tv_sec = (time_t)(debt_ns / 1000000000), .tv_nsec = (long)(debt_ns % 1000000000)};
	clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

/* KVM_RUN failed `tries` times in a row, now with `error`. False when the vCPU cannot go on. */
static bool handle_failure(struct vcpu *vcpu, int error, unsigned tries)
{
	static const struct timespec pause = {.tv_nsec = RUN_PAUSE_NS};
	if (error == EAGAIN && tries < RUN_TRIES) {
		if (tries > RUN_TRIES_AT_ONCE)
			nanosleep(&pause, NULL);
		return true;
	}
	if (error == EAGAIN)
		fail(vcpu, "KVM cannot run the guest: the host lacks a resource, such as a thread for KVM; check the "
		           "limits of processes and memory (pids.max, memory.max, ulimit -u)");
	else if (error == EFAULT)
		fail(vcpu, "KVM cannot reach the guest's memory: a file that is mapped into it, the kernel or the "
		           "snapshot, was truncated, or the host is out of memory");
	else if (error == ENOSYS) /* arm64's KVM_RUN */
		fail(vcpu, "KVM cannot emulate an instruction of the guest, which accesses an address without memory");
	else
		fail(vcpu, "KVM cannot run the guest: %s", strerror(error));
	return false;
}

/* For vcpu_describe, from time to time, and at the thread's end. */
static void record_pc(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->pc, kvm_arch_pc(vcpu->fd), __ATOMIC_RELAXED);
	__atomic_store_n(&vcpu->pc_wanted, false, __ATOMIC_RELEASE);
}

static void tell_paused(struct vcpu *vcpu, enum vcpu_state state)
{
	__atomic_store_n(&vcpu->state, state, __ATOMIC_RELEASE);
	if (vcpu->paused)
		vcpu->paused(vcpu->context);
}

static void wait_for_resume(struct vcpu *vcpu)
{
	record_pc(vcpu);
	tell_paused(vcpu, VCPU_PAUSED);
	pthread_mutex_lock(&vcpu->lock);
	while (__atomic_load_n(&vcpu->pause, __ATOMIC_SEQ_CST) && !__atomic_load_n(&vcpu->stop, __ATOMIC_SEQ_CST))
		pthread_cond_wait(&vcpu->resumed, &vcpu->lock);
	__atomic_store_n(&vcpu->state, VCPU_RUNS, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&vcpu->lock);
}

/*
 * Out of the guest by a kick. What a kick is for is looked at after immediate_exit is cleared: whoever asks for
 * something sets the request first, and immediate_exit after.
 */
static void handle_kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&vcpu->pc_wanted, __ATOMIC_SEQ_CST))
		record_pc(vcpu);
	if (__atomic_load_n(&vcpu->pause, __ATOMIC_SEQ_CST))
		wait_for_resume(vcpu);
}

static void run(struct vcpu *vcpu)
{
	bool going_on = true;
	unsigned tries = 0;
	while (going_on && !__atomic_load_n(&vcpu->stop, __ATOMIC_SEQ_CST)) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			tries = 0;
			if (kvm_arch_locked_bus(vcpu->run))
				ration_bus_locks(vcpu);
			going_on = handle_exit(vcpu);
		} else if (errno == EINTR) {
			handle_kick(vcpu);
		} else {
			going_on = handle_failure(vcpu, errno, ++tries);
		}
	}
}

static void *vcpu_thread(void *context)
{
	struct vcpu *vcpu = context;
	char name[16];
	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	prctl(PR_SET_NAME, name);
	if (vcpu->prepare && !vcpu->prepare(vcpu->context))
		return NULL;
	struct err err = {0};
	if (vcpu->jailed && jail_enter_vcpu(&err) < 0)
		fail(vcpu, "%s", err.text);
	if (vcpu->index == 0)
		vcpu_trace_mark(&vcpu->tracing, "first_run");
	__atomic_store_n(&vcpu->state, VCPU_RUNS, __ATOMIC_RELEASE);
	if (err.errnum == 0)
		run(vcpu);
	record_pc(vcpu);
	tell_paused(vcpu, VCPU_ENDED);
	return NULL;
}

int vcpu_start(struct vcpu *vcpu, struct err *err)
{
	int ret = thread_start(&vcpu->thread, VCPU_STACK_BYTES, KICK_SIGNAL, vcpu_thread, vcpu);
	if (ret != 0)
		return err_set(err, ret, "cannot start a thread for vCPU %u: %s", vcpu->index, strerror(ret));
	vcpu->started = true;
	return 0;
}

void vcpu_send_away(struct vcpu *vcpu)
{
	cpu_set_t all, others;
	if (pthread_getaffinity_np(pthread_self(), sizeof(all), &all) != 0)
		return;
	others = all;
	CPU_CLR((size_t)sched_getcpu(), &others);
	if (CPU_COUNT(&others) == 0)
		return;
	/* The first call moves it; the second lets it run wherever this thread may. */
	pthread_setaffinity_np(vcpu->thread, sizeof(others), &others);
	pthread_setaffinity_np(vcpu->thread, sizeof(all), &all);
}

/* Takes the thread out of the guest, or keeps it from entering: KVM_RUN looks at immediate_exit before it does. */
static void kick(struct vcpu *vcpu)
{
	if (vcpu->run) /* there is none if `prepare` failed */
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_stop(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	pthread_mutex_lock(&vcpu->lock);
	__atomic_store_n(&vcpu->stop, true, __ATOMIC_SEQ_CST);
	pthread_cond_signal(&vcpu->resumed);
	pthread_mutex_unlock(&vcpu->lock);
	kick(vcpu);
}

void vcpu_pause(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->pause, true, __ATOMIC_SEQ_CST);
	kick(vcpu);
}

bool vcpu_is_paused(const struct vcpu *vcpu)
{
	enum vcpu_state state = __atomic_load_n(&vcpu->state, __ATOMIC_ACQUIRE);
	return state == VCPU_PAUSED || state == VCPU_ENDED;
}

void vcpu_resume(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	__atomic_store_n(&vcpu->pause, false, __ATOMIC_SEQ_CST);
	pthread_cond_signal(&vcpu->resumed);
	pthread_mutex_unlock(&vcpu->lock);
}

/* Has the thread record its program counter. False if it does not in time. */
static bool fetch_pc(struct vcpu *vcpu)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	if (pthread_equal(pthread_self(), vcpu->thread)) {
		record_pc(vcpu);
		return true;
	}
	__atomic_store_n(&vcpu->pc_wanted, true, __ATOMIC_SEQ_CST);
	kick(vcpu);
	for (unsigned i = 0; i < DESCRIBE_MS && __atomic_load_n(&vcpu->pc_wanted, __ATOMIC_ACQUIRE); i++)
		nanosleep(&pause, NULL);
	return !__atomic_load_n(&vcpu->pc_wanted, __ATOMIC_ACQUIRE);
}

void vcpu_describe(struct vcpu *vcpu, char *to, size_t size)
{
	enum vcpu_state state = __atomic_load_n(&vcpu->state, __ATOMIC_ACQUIRE);
	if (state == VCPU_NEW)
		snprintf(to, size, "vCPU %u has not run", vcpu->index);
	else if (state == VCPU_RUNS && !fetch_pc(vcpu))
		snprintf(to, size, "vCPU %u is outside the guest and does not answer", vcpu->index);
	else
		snprintf(to, size, "vCPU %u at %s 0x%" PRIx64, vcpu->index, kvm_arch_pc_name,
		        __atomic_load_n(&vcpu->pc, __ATOMIC_RELAXED));
}

uint64_t vcpu_cpu_ns(const struct vcpu *vcpu)
{
	struct timespec time;
	clockid_t clock;
	if (!vcpu->started || pthread_getcpuclockid(vcpu->thread, &clock) != 0 || clock_gettime(clock, &time) < 0)
		return 0;
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (vcpu->started)
		pthread_join(vcpu->thread, NULL);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	vcpu_trace_end(&vcpu->tracing);
	kvm_stats_close(&vcpu->stats);
	if (vcpu->fd > 0)
		close(vcpu->fd);
	*vcpu = (struct vcpu){0};
}
