/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/fs/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MEMORY_MAX (512ull << 20) /* the nodes, when the guest looks at a million files */

void fs_jail_set_files(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_max > 4 * FS_HANDLES_MAX)
		limit.rlim_max = 4 * FS_HANDLES_MAX;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* --- privileges --- */

#define BIT(capability) (1u << (capability))

/*
 * root reaches all files of the folder, also while it creates one for a user of the guest, whose rights the guest's
 * kernel has checked. Never CAP_FSETID: a write then ends what a setuid bit means.
 */
static int drop_privileges(bool map)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	if (geteuid() == 0) {
		data[0].permitted = BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER);
		if (map)
			data[0].permitted |= BIT(CAP_CHOWN) | BIT(CAP_SETUID) | BIT(CAP_SETGID);
		data[0].effective = data[0].permitted;
	}
	/* uid 0 gives no capabilities from now on. Only a holder of CAP_SETPCAP can say so, and others need not. */
	(void)prctl(PR_SET_SECUREBITS,
	        SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_CAP_AMBIENT_RAISE | SECURE_ALL_LOCKS, 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static int limit_resources(void)
{
	const struct rlimit none = {0, 0}, memory = {MEMORY_MAX, MEMORY_MAX};
	return setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_DATA, &memory) < 0 ? -errno : 0;
}

/* --- Landlock: the folder alone --- */

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif

#define READS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define CHANGES                                                                                            \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |  \
	        LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
	        LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER |    \
	        LANDLOCK_ACCESS_FS_TRUNCATE)
#define OF_A_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)

static int restrict_paths(const struct fs *fs)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	/* The first version refuses to move files between folders. */
	if (abi < 2)
		return 0;
	struct landlock_ruleset_attr all = {.handled_access_fs = ((LANDLOCK_ACCESS_FS_REFER << 1) - 1) |
	                                                         (abi >= 3 ? LANDLOCK_ACCESS_FS_TRUNCATE : 0)};
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (ruleset < 0)
		return -errno;
	struct landlock_path_beneath_attr rule = {.parent_fd = fs->o.folder,
	        .allowed_access = (READS | (fs->o.read_only ? 0 : CHANGES)) & all.handled_access_fs &
	                          (fs->is_file ? OF_A_FILE : ~0ull)};
	int ret = (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	if (ret == 0)
		ret = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
	ret = ret < 0 ? -errno : 0;
	close(ruleset);
	return ret;
}

/* --- seccomp --- */

/* Those of the guest's operations first. No memory becomes executable. */
static const int allowed[] = {
        SYS_recvfrom,
        SYS_sendto, /* requests and replies */
        SYS_read,
        SYS_write,
        SYS_splice, /* the pipes */
        SYS_newfstatat,
        SYS_fstat, /* */
        SYS_openat,
        SYS_openat2,
        SYS_close, /* */
        SYS_pread64,
        SYS_pwrite64,
        SYS_pwritev2, /* */
        SYS_lseek,
        SYS_getdents64,
        SYS_fstatfs, /* */
        SYS_fchmodat,
        SYS_fchownat,
        SYS_ftruncate, /* */
        SYS_utimensat,
        SYS_readlinkat, /* */
        SYS_mknodat,
        SYS_mkdirat,
        SYS_symlinkat, /* */
        SYS_linkat,
        SYS_unlinkat,
        SYS_renameat2, /* */
        SYS_fsync,
        SYS_fdatasync,
        SYS_syncfs, /* */
        SYS_fallocate,
        SYS_copy_file_range, /* */
        SYS_getxattr,
        SYS_setxattr, /* */
        SYS_listxattr,
        SYS_removexattr, /* */
        SYS_setfsuid,
        SYS_setfsgid, /* who owns what is created */
        SYS_fcntl,    /* a new session's copy of a single file; libc's fstat */
        SYS_brk,
        SYS_munmap,
        SYS_mremap,
        SYS_madvise, /* libc's malloc, the nodes of a new session */
        SYS_clock_gettime,
        SYS_getrandom, /* */
        SYS_exit_group,
        SYS_rt_sigreturn,
        SYS_restart_syscall,
};
#define ALLOWED (sizeof(allowed) / sizeof(allowed[0]))

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)

static int restrict_calls(void)
{
	struct sock_filter program[ALLOWED + 16];
	unsigned short n = 0;
	program[n++] = (struct sock_filter)LOAD(arch);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	program[n++] = (struct sock_filter)RETURN(SECCOMP_RET_KILL_PROCESS);
	program[n++] = (struct sock_filter)LOAD(nr);
	for (unsigned i = 0; i < ALLOWED; i++)
		program[n++] = (struct sock_filter)BPF_JUMP(
		        BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i], (uint8_t)(ALLOWED - i + 4), 0);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 2);
	program[n++] = (struct sock_filter)LOAD(args[2]);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1);
	program[n++] = (struct sock_filter)RETURN(SECCOMP_RET_KILL_PROCESS);
	program[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
	struct sock_fprog filter = {.len = n, .filter = program};
	long ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter);
	return ret < 0 && errno != ENOSYS ? -errno : 0;
}

/* The sanitizers read /proc, and make further system calls. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

int fs_jail_enter(const struct fs *fs, const char **why)
{
	if (SANITIZED)
		return 0;
	*why = "give up its privileges";
	int ret = drop_privileges(fs->o.map);
	if (ret == 0) {
		*why = "lower its limits";
		ret = limit_resources();
	}
	if (ret == 0) {
		*why = "set up Landlock";
		ret = restrict_paths(fs);
	}
	if (ret == 0) {
		*why = "filter its system calls";
		ret = restrict_calls();
	}
	return ret;
}
