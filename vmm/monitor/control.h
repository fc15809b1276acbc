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

#define CONTROL_RATE (2u << 20)  /* bytes read per second */
#define CONTROL_BURST (8u << 20) /* bytes read at once after a quiet time */

struct control_events {
	void (*ready)(void *context); /* the agent serves; once */
	void (*event)(void *context, uint64_t session, uint64_t realtime_ns, uint8_t type, const uint8_t *payload,
	        size_t len);
	void *context;
};

/*
 * Listens at `path` (created, mode 0600) for the agent's only connection. 0 or -errno with `err`. Like everything here,
 * callbacks included, on the loop's thread.
 */
int control_create(struct control **control, const char *path, const struct control_events *events, struct loop *loop,
        const struct log *log, struct err *err);

/*
 * Asks the guest to power off within grace_ms (0: not known); the guest then knows how long its programs have to end.
 * 0, or -ENOTCONN if the agent is not connected.
 */
int control_poweroff(struct control *control, uint32_t grace_ms);

/*
 * Closes, and removes the socket. Steps the loop until nothing is in flight, so it must not be called in a completion.
 * Takes NULL.
 */
void control_destroy(struct control *control);

#endif
