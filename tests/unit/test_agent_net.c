/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's DHCP client against servers of all kinds, and the address on the kernel's command line. */
#include "agent/net.h"
#include "tests/unit/dhcp_server.h"
#include "tests/unit/test.h"

#define SECOND 1000000000ull
#define START (1000 * SECOND)

enum { DISCOVER = 1, OFFER, REQUEST, ACK = 5, NAK };

static const uint8_t mac[6] = {2, 0, 0, 1, 2, 3};

static struct dhcp dhcp;
static struct answer answer;
static uint8_t sent[DHCP_PACKET_MAX];

static const uint8_t *option_of(const uint8_t *packet, size_t length, uint8_t option)
{
	for (size_t at = OPTIONS_AT; at < length && packet[at] != 255; at += 2u + packet[at + 1])
		if (packet[at] == option)
			return packet + at + 2;
	return NULL;
}

/* Sends what is due; its type. */
static unsigned due(uint64_t now_ns)
{
	size_t length = dhcp_due(&dhcp, sent, now_ns);
	const uint8_t *type = option_of(sent, length, 53);
	uint32_t sum = 0;
	for (unsigned i = 0; i < 20; i += 2)
		sum += (uint32_t)(sent[i] << 8 | sent[i + 1]);
	CHECK_EQ((sum & 0xffff) + (sum >> 16), 0xffff); /* IP's checksum */
	CHECK_EQ(sent[2] << 8 | sent[3], (long)length);
	CHECK(memcmp(sent + MESSAGE_AT + 28, mac, 6) == 0);
	return type ? *type : 0;
}

static bool receive(uint64_t now_ns)
{
	return dhcp_receive(&dhcp, answer.packet, answer.length, now_ns);
}

static void get_lease(uint32_t seconds)
{
	dhcp_start(&dhcp, mac, 0x12345678, START);
	CHECK_EQ(due(START), DISCOVER);
	answer_usual(&answer, sent, OFFER, seconds);
	CHECK(receive(START));
	CHECK_EQ(dhcp.due_ns, START);
	CHECK_EQ(due(START), REQUEST);
	CHECK(memcmp(option_of(sent, sizeof(sent), 50), "\xc0\0\2\7", 4) == 0);
	CHECK(memcmp(option_of(sent, sizeof(sent), 54), "\xc0\0\2\1", 4) == 0);
	answer_usual(&answer, sent, ACK, seconds);
	CHECK(!dhcp.bound);
	CHECK(receive(START));
	CHECK(dhcp.bound);
}

static void an_address_is_leased(void)
{
	get_lease(3600);
	CHECK_EQ(dhcp.lease.address, inet_addr("192.0.2.7"));
	CHECK_EQ(dhcp.lease.mask, inet_addr("255.255.255.128"));
	CHECK_EQ(dhcp.lease.router, inet_addr("192.0.2.1"));
	CHECK_EQ(dhcp.lease.dns[0], inet_addr("9.9.9.9"));
	CHECK_EQ(dhcp.lease.dns[1], inet_addr("1.1.1.1"));
	CHECK_EQ(dhcp.lease.dns[2], 0);
	CHECK_EQ(dhcp.lease.mtu, 65520);
	CHECK_EQ(dhcp.due_ns, START + 1800 * SECOND);
	get_lease(0xffffffff);
	CHECK_EQ(dhcp.due_ns, DHCP_NEVER);
}

static void a_lease_is_renewed(void)
{
	get_lease(3600);
	uint64_t now_ns = dhcp.due_ns;
	CHECK_EQ(due(now_ns), REQUEST);
	CHECK(memcmp(sent + MESSAGE_AT + 12, "\xc0\0\2\7", 4) == 0);
	CHECK(option_of(sent, sizeof(sent), 50) == NULL); /* RFC 2131, 4.3.2 */
	CHECK(dhcp.bound);
	answer_usual(&answer, sent, ACK, 3600);
	CHECK(receive(now_ns));
	CHECK_EQ(dhcp.due_ns, now_ns + 1800 * SECOND);
	/* A server that is silent is asked again, less and less late; at its end the lease is lost. */
	unsigned asked = 0;
	while (dhcp.bound && asked < 100) {
		now_ns = dhcp.due_ns;
		CHECK_EQ(due(now_ns), now_ns < dhcp.end_ns ? REQUEST : DISCOVER);
		asked++;
	}
	CHECK(asked > 5 && asked < 30);
	CHECK_EQ(dhcp.state, DHCP_DISCOVER);
}

static void a_silent_network_is_asked_ever_less(void)
{
	uint64_t now_ns = START, last_ns = 0;
	dhcp_start(&dhcp, mac, 7, START);
	for (unsigned i = 0; i < 12; i++) {
		now_ns = dhcp.due_ns;
		CHECK_EQ(due(now_ns), DISCOVER);
		uint64_t wait_ns = dhcp.due_ns - now_ns;
		CHECK(wait_ns >= last_ns && wait_ns <= 16 * SECOND);
		last_ns = wait_ns;
	}
	CHECK_EQ(last_ns, 16 * SECOND);
	/* An offer that is not kept: after some requests, from the beginning. */
	answer_usual(&answer, sent, OFFER, 60);
	CHECK(receive(now_ns));
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(due(dhcp.due_ns), REQUEST);
	CHECK_EQ(due(dhcp.due_ns), DISCOVER);
}

static void a_refusal_begins_anew(void)
{
	get_lease(3600);
	CHECK_EQ(due(dhcp.due_ns), REQUEST);
	answer_begin(&answer, sent, NAK, "0.0.0.0");
	answer_end(&answer);
	CHECK(receive(START + 1800 * SECOND));
	CHECK(!dhcp.bound);
	CHECK_EQ(dhcp.state, DHCP_DISCOVER);
	CHECK_EQ(dhcp.due_ns, START + 1801 * SECOND);
}

/* None of these is taken for an answer. */
static void others_answers_are_ignored(void)
{
	static const struct {
		size_t at;
		uint8_t value;
	} wrong[] = {
	        {0, 0x65},
	        {0, 0x44},
	        {0, 0x4f},
	        {2, 0xff},
	        {3, 20},
	        {6, 0x20},
	        {7, 1},
	        {9, 6},
	        {UDP_AT + 1, 68},
	        {UDP_AT + 3, 67},
	        {UDP_AT + 4, 0xff},
	        {UDP_AT + 5, 8},
	        {MESSAGE_AT, 1},
	        {MESSAGE_AT + 1, 6},
	        {MESSAGE_AT + 2, 16},
	        {MESSAGE_AT + 4, 0},
	        {MESSAGE_AT + 28, 4},
	        {MESSAGE_AT + 33, 9},
	        {MESSAGE_AT + 236, 0},
	        {MESSAGE_AT + 16, 0},
	        {MESSAGE_AT + 16, 127},
	        {MESSAGE_AT + 16, 224},
	        {OPTIONS_AT + 1, 200},
	        {OPTIONS_AT + 2, ACK},
	        {OPTIONS_AT + 2, NAK},
	        {OPTIONS_AT + 2, 77},
	};
	dhcp_start(&dhcp, mac, 0x12345678, START);
	CHECK_EQ(due(START), DISCOVER);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		answer_usual(&answer, sent, OFFER, 60);
		answer.packet[wrong[i].at] = wrong[i].value;
		if (receive(START)) {
			printf("# byte %zu with %u is taken\n", wrong[i].at, wrong[i].value);
			test_failed = true;
		}
	}
	answer_usual(&answer, sent, OFFER, 60);
	for (size_t length = 0; length < answer.length; length++)
		CHECK(!dhcp_receive(&dhcp, answer.packet, length, START));
	CHECK(receive(START));
}

static void a_mask_with_holes_is_refused(void)
{
	dhcp_start(&dhcp, mac, 1, START);
	due(START);
	answer_begin(&answer, sent, OFFER, "192.0.2.7");
	answer_address(&answer, 54, "192.0.2.1");
	answer_address(&answer, 1, "255.0.255.0");
	answer_end(&answer);
	CHECK(!receive(START));
	/* Options of odd lengths are as if they were not there. */
	answer_begin(&answer, sent, OFFER, "192.0.2.7");
	answer_address(&answer, 54, "192.0.2.1");
	answer_option(&answer, 3, "abc", 3);
	answer_option(&answer, 6, "abcde", 5);
	answer_option(&answer, 26, "a", 1);
	answer_option(&answer, 0xe0, "abc", 3);
	answer.packet[answer.length++] = 0; /* padding */
	answer_end(&answer);
	CHECK(receive(START));
	CHECK_EQ(dhcp.offer.router, 0);
	CHECK_EQ(dhcp.offer.dns[1], 0);
	CHECK_EQ(dhcp.offer.mtu, 0);
	CHECK_EQ(dhcp.offer.mask, inet_addr("255.255.255.0"));
}

static void a_static_address_is_read(void)
{
	struct net_address a;
	CHECK(net_parse("192.0.2.9/20,192.0.2.1,0.0.0.0", &a));
	CHECK_EQ(a.address, inet_addr("192.0.2.9"));
	CHECK_EQ(a.mask, inet_addr("255.255.240.0"));
	CHECK_EQ(a.router, inet_addr("192.0.2.1"));
	CHECK_EQ(a.dns[0], 0);
	CHECK(net_parse("10.0.0.1/32,0.0.0.0,9.9.9.9", &a));
	CHECK_EQ(a.mask, INADDR_NONE);
	static const char *const bad[] = {"", "dhcpx", "10.0.0.1", "10.0.0.1/33,0.0.0.0,0.0.0.0",
	        "10.0.0.1/0,0.0.0.0,0.0.0.0", "10.0.0.1/8,0.0.0.0", "10.0.0.1/8,0.0.0.0,0.0.0.0,",
	        "10.0.0.300/8,1.1.1.1,2.2.2.2", "10.0.0.1/8,1.1.1,2.2.2.2",
	        "10.0.0.1111111111111111/8,1.1.1.1,2.2.2.2"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!net_parse(bad[i], &a));
}

TEST_MAIN("agent_net", {"an_address_is_leased", an_address_is_leased}, {"a_lease_is_renewed", a_lease_is_renewed},
        {"a_silent_network_is_asked_ever_less", a_silent_network_is_asked_ever_less},
        {"a_refusal_begins_anew", a_refusal_begins_anew}, {"others_answers_are_ignored", others_answers_are_ignored},
        {"a_mask_with_holes_is_refused", a_mask_with_holes_is_refused},
        {"a_static_address_is_read", a_static_address_is_read})
