/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program that started the sandbox: its socket tells when a handle was closed, and a pidfd when it died, even if a
 * child that it forked holds the socket open.
 */
#ifndef WISP_MONITOR_OWNER_H
#define WISP_MONITOR_OWNER_H

#include <stdbool.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/loop.h"

struct owner {
	struct loop *loop;
	int socket;     /* connected to it */
	bool by_pid;    /* its death counts, too */
	bool is_parent; /* of this process, so that its pid cannot be another's; a clone trusts the socket alone */
	/* Both on the loop's thread. `gone` may be called twice. */
	void (*gone)(void *context);
	void (*failed)(void *context, int error); /* it cannot be watched: -errno, -ECANCELED at the end */
	void *context;

	char byte;
	struct loop_op socket_op, exit_op;
};

/* The caller has filled in the first part. 0, or -errno with `err`. The operations last until the loop's end. */
int owner_watch(struct owner *owner, struct err *err);

/*
 * Goes on in a process of its own, which is not the owner's child: the owner has its answer from the first process at
 * once. Before there are other threads. 0, or -errno with `err` set.
 */
int owner_leave(struct err *err);

#endif
