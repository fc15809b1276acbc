/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a process gives up what it does not need: the layers that the jails of the monitor, wisp-proxy and wisp-fs have
 * in common. What is given up never comes back, for the calling thread and those that it creates. All return 0, or -1
 * with errno unless they say otherwise.
 */
#ifndef WISP_CONFINE_H
#define WISP_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

struct sock_filter;

/* The sanitizers read /proc, trace the process, and make further system calls. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONFINE_SANITIZED true
#else
#define CONFINE_SANITIZED false
#endif

/* No new privileges, and no access to the memory by other processes of the user. */
int confine_privileges(void);
/*
 * Becomes a user with that group, and no other but `also` if it is not NULL. Capabilities stay as they are, until
 * confine_capabilities. Before the process has other threads.
 */
int confine_user(uid_t uid, gid_t gid, const gid_t *also);
/* The capabilities that the process has, of the first 32. Root in a container may lack some. */
uint32_t confine_permitted(void);
/* Drops all capabilities except those in `keep` that the process has. */
int confine_capabilities(uint32_t keep);
/* For good: without privileges, nobody raises it again. With `raise`, it starts from the hard limit. */
int confine_limit(int resource, rlim_t to, bool raise);
/* Installs a program for seccomp. 0 or -errno. */
int confine_calls(const struct sock_filter *program, size_t count);

/* ---- Landlock: which files it may open ---- */

enum confine_files {
	CONFINE_EXECUTE = 1 << 0,
	CONFINE_WRITE_FILE = 1 << 1,
	CONFINE_READ_FILE = 1 << 2,
	CONFINE_READ_DIR = 1 << 3,
	CONFINE_REMOVE_DIR = 1 << 4,
	CONFINE_REMOVE_FILE = 1 << 5,
	CONFINE_MAKE_CHAR = 1 << 6,
	CONFINE_MAKE_DIR = 1 << 7,
	CONFINE_MAKE_REG = 1 << 8,
	CONFINE_MAKE_SOCK = 1 << 9,
	CONFINE_MAKE_FIFO = 1 << 10,
	CONFINE_MAKE_BLOCK = 1 << 11,
	CONFINE_MAKE_SYM = 1 << 12,
	CONFINE_REFER = 1 << 13,
	CONFINE_TRUNCATE = 1 << 14,
	CONFINE_IOCTL_DEV = 1 << 15,
	CONFINE_ABI_1 = CONFINE_REFER - 1,
};

struct confine_ruleset {
	int fd; /* -1: none */
	long abi;
	uint64_t files; /* what this version of the kernel can forbid */
};

/*
 * Begins a ruleset that forbids every access to files, TCP, abstract Unix sockets and signals to other processes, as
 * far as this version of the kernel can. With `connects`, connecting TCP stays as it is. *lacking is set where the
 * kernel or a container has no Landlock: errno then says why.
 */
int confine_begin(struct confine_ruleset *ruleset, bool connects, bool *lacking);
/* Allows `rights` (enum confine_files) to the file, or to all beneath the directory. */
int confine_allow(const struct confine_ruleset *ruleset, int fd, uint64_t rights);
/* The same by path. A file that does not exist, or that the user may not open, needs no rule. */
int confine_allow_path(const struct confine_ruleset *ruleset, const char *path, uint64_t rights);
/* Allows connecting to a TCP port. */
int confine_allow_connect(const struct confine_ruleset *ruleset, uint16_t port);
/* Enters it, unless `failed`. Closes it either way. */
int confine_end(struct confine_ruleset *ruleset, bool failed);

#endif
