/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/fs/jail.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/shared/confine.h"
#include "vmm/shared/jail_program.h"

#define MEMORY_MAX (512ull << 20) /* the nodes, when the guest looks at a million files */

void fs_jail_set_files(void)
{
	(void)confine_limit(RLIMIT_NOFILE, 4 * FS_HANDLES_MAX, true);
}

/* --- privileges --- */

#define BIT(capability) (1u << (capability))

/*
 * root reaches all files of the folder, also while it creates one for a user of the guest, whose rights the guest's
 * kernel has checked. Never CAP_FSETID: a write then ends what a setuid bit means.
 */
static int drop_privileges(bool map)
{
	uint32_t keep = 0;
	if (geteuid() == 0)
		keep = BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) |
		       (map ? BIT(CAP_CHOWN) | BIT(CAP_SETUID) | BIT(CAP_SETGID) : 0);
	return confine_privileges() < 0 || confine_capabilities(keep) < 0 ? -errno : 0;
}

static int limit_resources(void)
{
	return confine_limit(RLIMIT_CORE, 0, false) < 0 || confine_limit(RLIMIT_DATA, MEMORY_MAX, false) < 0 ? -errno
	                                                                                                     : 0;
}

/* --- Landlock: the folder alone --- */

#define READS (CONFINE_READ_FILE | CONFINE_READ_DIR)
#define CHANGES                                                                                                \
	(CONFINE_WRITE_FILE | CONFINE_REMOVE_DIR | CONFINE_REMOVE_FILE | CONFINE_MAKE_DIR | CONFINE_MAKE_REG | \
	        CONFINE_MAKE_SOCK | CONFINE_MAKE_FIFO | CONFINE_MAKE_SYM | CONFINE_REFER | CONFINE_TRUNCATE)
#define OF_A_FILE (CONFINE_READ_FILE | CONFINE_WRITE_FILE | CONFINE_TRUNCATE)

static int restrict_paths(const struct fs *fs)
{
	struct confine_ruleset ruleset;
	bool lacking;
	int ret = confine_begin(&ruleset, false, &lacking);
	/* The first version refuses to move files between folders. */
	if (ruleset.abi < 2) {
		(void)confine_end(&ruleset, true);
		return 0;
	}
	if (ret == 0)
		ret = confine_allow(&ruleset, fs->o.folder,
		        (READS | (fs->o.read_only ? 0 : CHANGES)) & (fs->is_file ? OF_A_FILE : ~0u));
	return confine_end(&ruleset, ret < 0) < 0 ? -errno : 0;
}

/* --- seccomp --- */

#define CALL(name)                            \
	{                                     \
		SYS_##name, 1, JAIL_ANY, 0, 0 \
	}

static const struct jail_rule calls[] = {
        /* --- requests, replies, and the pipes --- */
        CALL(recvfrom),
        CALL(sendto),
        CALL(sendmsg), /* with a file */
        CALL(read),
        CALL(write),
        CALL(splice),

        /* --- the guest's operations --- */
        CALL(newfstatat),
        CALL(fstat),
        CALL(openat),
        CALL(openat2),
        CALL(close),
        CALL(pread64),
        CALL(pwrite64),
        CALL(pwritev2),
        CALL(lseek),
        CALL(getdents64),
        CALL(fstatfs),
        CALL(statx), /* of what is open in a snapshot */
        CALL(fchmodat),
        CALL(fchownat),
        CALL(ftruncate),
        CALL(utimensat),
        CALL(readlinkat),
        CALL(mknodat),
        CALL(mkdirat),
        CALL(symlinkat),
        CALL(linkat),
        CALL(unlinkat),
        CALL(renameat2),
        CALL(fsync),
        CALL(fdatasync),
        CALL(syncfs),
        CALL(fallocate),
        CALL(copy_file_range),
        CALL(getxattr),
        CALL(setxattr),
        CALL(listxattr),
        CALL(removexattr),

        /* --- who owns what is created --- */
        CALL(setfsuid),
        CALL(setfsgid),

        /* --- a new session's copy of a single file; libc's fstat --- */
        CALL(fcntl),

        /* --- libc's malloc, the nodes of a new session: never executable --- */
        CALL(brk),
        CALL(munmap),
        CALL(mremap),
        CALL(madvise),
        {SYS_mmap, 1, JAIL_LACKS, 2, PROT_EXEC},
        {SYS_mprotect, 1, JAIL_LACKS, 2, PROT_EXEC},

        /* --- time, and the end --- */
        CALL(clock_gettime),
        CALL(getrandom),
        CALL(exit_group),
        CALL(rt_sigreturn),
        CALL(restart_syscall),
};

static int restrict_calls(void)
{
	const struct jail_tables tables = {.rules = calls, .count = sizeof(calls) / sizeof(calls[0])};
	struct sock_filter program[JAIL_FILTER_MAX];
	int ret = confine_calls(program, jail_build(&tables, 1, program));
	return ret == -ENOSYS ? 0 : ret;
}

int fs_jail_enter(const struct fs *fs, const char **why)
{
	if (CONFINE_SANITIZED)
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
