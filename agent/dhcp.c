/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/dhcp.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <string.h>

#define SERVER_PORT 67
#define COOKIE 0x63825363u
#define MESSAGE_MIN 300u /* bytes; a relay discards a shorter one: RFC 1542, 2.1 */
#define FLAG_BROADCAST 0x8000u
#define ETHERNET 1

#define NS_PER_MS 1000000u
#define NS_PER_S 1000000000ull
#define RETRY_MS 250u      /* the first time; twice as long each time */
#define RETRIES_DOUBLED 6u /* up to 16 s */
#define REQUESTS 4u        /* of one offer */
#define LEASE_MIN_S 10u    /* a shorter one would keep the network busy */
#define LEASE_ENDLESS 0xffffffffu

enum option {
	OPTION_PAD = 0,
	OPTION_MASK = 1,
	OPTION_ROUTER = 3,
	OPTION_DNS = 6,
	OPTION_MTU = 26,
	OPTION_ADDRESS = 50,
	OPTION_LEASE = 51,
	OPTION_TYPE = 53,
	OPTION_SERVER = 54,
	OPTION_PARAMETERS = 55,
	OPTION_END = 255,
};

enum type { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACK, NAK };

struct message {
	uint8_t op, hardware, hardware_length, hops;
	uint32_t xid;
	uint16_t seconds, flags;
	uint32_t client, yours, next_server, relay;
	uint8_t mac[16];
	uint8_t names[192];
	uint32_t cookie;
	uint8_t options[];
};
_Static_assert(sizeof(struct message) == 240, "RFC 2131, figure 1");

struct headers {
	struct iphdr ip;
	struct udphdr udp;
};
_Static_assert(sizeof(struct headers) == 28, "without options");

/* --- what is sent --- */

static uint16_t checksum(const void *data, size_t length)
{
	const uint8_t *at = data;
	uint32_t sum = 0;
	for (size_t i = 0; i + 1 < length; i += 2)
		sum += (uint32_t)(at[i] << 8 | at[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static uint8_t *put(uint8_t *to, enum option option, const void *data, uint8_t length)
{
	to[0] = (uint8_t)option;
	to[1] = length;
	memcpy(to + 2, data, length);
	return to + 2 + length;
}

/* A packet of this type: without a UDP checksum, which IPv4 does not require. */
static size_t make(const struct dhcp *dhcp, enum type type, uint8_t packet[DHCP_PACKET_MAX])
{
	static const uint8_t wanted[] = {OPTION_MASK, OPTION_ROUTER, OPTION_DNS, OPTION_MTU, OPTION_LEASE};
	struct message message = {.op = 1,
	        .hardware = ETHERNET,
	        .hardware_length = 6,
	        .xid = dhcp->xid,
	        .flags = htons(FLAG_BROADCAST),
	        .client = dhcp->state == DHCP_RENEW ? dhcp->lease.address : 0,
	        .cookie = htonl(COOKIE)};
	memcpy(message.mac, dhcp->mac, sizeof(dhcp->mac));
	memset(packet, 0, DHCP_PACKET_MAX);
	memcpy(packet + sizeof(struct headers), &message, sizeof(message));
	uint8_t *at = packet + sizeof(struct headers) + sizeof(message);
	at = put(at, OPTION_TYPE, &(uint8_t){(uint8_t)type}, 1);
	at = put(at, OPTION_PARAMETERS, wanted, sizeof(wanted));
	if (dhcp->state == DHCP_REQUEST) {
		at = put(at, OPTION_ADDRESS, &dhcp->offer.address, 4);
		at = put(at, OPTION_SERVER, &dhcp->offer.server, 4);
	}
	*at++ = OPTION_END;
	size_t length = (size_t)(at - packet);
	if (length < sizeof(struct headers) + MESSAGE_MIN)
		length = sizeof(struct headers) + MESSAGE_MIN; /* zeros are OPTION_PAD */
	struct headers headers = {.ip = {.version = 4,
	                                  .ihl = 5,
	                                  .tot_len = htons((uint16_t)length),
	                                  .ttl = 64,
	                                  .protocol = IPPROTO_UDP,
	                                  .saddr = message.client,
	                                  .daddr = INADDR_BROADCAST},
	        .udp = {.source = htons(DHCP_CLIENT_PORT),
	                .dest = htons(SERVER_PORT),
	                .len = htons((uint16_t)(length - sizeof(struct iphdr)))}};
	headers.ip.check = checksum(&headers.ip, sizeof(headers.ip));
	memcpy(packet, &headers, sizeof(headers));
	return length;
}

static void discover(struct dhcp *dhcp, uint64_t due_ns)
{
	dhcp->state = DHCP_DISCOVER;
	dhcp->tries = 0;
	dhcp->due_ns = due_ns;
}

void dhcp_start(struct dhcp *dhcp, const uint8_t mac[6], uint32_t xid, uint64_t now_ns)
{
	*dhcp = (struct dhcp){.xid = xid};
	memcpy(dhcp->mac, mac, sizeof(dhcp->mac));
	discover(dhcp, now_ns);
}

static void wait_longer(struct dhcp *dhcp, uint64_t now_ns)
{
	unsigned doubled = dhcp->tries < RETRIES_DOUBLED ? dhcp->tries : RETRIES_DOUBLED;
	dhcp->due_ns = now_ns + ((uint64_t)RETRY_MS * NS_PER_MS << doubled);
	dhcp->tries++;
}

size_t dhcp_due(struct dhcp *dhcp, uint8_t packet[DHCP_PACKET_MAX], uint64_t now_ns)
{
	bool renewing = dhcp->state == DHCP_BOUND || dhcp->state == DHCP_RENEW;
	if (renewing && now_ns >= dhcp->end_ns) {
		dhcp->bound = false;
		discover(dhcp, now_ns);
	} else if (renewing) {
		uint64_t half_ns = (dhcp->end_ns - now_ns) / 2;
		dhcp->state = DHCP_RENEW;
		dhcp->due_ns = half_ns < NS_PER_S ? dhcp->end_ns : now_ns + half_ns;
		return make(dhcp, REQUEST, packet);
	}
	if (dhcp->state == DHCP_REQUEST && dhcp->tries == REQUESTS)
		discover(dhcp, now_ns);
	wait_longer(dhcp, now_ns);
	return make(dhcp, dhcp->state == DHCP_REQUEST ? REQUEST : DISCOVER, packet);
}

/* --- what is received --- */

/* The message of a packet from a server, and the bytes of its options; NULL if it is another packet. */
static const uint8_t *find_message(const uint8_t *packet, size_t length, size_t *options)
{
	struct iphdr ip;
	struct udphdr udp;
	if (length < sizeof(ip))
		return NULL;
	memcpy(&ip, packet, sizeof(ip));
	size_t header = ip.ihl * 4u, total = ntohs(ip.tot_len);
	if (ip.version != 4 || header < sizeof(ip) || total > length || total < header + sizeof(udp) ||
	        ip.protocol != IPPROTO_UDP || ip.frag_off & htons(0x3fff))
		return NULL;
	memcpy(&udp, packet + header, sizeof(udp));
	size_t payload = ntohs(udp.len);
	if (udp.source != htons(SERVER_PORT) || udp.dest != htons(DHCP_CLIENT_PORT) || payload > total - header ||
	        payload < sizeof(udp) + sizeof(struct message))
		return NULL;
	/* The checksum may be one that the host's kernel leaves to a card. The message goes over one wire. */
	*options = payload - sizeof(udp) - sizeof(struct message);
	return packet + header + sizeof(udp);
}

/* The 32 bits at place `i` of an option, or 0. */
static uint32_t word(const uint8_t *data, uint8_t length, unsigned i)
{
	uint32_t value = 0;
	if (length >= 4 * (i + 1))
		memcpy(&value, data + 4 * (size_t)i, sizeof(value));
	return value;
}

static void take_option(struct dhcp_lease *lease, uint8_t *type, uint8_t option, const uint8_t *data, uint8_t length)
{
	switch (option) {
	case OPTION_TYPE: *type = length == 1 ? data[0] : 0; break;
	case OPTION_MASK: lease->mask = word(data, length, 0); break;
	case OPTION_ROUTER: lease->router = word(data, length, 0); break;
	case OPTION_SERVER: lease->server = word(data, length, 0); break;
	case OPTION_LEASE: lease->seconds = ntohl(word(data, length, 0)); break;
	case OPTION_MTU: lease->mtu = length == 2 ? (uint16_t)(data[0] << 8 | data[1]) : 0; break;
	case OPTION_DNS:
		for (unsigned i = 0; i < DHCP_DNS_MAX; i++)
			lease->dns[i] = word(data, length, i);
		break;
	default: break;
	}
}

/* The message's type, or 0 if its options go beyond its end. */
static uint8_t take_options(struct dhcp_lease *lease, const uint8_t *at, size_t left)
{
	uint8_t type = 0;
	while (left > 0 && *at != OPTION_END) {
		size_t size = 1;
		if (*at != OPTION_PAD) {
			if (left < 2 || left - 2 < at[1])
				return 0;
			take_option(lease, &type, at[0], at + 2, at[1]);
			size = 2u + at[1];
		}
		at += size;
		left -= size;
	}
	return type;
}

/* An address that one machine of a network can have, with a mask of leading ones. */
static bool is_usable(const struct dhcp_lease *lease)
{
	uint32_t address = ntohl(lease->address), mask = ntohl(lease->mask);
	uint8_t first = (uint8_t)(address >> 24);
	return first != 0 && first != 127 && first < 224 && mask != 0 && (~mask & (~mask + 1)) == 0;
}

static void bind_lease(struct dhcp *dhcp, const struct dhcp_lease *lease, uint64_t now_ns)
{
	uint32_t seconds = lease->seconds < LEASE_MIN_S ? LEASE_MIN_S : lease->seconds;
	bool endless = seconds == LEASE_ENDLESS;
	dhcp->state = DHCP_BOUND;
	dhcp->bound = true;
	dhcp->lease = *lease;
	dhcp->end_ns = endless ? DHCP_NEVER : now_ns + seconds * NS_PER_S;
	dhcp->due_ns = endless ? DHCP_NEVER : now_ns + seconds * NS_PER_S / 2;
}

static bool take(struct dhcp *dhcp, uint8_t type, const struct dhcp_lease *lease, uint64_t now_ns)
{
	bool asked = dhcp->state == DHCP_REQUEST || dhcp->state == DHCP_RENEW;
	if (type == NAK && asked) {
		dhcp->bound = false;
		discover(dhcp, now_ns + NS_PER_S);
		return true;
	}
	if (!is_usable(lease))
		return false;
	if (type == OFFER && dhcp->state == DHCP_DISCOVER && lease->server) {
		dhcp->offer = *lease;
		dhcp->state = DHCP_REQUEST;
		dhcp->tries = 0;
		dhcp->due_ns = now_ns;
		return true;
	}
	if (type != ACK || !asked)
		return false;
	bind_lease(dhcp, lease, now_ns);
	return true;
}

bool dhcp_receive(struct dhcp *dhcp, const uint8_t *packet, size_t length, uint64_t now_ns)
{
	struct message message;
	size_t options;
	const uint8_t *from = find_message(packet, length, &options);
	if (!from)
		return false;
	memcpy(&message, from, sizeof(message));
	if (message.op != 2 || message.hardware != ETHERNET || message.hardware_length != 6 ||
	        message.xid != dhcp->xid || message.cookie != htonl(COOKIE) ||
	        memcmp(message.mac, dhcp->mac, sizeof(dhcp->mac)) != 0)
		return false;
	/* A network of 256 is what a server means that says nothing. */
	struct dhcp_lease lease = {.address = message.yours, .mask = htonl(0xffffff00)};
	uint8_t type = take_options(&lease, from + sizeof(message), options);
	return take(dhcp, type, &lease, now_ns);
}
