/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/jail_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define LOOP JAIL_LOOP
#define BOTH (JAIL_LOOP | JAIL_VCPU)
#define CALL(name, threads)                         \
	{                                           \
		SYS_##name, threads, JAIL_ANY, 0, 0 \
	}
#define IOCTL(request, threads)                                     \
	{                                                           \
		SYS_ioctl, threads, JAIL_IS, 1, (uint32_t)(request) \
	}

/* Namespaces are the kernel's widest door for a process without privileges. CLONE_NEWTIME is only for clone3. */
#define CLONE_NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* SIGRTMIN, which takes vCPUs out of the guest (vcpu.c). Each libc keeps the first real-time signals to itself. */
#define KICK_MUSL 35
#define KICK_GLIBC 34

const struct jail_rule jail_rules[] = {
        /* --- KVM, disks --- */
        IOCTL(KVM_RUN, BOTH),             /* BOTH, here and below: a vCPU's thread starts with the loop's filter */
        IOCTL(KVM_GET_API_VERSION, LOOP), /* a clone opens /dev/kvm anew */
        IOCTL(KVM_GET_VCPU_MMAP_SIZE, LOOP),
        IOCTL(KVM_CREATE_VM, LOOP),
        IOCTL(KVM_CHECK_EXTENSION, LOOP),
        IOCTL(KVM_ENABLE_CAP, LOOP),
        IOCTL(KVM_CREATE_VCPU, LOOP),
        IOCTL(KVM_SET_USER_MEMORY_REGION, LOOP),
        IOCTL(KVM_IRQFD, LOOP),
        IOCTL(KVM_IOEVENTFD, LOOP),
        IOCTL(KVM_GET_STATS_FD, LOOP),    /* of a traced machine */
        IOCTL(KVM_SET_GSI_ROUTING, BOTH), /* the guest wrote to the I/O APIC */
        IOCTL(KVM_GET_REGS, BOTH),        /* where the guest is, for messages and breakpoints */
        IOCTL(KVM_SET_REGS, BOTH),        /* past a breakpoint */
        IOCTL(KVM_GET_MP_STATE, LOOP),    /* from here on: snapshots */
        IOCTL(KVM_SET_MP_STATE, LOOP),
        IOCTL(KVM_GET_CLOCK, LOOP),
        IOCTL(KVM_SET_CLOCK, LOOP),
        IOCTL(KVM_GET_VCPU_EVENTS, LOOP),
        IOCTL(KVM_SET_VCPU_EVENTS, LOOP),
        IOCTL(BLKGETSIZE64, LOOP), /* of a disk that is a block device */
        IOCTL(BLKSSZGET, LOOP),
        IOCTL(TIOCGWINSZ, LOOP), /* musl asks it of every file that fdopen opens: the trace */

        /* --- the loop --- */
        CALL(io_uring_enter, LOOP),
        CALL(io_uring_setup, LOOP),    /* a clone's ring */
        CALL(io_uring_register, LOOP), /* its restrictions; afterwards the ring refuses all of them */

        /* --- descriptors --- */
        CALL(write, BOTH), /* eventfds: interrupts, and to wake the loop */
        CALL(read, BOTH),
        CALL(writev, BOTH), /* logs, which vCPUs write too: the serial console, the reason of an end */
        CALL(readv, LOOP),
        CALL(pread64, BOTH), /* a vCPU reads KVM's counters for the trace */
        CALL(pwrite64, LOOP),
        CALL(lseek, LOOP),
        CALL(close, BOTH),
        CALL(close_range, LOOP), /* a clone closes its source's */
        CALL(eventfd2, LOOP),
        CALL(pipe2, LOOP), /* from the process that writes a snapshot */
        {SYS_fcntl, LOOP, JAIL_IS, 1, F_DUPFD},
        CALL(signalfd4, LOOP),
        CALL(timerfd_create, LOOP), /* of a clone, whose guest follows the host's clock, too */
        CALL(timerfd_settime, LOOP),
        CALL(pidfd_open, LOOP),                 /* of the owner, to see it end */
        {SYS_fcntl, LOOP, JAIL_IS, 1, F_SETLK}, /* the lock that shows the monitor's pid */
        {SYS_fcntl, BOTH, JAIL_IS, 1, F_SETFD}, /* musl's open */
        {SYS_fcntl, LOOP, JAIL_IS, 1, F_GETFL}, /* fdopen, as the next */
        {SYS_fcntl, LOOP, JAIL_IS, 1, F_SETFL},

        /* --- files: which ones is for Landlock to say. vCPUs rotate logs. --- */
        CALL(openat, BOTH),
        CALL(newfstatat, BOTH), /* a vCPU's: tests/faults looks at what descriptors are */
        CALL(fstat, BOTH),      /* a vCPU's: whether the file behind its memory was cut */
        CALL(ftruncate, BOTH),
        CALL(fchmod, LOOP),
        CALL(linkat, BOTH),
        CALL(renameat, BOTH),
        CALL(unlinkat, BOTH),
        CALL(getdents64, LOOP), /* the directory is emptied at the end */
        CALL(fchdir, LOOP),     /* a clone enters its own directory */

        /* --- sockets --- */
        {SYS_socket, LOOP, JAIL_IS, 0, AF_UNIX},
        CALL(bind, LOOP),
        CALL(listen, LOOP),
        CALL(accept4, LOOP),
        CALL(getsockname, LOOP), /* where the ports are that lead to the guest */
        CALL(connect, LOOP),     /* the guest connects to a port of the host */
        CALL(sendto, BOTH),      /* a vCPU's: the last word of a refused call (jail.c) */
        CALL(sendmsg, LOOP),
        CALL(recvfrom, LOOP),
        CALL(recvmsg, LOOP),
        CALL(shutdown, LOOP),
        CALL(getsockopt, LOOP), /* who the owner is */

        /* --- memory: never executable --- */
        {SYS_mmap, BOTH, JAIL_LACKS, 2, PROT_EXEC}, /* a vCPU's: libc's malloc */
        {SYS_mprotect, BOTH, JAIL_LACKS, 2, PROT_EXEC},
        CALL(munmap, BOTH), /* a thread unmaps its own stack at its end */
        CALL(mremap, LOOP), /* a file's pages become the guest's */
        CALL(madvise, BOTH),
        CALL(mincore, LOOP), /* what a snapshot's memory has in it, before it is copied */
        CALL(brk, BOTH),

        /* --- threads, and clones, which are forks --- */
        CALL(futex, BOTH),
        {SYS_clone, LOOP, JAIL_LACKS, 0, CLONE_NAMESPACES},
        {SYS_clone3, LOOP, JAIL_MISSING, 0, 0}, /* its flags are in memory; glibc then takes clone */
        CALL(setsid, LOOP),
        CALL(set_tid_address, LOOP),
        CALL(set_robust_list, BOTH),
        CALL(rseq, BOTH), /* glibc */
        CALL(exit, BOTH),
        CALL(exit_group, BOTH),
        CALL(getpid, BOTH),
        CALL(gettid, BOTH),
        CALL(getppid, LOOP),
        CALL(sched_getaffinity, LOOP), /* the first vCPU starts on another processor than the loop */
        CALL(sched_setaffinity, LOOP),
        CALL(getcpu, LOOP),
        CALL(sched_yield, BOTH),
        {SYS_prctl, BOTH, JAIL_IS, 0, PR_SET_NAME},
        {SYS_prctl, BOTH, JAIL_IS, 0, PR_GET_NAME},
        {SYS_prctl, LOOP, JAIL_IS, 0, 62 /* PR_SCHED_CORE */},    /* a clone's cookie */
        {SYS_prctl, LOOP, JAIL_IS, 0, PR_SET_PDEATHSIG},          /* of the process that writes a snapshot */
        {SYS_seccomp, LOOP, JAIL_IS, 0, SECCOMP_SET_MODE_FILTER}, /* a vCPU's thread adds its own filter */

        /* --- signals: not to other processes, and not the one that says what was refused --- */
        {SYS_tkill, BOTH, JAIL_IS, 1, SIGABRT}, /* abort() */
        {SYS_tkill, LOOP, JAIL_IS, 1, SIGUSR2}, /* to the console's copy (echo.c) */
        {SYS_tkill, LOOP, JAIL_IS, 1, KICK_MUSL},
        {SYS_tgkill, BOTH, JAIL_IS, 2, SIGABRT}, /* the same with glibc */
        {SYS_tgkill, LOOP, JAIL_IS, 2, SIGUSR2},
        {SYS_tgkill, LOOP, JAIL_IS, 2, KICK_GLIBC},
        {SYS_rt_sigaction, BOTH, JAIL_NOT, 0, SIGSYS},
        CALL(rt_sigprocmask, BOTH),
        CALL(rt_sigreturn, BOTH),
        CALL(restart_syscall, BOTH),

        /* --- time, random numbers --- */
        CALL(nanosleep, BOTH),
        CALL(clock_nanosleep, BOTH),
        CALL(clock_gettime, BOTH), /* a host without a vDSO clock */
        CALL(getrandom, LOOP),
};
const size_t jail_rule_count = sizeof(jail_rules) / sizeof(jail_rules[0]);

/*
 * What a busy guest causes is tested before all others. ioctl comes first: since Linux 5.11, the kernel remembers the
 * numbers that are always allowed, and runs the program only for calls whose arguments matter.
 */
static const uint32_t hot[] = {SYS_ioctl, SYS_io_uring_enter, SYS_write, SYS_read};
#define HOT_COUNT (sizeof(hot) / sizeof(hot[0]))

#define NUMBERS 512u /* of system calls; those of all rules are below */
#define RULES_OF_CALL_MAX 64u

enum outcome {
	REFUSED = 0,
	ALLOWED,
	DEPENDS, /* on an argument, or the call fails with ENOSYS */
};

/* Numbers with the same outcome, up to the start of the next range. Each that DEPENDS is a range of its own. */
struct range {
	uint16_t start;
	uint8_t outcome;
};

struct builder {
	enum jail_thread thread;
	struct sock_filter *program;
	size_t count; /* above JAIL_FILTER_MAX: the program cannot be built */
};

static void add(struct builder *b, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	if (b->count < JAIL_FILTER_MAX)
		b->program[b->count] = (struct sock_filter){code, jt, jf, k};
	b->count++;
}

static void load(struct builder *b, size_t offset)
{
	add(b, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void finish(struct builder *b, uint32_t action)
{
	add(b, BPF_RET | BPF_K, 0, 0, action);
}

/* The distance of a jump from the instruction at `from` to what is added next. */
static uint8_t distance(struct builder *b, size_t from)
{
	size_t skipped = b->count - from - 1;
	if (skipped > UINT8_MAX)
		b->count = JAIL_FILTER_MAX + 1;
	return (uint8_t)skipped;
}

/* The rules of both tables, one after the other; NULL behind the last one. */
static const struct jail_rule *rule_at(size_t i)
{
	if (i < jail_rule_count)
		return &jail_rules[i];
	i -= jail_rule_count;
	return i < jail_arch_rule_count ? &jail_arch_rules[i] : NULL;
}

static enum outcome outcome_of(const struct jail_rule *rule)
{
	return rule->test == JAIL_ANY ? ALLOWED : DEPENDS;
}

static size_t find_rules(enum jail_thread thread, uint32_t number, const struct jail_rule *found[RULES_OF_CALL_MAX])
{
	const struct jail_rule *rule;
	size_t count = 0;
	for (size_t i = 0; (rule = rule_at(i)) && count < RULES_OF_CALL_MAX; i++) {
		if (rule->number == number && rule->threads & thread)
			found[count++] = rule;
	}
	return count;
}

/* Decides about a call that has rules. Any test that holds jumps to the last instruction, which allows the call. */
static void add_call(struct builder *b, uint32_t number)
{
	const struct jail_rule *found[RULES_OF_CALL_MAX];
	size_t count = find_rules(b->thread, number, found);
	if (found[0]->test == JAIL_ANY || found[0]->test == JAIL_MISSING) {
		finish(b, found[0]->test == JAIL_ANY ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | ENOSYS);
		return;
	}
	load(b, offsetof(struct seccomp_data, args) + 8 * found[0]->argument);
	for (size_t i = 0; i < count; i++) {
		uint8_t allow = (uint8_t)(count - i);
		bool wanted = found[i]->test == JAIL_IS;
		add(b, BPF_JMP | BPF_K | (found[i]->test == JAIL_LACKS ? BPF_JSET : BPF_JEQ), wanted ? allow : 0,
		        wanted ? 0 : allow, found[i]->value);
	}
	finish(b, SECCOMP_RET_TRAP);
	finish(b, SECCOMP_RET_ALLOW);
}

static void add_hot(struct builder *b)
{
	const struct jail_rule *found[RULES_OF_CALL_MAX];
	for (size_t i = 0; i < HOT_COUNT; i++) {
		size_t test = b->count;
		if (find_rules(b->thread, hot[i], found) == 0)
			continue;
		add(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, hot[i]);
		add_call(b, hot[i]);
		b->program[test].jf = distance(b, test);
	}
}

/* Without the hot calls, which never get so far. Returns the number of ranges. */
static size_t make_ranges(enum jail_thread thread, struct range ranges[NUMBERS])
{
	uint8_t outcome[NUMBERS] = {REFUSED};
	const struct jail_rule *rule;
	size_t count = 0;
	for (size_t i = 0; (rule = rule_at(i)); i++) {
		if (rule->threads & thread)
			outcome[rule->number % NUMBERS] = (uint8_t)outcome_of(rule);
	}
	for (size_t i = 0; i < HOT_COUNT; i++)
		outcome[hot[i]] = REFUSED;
	for (uint32_t n = 0; n < NUMBERS; n++) {
		if (n == 0 || outcome[n] != outcome[n - 1] || outcome[n] == DEPENDS)
			ranges[count++] = (struct range){(uint16_t)n, outcome[n]};
	}
	return count;
}

/* A binary search for the number's range. */
static void add_search(struct builder *b, const struct range *range, size_t count)
{
	if (count == 1 && range->outcome == DEPENDS) {
		add_call(b, range->start);
	} else if (count == 1) {
		finish(b, range->outcome == ALLOWED ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP);
	} else {
		size_t test = b->count, half = count / 2;
		add(b, BPF_JMP | BPF_JGE | BPF_K, 0, 0, range[half].start);
		add_search(b, range, half);
		if (test < JAIL_FILTER_MAX)
			b->program[test].jt = distance(b, test);
		add_search(b, range + half, count - half);
	}
}

size_t jail_filter(enum jail_thread thread, struct sock_filter program[JAIL_FILTER_MAX])
{
	struct builder b = {.thread = thread, .program = program};
	struct range ranges[NUMBERS];
	load(&b, offsetof(struct seccomp_data, arch));
	add(&b, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, jail_arch);
	finish(&b, SECCOMP_RET_KILL_PROCESS);
	load(&b, offsetof(struct seccomp_data, nr));
	add_hot(&b);
	add_search(&b, ranges, make_ranges(thread, ranges));
	return b.count <= JAIL_FILTER_MAX ? b.count : 0;
}
