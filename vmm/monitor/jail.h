/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail: what the monitor gives up before the guest's first instruction, so that code that breaks out of a guest is
 * worth little. It needs no root and consists of independent layers. A layer that the host's kernel lacks, or that the
 * host forbids, is left out, and the log says so.
 *
 * The layers hold for the calling thread, the threads and the processes that it creates later, and cannot be taken off:
 * a clone is in its source's jail.
 */
#ifndef WISP_MONITOR_JAIL_H
#define WISP_MONITOR_JAIL_H

#include <stdbool.h>

#include "vmm/monitor/err.h"
#include "vmm/shared/description.h"

#define JAIL_TEXT_SIZE 400
#define JAIL_STATUS 124 /* the exit status of a process that tried a system call that it may not make */

struct jail {
	uint32_t engine; /* enum wisp_engine: whose system calls it allows */
	uint32_t files;  /* how many descriptors the process may have, with or without a jail */
	unsigned layers; /* those that hold: enum wisp_jail_layer. The ring's is added once there is a ring. */
	char text[JAIL_TEXT_SIZE]; /* the same for the log, with the reasons of those that do not */
};

/*
 * Enters these `layers` (of enum wisp_jail_layer; as an ordinary user, WISP_LAYER_SECCOMP only with
 * WISP_LAYER_PRIVILEGES). The description's engine is decided (loop_choose_engine). Call it before the process has
 * other threads. With DESCRIPTION_NO_JAIL, it only says so. 0, or -errno with `err` set if a layer fails for want of a
 * resource, or is missing in spite of DESCRIPTION_REQUIRE_JAIL: then the guest must not run.
 */
int jail_enter(struct jail *jail, unsigned layers, const struct description *description,
        const struct description_fds *fds, struct err *err);

/*
 * Gives the process a cookie of its own for core scheduling: no other sandbox's vCPU, and no other program, runs at the
 * same time on another hardware thread of its core. jail_enter does so; a clone calls it. Nothing happens where the
 * host has one hardware thread for each core, or no core scheduling (before Linux 5.14).
 */
void jail_take_core(const struct jail *jail);

/* Notes that the loop has its engine: a ring, which is restricted, or none. */
void jail_note_engine(struct jail *jail);

/*
 * Leaves the calling thread only what a vCPU does that runs. Of a jail in which WISP_LAYER_SECCOMP holds. 0, or -errno
 * with `err` set.
 */
int jail_enter_vcpu(struct err *err);

/* The same for a thread that makes the epoll engine's calls that wait for a disk. */
int jail_enter_worker(struct err *err);

#endif
