/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Some hosts offer a KVM that runs guest user mode natively but emulates guest kernel mode instruction by instruction:
 * every ioctl works, and no kernel boots. No capability tells, so a loop is timed at CPL 0 in a throw-away VM: 1 ns an
 * iteration on hardware, about 10 ns nested in an emulated processor, 2300 ns there. It runs in protected mode, since
 * processors without unrestricted guests have their real mode emulated while they run kernels at full speed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cli/doctor_kvm.h"

#define ITERATIONS 20000
#define EMULATED_NS 200 /* an iteration; more than this is no hardware */
#define ROUNDS 5        /* the best one counts: others may be disturbed */
#define RAM_SIZE 0x2000
#define CODE_GPA 0x1000
#define TSS_GPA 0xfffbd000u

struct probe {
	int kvm, vm, vcpu;
	unsigned char *ram;
	struct kvm_run *run;
	size_t run_size;
	const char *what;
};

#if defined(__x86_64__)
/* mov $ITERATIONS, %ecx; 1: dec %ecx; jnz 1b; hlt */
static const unsigned char code[] = {0xb9, ITERATIONS & 0xff, ITERATIONS >> 8 & 0xff, 0, 0, 0x49, 0x75, 0xfd, 0xf4};

static int set_protected_mode(int vcpu)
{
	struct kvm_segment segment = {
	        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
	struct kvm_sregs sregs;
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.cs = segment;
	segment.type = 3;
	segment.selector = 16;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment;
	sregs.cr0 |= 1;
	return ioctl(vcpu, KVM_SET_SREGS, &sregs);
}

/* Nanoseconds of one run of the code, or -1. */
static int64_t time_loop(struct probe *probe)
{
	struct kvm_regs regs = {.rip = CODE_GPA, .rflags = 2};
	struct timespec from, to;
	if (ioctl(probe->vcpu, KVM_SET_REGS, &regs) < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		if (ioctl(probe->vcpu, KVM_RUN, 0) < 0 && errno != EINTR)
			return -1;
	} while (probe->run->exit_reason == KVM_EXIT_INTR);
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (probe->run->exit_reason != KVM_EXIT_HLT) {
		errno = EPROTO;
		return -1;
	}
	return (int64_t)(to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec;
}

static int set_up(struct probe *probe)
{
	struct kvm_userspace_memory_region region = {.memory_size = RAM_SIZE};
	probe->what = "KVM_CREATE_VM";
	if ((probe->vm = ioctl(probe->kvm, KVM_CREATE_VM, 0)) < 0)
		return -1;
	/* Intel's needs it for protected mode without paging; elsewhere it is refused or unused. */
	ioctl(probe->vm, KVM_SET_TSS_ADDR, (unsigned long)TSS_GPA);
	probe->what = "guest memory";
	void *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		return -1;
	probe->ram = ram;
	memcpy(probe->ram + CODE_GPA, code, sizeof(code));
	region.userspace_addr = (uintptr_t)ram;
	probe->what = "KVM_SET_USER_MEMORY_REGION";
	if (ioctl(probe->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -1;
	probe->what = "KVM_CREATE_VCPU";
	if ((probe->vcpu = ioctl(probe->vm, KVM_CREATE_VCPU, 0)) < 0)
		return -1;
	probe->what = "setting up a vCPU";
	int size = ioctl(probe->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(*probe->run))
		return -1;
	void *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, probe->vcpu, 0);
	if (run == MAP_FAILED)
		return -1;
	probe->run = run;
	probe->run_size = (size_t)size;
	return set_protected_mode(probe->vcpu);
}

static enum doctor_kvm run(struct probe *probe, double *ns)
{
	int64_t best = INT64_MAX;
	if (set_up(probe) < 0)
		return DOCTOR_KVM_BROKEN;
	probe->what = "KVM_RUN";
	for (int i = 0; i < ROUNDS; i++) {
		int64_t took = time_loop(probe);
		if (took < 0)
			return DOCTOR_KVM_BROKEN;
		if (took < best)
			best = took;
	}
	*ns = (double)best / ITERATIONS;
	return *ns > EMULATED_NS ? DOCTOR_KVM_EMULATED : DOCTOR_KVM_OK;
}
#else
static enum doctor_kvm run(struct probe *probe, double *ns)
{
	(void)probe;
	*ns = 0;
	return DOCTOR_KVM_OK;
}
#endif

enum doctor_kvm doctor_probe_kvm(double *ns, const char **what, int *errnum)
{
	struct probe probe = {.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), .vm = -1, .vcpu = -1, .what = "open"};
	enum doctor_kvm result;
	*ns = 0;
	if (probe.kvm < 0) {
		*what = probe.what;
		*errnum = errno;
		return errno == ENOENT                     ? DOCTOR_KVM_MISSING
		       : errno == EACCES || errno == EPERM ? DOCTOR_KVM_DENIED
		                                           : DOCTOR_KVM_BROKEN;
	}
	result = run(&probe, ns);
	*errnum = errno;
	*what = probe.what;
	if (probe.run)
		munmap(probe.run, probe.run_size);
	if (probe.ram)
		munmap(probe.ram, RAM_SIZE);
	if (probe.vcpu >= 0)
		close(probe.vcpu);
	if (probe.vm >= 0)
		close(probe.vm);
	close(probe.kvm);
	return result;
}
