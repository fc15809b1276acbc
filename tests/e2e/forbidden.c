/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forbidden: tries what a restricted program may not do, each in a process of its own, and prints what succeeded. Exit
 * code 0 if nothing did.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t other; /* a process of another session, from the command line */

static long mounts(void)
{
	return mount("none", "/mnt", "tmpfs", 0, NULL);
}
static long unmounts(void)
{
	return umount2("/dev/shm", MNT_DETACH);
}
static long traces_init(void)
{
	return ptrace(PTRACE_SEIZE, 1, NULL, NULL);
}
static long traces_another(void)
{
	return ptrace(PTRACE_SEIZE, other, NULL, NULL);
}
static long signals_another(void)
{
	return kill(other, SIGCONT);
}
static long becomes_root(void)
{
	return geteuid() == 0 ? 0 : setresuid(0, 0, 0);
}
static long joins_roots_group(void)
{
	return getegid() == 0 ? 0 : setresgid(0, 0, 0);
}
static long uses_keyrings(void)
{
	return syscall(SYS_keyctl, 0, -3, 1);
}
static long loads_bpf(void)
{
	return syscall(SYS_bpf, 0, NULL, 0);
}
static long makes_a_user_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}
static long makes_a_mount_namespace(void)
{
	return unshare(CLONE_NEWNS);
}
static long reboots(void)
{
	return syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL);
} /* ctrl-alt-del off */
static long loads_a_kernel(void)
{
	return syscall(SYS_kexec_load, 0, 0, NULL, 0);
}
static long loads_a_module(void)
{
	return syscall(SYS_init_module, "", 0, "");
}
static long opens_vsock(void)
{
	return socket(AF_VSOCK, SOCK_STREAM, 0);
}
static long opens_packets(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}
static long opens_raw_ip(void)
{
	return socket(AF_INET, SOCK_RAW, 1);
}
static long opens_io_uring(void)
{
	return syscall(SYS_io_uring_setup, 1, calloc(1, 120));
}
static long changes_the_root(void)
{
	return chroot("/tmp");
}
static long sets_the_host_name(void)
{
	return sethostname("x", 1);
}
static long makes_a_device(void)
{
	return mknod("/tmp/forbidden", S_IFCHR | 0600, 1 << 8 | 1);
}
static long writes_kernel_messages(void)
{
	return open("/dev/kmsg", O_WRONLY);
}

static long reads_anothers_memory(void)
{
	char path[40];
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)other);
	return open(path, O_RDONLY);
}

#define ATTEMPT(name)        \
	{                    \
#name, &name \
	}
static const struct {
	const char *name;
	long (*make)(void);
} attempts[] = {ATTEMPT(mounts), ATTEMPT(unmounts), ATTEMPT(traces_init), ATTEMPT(traces_another),
        ATTEMPT(signals_another), ATTEMPT(reads_anothers_memory), ATTEMPT(becomes_root), ATTEMPT(joins_roots_group),
        ATTEMPT(uses_keyrings), ATTEMPT(loads_bpf), ATTEMPT(makes_a_user_namespace), ATTEMPT(makes_a_mount_namespace),
        ATTEMPT(reboots), ATTEMPT(loads_a_kernel), ATTEMPT(loads_a_module), ATTEMPT(opens_vsock),
        ATTEMPT(opens_packets), ATTEMPT(opens_raw_ip), ATTEMPT(opens_io_uring), ATTEMPT(changes_the_root),
        ATTEMPT(sets_the_host_name), ATTEMPT(makes_a_device), ATTEMPT(writes_kernel_messages)};

int main(int argc, char **argv)
{
	int succeeded = 0;
	other = argc > 1 ? atoi(argv[1]) : 1;
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		int status;
		pid_t pid = fork();
		if (pid == 0)
			_exit(attempts[i].make() < 0);
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			return 2;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
			continue;
		puts(attempts[i].name);
		succeeded = 1;
	}
	return succeeded;
}
