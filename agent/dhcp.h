/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A DHCP client (RFC 2131) for the guest's one network card: what to send and when, and what an answer means. It has
 * neither sockets nor clocks. Whoever answers is not trusted.
 *
 * Messages are whole IP packets, because a card without an address cannot be sent one by UDP. All are broadcast, those
 * that renew a lease too, which a server answers as it does others.
 */
#ifndef WISP_AGENT_DHCP_H
#define WISP_AGENT_DHCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DHCP_CLIENT_PORT 68u
#define DHCP_PACKET_MAX 576u /* bytes; every host takes so much in one piece */
#define DHCP_DNS_MAX 3u      /* as many as resolv.conf has */
#define DHCP_NEVER UINT64_MAX

enum dhcp_state {
	DHCP_OFF,
	DHCP_DISCOVER, /* asks who has an address */
	DHCP_REQUEST,  /* asks for the one that was offered */
	DHCP_BOUND,
	DHCP_RENEW, /* still bound */
};

/* Addresses are in network byte order; 0: none. */
struct dhcp_lease {
	uint32_t address, mask, router, server;
	uint32_t dns[DHCP_DNS_MAX];
	uint32_t seconds;
	uint16_t mtu; /* 0: not told */
};

struct dhcp {
	enum dhcp_state state;
	uint8_t mac[6];
	uint32_t xid;
	unsigned tries;
	uint64_t due_ns; /* CLOCK_MONOTONIC: when to call dhcp_due; DHCP_NEVER */
	uint64_t end_ns; /* of the lease */
	bool bound;      /* `lease` holds */
	struct dhcp_lease lease, offer;
};

/* Forgets everything, and asks anew. `xid` is random. */
void dhcp_start(struct dhcp *dhcp, const uint8_t mac[6], uint32_t xid, uint64_t now_ns);

/* due_ns has passed: fills in the packet to be sent. Returns its length. The lease may have ended. */
size_t dhcp_due(struct dhcp *dhcp, uint8_t packet[DHCP_PACKET_MAX], uint64_t now_ns);

/* An IP packet came. Whether it was an answer, which may have changed the lease and due_ns. */
bool dhcp_receive(struct dhcp *dhcp, const uint8_t *packet, size_t length, uint64_t now_ns);

#endif
