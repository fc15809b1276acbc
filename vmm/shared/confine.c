/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/shared/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int confine_privileges(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static void get_capabilities(struct __user_cap_header_struct *head, struct __user_cap_data_struct data[2])
{
	*head = (struct __user_cap_header_struct){.version = _LINUX_CAPABILITY_VERSION_3};
	memset(data, 0, 2 * sizeof(*data));
	(void)syscall(SYS_capget, head, data); /* of itself, which cannot fail */
}

uint32_t confine_permitted(void)
{
	struct __user_cap_header_struct head;
	struct __user_cap_data_struct data[2];
	get_capabilities(&head, data);
	return data[0].permitted;
}

int confine_user(uid_t uid, gid_t gid, const gid_t *also)
{
	struct __user_cap_header_struct head;
	struct __user_cap_data_struct data[2];
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setgroups, also ? 1 : 0, also) < 0 ||
	        syscall(SYS_setresgid, gid, gid, gid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0)
		return -1;
	/* Those that it kept are not in effect. */
	get_capabilities(&head, data);
	for (unsigned i = 0; i < 2; i++)
		data[i].effective = data[i].permitted;
	return (int)syscall(SYS_capset, &head, data);
}

int confine_capabilities(uint32_t keep)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	data[0].effective = data[0].permitted = keep & confine_permitted();
	/*
	 * From now on, uid 0 gives no capabilities, nor do files without new privileges. That is what an empty bounding
	 * set would do, in one call instead of forty. Only a holder of CAP_SETPCAP can, and others need not.
	 */
	(void)prctl(PR_SET_SECUREBITS,
	        SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_CAP_AMBIENT_RAISE | SECURE_ALL_LOCKS, 0, 0, 0);
	return (int)syscall(SYS_capset, &head, data);
}

int confine_limit(int resource, rlim_t to, bool raise)
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

/*
 * SPEC_ALLOW: without it, Linux before 5.16 takes a filter as a wish to run the thread, and so a guest, without
 * speculation. What the host does about side channels is for its administrator to say.
 */
int confine_calls(const struct sock_filter *program, size_t count)
{
	/* The kernel only reads it. */
	struct sock_fprog filter = {.len = (unsigned short)count, .filter = (struct sock_filter *)(uintptr_t)program};
	long ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter);
	if (ret < 0 && errno == EINVAL) /* before Linux 4.17 */
		ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
	return ret < 0 ? -errno : 0;
}

/* --- Landlock. The structures are the kernel's; libc's headers may not have them all. --- */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444 /* on every processor */
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

#define QUERY_VERSION 1u
enum { RULE_PATH_BENEATH = 1, RULE_NET_PORT = 2 };
enum { BIND_TCP = 1 << 0, CONNECT_TCP = 1 << 1 };
enum { SCOPE_ABSTRACT_UNIX = 1 << 0, SCOPE_SIGNAL = 1 << 1 };
enum { ABI_REFER = 2, ABI_TRUNCATE = 3, ABI_NET = 4, ABI_IOCTL = 5, ABI_SCOPES = 6 };

struct ruleset_attr {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

struct path_attr {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

struct net_attr {
	uint64_t allowed;
	uint64_t port;
};

int confine_begin(struct confine_ruleset *ruleset, bool connects, bool *lacking)
{
	*ruleset = (struct confine_ruleset){.fd = -1};
	ruleset->abi = syscall(SYS_landlock_create_ruleset, NULL, 0, QUERY_VERSION);
	/* ENOSYS: older than Linux 5.13; EOPNOTSUPP: switched off at boot; EPERM: a container's filter. */
	*lacking = ruleset->abi < 0 && (errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM);
	if (ruleset->abi < 0)
		return -1;
	ruleset->files = CONFINE_ABI_1 | (ruleset->abi >= ABI_REFER ? CONFINE_REFER : 0) |
	                 (ruleset->abi >= ABI_TRUNCATE ? CONFINE_TRUNCATE : 0) |
	                 (ruleset->abi >= ABI_IOCTL ? CONFINE_IOCTL_DEV : 0);
	struct ruleset_attr all = {.fs = ruleset->files,
	        .net = ruleset->abi >= ABI_NET ? BIND_TCP | (connects ? 0 : CONNECT_TCP) : 0,
	        .scoped = ruleset->abi >= ABI_SCOPES ? SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL : 0};
	ruleset->fd = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	return ruleset->fd < 0 ? -1 : 0;
}

int confine_allow(const struct confine_ruleset *ruleset, int fd, uint64_t rights)
{
	struct path_attr rule = {.allowed = rights & ruleset->files, .fd = fd};
	return (int)syscall(SYS_landlock_add_rule, ruleset->fd, RULE_PATH_BENEATH, &rule, 0);
}

int confine_allow_path(const struct confine_ruleset *ruleset, const char *path, uint64_t rights)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == EACCES || errno == ENOTDIR ? 0 : -1;
	int ret = confine_allow(ruleset, fd, rights);
	int error = errno;
	close(fd);
	errno = error;
	return ret;
}

int confine_allow_connect(const struct confine_ruleset *ruleset, uint16_t port)
{
	struct net_attr rule = {.allowed = CONNECT_TCP, .port = port};
	if (ruleset->abi < ABI_NET)
		return 0;
	return (int)syscall(SYS_landlock_add_rule, ruleset->fd, RULE_NET_PORT, &rule, 0);
}

int confine_end(struct confine_ruleset *ruleset, bool failed)
{
	int ret = failed ? -1 : (int)syscall(SYS_landlock_restrict_self, ruleset->fd, 0);
	int error = errno;
	if (ruleset->fd >= 0)
		close(ruleset->fd);
	ruleset->fd = -1;
	errno = error;
	return ret;
}
