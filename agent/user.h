/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a program runs as: the forms of `user` resolved with the guest's /etc/passwd and /etc/group.
 *
 * The C library's own functions are not used: these files belong to the image, and PID 1 must neither wait for a FIFO
 * nor read without end nor run out of memory because of what is there.
 */
#ifndef WISP_AGENT_USER_H
#define WISP_AGENT_USER_H

#include <stdbool.h>
#include <sys/types.h>

#define USER_GROUPS_MAX 65536 /* as many as Linux gives a process */
#define USER_HOME_BYTES 4096

struct agent_user {
	bool change; /* false: root as the agent itself is, nothing to do */
	uid_t uid;
	gid_t gid;
	size_t group_count;
	gid_t *groups;              /* supplementary, gid among them */
	char name[256];             /* for USER; the number where it has no name */
	char home[USER_HOME_BYTES]; /* for HOME; "/" where there is none */
};

/*
 * Resolves "", "name", "uid", "name:group", "uid:gid" and their mixtures; "" is root. Without a group the one in
 * /etc/passwd holds; a uid that is not there has group 0, as container engines do it.
 * 0, or -errno with the reason in why (-ENOENT: no such user or group). agent_user_free() is due in any case.
 */
int agent_user_resolve(const char *spec, struct agent_user *user, char *why, size_t why_size);

void agent_user_free(struct agent_user *user);

#endif
