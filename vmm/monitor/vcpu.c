/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/vcpu.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Interrupts KVM_RUN and system calls; its handler does nothing. */
#define KICK_SIGNAL SIGRTMIN

#define VCPU_STACK_BYTES (128u << 10)

static void on_kick(int signal)
{
	(void)signal;
}

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
	return 0;
}

static void end(struct vcpu *vcpu, enum vcpu_end why, const char *text)
{
	vcpu->ended(vcpu->context, why, text);
}

/* One exit. False when the vCPU cannot go on. */
static bool handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	char text[160];
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		bus_access(vcpu->memory_bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write);
		return true;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN: return true;
	case KVM_EXIT_SHUTDOWN:
		end(vcpu, VCPU_SHUTDOWN, "the guest's processor shut down (triple fault)");
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(text, sizeof(text),
		        "KVM cannot emulate an instruction of the guest (internal error %u, vCPU %u at 0x%" PRIx64 ")",
		        run->internal.suberror, vcpu->index, kvm_arch_pc(vcpu->fd));
		end(vcpu, VCPU_ERROR, text);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(text, sizeof(text), "the processor refused to enter the guest (reason 0x%" PRIx64 ", vCPU %u)",
		        (uint64_t)run->fail_entry.hardware_entry_failure_reason, vcpu->index);
		end(vcpu, VCPU_ERROR, text);
		return false;
	default:
		if (vcpu_trace_hit(&vcpu->tracing, run) || kvm_arch_handle_exit(vcpu->arch, run))
			return true;
		snprintf(text, sizeof(text), "vCPU %u left the guest for a reason that is not handled (KVM exit %u)",
		        vcpu->index, run->exit_reason);
		end(vcpu, VCPU_ERROR, text);
		return false;
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
	if (vcpu->index == 0)
		vcpu_trace_mark(&vcpu->tracing, "first_run");
	while (!__atomic_load_n(&vcpu->stop, __ATOMIC_ACQUIRE)) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			char text[128];
			snprintf(text, sizeof(text), "KVM cannot run vCPU %u: %s", vcpu->index, strerror(errno));
			end(vcpu, VCPU_ERROR, text);
			break;
		}
		if (!handle_exit(vcpu))
			break;
	}
	return NULL;
}

int vcpu_start(struct vcpu *vcpu, struct err *err)
{
	struct sigaction action = {.sa_handler = on_kick};
	sigset_t all, old;
	pthread_attr_t attributes;
	sigaction(KICK_SIGNAL, &action, NULL);
	/* The thread takes no signal but the kick: the others are the main thread's. */
	sigfillset(&all);
	sigdelset(&all, KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	/* Not the default 8 MiB: nothing here goes deep, and of a large stack the kernel may make a huge page. */
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, VCPU_STACK_BYTES);
	int ret = pthread_create(&vcpu->thread, &attributes, vcpu_thread, vcpu);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
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
	/* The first moves it, and by the second it may go wherever this thread may now. */
	pthread_setaffinity_np(vcpu->thread, sizeof(others), &others);
	pthread_setaffinity_np(vcpu->thread, sizeof(all), &all);
}

void vcpu_stop(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	__atomic_store_n(&vcpu->stop, true, __ATOMIC_RELEASE);
	/* Seen by the next KVM_RUN even when the signal comes just before it. None is there where `prepare` failed. */
	if (vcpu->run)
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
	pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (vcpu->started)
		pthread_join(vcpu->thread, NULL);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	vcpu_trace_end(&vcpu->tracing);
	if (vcpu->fd > 0)
		close(vcpu->fd);
	*vcpu = (struct vcpu){0};
}
