/* SPDX-License-Identifier: Apache-2.0 */
/* Restricted programs: what the filter refuses, and what a program is left with. */
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/seccomp.h>

#include "agent/restrict.h"
#include "tests/agent/harness.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, 0))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif

#define CALL(name, error)                  \
	{                                  \
#name, SYS_##name, (error) \
	}

/* Only by the filter do these fail with this error when root passes -1 everywhere. vhangup has no argument. */
#ifdef SYS_iopl
#define CALLS_OF_X86 CALL(iopl, EPERM), CALL(ioperm, EPERM), CALL(sysfs, EPERM), CALL(uselib, EPERM),
#else
#define CALLS_OF_X86
#endif

static const struct {
	const char *name;
	long number;
	int error;
} refused[] = {CALL(ptrace, EPERM), CALL(process_vm_readv, EPERM), CALL(process_vm_writev, EPERM),
        CALL(process_madvise, EPERM), CALL(kcmp, EPERM), CALL(pidfd_getfd, EPERM), CALL(unshare, EPERM),
        CALL(setns, EPERM), CALL(mount, EPERM), CALL(umount2, EPERM), CALL(pivot_root, EPERM), CALL(chroot, EPERM),
        CALL(move_mount, EPERM), CALL(open_tree, EPERM), CALL(mount_setattr, EPERM), CALL(fsopen, EPERM),
        CALL(fsconfig, EPERM), CALL(fsmount, EPERM), CALL(fspick, EPERM), CALL(clone3, ENOSYS),
        CALL(init_module, EPERM), CALL(finit_module, EPERM), CALL(delete_module, EPERM), CALL(kexec_load, EPERM),
        CALL(kexec_file_load, EPERM), CALL(reboot, EPERM), CALL(bpf, EPERM), CALL(perf_event_open, EPERM),
        CALL(syslog, EPERM), CALL(lookup_dcookie, EPERM), CALL(acct, EPERM), CALL(swapon, EPERM), CALL(swapoff, EPERM),
        CALL(quotactl, EPERM), CALL(quotactl_fd, EPERM), CALL(sethostname, EPERM), CALL(setdomainname, EPERM),
        CALL(settimeofday, EPERM), CALL(clock_settime, EPERM), CALL(keyctl, EPERM), CALL(add_key, EPERM),
        CALL(request_key, EPERM), CALL(userfaultfd, EPERM), CALL(open_by_handle_at, EPERM), CALL(fanotify_init, EPERM),
        CALL(io_uring_setup, ENOSYS), CALL(io_uring_enter, ENOSYS), CALL(io_uring_register, ENOSYS),
        CALLS_OF_X86{"a call of a later kernel", 451, ENOSYS}, {"a call of x32", 0x40000000 | SYS_getpid, ENOSYS}};

static int error_of(long result)
{
	return result < 0 ? errno : 0;
}

/* In a child. 0, or which check failed. */
static int under_the_filter(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &restrict_filter) < 0)
		return 100;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (error_of(syscall(refused[i].number, -1, -1, -1, -1, -1, -1)) != refused[i].error)
			return (int)i + 1;
	static const long namespaces[] = {
	        CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};
	for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++)
		if (error_of(syscall(SYS_clone, namespaces[i] | SIGCHLD, 0, 0, 0, 0)) != EPERM)
			return 101;
	if (error_of(socket(AF_VSOCK, SOCK_STREAM, 0)) != EPERM || error_of(socket(AF_ALG, SOCK_SEQPACKET, 0)) != EPERM)
		return 102;
	/* What programs need. */
	if (socket(AF_UNIX, SOCK_STREAM, 0) < 0 || socket(AF_INET, SOCK_STREAM, 0) < 0 || getpid() <= 1)
		return 103;
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return pid > 0 && waitpid(pid, NULL, 0) == pid ? 0 : 104;
}

static void the_filter_refuses(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(under_the_filter());
	int status;
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	int failed = WEXITSTATUS(status);
	if (failed > 0 && failed < 100)
		printf("# %s\n", refused[failed - 1].name);
	CHECK_EQ(failed, 0);
}

#define STATUS "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status | tr -s ' \\t' ' '"
#define NO_CAPABILITIES                                        \
	"CapInh: 0000000000000000\nCapPrm: 0000000000000000\n" \
	"CapEff: 0000000000000000\nCapBnd: 0000000000000000\n" \
	"CapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n"

static void nothing_is_left(void)
{
	if (geteuid() != 0) {
		test_skipped = "needs root";
		return;
	}
	START();
	/* A user of its own, which is another one in each session. */
	for (unsigned int session = 1; session <= 2; session++) {
		struct exec exec = SH(STATUS);
		exec.flags = PROTO_EXEC_RESTRICTED;
		struct result result = run(&agent, &exec);
		unsigned int uid = RESTRICT_UID_FIRST + session;
		char wanted[600];
		snprintf(wanted, sizeof(wanted), "Uid: %u %u %u %u\nGid: %u %u %u %u\nGroups: %u \n" NO_CAPABILITIES,
		        uid, uid, uid, uid, uid, uid, uid, uid, uid);
		CHECK(ended_with(&result, 0));
		CHECK_STR(text(&result, 0), wanted);
		result_free(&result);
	}
	/* Root, if it is asked for, without the capabilities that make it root. */
	struct exec exec = SH(STATUS);
	exec.flags = PROTO_EXEC_RESTRICTED;
	exec.user = "root";
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK(strncmp(text(&result, 0), "Uid: 0 0 0 0\n", 13) == 0);
	CHECK(strstr(text(&result, 0), NO_CAPABILITIES) != NULL);
	result_free(&result);
	/* Others are as they were. */
	exec = SH("grep -c 'NoNewPrivs:.*0' /proc/self/status; id -u");
	result = run(&agent, &exec);
	CHECK_STR(text(&result, 0), "1\n0\n");
	result_free(&result);
	STOP();
}

/* With a terminal too, which belongs to that user; and a program that cannot start says why. */
static void it_starts_as_others_do(void)
{
	if (geteuid() != 0) {
		test_skipped = "needs root";
		return;
	}
	START();
	struct exec exec = SH("echo one >/dev/tty; echo two >/dev/stdout");
	exec.flags = PROTO_EXEC_RESTRICTED | PROTO_EXEC_TTY;
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "one\r\ntwo\r\n");
	result_free(&result);
	exec = (struct exec){.argv = {"no-such-program"}, .flags = PROTO_EXEC_RESTRICTED};
	result = run(&agent, &exec);
	CHECK(result.failed && result.failure.kind == PROTO_FAILURE_NOT_FOUND);
	result_free(&result);
	exec = (struct exec){.argv = {"pwd"}, .cwd = "/proc/1/fd", .flags = PROTO_EXEC_RESTRICTED};
	result = run(&agent, &exec);
	CHECK(result.failed && result.failure.kind == PROTO_FAILURE_BAD_CWD);
	result_free(&result);
	STOP();
}

TEST_MAIN("agent_restrict", {"the_filter_refuses", the_filter_refuses}, {"nothing_is_left", nothing_is_left},
        {"it_starts_as_others_do", it_starts_as_others_do})
