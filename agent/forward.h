/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwarded connections: each leads from the host to a TCP server of the guest, on its loopback interface, or from a
 * TCP client there to the host's proxy.
 *
 * The two directions are independent: each has its own end, and waits on its own. What a reader does not take stays in
 * the sockets' buffers, but for one read. The work of a turn is bounded; then others have theirs.
 */
#ifndef WISP_AGENT_FORWARD_H
#define WISP_AGENT_FORWARD_H

#include <stdint.h>

#include "agent/list.h"
#include "agent/poller.h"

/* From the host: twice what the monitor makes at once, because it may hear of an end first and make the next one. */
#define FORWARDS_MAX 8192u
/*
 * One read, and so the most that is kept of a direction whose reader is slow; and, of connections made while there are
 * more than FORWARDS_AMPLE, a smaller one, to bound what all of them keep.
 *
 * To the guest, the first FORWARDS_FEW have a larger one: agent and server often share one processor, and switch for
 * each read. To the host, more would be packets of 64 KiB all the same.
 */
#define FORWARD_CHUNK (64u << 10)
#define FORWARD_CHUNK_SMALL (4u << 10)
#define FORWARD_CHUNK_LARGE (256u << 10) /* what the host may send ahead */
#define FORWARDS_AMPLE 128u
#define FORWARDS_FEW 16u
#define FORWARD_CREDIT (256u << 10) /* the kernel's default */
#define FORWARD_CREDIT_SMALL (16u << 10)

struct agent_forwards {
	struct poller *poller;
	const struct poller_watch *listener; /* where they come from; NULL: unknown */
	uint8_t *scratch;                    /* FORWARD_CHUNK_LARGE bytes, used during a call only */
	struct list all;
	unsigned int count;
	unsigned int out_count; /* of these, to the host */
};

void agent_forwards_init(
        struct agent_forwards *forwards, struct poller *poller, const struct poller_watch *listener, uint8_t *scratch);
void agent_forwards_destroy(struct agent_forwards *forwards);

/* Takes over a connection of the host, which does not block, and leads it to the guest's TCP port. */
void agent_forward(struct agent_forwards *forwards, int fd, uint16_t port);

/*
 * Takes over a client of the guest, and a connection to the host, which may be under way, or is -errno. Neither blocks.
 * How many there are at once is the caller's to bound.
 */
void agent_forward_out(struct agent_forwards *forwards, int client, int host);

#endif
