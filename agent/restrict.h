/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a restricted program has less than others (PROTO_EXEC_RESTRICTED): no capabilities, no way to new privileges,
 * and a seccomp filter of the shape of docker's default profile.
 *
 * The filter refuses named calls, and every call above the last one that this file knows. An allow-list would refuse
 * the same ones, as docker's does: it is all calls of the kernel but these. A table of these can have a reason for
 * each.
 */
#ifndef WISP_AGENT_RESTRICT_H
#define WISP_AGENT_RESTRICT_H

#include <linux/filter.h>
#include <stdint.h>

/*
 * A restricted session without a user has one of its own. Otherwise its program could write to the memory of another
 * program of the same user, by /proc/PID/mem, and have that one do what it may not do itself. The ids are above those
 * that distributions and container engines give out.
 */
#define RESTRICT_UID_FIRST 0x50000000u
#define RESTRICT_UID_COUNT 0x10000000u

/*
 * Both are called in the child of spawn.c, and make system calls without libc. 0 or -errno. The first is for root: the
 * bounding set can no longer be changed by another user. The second follows the change of the user.
 */
long restrict_bounding_set(void);
long restrict_rest(void);

extern const struct sock_fprog restrict_filter; /* for tests */

#endif
