/* SPDX-License-Identifier: Apache-2.0 */
/* What the host offers to sandboxes: wisp_check_host. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/lib/pack.h"
#include "vmm/lib/lib.h"
#include "vmm/shared/engine.h"

/* ---- KVM ---- */

/*
 * Some hosts offer a KVM that runs guest user mode natively but emulates guest kernel mode instruction by instruction:
 * every ioctl works, and no kernel boots. No capability reveals it, so a loop is timed in kernel mode in a throw-away
 * VM. An iteration takes 1 ns on hardware, about 10 ns nested in an emulated processor, and 2300 ns on such a host. On
 * x86 the loop runs in protected mode: processors without unrestricted guests emulate real mode but run kernels at full
 * speed.
 */
#define ITERATIONS 20000
#define EMULATED_NS 200 /* an iteration that takes longer does not run on hardware */
#define ROUNDS 5        /* the shortest counts: an interrupt may lengthen the others */
#define RAM_SIZE 0x2000
#define CODE_GPA 0x1000

struct probe {
	int kvm, vm, vcpu;
	unsigned char *ram;
	struct kvm_run *run;
	size_t run_size;
	const char *what;
};

#if defined(__x86_64__)
#define TSS_GPA 0xfffbd000u
#define END_OF_LOOP KVM_EXIT_HLT
/* mov $ITERATIONS, %ecx; 1: dec %ecx; jnz 1b; hlt */
static const unsigned char code[] = {0xb9, ITERATIONS & 0xff, ITERATIONS >> 8 & 0xff, 0, 0, 0x49, 0x75, 0xfd, 0xf4};

static int set_processor(struct probe *probe)
{
	struct kvm_segment segment = {
	        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
	struct kvm_sregs sregs;
	if (ioctl(probe->vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.cs = segment;
	segment.type = 3;
	segment.selector = 16;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment;
	sregs.cr0 |= 1;
	return ioctl(probe->vcpu, KVM_SET_SREGS, &sregs);
}

static int set_start(const struct probe *probe)
{
	struct kvm_regs regs = {.rip = CODE_GPA, .rflags = 2};
	return ioctl(probe->vcpu, KVM_SET_REGS, &regs);
}
#elif defined(__aarch64__)
#define END_OF_LOOP KVM_EXIT_MMIO
/* From the second round on, KVM first steps over the store of the round before: to the next instruction from the start.
 */
static const uint32_t code[] = {
        0xd503201f,                   /*    nop */
        0xd2800000 | ITERATIONS << 5, /*    mov x0, #ITERATIONS */
        0xf1000400,                   /* 1: subs x0, x0, #1 */
        0x54ffffe1,                   /*    b.ne 1b */
        0xd2a20001,                   /*    mov x1, #0x10000000, where nothing is */
        0xb900003f,                   /*    str wzr, [x1] */
};

static int set_processor(struct probe *probe)
{
	struct kvm_vcpu_init init;
	if (ioctl(probe->vm, KVM_ARM_PREFERRED_TARGET, &init) < 0)
		return -1;
	return ioctl(probe->vcpu, KVM_ARM_VCPU_INIT, &init);
}

static int set_start(const struct probe *probe)
{
	const uint64_t start = CODE_GPA;
	struct kvm_one_reg pc = {.addr = (uintptr_t)&start,
	        .id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
	              offsetof(struct kvm_regs, regs.pc) / sizeof(uint32_t)};
	return ioctl(probe->vcpu, KVM_SET_ONE_REG, &pc);
}
#endif

/* How many nanoseconds one run of the code takes, or -1. */
static int64_t time_loop(struct probe *probe)
{
	struct timespec from, to;
	if (set_start(probe) < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		if (ioctl(probe->vcpu, KVM_RUN, 0) < 0 && errno != EINTR)
			return -1;
	} while (probe->run->exit_reason == KVM_EXIT_INTR);
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (probe->run->exit_reason != END_OF_LOOP) {
		errno = EPROTO;
		return -1;
	}
	return (to.tv_sec - from.tv_sec) * NS_PER_S + to.tv_nsec - from.tv_nsec;
}

static int set_up(struct probe *probe)
{
	struct kvm_userspace_memory_region region = {.memory_size = RAM_SIZE};
	probe->what = "KVM_CREATE_VM";
	if ((probe->vm = ioctl(probe->kvm, KVM_CREATE_VM, 0)) < 0)
		return -1;
#if defined(__x86_64__)
	/* Intel processors need it for protected mode without paging; others refuse or ignore it. */
	ioctl(probe->vm, KVM_SET_TSS_ADDR, (unsigned long)TSS_GPA);
#endif
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
	if (size < (int)sizeof(*probe->run)) {
		errno = size < 0 ? errno : EPROTO;
		return -1;
	}
	void *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, probe->vcpu, 0);
	if (run == MAP_FAILED)
		return -1;
	probe->run = run;
	probe->run_size = (size_t)size;
	return set_processor(probe);
}

static enum wisp_kvm_state run(struct probe *probe, double *ns)
{
	int64_t best = INT64_MAX;
	if (set_up(probe) < 0)
		return WISP_KVM_BROKEN;
	probe->what = "KVM_RUN";
	for (int i = 0; i < ROUNDS; i++) {
		int64_t took = time_loop(probe);
		if (took < 0)
			return WISP_KVM_BROKEN;
		if (took < best)
			best = took;
	}
	*ns = (double)best / ITERATIONS;
	return *ns > EMULATED_NS ? WISP_KVM_EMULATED : WISP_KVM_OK;
}

static void check_kvm(struct wisp_host_info *info)
{
	struct probe probe = {.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), .vm = -1, .vcpu = -1, .what = "open"};
	if (probe.kvm >= 0)
		info->kvm = run(&probe, &info->kvm_loop_ns);
	else if (errno == ENOENT)
		info->kvm = WISP_KVM_MISSING;
	else
		info->kvm = errno == EACCES || errno == EPERM ? WISP_KVM_DENIED : WISP_KVM_BROKEN;
	if (info->kvm != WISP_KVM_OK && info->kvm != WISP_KVM_EMULATED) {
		info->kvm_errnum = errno;
		info->kvm_failed = probe.what;
	}
	if (probe.run)
		munmap(probe.run, probe.run_size);
	if (probe.ram)
		munmap(probe.ram, RAM_SIZE);
	if (probe.vcpu >= 0)
		close(probe.vcpu);
	if (probe.vm >= 0)
		close(probe.vm);
	if (probe.kvm >= 0)
		close(probe.kvm);
}

/* ---- The rest ---- */

static enum wisp_io_uring_state check_io_uring(void)
{
	switch (uring_probe()) {
	case 0: return WISP_IO_URING_OK;
	case -ENOSYS: return WISP_IO_URING_MISSING;
	case -EINVAL: return WISP_IO_URING_OLD;
	default: return WISP_IO_URING_DENIED;
	}
}

static uint64_t available_memory_mib(void)
{
	char line[256];
	unsigned long long kib = 0;
	FILE *meminfo = fopen("/proc/meminfo", "re");
	while (meminfo && fgets(line, sizeof(line), meminfo) && sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
		;
	if (meminfo)
		fclose(meminfo);
	return kib / 1024;
}

int wisp_check_host(struct wisp_host_info *info, struct wisp_error *error)
{
	struct wisp_host_info found = {.kvm_failed = ""};
	if (!info || info->size < sizeof(info->size) || info->size > 65536)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "struct wisp_host_info: it is NULL, or its size is not set: set size to sizeof the structure");
	found.size = info->size;
	check_kvm(&found);
	found.io_uring = check_io_uring();
	found.memory_available_mib = available_memory_mib();
	found.mksquashfs = pack_find();
	/* A newer version of the structure has fields that this one does not know. They become zero. */
	memset(info, 0, found.size);
	memcpy(info, &found, found.size < sizeof(found) ? found.size : sizeof(found));
	return 0;
}
