/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sessions do, repeated on the control connection for the host's log.
 *
 * It must never hold a session up: events wait in the control connection's queue up to MIRROR_QUEUE_MAX. Output that
 * does not fit stays in its session's ring and is queued from there when there is room; what the ring overwrites before
 * that is left out, and a DROPPED event says how much. So a host that reads slowly misses the middle of a flood, never
 * its end. The last part of the queue is for events without data, so that a flood of output does not cost the log a
 * program's start.
 *
 * Events are sent when a session ends or fails, when many wait, or MIRROR_DELAY_NS after the first: a short program
 * costs one write, not three, and that after its client was served.
 */
#ifndef WISP_AGENT_MIRROR_H
#define WISP_AGENT_MIRROR_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/shared/proto.h"

#define MIRROR_QUEUE_MAX (256u * 1024)
#define MIRROR_QUEUE_RESERVE (16u * 1024)
#define MIRROR_DELAY_NS (20u * 1000 * 1000)

struct agent;
struct agent_session;

/* A program that did not start: there is no session, its id alone. `payload`: struct proto_failed and text. */
void agent_mirror_failed(struct agent *agent, uint64_t id, const void *payload, size_t length);

/* It runs. Told sooner or later, as its end is: the monitor counts who has started, and not ended. */
void agent_mirror_started(struct agent_session *session);

/* The session's ring has more than before. */
void agent_mirror_output(struct agent_session *session);

/* Output that is in no ring. type: PROTO_STDOUT or PROTO_STDERR. */
void agent_mirror_late(struct agent_session *session, uint8_t type, const void *data, size_t length);

/* It has exited: session->exit_position and the status hold. */
void agent_mirror_exited(struct agent_session *session);

/* The session's ring is gone, and it will be next: what it has still to say is said now or never. */
void agent_mirror_forget(struct agent_session *session);

/* The host's log is a new one: each session that may have more to tell begins in it with STARTED. */
void agent_mirror_again(struct agent *agent);

/* The queue became shorter. */
void agent_mirror_room(struct agent *agent);

#endif
