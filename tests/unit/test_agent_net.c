/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's DHCP client against servers of all kinds; the addresses on the kernel's command line, and a card that
 * gets them.
 */
#include <sys/wait.h>

#include "agent/net.h"
#include "tests/unit/dhcp_server.h"
#include "tests/unit/tap.h"
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
	CHECK(length >= MESSAGE_AT + 300); /* RFC 1542, 2.1 */
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
	struct net_address a = {0};
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

#define HEX "20010db8000000000000000000000002"
#define ZERO "00000000000000000000000000000000"
#define ROUTER "fe800000000000000000000000000001"

static void a_static_address_of_ipv6_is_read(void)
{
	struct net_address a = {.address = 7};
	CHECK(net_parse6(HEX "/64," ZERO "," HEX, &a));
	CHECK(memcmp(&a.address6, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2", 16) == 0);
	CHECK(IN6_IS_ADDR_UNSPECIFIED(&a.router6));
	CHECK(memcmp(&a.dns6, &a.address6, 16) == 0);
	CHECK(a.prefix6 == 64 && a.address == 7);
	static const char *const bad[] = {"", HEX, HEX "/64", HEX "/64," ZERO, HEX "/64," ZERO "," HEX ",",
	        HEX "/64," ZERO "," HEX "0", HEX "/0," ZERO "," HEX, HEX "/129," ZERO "," HEX, HEX "0/64," ZERO "," HEX,
	        "2001:db8::2/64," ZERO "," HEX, "0" HEX "/64," ZERO "," HEX, HEX "/64," ZERO ",2001",
	        HEX "/64,g" ZERO "," HEX};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!net_parse6(bad[i], &a));
}

/* ---- A card: a tap device in a network of this process's own ---- */

static void not_expected(const char *line)
{
	printf("# %s\n", line);
	test_failed = true;
}

static bool has_line(const char *path, const char *part)
{
	char line[256];
	bool found = false;
	FILE *file = fopen(path, "r");
	while (file && !found && fgets(line, sizeof(line), file))
		found = strstr(line, part) != NULL;
	if (file)
		fclose(file);
	return found;
}

static void give_static_addresses(int tap)
{
	struct net net;
	(void)tap;
	net_begin(&net, "10.9.0.2/24,10.9.0.1,0.0.0.0", HEX "/64," ROUTER "," ZERO, not_expected);
	CHECK_EQ(net.dhcp.state, DHCP_OFF);
	CHECK(has_line("/proc/net/route", "eth0\t00000000\t0100090A"));
	CHECK(has_line("/proc/net/if_inet6", HEX));
	/* The prefix, and flags that say that the address is permanent and, as soon as a worker ran, not tentative. */
	for (unsigned i = 0; i < 2000 && !has_line("/proc/net/if_inet6", " 40 00 80     eth0"); i++)
		usleep(1000);
	CHECK(has_line("/proc/net/if_inet6", " 40 00 80     eth0"));
	CHECK(has_line("/proc/net/ipv6_route", ZERO " 00 " ZERO " 00 " ROUTER " 00000400"));
	CHECK(has_line("/proc/sys/net/ipv6/conf/eth0/accept_ra", "0"));
}

static void give_ipv6_alone(int tap)
{
	struct net net;
	(void)tap;
	net_begin(&net, "none", HEX "/128," ZERO "," ZERO, not_expected);
	CHECK_EQ(net.dhcp.state, DHCP_OFF);
	CHECK(!has_line("/proc/net/route", "eth0"));
	CHECK(has_line("/proc/net/if_inet6", HEX));
}

/* Whether the card sends a router solicitation (RFC 4861, 4.1). Forgets what it has sent so far, if asked to. */
static bool solicits(int tap, int wait_ms)
{
	uint8_t frame[2048];
	struct pollfd waits = {.fd = tap, .events = POLLIN};
	while (poll(&waits, 1, wait_ms) > 0) {
		ssize_t n = read(tap, frame, sizeof(frame));
		if (n >= 62 && frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == IPPROTO_ICMPV6 &&
		        frame[21] == 255 && memcmp(frame + 38, "\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16) == 0 &&
		        frame[54] == 133)
			return true;
	}
	return false;
}

/* The kernel asks when the card is new; a guest that was restored, perhaps on another network, asks again. */
static void ask_routers(int tap)
{
	struct net net;
	struct poller poller;
	net_begin(&net, "none", NULL, not_expected);
	CHECK(has_line("/proc/sys/net/ipv6/conf/eth0/accept_ra", "2"));
	CHECK(solicits(tap, 2000));
	int file = open("/proc/sys/net/ipv6/conf/eth0/accept_ra", O_WRONLY);
	CHECK_EQ(write(file, "0", 1), 1); /* then the kernel asks no more */
	close(file);
	REQUIRE(poller_init(&poller) == 0);
	dhcp_start(&net.dhcp, mac, 1, poller_now());
	net_serve(&net, &poller);
	while (solicits(tap, 0))
		;
	net.timer.fire(&net.timer);
	CHECK(!solicits(tap, 0));
	net_again(&net);
	net.timer.fire(&net.timer);
	CHECK(solicits(tap, 2000));
	poller_destroy(&poller);
}

/* Gives the card a packet. */
static void give(int tap, const void *packet, size_t length)
{
	uint8_t frame[14 + sizeof(answer.packet)] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 9, 9, 9, 8, 0};
	memcpy(frame + 14, packet, length);
	CHECK_EQ(write(tap, frame, 14 + length), (long)(14 + length));
}

/* Whether the next packet that the agent has to look at is this one; of none, that there is none. */
static bool finds(const struct net *net, const void *packet, size_t length)
{
	uint8_t found[2048];
	ssize_t n = recv(net->watch.fd, found, sizeof(found), MSG_DONTWAIT);
	return length ? n == (ssize_t)length && memcmp(found, packet, length) == 0 : n < 0 && errno == EAGAIN;
}

/* A DHCP server that is silent: all else that the card receives costs the agent nothing, and a flood has its turns. */
static void wait_among_others(int tap)
{
	enum { FLOOD = 100, TURN = 64 };
	struct net net;
	struct poller poller;
	unsigned left = 0;
	static const uint8_t others[][28] = {
	        {0x45, 0, 0, 28, [8] = 64, 17, [23] = 69},                      /* another port */
	        {0x45, 0, 0, 28, [8] = 64, 6, [23] = 68},                       /* TCP */
	        {0x45, 0, 0, 28, 0, 0, 0x20, 0, 64, 17, [23] = 68},             /* the beginning of a packet */
	        {0x45, 0, 0, 28, 0, 0, 0, 9, 64, 17, [23] = 68},                /* its end */
	        {0x46, 0, 0, 28, [8] = 64, 17, [23] = 68, [24] = 0, 67, 0, 69}, /* an option that looks like the port */
	};
	static const uint8_t behind_options[32] = {0x46, 0, 0, 32, [8] = 64, 17, [24] = 0, 67, 0, 68, 0, 8};
	net_begin(&net, "none", NULL, not_expected);
	REQUIRE(poller_init(&poller) == 0);
	dhcp_start(&net.dhcp, mac, 1, poller_now());
	net_serve(&net, &poller);
	net.timer.fire(&net.timer);
	REQUIRE(net.watch.fd >= 0);
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		give(tap, others[i], sizeof(others[i]));
		CHECK(finds(&net, NULL, 0));
	}
	give(tap, behind_options, sizeof(behind_options));
	CHECK(finds(&net, behind_options, sizeof(behind_options)));

	dhcp = net.dhcp;
	dhcp.xid++; /* another client's */
	due(poller_now());
	answer_usual(&answer, sent, OFFER, 60);
	for (unsigned i = 0; i < FLOOD; i++)
		give(tap, answer.packet, answer.length);
	net.watch.ready(&net.watch, EPOLLIN);
	while (finds(&net, answer.packet, answer.length))
		left++;
	CHECK_EQ(left, FLOOD - TURN);
	poller_destroy(&poller);
}

static int make_card(short flags)
{
	struct ifreq request = {.ifr_flags = flags, .ifr_name = "eth0"};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	return fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 && access("/proc/sys/net/ipv6/conf/eth0", F_OK) == 0 ? fd
	                                                                                                           : -1;
}

static void with_card(void (*run)(int tap))
{
	tap_in_child(make_card, IFF_TAP | IFF_NO_PI, run,
	        "this host has no /dev/net/tun, no IPv6, or no namespaces of its users'");
}

static void static_addresses(void)
{
	with_card(give_static_addresses);
}

static void ipv6_alone(void)
{
	with_card(give_ipv6_alone);
}

static void other_packets_are_not_looked_at(void)
{
	with_card(wait_among_others);
}

static void routers_are_asked(void)
{
	with_card(ask_routers);
}

TEST_MAIN("agent_net", {"an_address_is_leased", an_address_is_leased}, {"a_lease_is_renewed", a_lease_is_renewed},
        {"a_silent_network_is_asked_ever_less", a_silent_network_is_asked_ever_less},
        {"a_refusal_begins_anew", a_refusal_begins_anew}, {"others_answers_are_ignored", others_answers_are_ignored},
        {"a_mask_with_holes_is_refused", a_mask_with_holes_is_refused},
        {"a_static_address_is_read", a_static_address_is_read},
        {"a_static_address_of_ipv6_is_read", a_static_address_of_ipv6_is_read}, {"static_addresses", static_addresses},
        {"ipv6_alone", ipv6_alone}, {"routers_are_asked", routers_are_asked},
        {"other_packets_are_not_looked_at", other_packets_are_not_looked_at})
