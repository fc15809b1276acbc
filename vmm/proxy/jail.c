/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proxy's jail. It keeps the host's network, which is its purpose, and the files that resolving reads; everything
 * else goes. A layer that the host lacks is left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/proxy/proxy.h"
#include "vmm/shared/confine.h"
#include "vmm/shared/jail_program.h"

#define DNS_PORT 53u
#define NOBODY 65534u
/* Two sockets for each connection, and those of its resolver. */
#define FILES_MAX (4u * EGRESS_CONNECTIONS_MAX)
#define MEMORY_MAX (256ull << 20)

/* ---- Landlock ---- */

/* Not the file alone, nor that to which it is a link now: whoever changes resolv.conf replaces it. */
static int allow_directory_of(const struct confine_ruleset *ruleset, const char *file)
{
	char path[PATH_MAX];
	int ret = confine_allow_path(ruleset, "/etc", CONFINE_READ_FILE);
	if (ret < 0 || !realpath(file, path))
		return ret;
	*strrchr(path, '/') = '\0';
	return confine_allow_path(ruleset, path[0] ? path : "/", CONFINE_READ_FILE);
}

/* Only the ports that rules name, if each rule names some. DNS may use TCP. */
static int allow_ports(const struct confine_ruleset *ruleset, const struct egress_rules *rules)
{
	int ret = confine_allow_connect(ruleset, DNS_PORT);
	for (size_t i = 0; i < rules->count && ret == 0; i++) {
		if (rules->rules[i].port != EGRESS_PORTS_WEB) {
			ret = confine_allow_connect(ruleset, (uint16_t)rules->rules[i].port);
			continue;
		}
		ret = confine_allow_connect(ruleset, 80);
		if (ret == 0)
			ret = confine_allow_connect(ruleset, 443);
	}
	return ret;
}

static int restrict_paths(const struct egress_rules *rules)
{
	static const char *const files[] = {"/etc/hosts", "/etc/resolv.conf"};
	struct confine_ruleset ruleset;
	bool lacking, all_ports = false;
	for (size_t i = 0; i < rules->count; i++)
		all_ports |= rules->rules[i].port == EGRESS_PORTS_ALL;
	int ret = confine_begin(&ruleset, all_ports, &lacking);
	if (lacking)
		return 0;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && ret == 0; i++)
		ret = allow_directory_of(&ruleset, files[i]);
	if (ret == 0 && !all_ports)
		ret = allow_ports(&ruleset, rules);
	return confine_end(&ruleset, ret < 0);
}

/* ---- seccomp ---- */

#define CALL(name)                            \
	{                                     \
		SYS_##name, 1, JAIL_ANY, 0, 0 \
	}

#ifdef SYS_open /* libc uses them where the processor has them */
#define OLD_CALLS CALL(open), CALL(poll),
#else
#define OLD_CALLS
#endif

static const struct jail_rule calls[] = {
        /* --- connections --- */
        {SYS_socket, 1, JAIL_IS, 0, AF_INET}, {SYS_socket, 1, JAIL_IS, 0, AF_INET6}, CALL(connect),
        CALL(bind),                       /* of the resolver's datagrams */
        CALL(accept4), CALL(getsockname), /* the resolver orders addresses by those from which they are reached */
        CALL(getsockopt), CALL(setsockopt), CALL(shutdown), CALL(sendto), CALL(sendmsg), CALL(recvfrom), CALL(recvmsg),
        CALL(ppoll),

        /* --- files: the log, and what the resolver reads. Which ones is for Landlock to say. --- */
        OLD_CALLS CALL(openat), CALL(read), CALL(readv), CALL(write), CALL(pread64), CALL(lseek), CALL(ftruncate),
        CALL(close), {SYS_fcntl, 1, JAIL_IS, 1, F_SETFD}, /* musl's open */
        {SYS_fcntl, 1, JAIL_IS, 1, F_SETFL},

        /* --- memory: never executable --- */
        {SYS_mmap, 1, JAIL_LACKS, 2, PROT_EXEC}, {SYS_mprotect, 1, JAIL_LACKS, 2, PROT_EXEC}, CALL(munmap),
        CALL(mremap), CALL(madvise), CALL(brk),

        /* --- threads, and no processes: clone needs CLONE_VM and CLONE_THREAD, which no other rule can say --- */
        CALL(futex),
        {SYS_clone, 1, JAIL_IS, 0,
                CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                        CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | 0x400000 /* CLONE_DETACHED, of musl */},
        CALL(set_robust_list), CALL(set_tid_address), /* musl's detached threads at their end */
        CALL(gettid), CALL(sched_yield), CALL(exit), CALL(exit_group),

        /* --- signals, time --- */
        {SYS_rt_sigaction, 1, JAIL_NOT, 0, SIGSYS}, CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(restart_syscall),
        {SYS_tkill, 1, JAIL_IS, 1, SIGABRT}, /* abort() */
        CALL(clock_gettime),                 /* a host without a vDSO clock */
};

/* In whichever thread. The log's descriptor is known, and snprintf takes neither a lock nor memory here. */
static void on_refused(int number, siginfo_t *info, void *context)
{
	char line[80];
	int n = snprintf(line, sizeof(line), "the proxy's jail refused system call %d\n", info->si_syscall);
	(void)number, (void)context;
	(void)!write(EGRESS_LOG_FD, line, (size_t)n);
	_exit(1);
}

static int restrict_calls(void)
{
	const struct jail_tables tables = {.rules = calls, .count = sizeof(calls) / sizeof(calls[0])};
	struct sock_filter program[JAIL_FILTER_MAX];
	struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};
	sigemptyset(&action.sa_mask);
	sigaction(SIGSYS, &action, NULL);
	int ret = confine_calls(program, jail_build(&tables, 1, program));
	if (ret == 0 || ret == -ENOSYS || ret == -EINVAL || ret == -EPERM)
		return 0;
	errno = -ret;
	return -1;
}

/* ---- All of them ---- */

/* root's files are not for it: it has the descriptors that it needs. EINVAL: a user namespace without that user. */
static int leave_root(void)
{
	if (geteuid() != 0)
		return 0;
	return confine_user(NOBODY, NOBODY, NULL) == 0 || errno == EINVAL || errno == EPERM ? 0 : -1;
}

int proxy_jail(const struct egress_rules *rules)
{
	if (CONFINE_SANITIZED)
		return 0;
	if (confine_limit(RLIMIT_CORE, 0, false) < 0 || confine_limit(RLIMIT_NOFILE, FILES_MAX, true) < 0 ||
	        confine_limit(RLIMIT_DATA, MEMORY_MAX, false) < 0)
		return -1;
	if (leave_root() < 0 || confine_privileges() < 0 || confine_capabilities(0) < 0)
		return -1;
	if (restrict_paths(rules) < 0)
		return -1;
	return restrict_calls(); /* last: it refuses what the others need */
}
