/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's end of manage.h in vmm/shared: pauses and resumes the machine, saves it, makes clones of it, tells
 * what it counts.
 *
 * A pause has two steps. The agent freezes the guest's sessions, so that none of their code runs before a clone is a
 * machine of its own; then the vCPUs stop, and what the devices have in flight completes. One request is carried out at
 * a time; others wait.
 */
#ifndef WISP_MONITOR_MANAGE_H
#define WISP_MONITOR_MANAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/control.h"
#include "vmm/monitor/counts.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/log.h"
#include "vmm/monitor/loop.h"
#include "vmm/monitor/machine.h"
#include "vmm/monitor/snapshot.h"
#include "vmm/monitor/writer.h"

struct manage_options {
	const char *path; /* of the socket */
	struct loop *loop;
	const struct log *log;
	struct machine *machine;                    /* NULL: a template, which has `origin` instead */
	struct control *control;                    /* NULL: a payload, which has no sessions */
	struct snapshot_origin *origin;             /* a template's */
	struct counts *counts;                      /* answers MANAGE_STATS; closed before manage_destroy */
	void (*paused)(void *context, bool paused); /* the machine is paused, or runs again, until the next call */
	/*
	 * Makes the clone's process. `fd` is the connection, which is the clone's from then on. Returns 0 in this
	 * process, and in the clone's not at all; or -errno with `err`.
	 */
	int (*fork)(void *context, int fd, struct snapshot_origin *origin, struct err *err);
	void *context;
};

struct manage;

/* Listens. On the loop's thread, once it has a ring. 0, or -errno with `err`. */
int manage_create(struct manage **manage, const struct manage_options *options, struct err *err);

/*
 * The guest is about to be asked to power off: resumes the machine, also if it is held, and pauses it no more. The
 * loop's thread. Takes NULL.
 */
void manage_stop(struct manage *manage);

/* Carries out nothing more. Takes NULL. The loop's thread. */
void manage_close(struct manage *manage);

/*
 * After manage_close, and when machine and control are gone. Takes NULL. The loop's thread, not inside a completion.
 * Removes the socket.
 */
void manage_destroy(struct manage *manage);

#endif
