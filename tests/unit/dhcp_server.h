/* SPDX-License-Identifier: Apache-2.0 */
/* What a DHCP server answers, byte by byte. */
#ifndef WISP_TEST_DHCP_SERVER_H
#define WISP_TEST_DHCP_SERVER_H

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include "agent/dhcp.h"

#define UDP_AT 20u
#define MESSAGE_AT 28u
#define OPTIONS_AT (MESSAGE_AT + 240u)

struct answer {
	uint8_t packet[1024];
	size_t length; /* up to where options are added */
};

static inline void answer_option(struct answer *a, uint8_t option, const void *data, uint8_t length)
{
	a->packet[a->length] = option;
	a->packet[a->length + 1] = length;
	memcpy(a->packet + a->length + 2, data, length);
	a->length += 2u + length;
}

static inline void answer_address(struct answer *a, uint8_t option, const char *address)
{
	uint32_t value = inet_addr(address);
	answer_option(a, option, &value, 4);
}

/* To the client's packet, with an address for it and the type as the first option. */
static inline void answer_begin(struct answer *a, const uint8_t *asked, uint8_t type, const char *address)
{
	uint32_t yours = inet_addr(address);
	memset(a, 0, sizeof(*a));
	memcpy(a->packet, "\x45\0\0\0\0\0\0\0\x40\x11\0\0\xc0\0\2\1\xff\xff\xff\xff", 20);
	memcpy(a->packet + UDP_AT, "\0\x43\0\x44", 4);
	memcpy(a->packet + MESSAGE_AT, asked + MESSAGE_AT, 44); /* up to the MAC */
	a->packet[MESSAGE_AT] = 2;
	memcpy(a->packet + MESSAGE_AT + 16, &yours, 4);
	memcpy(a->packet + MESSAGE_AT + 236, "\x63\x82\x53\x63", 4);
	a->length = OPTIONS_AT;
	answer_option(a, 53, &type, 1);
}

static inline void answer_lengths(struct answer *a)
{
	uint16_t total = htons((uint16_t)a->length), udp = htons((uint16_t)(a->length - UDP_AT));
	memcpy(a->packet + 2, &total, 2);
	memcpy(a->packet + UDP_AT + 4, &udp, 2);
}

static inline void answer_end(struct answer *a)
{
	a->packet[a->length++] = 255;
	answer_lengths(a);
}

/* An offer or an acknowledgement as an ordinary server sends it. */
static inline void answer_usual(struct answer *a, const uint8_t *asked, uint8_t type, uint32_t seconds)
{
	answer_begin(a, asked, type, "192.0.2.7");
	answer_address(a, 54, "192.0.2.1");
	seconds = htonl(seconds);
	answer_option(a, 51, &seconds, 4);
	answer_address(a, 1, "255.255.255.128");
	answer_address(a, 3, "192.0.2.1");
	answer_option(a, 6, "\x09\x09\x09\x09\x01\x01\x01\x01", 8);
	answer_option(a, 26, "\xff\xf0", 2);
	answer_end(a);
}

#endif
