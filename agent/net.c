/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ipv6.h>
#include <linux/ipv6_route.h>
#include <linux/route.h>

#include "agent/list.h"

#define CARD "eth0"
#define RESOLV "/etc/resolv.conf"
#define LINK_TRIES 300 /* one every millisecond */
#define TURN 64        /* packets in a round of the poller */
#define RESOLV_NEW "/etc/.resolv.conf.wisp"

static void say(const struct net *net, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(const struct net *net, const char *format, ...)
{
	char line[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	net->log(line);
}

/* --- the card --- */

static struct sockaddr_in to_sockaddr(uint32_t address)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {address}};
}

static int set_one(int fd, unsigned long request, uint32_t address)
{
	struct ifreq r = {.ifr_name = CARD};
	struct sockaddr_in in = to_sockaddr(address);
	memcpy(&r.ifr_addr, &in, sizeof(in));
	return ioctl(fd, request, &r);
}

static int add_route(int fd, uint32_t to, uint32_t mask, uint32_t router)
{
	char card[] = CARD;
	struct rtentry route = {.rt_flags = (unsigned short)(RTF_UP | (router ? RTF_GATEWAY : 0)), .rt_dev = card};
	struct sockaddr_in in[] = {to_sockaddr(to), to_sockaddr(mask), to_sockaddr(router)};
	memcpy(&route.rt_dst, &in[0], sizeof(in[0]));
	memcpy(&route.rt_genmask, &in[1], sizeof(in[1]));
	if (router)
		memcpy(&route.rt_gateway, &in[2], sizeof(in[2]));
	return ioctl(fd, SIOCADDRT, &route);
}

/* A router outside the card's network is reached by a route of its own. */
static int add_default_route(int fd, uint32_t router)
{
	if (add_route(fd, 0, 0, router) == 0 || errno == EEXIST)
		return 0;
	return errno == ENETUNREACH && add_route(fd, router, INADDR_NONE, 0) == 0 ? add_route(fd, 0, 0, router) : -1;
}

static int format_resolv(const struct net_address *a, char *text, size_t size)
{
	int length = 0;
	for (unsigned i = 0; i < DHCP_DNS_MAX && a->dns[i]; i++) {
		uint8_t b[4];
		memcpy(b, &a->dns[i], sizeof(b));
		length += snprintf(
		        text + length, size - (size_t)length, "nameserver %u.%u.%u.%u\n", b[0], b[1], b[2], b[3]);
	}
	for (unsigned i = 0; i < 16 && !IN6_IS_ADDR_UNSPECIFIED(&a->dns6); i += 2)
		length += snprintf(text + length, size - (size_t)length, "%s%x%s", i == 0 ? "nameserver " : ":",
		        (unsigned)(a->dns6.s6_addr[i] << 8 | a->dns6.s6_addr[i + 1]), i == 14 ? "\n" : "");
	return length;
}

static int write_resolv(const struct net_address *a)
{
	char text[(DHCP_DNS_MAX + 2) * 32];
	int length = format_resolv(a, text, sizeof(text));
	if (length == 0)
		return 0;
	/* An image may have a link there, to a file that another resolver would write. */
	unlink(RESOLV_NEW);
	int fd = open(RESOLV_NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -1;
	bool good = write(fd, text, (size_t)length) == length;
	close(fd);
	return good ? rename(RESOLV_NEW, RESOLV) : -1;
}

/* 0, or -1 with errno. The router is in the address's network, or has a link-local address. */
static int set_ipv6(const struct net *net, const struct net_address *a)
{
	struct in6_ifreq address = {.ifr6_addr = a->address6, .ifr6_prefixlen = a->prefix6, .ifr6_ifindex = net->index};
	struct in6_rtmsg route = {.rtmsg_gateway = a->router6,
	        .rtmsg_flags = RTF_UP | RTF_GATEWAY,
	        .rtmsg_metric = 1024, /* as of routes that a user adds */
	        .rtmsg_ifindex = net->index};
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int ret = fd < 0 ? -1 : ioctl(fd, SIOCSIFADDR, &address);
	if (ret == 0 && !IN6_IS_ADDR_UNSPECIFIED(&a->router6))
		ret = ioctl(fd, SIOCADDRT, &route);
	int error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	return ret;
}

static void apply(const struct net *net, const struct net_address *a)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq mtu = {.ifr_name = CARD, .ifr_mtu = a->mtu};
	if (a->mtu && ioctl(fd, SIOCSIFMTU, &mtu) < 0)
		say(net, "cannot set the MTU of eth0 to %u: %s", a->mtu, strerror(errno));
	if (a->address && (set_one(fd, SIOCSIFADDR, a->address) < 0 || set_one(fd, SIOCSIFNETMASK, a->mask) < 0))
		say(net, "cannot set the address of eth0: %s", strerror(errno));
	else if (a->router && add_default_route(fd, a->router) < 0)
		say(net, "cannot add a default route: %s", strerror(errno));
	if (a->prefix6 && set_ipv6(net, a) < 0)
		say(net, "cannot set the IPv6 address of eth0: %s", strerror(errno));
	if (write_resolv(a) < 0)
		say(net, "cannot write /etc/resolv.conf: %s", strerror(errno));
	close(fd);
}

/* Without an address, the kernel removes the routes. */
static void withdraw(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	set_one(fd, SIOCSIFADDR, 0);
	close(fd);
}

static void set_option6(const char *option, char value)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/" CARD "/%s", option);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = write(fd, &value, 1); /* a kernel without IPv6 has no such file */
	(void)n;
	if (fd >= 0)
		close(fd);
}

/*
 * Tells the kernel how to configure IPv6, before the card is switched on. No other machine has the card's MAC, so the
 * kernel need not look for one with the same address, which takes a second. A guest that forwards packets, for its
 * containers, still listens to routers; one with a static address does not.
 */
static void prepare_ipv6(bool is_static)
{
	set_option6("accept_dad", '0');
	set_option6("accept_ra", is_static ? '0' : '2');
}

/* Switches the card on, and finds its index and its MAC. 0 or -errno. */
static int switch_on(struct net *net, uint8_t mac[6])
{
	struct ifreq r = {.ifr_name = CARD};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int ret = ioctl(fd, SIOCGIFINDEX, &r);
	net->index = r.ifr_ifindex;
	if (ret == 0 && (ret = ioctl(fd, SIOCGIFHWADDR, &r)) == 0)
		memcpy(mac, r.ifr_hwaddr.sa_data, 6);
	if (ret == 0 && (ret = ioctl(fd, SIOCGIFFLAGS, &r)) == 0) {
		r.ifr_flags |= IFF_UP;
		ret = ioctl(fd, SIOCSIFFLAGS, &r);
	}
	ret = ret < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* Parses a number up to `most`, without a leading zero, and then `end`. Moves *text past both. */
static bool parse_number(const char **text, unsigned most, char end, unsigned *number)
{
	const char *at = *text;
	unsigned digits = 0;
	for (*number = 0; *at >= '0' && *at <= '9' && digits < 3; at++, digits++)
		*number = *number * 10 + (unsigned)(*at - '0');
	if (digits == 0 || (digits > 1 && **text == '0') || *number > most || *at != end)
		return false;
	*text = at + (end != '\0');
	return true;
}

/* libc's functions for this, or sscanf, would make the agent larger by a tenth. */
static bool parse_address(const char **text, char end, uint32_t *address)
{
	uint8_t bytes[4];
	for (unsigned i = 0; i < 4; i++) {
		unsigned number;
		if (!parse_number(text, 255, i < 3 ? '.' : end, &number))
			return false;
		bytes[i] = (uint8_t)number;
	}
	memcpy(address, bytes, sizeof(bytes));
	return true;
}

bool net_parse(const char *text, struct net_address *a)
{
	unsigned prefix;
	if (!parse_address(&text, '/', &a->address) || !parse_number(&text, 32, ',', &prefix) || prefix == 0 ||
	        !parse_address(&text, ',', &a->router) || !parse_address(&text, '\0', &a->dns[0]))
		return false;
	a->mask = htonl(~0u << (32 - prefix));
	return true;
}

static int digit_of(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

static bool parse_address6(const char **text, char end, struct in6_addr *address)
{
	for (unsigned i = 0; i < 32; i++) {
		int digit = digit_of((*text)[i]);
		if (digit < 0)
			return false;
		address->s6_addr[i / 2] = (uint8_t)(address->s6_addr[i / 2] << 4 | digit);
	}
	if ((*text)[32] != end)
		return false;
	*text += 32 + (end != '\0');
	return true;
}

bool net_parse6(const char *text, struct net_address *a)
{
	unsigned prefix;
	if (!parse_address6(&text, '/', &a->address6) || !parse_number(&text, 128, ',', &prefix) || prefix == 0 ||
	        !parse_address6(&text, ',', &a->router6) || !parse_address6(&text, '\0', &a->dns6))
		return false;
	a->prefix6 = (uint16_t)prefix;
	return true;
}

/*
 * Waits until the kernel sends frames over the card. It learns from the driver a little later that the link is up, and
 * drops frames until then. A first packet that is lost is only sent again after a second.
 */
static void await_link(void)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	struct ifreq r = {.ifr_name = CARD};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (unsigned i = 0; i < LINK_TRIES && ioctl(fd, SIOCGIFFLAGS, &r) == 0 && !(r.ifr_flags & IFF_RUNNING); i++)
		nanosleep(&pause, NULL);
	close(fd);
}

/* --- DHCP --- */

static void close_socket(struct net *net)
{
	if (net->watch.fd < 0)
		return;
	if (net->poller) {
		poller_close(net->poller, &net->watch);
	} else {
		close(net->watch.fd);
		net->watch.fd = -1;
	}
}

/* Of all that the card receives, only whole packets to the port of DHCP's clients: they may be few among many. */
static int set_filter(int fd)
{
	struct sock_filter code[] = {
	        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, offsetof(struct iphdr, protocol)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 6),
	        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct iphdr, frag_off)),
	        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 4, 0),
	        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0), /* the length of IP's header */
	        BPF_STMT(BPF_LD | BPF_H | BPF_IND, offsetof(struct udphdr, dest)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DHCP_CLIENT_PORT, 0, 1),
	        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	        BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog filter = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
}

/* The socket is open only while an answer is awaited. It receives nothing before it has a filter and a card. */
static bool open_socket(struct net *net)
{
	struct sockaddr_ll address = {
	        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = net->index};
	if (net->watch.fd >= 0)
		return true;
	net->watch.fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (net->watch.fd < 0)
		return false;
	bool good = set_filter(net->watch.fd) == 0 &&
	            bind(net->watch.fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	            (!net->poller || poller_watch(net->poller, &net->watch, EPOLLIN) == 0);
	int error = errno;
	if (!good) {
		close(net->watch.fd);
		net->watch.fd = -1;
	}
	errno = error;
	return good;
}

/* Renewing a lease unchanged does nothing: another program may have written /etc/resolv.conf since. */
static void follow_lease(struct net *net)
{
	const struct dhcp_lease *lease = &net->dhcp.lease;
	struct net_address address = {0};
	if (net->dhcp.bound) {
		address = (struct net_address){
		        .address = lease->address, .mask = lease->mask, .router = lease->router, .mtu = lease->mtu};
		memcpy(address.dns, lease->dns, sizeof(address.dns));
	}
	if (memcmp(&address, &net->applied, sizeof(address)) == 0)
		return;
	if (address.address)
		apply(net, &address);
	else
		withdraw();
	net->applied = address;
}

/* After a change: closes the socket if no answer is awaited, and sets the timer. */
static void settle(struct net *net)
{
	if (net->dhcp.state == DHCP_BOUND)
		close_socket(net);
	if (!net->poller)
		return;
	if (net->dhcp.due_ns == DHCP_NEVER)
		poller_disarm(&net->timer);
	else
		poller_arm(net->poller, &net->timer, net->dhcp.due_ns);
}

/* The kernel handles the answer. By itself, it asks only when the card is new to it. */
static void solicit_routers(const struct net *net)
{
	static const uint8_t solicitation[8] = {133}; /* RFC 4861, 4.1; the kernel adds the checksum */
	const struct sockaddr_in6 all_routers = {.sin6_family = AF_INET6,
	        .sin6_addr.s6_addr = {0xff, 2, [15] = 2},
	        .sin6_scope_id = (uint32_t)net->index};
	int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &(int){255}, sizeof(int)); /* others are refused */
	sendto(fd, solicitation, sizeof(solicitation), MSG_NOSIGNAL, (const struct sockaddr *)&all_routers,
	        sizeof(all_routers));
	close(fd);
}

static void send_due(struct net *net)
{
	uint8_t packet[DHCP_PACKET_MAX];
	struct sockaddr_ll to = {.sll_family = AF_PACKET,
	        .sll_protocol = htons(ETH_P_IP),
	        .sll_ifindex = net->index,
	        .sll_halen = 6,
	        .sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
	size_t length = dhcp_due(&net->dhcp, packet, poller_now());
	if (net->renewed)
		solicit_routers(net);
	else
		follow_lease(net);
	if (open_socket(net))
		sendto(net->watch.fd, packet, length, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to));
	else if (net->dhcp.tries == 1)
		say(net, "cannot ask for an address by DHCP: %s", strerror(errno));
	settle(net); /* what could not be sent is sent again later */
}

/* The poller, or await_lease, calls again if there is more. */
static void receive(struct net *net)
{
	uint8_t packet[2048];
	for (unsigned i = 0; i < TURN && net->watch.fd >= 0; i++) {
		ssize_t n = recv(net->watch.fd, packet, sizeof(packet), 0);
		if (n < 0)
			return;
		if (!dhcp_receive(&net->dhcp, packet, (size_t)n, poller_now()))
			continue;
		net->renewed &= !net->dhcp.bound;
		if (!net->renewed)
			follow_lease(net);
		settle(net);
	}
}

static void on_packet(struct poller_watch *watch, uint32_t events)
{
	(void)events;
	receive(container_of(watch, struct net, watch));
}

static void on_timer(struct poller_timer *timer)
{
	send_due(container_of(timer, struct net, timer));
}

/* Waits until there is an address, or the time is up. */
static void await_lease(struct net *net)
{
	uint64_t now_ns = poller_now(), until_ns = now_ns + NET_WAIT_NS;
	for (; !net->dhcp.bound && now_ns < until_ns; now_ns = poller_now()) {
		if (now_ns >= net->dhcp.due_ns) {
			send_due(net);
			continue;
		}
		uint64_t next_ns = net->dhcp.due_ns < until_ns ? net->dhcp.due_ns : until_ns;
		struct pollfd answer = {.fd = net->watch.fd, .events = POLLIN};
		if (poll(&answer, 1, (int)((next_ns - now_ns) / 1000000) + 1) > 0)
			receive(net);
	}
	if (!net->dhcp.bound)
		say(net, "eth0 has no address: no DHCP server has answered yet");
}

static void ask(struct net *net, const uint8_t mac[6])
{
	uint32_t xid = 0;
	ssize_t n = getrandom(&xid, sizeof(xid), GRND_INSECURE); /* it only tells answers apart */
	(void)n;
	dhcp_start(&net->dhcp, mac, xid, poller_now());
}

void net_begin(struct net *net, const char *text, const char *text6, void (*log)(const char *line))
{
	struct net_address address = {0};
	uint8_t mac[6];
	*net = (struct net){.log = log, .watch = {.fd = -1, .ready = on_packet}, .timer = {.fire = on_timer}};
	if (!text)
		return;
	prepare_ipv6(text6);
	int error = switch_on(net, mac);
	if (error) {
		say(net, "cannot switch eth0 on: %s: the guest's kernel needs virtio-net", strerror(-error));
		return;
	}
	await_link();
	bool asks = strcmp(text, "dhcp") == 0, has_none = strcmp(text, "none") == 0;
	if (!asks && !has_none && !net_parse(text, &address))
		say(net, "cannot read the network's address: %.100s", text);
	else if (text6 && !net_parse6(text6, &address))
		say(net, "cannot read the network's address: %.120s", text6);
	else
		apply(net, &address);
	if (asks) {
		ask(net, mac);
		await_lease(net);
	}
}

void net_serve(struct net *net, struct poller *poller)
{
	if (net->dhcp.state == DHCP_OFF)
		return;
	net->poller = poller;
	if (net->watch.fd >= 0 && poller_watch(poller, &net->watch, EPOLLIN) < 0)
		close_socket(net);
	settle(net);
}

void net_again(struct net *net)
{
	uint8_t mac[6];
	if (net->dhcp.state == DHCP_OFF)
		return;
	memcpy(mac, net->dhcp.mac, sizeof(mac));
	close_socket(net);
	net->renewed = true;
	ask(net, mac);
	settle(net);
}
