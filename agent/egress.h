/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way out: programs connect to ports of the guest's loopback, and each connection is carried to the host's proxy,
 * byte for byte. The agent knows nothing of what it carries.
 */
#ifndef WISP_AGENT_EGRESS_H
#define WISP_AGENT_EGRESS_H

#include "agent/poller.h"

struct agent;

/* A listening socket. */
struct egress_door {
	struct poller_watch watch;
	struct agent *agent;
	uint16_t port;
	struct poller_timer again; /* after a time of too many connections, or too few descriptors */
};

struct agent_egress {
	bool open;
	struct egress_door http, socks;
};

void agent_egress_init(struct agent_egress *egress, struct agent *agent);
/* Listens, unless it does already. A failure is logged: then programs find nobody there. */
void agent_egress_open(struct agent_egress *egress);
void agent_egress_destroy(struct agent_egress *egress);

#endif
