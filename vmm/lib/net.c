/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/lib/passt.h"

#define MTU_DEFAULT 1500u
#define MTU_PASST 65520u              /* the largest that it has */
#define PORT_NAME_SIZE (IFNAMSIZ + 8) /* of "tap=NAME" or "passt" */
#define HEADER_BYTES 12               /* struct virtio_net_hdr_v1 */
#define QUEUES ",queues="
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

/* ---- Text ---- */

static int fail_text(const char *what, const char *text, const char *why, struct wisp_error *error)
{
	return lib_fail(
	        error, WISP_ERR_INVALID, EINVAL, "the network's %s '%.80s' cannot be used: %s", what, text, why);
}

static int parse_mac(const char *text, uint8_t mac[6], struct wisp_error *error)
{
	static const uint8_t none[6];
	int end = 0;
	bool good = strlen(text) == 17 && strspn(text, "0123456789abcdefABCDEF:") == 17 &&
	            sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
	                    &mac[5], &end) == 6 &&
	            end == 17;
	if (!good)
		return fail_text("MAC", text, "write six hexadecimal bytes, as in 02:00:00:00:00:01", error);
	if (mac[0] & 1 || memcmp(mac, none, sizeof(none)) == 0)
		return fail_text("MAC", text, "it is not the address of a single card", error);
	return 0;
}

/* A MAC of the range that everyone may use. */
static void random_mac(uint8_t mac[6])
{
	lib_random(mac, 6);
	mac[0] = (uint8_t)((mac[0] & ~1u) | 2);
}

static int parse_ipv4(const char *what, const char *text, uint32_t *address, struct wisp_error *error)
{
	if (text && (inet_pton(AF_INET, text, address) != 1 || *address == 0))
		return fail_text(what, text, "write an IPv4 address, as in 192.0.2.1", error);
	return 0;
}

/* "ADDRESS/PREFIX", a prefix of 1 to `most` without zeros before it. `address` gets what comes first. */
static bool split_prefix(const char *text, char *address, size_t size, unsigned most, uint32_t *prefix)
{
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : 0, digits = slash ? strlen(slash + 1) : 0;
	if (length == 0 || length >= size || digits == 0 || digits > 3 || slash[1] == '0' ||
	        strspn(slash + 1, "0123456789") != digits)
		return false;
	memcpy(address, text, length);
	address[length] = '\0';
	*prefix = (uint32_t)strtoul(slash + 1, NULL, 10);
	return *prefix <= most;
}

static int parse_address(const char *text, struct description_net *net, struct wisp_error *error)
{
	char address[INET_ADDRSTRLEN];
	if (!split_prefix(text, address, sizeof(address), 32, &net->prefix) ||
	        inet_pton(AF_INET, address, &net->address) != 1 || net->address == 0)
		return fail_text("address", text, "write an IPv4 address and its prefix, as in 192.0.2.2/24", error);
	return 0;
}

static int parse_ipv6(const char *what, const char *text, struct in6_addr *address, struct wisp_error *error)
{
	if (text && (inet_pton(AF_INET6, text, address) != 1 || IN6_IS_ADDR_UNSPECIFIED(address)))
		return fail_text(what, text, "write an IPv6 address, as in 2001:db8::1", error);
	return 0;
}

static bool in_network6(const struct in6_addr *address, const struct description_net *net)
{
	for (unsigned bit = 0; bit < net->prefix6; bit++) {
		if ((address->s6_addr[bit / 8] ^ net->address6.s6_addr[bit / 8]) & 0x80 >> bit % 8)
			return false;
	}
	return true;
}

static int parse_addresses6(const struct creation *creation, const struct wisp_net *options,
        struct description_net *net, struct wisp_error *error)
{
	char address[INET6_ADDRSTRLEN];
	if (!options->address6 && (options->gateway6 || options->dns6))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a gateway or name server of the network's IPv6 requires a static address: set it, or omit "
		        "all of them");
	if (!options->address6)
		return 0;
	if (!split_prefix(options->address6, address, sizeof(address), 128, &net->prefix6) ||
	        inet_pton(AF_INET6, address, &net->address6) != 1 || IN6_IS_ADDR_UNSPECIFIED(&net->address6) ||
	        IN6_IS_ADDR_MULTICAST(&net->address6) || IN6_IS_ADDR_LOOPBACK(&net->address6))
		return fail_text("address", options->address6,
		        "write an IPv6 address and its prefix, as in 2001:db8::2/64", error);
	int r = parse_ipv6("gateway", options->gateway6, &net->gateway6, error);
	if (r == 0)
		r = parse_ipv6("name server", options->dns6, &net->dns6, error);
	if (r == 0 && options->gateway6 && !IN6_IS_ADDR_LINKLOCAL(&net->gateway6) && !in_network6(&net->gateway6, net))
		r = fail_text("gateway", options->gateway6, "it is not in the network of the address", error);
	const char *kernel = creation_own_kernel(&creation->options);
	if (r == 0 && kernel && strcmp(kernel, KERNEL_FULL) != 0)
		r = lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "an IPv6 address of the network requires a kernel with IPv6: use the kernel \"full\"");
	return r;
}

static int parse_addresses(const struct wisp_net *options, struct description_net *net, struct wisp_error *error)
{
	uint32_t unused;
	if (options->kind == WISP_NET_PASST)
		return parse_ipv4("name server", options->dns, &unused, error);
	if (!options->address && (options->gateway || options->dns))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a gateway or name server of the network requires a static address: set it, or leave all of "
		        "them to DHCP");
	if (!options->address)
		return 0;
	int r = parse_address(options->address, net, error);
	if (r == 0)
		r = parse_ipv4("gateway", options->gateway, &net->gateway, error);
	if (r == 0)
		r = parse_ipv4("name server", options->dns, &net->dns, error);
	uint32_t mask = r == 0 ? htonl(~0u << (32 - net->prefix)) : 0;
	if (r == 0 && net->gateway && ((net->gateway ^ net->address) & mask))
		r = fail_text("gateway", options->gateway, "it is not in the network of the address", error);
	return r;
}

/* ---- Tap devices ---- */

static unsigned find_mtu(const char *interface)
{
	struct ifreq request = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	/* The descriptor may be of another network namespace. */
	bool known = fd >= 0 && ioctl(fd, SIOCGIFMTU, &request) == 0 && request.ifr_mtu >= (int)WISP_NET_MTU_MIN &&
	             request.ifr_mtu <= (int)WISP_NET_MTU_MAX;
	if (fd >= 0)
		close(fd);
	return known ? (unsigned)request.ifr_mtu : MTU_DEFAULT;
}

static int open_tap(const char *name, bool several, int *fd, struct wisp_error *error)
{
	struct ifreq request = {.ifr_flags = TAP_FLAGS | (several ? IFF_MULTI_QUEUE : 0)};
	if (strlen(name) >= sizeof(request.ifr_name) || if_nametoindex(name) == 0)
		return lib_fail(error, WISP_ERR_INVALID, ENODEV,
		        "there is no network interface '%.80s': make it with \"ip tuntap add mode tap user USER "
		        "NAME\"",
		        name);
	memcpy(request.ifr_name, name, strlen(name));
	*fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return lib_fail_errno(error, errno, "cannot open /dev/net/tun");
	if (ioctl(*fd, TUNSETIFF, &request) == 0)
		return 0;
	const char *why = errno == EPERM    ? ": only root, and the user or group that it was made for, may use it"
	                  : errno == EBUSY  ? ": another program uses it"
	                  : errno != EINVAL ? ""
	                  : several         ? ": it is not a tap device with several queues"
	                                    : ": it is not a tap device, or one with several queues";
	return lib_fail(error, WISP_ERR_SETUP, errno, "cannot use the network interface %s: %s%s", name,
	        strerrordesc_np(errno), why);
}

/* Duplicates the caller's descriptor of a tap device. */
static int take_tap(int given, int *fd, struct wisp_error *error)
{
	struct ifreq request = {0};
	*fd = fcntl(given, F_DUPFD_CLOEXEC, 3);
	if (*fd < 0)
		return lib_fail(error, WISP_ERR_INVALID, errno, "the network's descriptor %d is not open", given);
	if (ioctl(*fd, TUNGETIFF, &request) < 0 || !(request.ifr_flags & IFF_TAP))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the network's descriptor %d is not that of a tap device", given);
	if ((request.ifr_flags & TAP_FLAGS) != TAP_FLAGS)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the tap device of descriptor %d lacks IFF_NO_PI or IFF_VNET_HDR: set both with TUNSETIFF",
		        given);
	return 0;
}

static int connect_tap(
        struct creation *creation, const struct wisp_net *options, char name[PORT_NAME_SIZE], struct wisp_error *error)
{
	int size = HEADER_BYTES, *fds = creation->fds.net, r = 0;
	uint32_t queues = creation->description.net.queues;
	struct ifreq request = {0};
	if (!options->tap == !options->fd)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a network by a tap device requires its name or its descriptor, and not both");
	if (options->fd && queues > 1)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "several queues of a tap device require its name, not its descriptor");
	for (uint32_t i = 0; i < queues && r == 0; i++)
		r = options->tap ? open_tap(options->tap, queues > 1, &fds[i], error)
		                 : take_tap(*options->fd, &fds[i], error);
	if (r < 0)
		return r;
	if (ioctl(fds[0], TUNGETIFF, &request) < 0 || ioctl(fds[0], TUNSETVNETHDRSZ, &size) < 0)
		return lib_fail_errno(error, errno, "cannot prepare the tap device");
	/* The record of the network separates its parts by commas. */
	if (memchr(request.ifr_name, ',', strnlen(request.ifr_name, IFNAMSIZ)))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the tap device '%.*s' has a comma in its name: rename it", IFNAMSIZ, request.ifr_name);
	snprintf(name, PORT_NAME_SIZE, "tap=%.*s", IFNAMSIZ, request.ifr_name);
	creation->description.net.port = DESCRIPTION_NET_TAP;
	return 0;
}

/* ---- Both ---- */

/* passt gives the guest its addresses, and is its only neighbour. */
static int connect_passt(struct creation *creation, const struct wisp_net *options, struct wisp_error *error)
{
	struct passt_options passt = {.program = options->program ? options->program : "/usr/bin/passt",
	        .dns = options->dns,
	        .mtu = creation->description.net.mtu,
	        .create = &creation->options};
	if (options->tap || options->fd || options->address || options->gateway || options->address6)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a network by passt has no tap device, and the guest's address is the host's: omit them");
	if (creation->description.net.queues > 1)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a network by passt has one queue: use a tap device for a card with several");
	int r = passt_start(&passt, &creation->cancel, &creation->fds.net[0], error);
	if (r == 0)
		creation->description.net.port = DESCRIPTION_NET_STREAM;
	return r;
}

/* Fills in the MTU, unless it was chosen, and `name`. */
static int connect_port(
        struct creation *creation, const struct wisp_net *options, char name[PORT_NAME_SIZE], struct wisp_error *error)
{
	uint16_t *mtu = &creation->description.net.mtu;
	snprintf(name, PORT_NAME_SIZE, "passt");
	*mtu = (uint16_t)(options->mtu ? options->mtu : MTU_PASST);
	if (options->kind == WISP_NET_PASST)
		return connect_passt(creation, options, error);
	int r = connect_tap(creation, options, name, error);
	if (r == 0 && !options->mtu)
		*mtu = (uint16_t)find_mtu(name + strlen("tap="));
	return r;
}

/* Describes the card for the config, in the form that --net takes. */
static int tell(
        struct creation *creation, const struct wisp_net *options, const char *interface, struct wisp_error *error)
{
	const struct description_net *net = &creation->description.net;
	const struct {
		const char *key, *text;
	} parts[] = {{"address", options->address}, {"gateway", options->gateway}, {"dns", options->dns},
	        {"address6", options->address6}, {"gateway6", options->gateway6}, {"dns6", options->dns6}};
	struct lib_string text = {0};
	lib_string_format(&text, "%s,mac=%02x:%02x:%02x:%02x:%02x:%02x,mtu=%u", interface, net->mac[0], net->mac[1],
	        net->mac[2], net->mac[3], net->mac[4], net->mac[5], net->mtu);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (parts[i].text)
			lib_string_format(&text, ",%s=%s", parts[i].key, parts[i].text);
	}
	if (net->queues > 1)
		lib_string_format(&text, QUEUES "%u", net->queues);
	creation->net = text.text;
	return text.failed ? lib_no_memory(error) : 0;
}

static int copy_options(struct creation *creation, struct wisp_net *options, struct wisp_error *error)
{
	int r = lib_copy_options(options, sizeof(*options), creation->options.net, "struct wisp_net", error);
	if (r == 0 && options->kind != WISP_NET_TAP && options->kind != WISP_NET_PASST)
		r = lib_fail(error, WISP_ERR_INVALID, EINVAL, "there is no kind of network %d", (int)options->kind);
	creation->description.net.rate = options->rate;
	return r;
}

int net_describe(struct creation *creation, struct wisp_error *error)
{
	struct description_net *net = &creation->description.net;
	struct wisp_net options;
	char name[PORT_NAME_SIZE];
	if (!creation->options.net)
		return 0;
	int r = copy_options(creation, &options, error);
	if (r == 0 && creation->options.bare)
		r = lib_fail(error, WISP_ERR_INVALID, EINVAL, "bare boots a kernel alone: it takes no network");
	if (r == 0 && options.mtu && (options.mtu < WISP_NET_MTU_MIN || options.mtu > WISP_NET_MTU_MAX))
		r = lib_fail(error, WISP_ERR_INVALID, EINVAL, "a network's MTU of %u: give %u to %u", options.mtu,
		        WISP_NET_MTU_MIN, WISP_NET_MTU_MAX);
	if (r == 0 && options.queues > WISP_NET_QUEUES_MAX)
		r = lib_fail(error, WISP_ERR_INVALID, EINVAL, "a network card with %u queues: give 1 to %d",
		        options.queues, WISP_NET_QUEUES_MAX);
	net->queues = options.queues ? options.queues : 1;
	if (r == 0)
		r = parse_addresses(&options, net, error);
	if (r == 0)
		r = parse_addresses6(creation, &options, net, error);
	random_mac(net->mac);
	if (r == 0 && options.mac)
		r = parse_mac(options.mac, net->mac, error);
	if (r == 0)
		r = connect_port(creation, &options, name, error);
	return r < 0 ? r : tell(creation, &options, name, error);
}

/* The queues of a card, from the description that `tell` made. */
static uint32_t read_queues(const char *had)
{
	const char *at = strstr(had, QUEUES);
	return at ? (uint32_t)strtoul(at + strlen(QUEUES), NULL, 10) : 1;
}

int net_inherit(struct creation *creation, const char *had, struct wisp_error *error)
{
	struct description_net *net = &creation->description.net;
	struct wisp_net options;
	char name[PORT_NAME_SIZE];
	if (!had && creation->options.net)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the machine of the snapshot has no network card: omit the network, or boot with one");
	if (!had)
		return 0;
	/* What the device was created with is in its state. */
	net->mtu = MTU_DEFAULT;
	net->port = DESCRIPTION_NET_DOWN;
	net->queues = read_queues(had);
	if (net->queues < 1 || net->queues > DESCRIPTION_NET_QUEUES_MAX)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the snapshot's network card has %u queues, of which it can have %d", net->queues,
		        DESCRIPTION_NET_QUEUES_MAX);
	const char *rest = strchr(had, ',');
	int r = 0;
	if (creation->options.net) {
		r = copy_options(creation, &options, error);
		if (r == 0 && (options.mac || options.mtu || options.address || options.gateway || options.dns ||
		                      options.address6 || options.gateway6 || options.dns6 || options.queues))
			r = lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "the guest of the snapshot keeps its MAC, MTU and addresses: give the tap device, or "
			        "passt, alone");
		if (r == 0)
			r = connect_port(creation, &options, name, error);
	}
	if (r < 0)
		return r;
	bool is_down = net->port == DESCRIPTION_NET_DOWN;
	if (asprintf(&creation->net, "%s%s", is_down ? "down" : name, rest ? rest : "") < 0) {
		creation->net = NULL;
		return lib_no_memory(error);
	}
	return 0;
}
