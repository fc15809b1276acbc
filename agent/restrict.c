/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/restrict.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "agent/raw.h"
#include "vmm/shared/jail_program.h"

#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443 /* musl 1.2.3 does not have it */
#endif

/* set_mempolicy_home_node, the last call of Linux 6.1. Later ones are as unknown as the kernel would have them. */
#define CALL_LAST 450

/* CLONE_NEWTIME is for clone3 and unshare only. */
#define CLONE_NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* clang-format off */
#define LOAD(field)           {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, field)}
#define IF(test, value, yes, no) {BPF_JMP | (test) | BPF_K, yes, no, value}
#define ANSWER(action)        {BPF_RET | BPF_K, 0, 0, action}
#define REFUSE(error)         ANSWER(SECCOMP_RET_ERRNO | (error))
#define CALL(name, error)     IF(BPF_JEQ, SYS_##name, 0, 1), REFUSE(error)
#define DENY(name)            CALL(name, EPERM)
#define MISSING(name)         CALL(name, ENOSYS) /* programs have another way if the kernel lacks it */

#ifdef SYS_iopl /* x86 */
#define DENY_OF_PROCESSOR DENY(iopl), DENY(ioperm), DENY(sysfs), DENY(uselib),
#else
#define DENY_OF_PROCESSOR
#endif

static const struct sock_filter filter[] = {
	LOAD(arch),
	IF(BPF_JEQ, JAIL_PROCESSOR, 1, 0),
	ANSWER(SECCOMP_RET_KILL_PROCESS),
	LOAD(nr),
	IF(BPF_JGT, CALL_LAST, 0, 1), /* also the calls of x32, which have a high bit */
	REFUSE(ENOSYS),

	/* --- other processes: their memory and their descriptors --- */
	DENY(ptrace), DENY(process_vm_readv), DENY(process_vm_writev), DENY(process_madvise), DENY(kcmp),
	DENY(pidfd_getfd),

	/* --- namespaces and mounts: in a user namespace of its own a program would have all capabilities again --- */
	DENY(unshare), DENY(setns), DENY(mount), DENY(umount2), DENY(pivot_root), DENY(chroot), DENY(move_mount),
	DENY(open_tree), DENY(mount_setattr), DENY(fsopen), DENY(fsconfig), DENY(fsmount), DENY(fspick),
	MISSING(clone3), /* its flags are in memory, where the filter cannot look: libc takes clone */

	/* --- the kernel itself --- */
	DENY(init_module), DENY(finit_module), DENY(delete_module), DENY(kexec_load), DENY(kexec_file_load),
	DENY(reboot), DENY(bpf), DENY(perf_event_open), DENY(syslog), DENY(lookup_dcookie), DENY(acct), DENY(swapon),
	DENY(swapoff), DENY(quotactl), DENY(quotactl_fd), DENY(sethostname), DENY(setdomainname), DENY(settimeofday),
	DENY(clock_settime), DENY(vhangup), DENY_OF_PROCESSOR

	/* --- parts of it that have no bounds between programs, or a history of faults --- */
	DENY(keyctl), DENY(add_key), DENY(request_key), /* keyrings are not of a namespace */
	DENY(userfaultfd), /* stops the kernel in the middle of a copy, which makes races certain */
	DENY(open_by_handle_at), /* opens files past the folders above them */
	DENY(fanotify_init),
	MISSING(io_uring_setup), MISSING(io_uring_enter), MISSING(io_uring_register), /* calls that no filter sees */

	IF(BPF_JEQ, SYS_clone, 0, 4),
	LOAD(args[0]),
	IF(BPF_JSET, CLONE_NAMESPACES, 0, 1),
	REFUSE(EPERM),
	ANSWER(SECCOMP_RET_ALLOW),

	/* The host's ports, and the kernel's cryptography, whose input is anyone's. */
	IF(BPF_JEQ, SYS_socket, 0, 4),
	LOAD(args[0]),
	IF(BPF_JEQ, AF_VSOCK, 1, 0),
	IF(BPF_JEQ, AF_ALG, 0, 1),
	REFUSE(EPERM),
	ANSWER(SECCOMP_RET_ALLOW),
};
/* clang-format on */

/* The kernel does not write to the program; its structure is not const. */
const struct sock_fprog restrict_filter = {
        .len = sizeof(filter) / sizeof(filter[0]), .filter = (struct sock_filter *)(uintptr_t)filter};

long restrict_bounding_set(void)
{
	long error = 0;
	/* EINVAL: there is no capability of this number, so that was all. */
	for (long capability = 0; error == 0; capability++)
		error = raw_syscall(SYS_prctl, PR_CAPBSET_DROP, capability, 0, 0);
	return error == -EINVAL ? 0 : error;
}

long restrict_rest(void)
{
	const struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[2] = {{0}};
	long error = raw_syscall(SYS_capset, (long)&head, (long)none, 0, 0);
	if (!error)
		error = raw_syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0);
	if (!error)
		error = raw_syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0);
	if (!error)
		error = raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&restrict_filter, 0);
	return error;
}
