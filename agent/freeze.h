/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine stands still for a snapshot, or was restored from one and does not yet know who it is.
 *
 * From FREEZE on nothing runs that the guest's programs have started, and the agent serves the control connection
 * alone: no other frame is read, no connection accepted, no timer fires. That ends with THAW, after its work: so no
 * program runs in two machines with the same random numbers, clock or ids. A restore resets every connection of the
 * guest; the agent then connects anew.
 *
 * Timeouts of sessions need nothing done: they are on CLOCK_MONOTONIC, which stands still while a machine is not run.
 */
#ifndef WISP_AGENT_FREEZE_H
#define WISP_AGENT_FREEZE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/poller.h"
#include "vmm/shared/proto.h"

#define FREEZE_LIMIT_NS (5u * 1000 * 1000 * 1000ull) /* for programs to freeze and events to be sent */
#define FREEZE_RECONNECT_NS (5u * 1000 * 1000)       /* between attempts */

struct agent;
struct agent_client;

struct agent_freeze {
	struct poller_task task; /* FREEZE has come */
	bool frozen;
	uint64_t limit_ns; /* FREEZE_LIMIT_NS, less in tests */
};

void agent_freeze_init(struct agent_freeze *freeze);

/* FREEZE: done at the end of this round, which then lasts until THAW. */
void agent_freeze(struct agent *agent);

/* The programs run again, whatever THAW would have done. */
void agent_unfreeze(struct agent *agent);

/* THAW, already checked: does its work, and answers. */
void agent_thaw(struct agent_client *control, const struct proto_thaw *thaw);

#endif
