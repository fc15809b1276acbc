/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/jail_filter.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "vmm/monitor/jail_rules.h"

#define RING JAIL_RING
#define EPOLL JAIL_EPOLL
#define DISK (JAIL_EPOLL | JAIL_WORKER)

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
        IOCTL(KVM_GET_STATS_FD, LOOP), /* of a traced machine */
        IOCTL(KVM_GET_MP_STATE, LOOP), /* from here on: snapshots */
        IOCTL(KVM_SET_MP_STATE, LOOP),
        IOCTL(KVM_GET_VCPU_EVENTS, LOOP),
        IOCTL(KVM_SET_VCPU_EVENTS, LOOP),
        IOCTL(BLKGETSIZE64, LOOP), /* of a disk that is a block device */
        IOCTL(BLKSSZGET, LOOP),
        IOCTL(TUNSETOFFLOAD, LOOP), /* of a tap device: which frames the guest's driver can take */
        IOCTL(TUNSETQUEUE, LOOP),   /* and which of its queues */
        IOCTL(TIOCGWINSZ, LOOP),    /* musl asks it of every file that fdopen opens: the trace */

        /* --- the loop --- */
        CALL(io_uring_enter, RING),
        CALL(io_uring_setup, RING),    /* a clone's ring */
        CALL(io_uring_register, RING), /* its restrictions; afterwards the ring refuses all of them */
        CALL(epoll_create1, EPOLL),    /* a clone's engine */
        CALL(epoll_ctl, EPOLL),
        CALL(epoll_pwait, EPOLL),
        CALL(preadv2, DISK), /* disks, here and below: by the loop, what the page cache has; a host without threads */
        CALL(pwritev2, DISK),
        CALL(fdatasync, DISK),
        CALL(fallocate, DISK),

        /* --- descriptors --- */
        CALL(write, ALL), /* eventfds: interrupts, and to wake the loop */
        CALL(read, BOTH),
        CALL(writev, BOTH), /* logs, which vCPUs write too: the serial console, the reason of an end */
        CALL(readv, LOOP),
        CALL(pread64, BOTH), /* a vCPU reads KVM's counters for the trace */
        CALL(pwrite64, LOOP),
        CALL(lseek, LOOP),
        CALL(close, ALL),
        CALL(close_range, LOOP), /* a clone closes its source's */
        CALL(eventfd2, LOOP),
        CALL(pipe2, LOOP), /* from the process that writes a snapshot */
        {SYS_fcntl, LOOP, JAIL_IS, 1, F_DUPFD},
        CALL(signalfd4, LOOP),
        CALL(timerfd_create, LOOP), /* of a clone, whose guest follows the host's clock, too */
        CALL(timerfd_settime, LOOP),
        CALL(pidfd_open, LOOP),                 /* of the owner, to see it end */
        {SYS_fcntl, LOOP, JAIL_IS, 1, F_SETLK}, /* the lock that shows the monitor's pid */
        {SYS_fcntl, ALL, JAIL_IS, 1, F_SETFD},  /* musl's open */
        {SYS_fcntl, LOOP, JAIL_IS, 1, F_GETFL}, /* fdopen, as the next */
        {SYS_fcntl, LOOP, JAIL_IS, 1, F_SETFL},

        /* --- files: which ones is for Landlock to say. vCPUs rotate logs. --- */
        CALL(openat, ALL),
        CALL(newfstatat, BOTH), /* a vCPU's: tests/faults looks at what descriptors are */
        CALL(fstat, BOTH),      /* a vCPU's: whether the file behind its memory was cut */
        CALL(ftruncate, BOTH),
        {SYS_fchmod, LOOP, JAIL_IS, 1, 0600}, /* its own sockets: a file of a folder gets no setuid bit */
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
        CALL(sendto, ALL),       /* a vCPU's: the last word of a refused call (jail.c) */
        CALL(sendmsg, LOOP),
        CALL(recvfrom, LOOP),
        CALL(recvmsg, LOOP),
        CALL(shutdown, LOOP),
        CALL(getsockopt, LOOP), /* who the owner is */

        /* --- memory: never executable --- */
        {SYS_mmap, BOTH, JAIL_LACKS, 2, PROT_EXEC}, /* a vCPU's: libc's malloc */
        {SYS_mprotect, BOTH, JAIL_LACKS, 2, PROT_EXEC},
        CALL(munmap, ALL),  /* a thread unmaps its own stack at its end */
        CALL(mremap, LOOP), /* a file's pages become the guest's */
        CALL(madvise, ALL),
        CALL(mincore, LOOP), /* what a snapshot's memory has in it, before it is copied */
        CALL(brk, BOTH),

        /* --- threads, and clones, which are forks --- */
        CALL(futex, ALL),
        {SYS_clone, LOOP, JAIL_LACKS, 0, CLONE_NAMESPACES},
        {SYS_clone3, LOOP, JAIL_MISSING, 0, 0}, /* its flags are in memory; glibc then takes clone */
        CALL(setsid, LOOP),
        CALL(set_tid_address, LOOP),
        CALL(set_robust_list, ALL),
        CALL(rseq, ALL), /* glibc */
        CALL(exit, ALL),
        CALL(exit_group, ALL),
        CALL(getpid, ALL),
        CALL(gettid, ALL),
        CALL(getppid, LOOP),
        CALL(sched_getaffinity, LOOP), /* the first vCPU starts on another processor than the loop */
        CALL(sched_setaffinity, LOOP),
        CALL(getcpu, LOOP),
        CALL(sched_yield, BOTH),
        {SYS_prctl, BOTH, JAIL_IS, 0, PR_SET_NAME},
        {SYS_prctl, ALL, JAIL_IS, 0, PR_GET_NAME},
        {SYS_prctl, LOOP, JAIL_IS, 0, 62 /* PR_SCHED_CORE */},    /* a clone's cookie */
        {SYS_prctl, LOOP, JAIL_IS, 0, PR_SET_PDEATHSIG},          /* of the process that writes a snapshot */
        {SYS_seccomp, LOOP, JAIL_IS, 0, SECCOMP_SET_MODE_FILTER}, /* a vCPU's thread adds its own filter */

        /* --- signals: not to other processes, and not the one that says what was refused --- */
        {SYS_tkill, ALL, JAIL_IS, 1, SIGABRT},  /* abort() */
        {SYS_tkill, LOOP, JAIL_IS, 1, SIGUSR2}, /* to the console's copy (echo.c) */
        {SYS_tkill, LOOP, JAIL_IS, 1, KICK_MUSL},
        {SYS_tgkill, ALL, JAIL_IS, 2, SIGABRT}, /* the same with glibc */
        {SYS_tgkill, LOOP, JAIL_IS, 2, SIGUSR2},
        {SYS_tgkill, LOOP, JAIL_IS, 2, KICK_GLIBC},
        {SYS_rt_sigaction, BOTH, JAIL_NOT, 0, SIGSYS},
        CALL(rt_sigprocmask, ALL),
        CALL(rt_sigreturn, ALL),
        CALL(restart_syscall, ALL),

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
static const uint32_t hot[] = {
        SYS_ioctl, SYS_io_uring_enter, SYS_epoll_pwait, SYS_epoll_ctl, SYS_write, SYS_read, SYS_preadv2, SYS_pwritev2};

size_t jail_filter(unsigned thread, struct sock_filter program[JAIL_FILTER_MAX])
{
	const struct jail_tables tables = {.rules = jail_rules,
	        .count = jail_rule_count,
	        .arch_rules = jail_arch_rules,
	        .arch_count = jail_arch_rule_count,
	        .hot = hot,
	        .hot_count = sizeof(hot) / sizeof(hot[0])};
	return jail_build(&tables, thread, program);
}
