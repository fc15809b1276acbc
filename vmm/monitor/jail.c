/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/monitor/arch.h"
#include "vmm/monitor/gmem.h"
#include "vmm/monitor/jail_filter.h"
#include "vmm/monitor/jail_layers.h"
#include "vmm/shared/end.h"
#include "vmm/shared/jail_layers.h"
#include "vmm/shared/sandbox_files.h"

static void say(struct jail *jail, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct jail *jail, const char *format, ...)
{
	size_t used = strlen(jail->text);
	va_list args;
	va_start(args, format);
	if (used > 0)
		used += (size_t)snprintf(jail->text + used, sizeof(jail->text) - used, ", ");
	if (used < sizeof(jail->text))
		vsnprintf(jail->text + used, sizeof(jail->text) - used, format, args);
	va_end(args);
}

void jail_holds(struct jail *jail, enum wisp_jail_layer layer, const char *remark)
{
	jail->layers |= layer;
	say(jail, "%s%s", jail_layer_name(layer), remark);
}

void jail_lacks(struct jail *jail, enum wisp_jail_layer layer, int error)
{
	say(jail, "without %s (%s)", jail_layer_name(layer), strerror(error));
}

/* --- privileges --- */

static bool is_others(int fd)
{
	struct stat st;
	return fd >= 0 && fstat(fd, &st) == 0 && st.st_uid != geteuid();
}

/*
 * root needs CAP_DAC_OVERRIDE for files of other users that are opened after this: in such a state directory, and disks
 * that are opened a second time (virtio/blk_file.h).
 */
static bool needs_override(const struct description *d, const struct description_fds *fds)
{
	bool needs = is_others(fds->root);
	for (uint32_t i = 0; i < d->disk_count; i++)
		needs |= d->disk[i].cache == WISP_CACHE_DIRECT && is_others(fds->disk[i]);
	return needs && geteuid() == 0;
}

static int drop_capabilities(bool keep_override)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	if (keep_override)
		data[0].effective = data[0].permitted = 1u << CAP_DAC_OVERRIDE;
	/*
	 * From now on, uid 0 gives no capabilities, nor do files without new privileges. That is what an empty bounding
	 * set would do, in one call instead of forty. Only a holder of CAP_SETPCAP can, and others need not.
	 */
	(void)prctl(PR_SET_SECUREBITS,
	        SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_CAP_AMBIENT_RAISE | SECURE_ALL_LOCKS, 0, 0, 0);
	return (int)syscall(SYS_capset, &head, data);
}

static int drop_privileges(struct jail *jail, bool keep_override, struct err *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(err, errno, "the monitor cannot give up new privileges: %s", strerror(errno));
	/* Other processes of its user do not get at its memory, which is the guest's. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(err, errno, "the monitor cannot hide its memory: %s", strerror(errno));
	if (drop_capabilities(keep_override) < 0)
		return err_set(err, errno, "the monitor cannot give up its capabilities: %s", strerror(errno));
	jail_holds(
	        jail, WISP_LAYER_PRIVILEGES, keep_override ? " (but CAP_DAC_OVERRIDE, for files of another user)" : "");
	return 0;
}

/* --- limits --- */

/* Twice what the connections of the guest's sockets can take. */
#define FILES_MAX 8192u
/* Next to the guest's: buffers of connections (64 MiB), a part of the guest's memory that is being copied, stacks. */
#define MEMORY_MAX (256ull << 20)

/* For good: without privileges, nobody raises it again. With `raise`, it starts from the hard limit. */
static int lower_limit(int resource, rlim_t to, bool raise)
{
	struct rlimit limit;
	if (getrlimit(resource, &limit) < 0)
		return -1;
	if (raise)
		limit.rlim_cur = limit.rlim_max;
	if (limit.rlim_cur > to)
		limit.rlim_cur = to;
	limit.rlim_max = limit.rlim_cur;
	return setrlimit(resource, &limit);
}

/* RLIMIT_DATA counts what the process may write to and shares with nobody, touched or not. */
static int limit_resources(struct jail *jail, uint32_t memory_mib, struct err *err)
{
	/* Each connection takes a descriptor. The usual soft limit is one for programs that use select(2). */
	if (lower_limit(RLIMIT_CORE, 0, false) < 0 || lower_limit(RLIMIT_NOFILE, FILES_MAX, true) < 0 ||
	        lower_limit(RLIMIT_DATA, ((rlim_t)memory_mib << 20) + MEMORY_MAX, false) < 0)
		return err_set(err, errno, "the monitor cannot lower its limits: %s", strerror(errno));
	jail_holds(jail, WISP_LAYER_LIMITS, "");
	return 0;
}

/* --- Landlock: which files it may open. The structures are the kernel's; libc's headers may not have them all. --- */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444 /* on every processor */
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

#define QUERY_VERSION 1u
#define RULE_PATH_BENEATH 1

enum {
	EXECUTE = 1 << 0,
	WRITE_FILE = 1 << 1,
	READ_FILE = 1 << 2,
	READ_DIR = 1 << 3,
	REMOVE_DIR = 1 << 4,
	REMOVE_FILE = 1 << 5,
	MAKE_CHAR = 1 << 6,
	MAKE_DIR = 1 << 7,
	MAKE_REG = 1 << 8,
	MAKE_SOCK = 1 << 9,
	MAKE_FIFO = 1 << 10,
	MAKE_BLOCK = 1 << 11,
	MAKE_SYM = 1 << 12,
	REFER = 1 << 13,
	TRUNCATE = 1 << 14,
	IOCTL_DEV = 1 << 15,
	ABI_1 = REFER - 1,
};

enum { BIND_TCP = 1 << 0, CONNECT_TCP = 1 << 1 };
enum { SCOPE_ABSTRACT_UNIX = 1 << 0, SCOPE_SIGNAL = 1 << 1 };

struct ruleset_attr {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

struct path_attr {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

/* Everything that this version of the kernel can forbid. */
static struct ruleset_attr everything(long abi)
{
	return (struct ruleset_attr){
	        .fs = ABI_1 | (abi >= 2 ? REFER : 0) | (abi >= 3 ? TRUNCATE : 0) | (abi >= 5 ? IOCTL_DEV : 0),
	        .net = abi >= 4 ? BIND_TCP | CONNECT_TCP : 0,
	        .scoped = abi >= 6 ? SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL : 0};
}

static int allow(int ruleset, const struct ruleset_attr *all, int fd, uint64_t rights)
{
	struct path_attr rule = {.allowed = rights & all->fs, .fd = fd};
	return (int)syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0);
}

/* A file that does not exist, or that the user may not open, needs no rule. */
static int allow_path(int ruleset, const struct ruleset_attr *all, const char *path, uint64_t rights)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == EACCES || errno == ENOTDIR ? 0 : -1;
	int ret = allow(ruleset, all, fd, rights);
	int error = errno;
	close(fd);
	errno = error;
	return ret;
}

/* Beneath the state directory are the sandbox's own directory, and those of the clones that this process becomes. */
static int allow_needed(
        int ruleset, const struct ruleset_attr *all, const struct description *d, const struct description_fds *fds)
{
	int ret = allow(ruleset, all, fds->root,
	        READ_FILE | WRITE_FILE | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK |
	                TRUNCATE);
	if (ret == 0)
		ret = allow_path(ruleset, all, "/dev/kvm", READ_FILE | WRITE_FILE | IOCTL_DEV);
	for (const char *const *path = arch_host_files; *path && ret == 0; path++)
		ret = allow_path(ruleset, all, *path, READ_FILE);
	/* Read for an error message. */
	if (ret == 0)
		ret = allow_path(ruleset, all, GMEM_OVERCOMMIT, READ_FILE);
	/* These are opened a second time; what their descriptors allow already is not more by path. */
	for (uint32_t i = 0; i < d->disk_count && ret == 0; i++) {
		if (d->disk[i].cache == WISP_CACHE_DIRECT)
			ret = allow(ruleset, all, fds->disk[i], READ_FILE | (d->disk[i].read_only ? 0 : WRITE_FILE));
	}
	return ret;
}

static int restrict_paths(
        struct jail *jail, const struct description *d, const struct description_fds *fds, struct err *err)
{
	char version[32];
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, QUERY_VERSION);
	/* ENOSYS: older than Linux 5.13; EOPNOTSUPP: switched off at boot; EPERM: a container's filter. */
	if (abi < 0 && (errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM)) {
		jail_lacks(jail, WISP_LAYER_LANDLOCK, errno);
		return 0;
	}
	struct ruleset_attr all = everything(abi);
	int ruleset = abi < 0 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	int ret = ruleset;
	if (ret >= 0)
		ret = allow_needed(ruleset, &all, d, fds);
	if (ret == 0)
		ret = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
	if (ret < 0)
		ret = err_set(err, errno, "the monitor cannot set up Landlock: %s", strerror(errno));
	snprintf(version, sizeof(version), " ABI %ld", abi);
	if (ret == 0)
		jail_holds(jail, WISP_LAYER_LANDLOCK, version);
	if (ruleset >= 0)
		close(ruleset);
	return ret;
}

/* --- seccomp: which system calls it may make --- */

#ifndef SYS_SECCOMP /* of siginfo_t's si_code; musl has no name for it */
#define SYS_SECCOMP 1
#endif

static void write_line(const char *name, int flags, const char *line, size_t length)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
	(void)!write(fd, line, length);
	close(fd);
}

/*
 * In whichever thread, at any point: snprintf takes neither a lock nor memory for these conversions. The filter lets
 * nobody change or ignore the signal, and the kernel kills a process that blocks it.
 */
static void on_refused(int number, siginfo_t *info, void *context)
{
	char thread[16] = "", text[96], line[128];
	int call = info->si_code == SYS_SECCOMP ? info->si_syscall : 0;
	(void)number, (void)context;
	prctl(PR_GET_NAME, thread);
	snprintf(text, sizeof(text), "the monitor's jail refused system call %d in thread %s", call, thread);
	size_t length = (size_t)snprintf(line, sizeof(line), "exit %s %s\n", end_name(WISP_END_INTERNAL), text);
	write_line(SANDBOX_FILES_VMM_LOG, O_APPEND, line, length);
	write_line(SANDBOX_FILES_STATE, O_TRUNC, line, length);
	(void)!send(DESCRIPTION_SOCKET_FD, line, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	_exit(JAIL_STATUS);
}

/*
 * SPEC_ALLOW: without it, Linux before 5.16 takes a filter as a wish to run the thread, and so the guest, without
 * speculation. What the host does about side channels is for its administrator to say.
 */
static int filter_calls(enum jail_thread thread)
{
	struct sock_filter program[JAIL_FILTER_MAX];
	struct sock_fprog filter = {.len = (unsigned short)jail_filter(thread, program), .filter = program};
	long ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter);
	if (ret < 0 && errno == EINVAL) /* before Linux 4.17 */
		ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
	return ret < 0 ? -errno : 0;
}

static int restrict_calls(struct jail *jail, struct err *err)
{
	struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};
	sigemptyset(&action.sa_mask);
	sigaction(SIGSYS, &action, NULL);
	int ret = filter_calls(JAIL_LOOP);
	if (ret == -ENOSYS || ret == -EINVAL || ret == -EPERM) {
		jail_lacks(jail, WISP_LAYER_SECCOMP, -ret);
		return 0;
	}
	if (ret < 0)
		return err_set(err, -ret, "the monitor cannot filter its system calls: %s", strerror(-ret));
	jail_holds(jail, WISP_LAYER_SECCOMP, "");
	return 0;
}

int jail_enter_vcpu(struct err *err)
{
	int ret = filter_calls(JAIL_VCPU);
	return ret < 0 ? err_set(err, -ret, "a vCPU's thread cannot filter its system calls: %s", strerror(-ret)) : 0;
}

#ifndef PR_SCHED_CORE /* not in all of libc's headers */
#define PR_SCHED_CORE 62
#define PR_SCHED_CORE_CREATE 1
#endif
#define THREAD_GROUP 1

void jail_take_core(const struct jail *jail)
{
	if (jail->layers)
		(void)prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, THREAD_GROUP, 0);
}

void jail_note_ring(struct jail *jail, bool restricted)
{
	if (jail->layers & WISP_LAYER_IO_URING)
		return; /* noted by the source of this clone */
	if (restricted)
		jail_holds(jail, WISP_LAYER_IO_URING, "");
	else
		jail_lacks(jail, WISP_LAYER_IO_URING, ENOSYS);
}

/* The ring's layer is missing only before Linux 5.10, which has no Landlock either. */
static int require_all(const struct jail *jail, struct err *err)
{
	unsigned missing = WISP_LAYER_ALL & ~(jail->layers | WISP_LAYER_IO_URING);
	if (missing == 0)
		return 0;
	return err_set(err, EOPNOTSUPP, "the monitor's jail is not whole, as --jail=require wants: %s", jail->text);
}

static int enter(struct jail *jail, unsigned layers, const struct description *description,
        const struct description_fds *fds, struct err *err)
{
	bool override = needs_override(description, fds);
	int ret = 0;
	if (layers & WISP_LAYER_NAMESPACES)
		ret = jail_enter_namespaces(jail, override, err);
	if (ret == 0 && layers & WISP_LAYER_LIMITS)
		ret = limit_resources(jail, description->memory_mib, err);
	if (ret == 0 && layers & WISP_LAYER_PRIVILEGES)
		ret = drop_privileges(jail, override, err);
	if (ret == 0 && layers & WISP_LAYER_LANDLOCK)
		ret = restrict_paths(jail, description, fds, err);
	jail_take_core(jail);
	/* Last: it refuses what the others need. */
	if (ret == 0 && layers & WISP_LAYER_SECCOMP)
		ret = restrict_calls(jail, err);
	return ret;
}

/* The sanitizers read /proc, trace the process, and make further system calls. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

int jail_enter(struct jail *jail, unsigned layers, const struct description *description,
        const struct description_fds *fds, struct err *err)
{
	int ret = 0;
	*jail = (struct jail){0};
	if (description->flags & DESCRIPTION_NO_JAIL)
		say(jail, "none, as --no-jail asks");
	else if (SANITIZED)
		say(jail, "none, because this is a build with sanitizers");
	else
		ret = enter(jail, layers, description, fds, err);
	return ret == 0 && description->flags & DESCRIPTION_REQUIRE_JAIL ? require_all(jail, err) : ret;
}
