/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's network card, eth0: its addresses by the kernel's command line, or by DHCP and, for IPv6, by the kernel
 * from what routers announce; routes; name servers.
 */
#ifndef WISP_AGENT_NET_H
#define WISP_AGENT_NET_H

#include <netinet/in.h>

#include "agent/dhcp.h"
#include "agent/poller.h"

#define NET_WAIT_NS 5000000000ull /* how long the guest's start waits for an address by DHCP */

/* Addresses are in network byte order; 0: none. */
struct net_address {
	uint32_t address, mask, router;
	uint32_t dns[DHCP_DNS_MAX];
	uint16_t mtu;     /* 0: as it is */
	uint16_t prefix6; /* bits, of `address6`; 0: it has none */
	struct in6_addr address6, router6, dns6;
};

struct net {
	struct poller *poller; /* NULL until net_serve */
	struct poller_watch watch;
	struct poller_timer timer;
	struct dhcp dhcp;           /* DHCP_OFF: there is a static address, or none */
	int index;                  /* the kernel's, of the card */
	struct net_address applied; /* an address of 0: none */
	bool renewed; /* by net_again: the old address stays until a server gives one, as there may be no network */
	void (*log)(const char *line);
};

/*
 * Parse "ADDRESS/PREFIX,ROUTER,DNS" into the fields of IPv4 or, with 32 hexadecimal digits for each address, of IPv6.
 * The other fields stay as they are.
 */
bool net_parse(const char *text, struct net_address *address);
bool net_parse6(const char *text, struct net_address *address);

/*
 * Sets up the card. `text` is for IPv4: such addresses, "dhcp" or "none"; NULL: there is no card. `text6` is for IPv6:
 * such addresses, or NULL to listen to routers. Then waits up to NET_WAIT_NS for an address by DHCP. Failures are
 * logged.
 */
void net_begin(struct net *net, const char *text, const char *text6, void (*log)(const char *line));

/* Continues DHCP, from now on with the poller. */
void net_serve(struct net *net, struct poller *poller);

/* The machine is a clone or was restored, perhaps on another network: asks for an address again. */
void net_again(struct net *net);

#endif
