/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's end of the agent's control connection (docs/internals/protocol.md): here it learns that the guest is
 * ready, asks it to power off, and receives the events of its sessions. The agent is inside the guest, so what it sends
 * is hostile: a broken frame ends the connection, and the sandbox continues without its log.
 *
 * After a burst, the connection is read at a bounded rate. A program that writes faster for long would turn the log
 * over in a moment and wait for it half of its time; the agent omits the middle of such a flood, keeps the end, and
 * says how much is missing.
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

#define CONTROL_RATE (2u << 20)  /* bytes a second that are taken from the agent */
#define CONTROL_BURST (8u << 20) /* bytes that may come at once after a quiet time */

struct control_events {
	void (*ready)(void *context); /* the agent serves; once */
	void (*event)(void *context, uint64_t session, uint64_t realtime_ns, uint8_t type, const uint8_t *payload,
	        size_t len);
	void *context;
};

/*
 * Listens at `path` (created, mode 0600) for the one connection of the agent. 0 or -errno with `err`. Loop's thread, as
 * everything here; callbacks too.
 */
int control_create(struct control **control, const char *path, const struct control_events *events, struct loop *loop,
        const struct log *log, struct err *err);

/* Asks the guest to power off: 0, or -ENOTCONN when there is no agent to ask. */
int control_poweroff(struct control *control);

/* Closes, removes the socket; steps the loop until nothing is in flight, so not from inside a completion. Takes NULL.
 */
void control_destroy(struct control *control);

#endif
