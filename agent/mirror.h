/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sessions do, repeated on the control connection for the host's log.
 *
 * It must never hold a session up: events wait in the control connection's queue up to MIRROR_QUEUE_MAX, beyond that
 * they are counted and left out, and a DROPPED event says so as soon as there is room. The last part of the queue is
 * for events without data, so that a flood of output does not cost the log a program's start or end.
 *
 * Events are sent when a session ends or fails, when many wait, or MIRROR_DELAY_NS after the first: a short program
 * costs one write, not three, and that after its client was served.
 */
#ifndef WISP_AGENT_MIRROR_H
#define WISP_AGENT_MIRROR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define MIRROR_QUEUE_MAX (256u * 1024)
#define MIRROR_QUEUE_RESERVE (16u * 1024)
#define MIRROR_DELAY_NS (2u * 1000 * 1000)

struct agent;
struct agent_session;

/* An event without data. For FAILED there is no session: its id alone. */
void agent_mirror_event(struct agent *agent, struct agent_session *session, uint64_t id, uint8_t type,
        const void *payload, size_t length);

/* Output of any length. type: PROTO_STDOUT or PROTO_STDERR. */
void agent_mirror_output(struct agent_session *session, uint8_t type, const struct iovec *slices, int count);

/* The queue became shorter. */
void agent_mirror_room(struct agent *agent);

#endif
