/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's end of the agent's control connection (docs/internals/protocol.md): reports that the guest is ready,
 * asks it to power off, and receives the events of its sessions. The agent is inside the guest, so what it sends is
 * hostile: a broken frame ends the connection, and the sandbox continues without its log.
 *
 * After a burst, the connection is read at a bounded rate. A program that writes faster for longer would rotate the log
 * in a moment, and spend half its time waiting for it. The agent drops the middle of such a flood, keeps the end, and
 * reports how much is missing.
 */
#ifndef WISP_MONITOR_CONTROL_H
#define WISP_MONITOR_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/log.h"
#include "vmm/monitor/loop.h"

struct control;
struct proto_thaw;

#define CONTROL_RATE (2u << 20)  /* bytes read per second */
#define CONTROL_BURST (8u << 20) /* bytes read at once after a quiet time */

struct control_events {
	void (*ready)(void *context); /* the agent serves; once. After a restore: its programs run again */
	void (*event)(void *context, uint64_t session, uint64_t realtime_ns, uint8_t type, const uint8_t *payload,
	        size_t len);
	/* The connection has ended while the guest's programs were frozen: they can never go on. */
	void (*lost)(void *context);
	void *context;
	/*
	 * Of a restored machine: what its agent is to do before the programs run again. Its realtime_ns is filled in
	 * when it is sent. Copied. NULL: the machine boots.
	 */
	const struct proto_thaw *clone;
};

/* Called once, with 0 or -errno, on the loop's thread. It may start the next operation, but not destroy the control. */
typedef void control_done(void *context, int error);

/*
 * Listens at `path` (created, mode 0600) for the agent's only connection. 0 or -errno with `err`. Like everything here,
 * callbacks included, on the loop's thread.
 */
int control_create(struct control **control, const char *path, const struct control_events *events, struct loop *loop,
        const struct log *log, struct err *err);

/*
 * Asks the guest to power off within grace_ms (0: not known); the guest then knows how long its programs have to end.
 * Thaws a frozen guest. 0, or -ENOTCONN if the agent is not connected.
 */
int control_poweroff(struct control *control, uint32_t grace_ms);

/*
 * Freezes all that the guest's programs have started; the agent then serves nobody until control_thaw(). All events
 * from before have been reported when `done` is called with 0. With an error nothing stays frozen: the agent's own,
 * -ETIMEDOUT, -ECANCELED when control_poweroff() came in between, or -ECONNRESET at the connection's end.
 *
 * Returns 0, and `done` will be called unless the control is destroyed before; or -ENOTCONN if no agent is ready,
 * -EBUSY if the guest is frozen, or not yet thawed.
 */
int control_freeze(struct control *control, uint32_t timeout_ms, control_done *done, void *context);

/*
 * Ends that: the agent steps the clock, and the programs go on. `done` is called with 0 when they do, or -ECONNRESET;
 * or with -ETIMEDOUT, and then they may yet. Returns as above; -EINVAL if the guest is not frozen.
 */
int control_thaw(struct control *control, uint32_t timeout_ms, control_done *done, void *context);

/* The host's clock was set, or the host or the monitor stood still: the agent steps the guest's, at the latest when it
 * is thawed. */
void control_set_clock(struct control *control);

/*
 * Closes, and removes the socket. Steps the loop until nothing is in flight, so it must not be called in a completion.
 * Takes NULL.
 */
void control_destroy(struct control *control);

#endif
