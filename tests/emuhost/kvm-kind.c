/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints what /dev/kvm is good for: "hardware", "emulated" or "none" (then with
 * the reason on standard error).
 *
 * Some hosts offer a KVM without vmx or svm, which runs guest user mode natively
 * but emulates guest kernel mode instruction by instruction: no kernel boots on
 * it. No capability tells, so a loop is timed at CPL 0 in a throw-away VM: 1 ns
 * an iteration on hardware, about 10 ns under a TCG that emulates SVM, 2300 ns
 * there. The loop runs in protected mode, since processors without unrestricted
 * guests have their real mode emulated while they run kernels at full speed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ITERATIONS 20000
#define EMULATED_NS 200 /* an iteration; more than this is no hardware */
#define ROUNDS 5        /* the best one counts: others may be disturbed */
#define CODE_GPA 0x1000

/* mov $ITERATIONS, %ecx; 1: dec %ecx; jnz 1b; hlt */
static const uint8_t code[] = {
        0xb9,
        ITERATIONS & 0xff,
        ITERATIONS >> 8 & 0xff,
        0,
        0,
        0x49,
        0x75,
        0xfd,
        0xf4,
};

static int none(const char *what)
{
	fprintf(stderr, "kvm-kind: %s: %s\n", what, strerror(errno));
	puts("none");
	return 0;
}

static int set_flat_protected_mode(int vcpu)
{
	struct kvm_segment seg = {
	        .limit = 0xffffffff,
	        .selector = 8,
	        .type = 11,
	        .present = 1,
	        .db = 1,
	        .s = 1,
	        .g = 1,
	};
	struct kvm_sregs sregs;

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return -1;
	sregs.cs = seg;
	seg.type = 3;
	seg.selector = 16;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = seg;
	sregs.cr0 |= 1;
	return ioctl(vcpu, KVM_SET_SREGS, &sregs);
}

/* Returns the nanoseconds of one run of the code, or -1. */
static int64_t time_loop(int vcpu, const struct kvm_run *run)
{
	struct kvm_regs regs = {.rip = CODE_GPA, .rflags = 2};
	struct timespec from, to;

	if (ioctl(vcpu, KVM_SET_REGS, &regs))
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		if (ioctl(vcpu, KVM_RUN, 0) && errno != EINTR)
			return -1;
	} while (run->exit_reason == KVM_EXIT_INTR);
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (run->exit_reason != KVM_EXIT_HLT) {
		errno = EPROTO;
		return -1;
	}
	return (int64_t)(to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec;
}

int main(int argc, char **argv)
{
	struct kvm_userspace_memory_region region = {.memory_size = 0x2000};
	int64_t best = INT64_MAX;
	struct kvm_run *run;
	int kvm, vm, vcpu;
	uint8_t *ram;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		return none("/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return none("/dev/kvm: KVM_CREATE_VM");
	/* Intel needs it for protected mode without paging; elsewhere it is refused or unused. */
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	ram = mmap(NULL, region.memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		return none("guest memory");
	memcpy(ram + CODE_GPA, code, sizeof(code));
	region.userspace_addr = (uintptr_t)ram;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region))
		return none("/dev/kvm: KVM_SET_USER_MEMORY_REGION");
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		return none("/dev/kvm: KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED || set_flat_protected_mode(vcpu))
		return none("/dev/kvm: setting up a vCPU");

	for (int i = 0; i < ROUNDS; i++) {
		int64_t ns = time_loop(vcpu, run);

		if (ns < 0)
			return none("/dev/kvm: KVM_RUN");
		if (ns < best)
			best = ns;
	}
	if (argc > 1 && !strcmp(argv[1], "-v"))
		fprintf(stderr, "kvm-kind: %.1f ns an iteration\n", (double)best / ITERATIONS);
	puts(best > (int64_t)ITERATIONS * EMULATED_NS ? "emulated" : "hardware");
	return 0;
}
