/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's own addresses, and its neighbours: with public addresses, as IPv6 has, no list of special networks has
 * them.
 */
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>

#include "vmm/proxy/proxy.h"

#define IPV4_BITS 96u /* of the mapped form, before those of IPv4 */
/*
 * Shorter prefixes are no networks of neighbours: an interface may have one to route all of the internet through it, or
 * all of an overlay network, and then nothing would be left to allow by name.
 */
#define SHORTEST_IPV4 (IPV4_BITS + 8)
#define SHORTEST_IPV6 16u

static unsigned count_bits(const struct sockaddr *mask)
{
	struct egress_address address;
	if (!mask || !take_address(mask, &address))
		return 128;
	unsigned n = mask->sa_family == AF_INET ? IPV4_BITS : 0;
	while (n < 128 && address.bytes[n / 8] & 0x80u >> n % 8)
		n++;
	return n;
}

static void add(struct egress_rules *rules, const struct sockaddr *from, unsigned prefix, const char *what)
{
	struct egress_own *own = &rules->own[rules->own_count];
	own->prefix = prefix;
	own->what = what;
	rules->own_count += take_address(from, &own->address);
}

int own_take(struct egress_rules *rules, const struct ifaddrs *list)
{
	size_t count = 0;
	for (const struct ifaddrs *at = list; at; at = at->ifa_next)
		count += 2;
	rules->own = calloc(count + 1, sizeof(*rules->own));
	if (!rules->own)
		return -ENOMEM;
	for (const struct ifaddrs *at = list; at; at = at->ifa_next) {
		if (!at->ifa_addr)
			continue;
		/* The network of an address that has a peer is the peer's. */
		bool peer = at->ifa_flags & IFF_POINTOPOINT && at->ifa_dstaddr;
		unsigned prefix = count_bits(at->ifa_netmask);
		add(rules, at->ifa_addr, 128, "this host's");
		if (prefix >= (at->ifa_addr->sa_family == AF_INET ? SHORTEST_IPV4 : SHORTEST_IPV6))
			add(rules, peer ? at->ifa_dstaddr : at->ifa_addr, prefix, "in a network of this host");
	}
	return 0;
}

int own_read(struct egress_rules *rules)
{
	struct ifaddrs *list = NULL;
	if (getifaddrs(&list) < 0)
		return -errno;
	int r = own_take(rules, list);
	freeifaddrs(list);
	return r;
}
