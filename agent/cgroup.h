/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cgroup for each session: the only name for all that a program has started, whatever sessions and process groups it
 * made for itself.
 *
 * Making and removing a cgroup takes about as long as starting a program. So one is always ready, one that a session
 * left empty is used again, and all of it is done at the end of a round, when the clients have been served.
 */
#ifndef WISP_AGENT_CGROUP_H
#define WISP_AGENT_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/list.h"
#include "agent/poller.h"

struct agent_cgroups {
	int root; /* the mounted cgroup2, -1: none, and sessions have process groups alone */
	struct poller *poller;
	struct poller_task work;
	struct list retired; /* to be removed */
	struct agent_cgroup *spare;
	struct list frozen; /* freezer.c */
	uint64_t next;
};

struct agent_cgroup {
	struct agent_cgroups *all;
	struct list node;            /* in retired */
	struct agent_cgroup **owner; /* who points here, and is to be told when this is gone */
	struct poller_watch events;  /* once it was found populated */
	int fd;
	int state_fd; /* its cgroup.events, -1: none */
	char name[32];
};

void agent_cgroups_init(struct agent_cgroups *cgroups, struct poller *poller);
/* Uses the cgroup2 at path from now on. 0 or -errno: -EOPNOTSUPP when it cannot do what is needed here (Linux 5.14). */
int agent_cgroups_use(struct agent_cgroups *cgroups, const char *path);
void agent_cgroups_destroy(struct agent_cgroups *cgroups);

/* A new cgroup for *owner, or NULL: none could be made. */
void agent_cgroup_take(struct agent_cgroups *cgroups, struct agent_cgroup **owner);

/* SIGKILL to every process in it. 0 or -errno. */
int agent_cgroup_kill(const struct agent_cgroup *cgroup);

/* The session's own process is gone. Removes the cgroup as soon as nothing is left in it, and then clears *owner. */
void agent_cgroup_retire(struct agent_cgroup *cgroup);

/* The owner is gone. Takes NULL. */
void agent_cgroup_disown(struct agent_cgroup *cgroup);

/*
 * freezer.c: freezes every cgroup directly below the root, and so all that programs have started. 0, or -errno and
 * nothing is frozen: -ETIMEDOUT at until_ns (CLOCK_MONOTONIC); -EBUSY where a program has left its cgroup for the root,
 * which cannot be frozen; -EOPNOTSUPP without cgroups.
 */
int agent_cgroups_freeze(struct agent_cgroups *cgroups, uint64_t until_ns);

/* freezer.c: thaws what that has frozen. */
void agent_cgroups_thaw(struct agent_cgroups *cgroups);

#endif
