/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/monitor/arch.h"
#include "vmm/monitor/gmem.h"
#include "vmm/monitor/jail_filter.h"
#include "vmm/monitor/jail_layers.h"
#include "vmm/shared/confine.h"
#include "vmm/shared/end.h"
#include "vmm/shared/fs_wire.h"
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

/*
 * Started by root, the monitor becomes the user who owns the state directory: code that has broken out of the guest
 * must not find itself the owner of root's files. Nothing happens if that is root.
 */
static int leave_root(const struct description_fds *fds, struct err *err)
{
	struct stat root, kvm;
	if (geteuid() != 0 || fds->root < 0 || fstat(fds->root, &root) < 0 || root.st_uid == 0)
		return 0;
	/* A clone opens the device again. */
	gid_t device = stat("/dev/kvm", &kvm) == 0 ? kvm.st_gid : root.st_gid;
	if (confine_user(root.st_uid, root.st_gid, &device) == 0)
		return 0;
	return err_set(err, errno,
	        "the monitor cannot become user %u, who owns the state directory: %s: start wisp as that user, or use "
	        "another state directory",
	        (unsigned)root.st_uid, strerror(errno));
}

/* CAP_DAC_OVERRIDE, for disks of another user that are opened a second time (virtio/blk_file.h); root alone has it. */
static bool needs_override(const struct description *d, const struct description_fds *fds)
{
	struct stat st;
	bool needs = false;
	for (uint32_t i = 0; i < d->disk_count; i++)
		needs |= d->disk[i].cache == WISP_CACHE_DIRECT && fstat(fds->disk[i], &st) == 0 &&
		         st.st_uid != geteuid();
	return needs && confine_permitted() & 1u << CAP_DAC_OVERRIDE;
}

static int drop_privileges(struct jail *jail, bool left_root, bool keep_override, struct err *err)
{
	char remark[80] = "";
	/* Other processes of its user do not get at its memory, which is the guest's. */
	if (confine_privileges() < 0)
		return err_set(err, errno, "the monitor cannot give up new privileges or hide its memory: %s",
		        strerror(errno));
	if (confine_capabilities(keep_override ? 1u << CAP_DAC_OVERRIDE : 0) < 0)
		return err_set(err, errno, "the monitor cannot give up its capabilities: %s", strerror(errno));
	if (left_root)
		snprintf(remark, sizeof(remark), " (as user %u)", (unsigned)geteuid());
	if (keep_override)
		snprintf(remark + strlen(remark), sizeof(remark) - strlen(remark),
		        " (but CAP_DAC_OVERRIDE, for a disk of another user)");
	jail_holds(jail, WISP_LAYER_PRIVILEGES, remark);
	return 0;
}

/* --- limits --- */

/* Twice what the connections of the guest's sockets can take. */
#define FILES_MAX 8192u
/* Next to the guest's: buffers of connections (64 MiB), a part of the guest's memory that is being copied, stacks. */
#define MEMORY_MAX (256ull << 20)

/* The hard limit: the jail raises the soft one to it, and without a jail, the library does (vmm/lib/ports.c). */
static uint32_t allowed_files(void)
{
	struct rlimit files;
	bool fewer = getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < FILES_MAX;
	return fewer ? (uint32_t)files.rlim_max : FILES_MAX;
}

/* RLIMIT_DATA counts what the process may write to and shares with nobody, touched or not. */
static int limit_resources(struct jail *jail, const struct description *d, struct err *err)
{
	/* What the guest knows of its folders, for a snapshot or a clone, and one of these tables on its way there. */
	rlim_t tables = d->folder_count > 0 ? (d->folder_count + (rlim_t)1) * FS_TABLE_MAX : 0;
	rlim_t memory = ((rlim_t)d->memory_mib << 20) + MEMORY_MAX + tables;
	/* Each connection takes a descriptor. The usual soft limit is one for programs that use select(2). */
	if (confine_limit(RLIMIT_CORE, 0, false) < 0 || confine_limit(RLIMIT_NOFILE, FILES_MAX, true) < 0 ||
	        confine_limit(RLIMIT_DATA, memory, false) < 0)
		return err_set(err, errno, "the monitor cannot lower its limits: %s", strerror(errno));
	jail_holds(jail, WISP_LAYER_LIMITS, "");
	return 0;
}

/* --- Landlock --- */

/* Beneath the state directory are the sandbox's own directory, and those of the clones that this process becomes. */
static int allow_needed(
        const struct confine_ruleset *ruleset, const struct description *d, const struct description_fds *fds)
{
	int ret = confine_allow(ruleset, fds->root,
	        CONFINE_READ_FILE | CONFINE_WRITE_FILE | CONFINE_READ_DIR | CONFINE_REMOVE_DIR | CONFINE_REMOVE_FILE |
	                CONFINE_MAKE_DIR | CONFINE_MAKE_REG | CONFINE_MAKE_SOCK | CONFINE_TRUNCATE);
	if (ret == 0)
		ret = confine_allow_path(
		        ruleset, "/dev/kvm", CONFINE_READ_FILE | CONFINE_WRITE_FILE | CONFINE_IOCTL_DEV);
	for (const char *const *path = arch_host_files; *path && ret == 0; path++)
		ret = confine_allow_path(ruleset, *path, CONFINE_READ_FILE);
	/* Read for an error message. */
	if (ret == 0)
		ret = confine_allow_path(ruleset, GMEM_OVERCOMMIT, CONFINE_READ_FILE);
	/* These are opened a second time; what their descriptors allow already is not more by path. */
	for (uint32_t i = 0; i < d->disk_count && ret == 0; i++) {
		if (d->disk[i].cache == WISP_CACHE_DIRECT)
			ret = confine_allow(ruleset, fds->disk[i],
			        CONFINE_READ_FILE | (d->disk[i].read_only ? 0 : CONFINE_WRITE_FILE));
	}
	return ret;
}

static int restrict_paths(
        struct jail *jail, const struct description *d, const struct description_fds *fds, struct err *err)
{
	struct confine_ruleset ruleset;
	char version[32];
	bool lacking;
	int ret = confine_begin(&ruleset, false, &lacking);
	if (lacking) {
		jail_lacks(jail, WISP_LAYER_LANDLOCK, errno);
		return 0;
	}
	if (ret == 0)
		ret = allow_needed(&ruleset, d, fds);
	if (confine_end(&ruleset, ret < 0) < 0)
		return err_set(err, errno, "the monitor cannot set up Landlock: %s", strerror(errno));
	snprintf(version, sizeof(version), " ABI %ld", ruleset.abi);
	jail_holds(jail, WISP_LAYER_LANDLOCK, version);
	return 0;
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

static int filter_calls(unsigned thread)
{
	struct sock_filter program[JAIL_FILTER_MAX];
	return confine_calls(program, jail_filter(thread, program));
}

static int restrict_calls(struct jail *jail, struct err *err)
{
	struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};
	sigemptyset(&action.sa_mask);
	sigaction(SIGSYS, &action, NULL);
	int ret = filter_calls(JAIL_LOOP | (jail->engine == WISP_ENGINE_EPOLL ? JAIL_EPOLL : JAIL_RING));
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

int jail_enter_worker(struct err *err)
{
	int ret = filter_calls(JAIL_WORKER);
	return ret < 0 ? err_set(err, -ret, "a worker's thread cannot filter its system calls: %s", strerror(-ret)) : 0;
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

void jail_note_engine(struct jail *jail)
{
	if (jail->layers & WISP_LAYER_IO_URING)
		return; /* noted by the source of this clone */
	jail_holds(jail, WISP_LAYER_IO_URING, jail->engine == WISP_ENGINE_EPOLL ? " (not used: epoll)" : "");
}

/* The ring's own layer comes later, with the ring: without it, there is no ring either. */
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
	uid_t starter = geteuid();
	int ret = layers & WISP_LAYER_PRIVILEGES ? leave_root(fds, err) : 0;
	bool override = needs_override(description, fds);
	if (ret == 0 && layers & WISP_LAYER_NAMESPACES)
		ret = jail_enter_namespaces(jail, override, err);
	if (ret == 0 && layers & WISP_LAYER_LIMITS)
		ret = limit_resources(jail, description, err);
	if (ret == 0 && layers & WISP_LAYER_PRIVILEGES)
		ret = drop_privileges(jail, geteuid() != starter, override, err);
	if (ret == 0 && layers & WISP_LAYER_LANDLOCK)
		ret = restrict_paths(jail, description, fds, err);
	jail_take_core(jail);
	/* Last: it refuses what the others need. */
	if (ret == 0 && layers & WISP_LAYER_SECCOMP)
		ret = restrict_calls(jail, err);
	return ret;
}

int jail_enter(struct jail *jail, unsigned layers, const struct description *description,
        const struct description_fds *fds, struct err *err)
{
	int ret = 0;
	*jail = (struct jail){.engine = description->engine, .files = allowed_files()};
	if (description->flags & DESCRIPTION_NO_JAIL)
		say(jail, "none, as --no-jail asks");
	else if (CONFINE_SANITIZED)
		say(jail, "none, because this is a build with sanitizers");
	else
		ret = enter(jail, layers, description, fds, err);
	return ret == 0 && description->flags & DESCRIPTION_REQUIRE_JAIL ? require_all(jail, err) : ret;
}
