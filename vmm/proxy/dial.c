/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/proxy/proxy.h"

#define ADDRESSES_MAX 16u
#define ADDRESS_MS 10000

struct dialing {
	struct proxy *proxy;
	uint16_t port;
	bool resolved;
	struct egress_address addresses[ADDRESSES_MAX];
	size_t count;
	char *why;
};

static void format_address(const struct egress_address *address, char text[EGRESS_HOST_MAX])
{
	struct egress_host host = {.is_address = true, .address = *address};
	egress_format_host(&host, text);
}

/* ---- Resolving ---- */

bool take_address(const struct sockaddr *from, struct egress_address *address)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	if (from->sa_family == AF_INET) {
		memcpy(&v4, from, sizeof(v4));
		memset(address->bytes, 0, 10);
		memset(address->bytes + 10, 0xff, 2);
		memcpy(address->bytes + 12, &v4.sin_addr, 4);
	} else if (from->sa_family == AF_INET6) {
		memcpy(&v6, from, sizeof(v6));
		memcpy(address->bytes, &v6.sin6_addr, 16);
	}
	return from->sa_family == AF_INET || from->sa_family == AF_INET6;
}

static enum dial_result resolve(struct dialing *d, const char *name)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	int r = getaddrinfo(name, NULL, &hints, &list);
	for (const struct addrinfo *info = list; r == 0 && info && d->count < ADDRESSES_MAX; info = info->ai_next)
		d->count += take_address(info->ai_addr, &d->addresses[d->count]);
	if (list)
		freeaddrinfo(list);
	if (d->count > 0)
		return DIAL_CONNECTED;
	snprintf(d->why, DIAL_WHY_SIZE, "it cannot be resolved: %s",
	        r == EAI_SYSTEM ? strerror(errno)
	        : r             ? gai_strerror(r)
	                        : "it has no address");
	return DIAL_FAILED;
}

/* ---- Connecting ---- */

static int connect_one(const struct egress_address *address, uint16_t port, int64_t deadline_ns)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool four = memcmp(address->bytes, mapped, sizeof(mapped)) == 0;
	int error = 0, on = 1;
	socklen_t size = sizeof(error);
	memcpy(&v4.sin_addr, address->bytes + 12, 4);
	memcpy(&v6.sin6_addr, address->bytes, 16);
	int fd = socket(four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* A server that has vanished does not hold its place for ever. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	int r = connect(fd, four ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6, four ? sizeof(v4) : sizeof(v6));
	if (r < 0 && errno == EINPROGRESS)
		r = wait_for(fd, POLLOUT, deadline_ns);
	else if (r < 0)
		r = -errno;
	if (r == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0)
		r = -error;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* The addresses are connected to that were checked: no name is looked up twice. */
static enum dial_result connect_allowed(struct dialing *d, int *fd, char connected[EGRESS_HOST_MAX])
{
	int64_t deadline = deadline_in(d->proxy->connect_ms);
	enum dial_result result = DIAL_REFUSED;
	for (size_t i = 0; i < d->count; i++) {
		const struct egress_address *address = &d->addresses[i];
		unsigned prefix;
		const char *special = egress_special(&d->proxy->rules, address, &prefix);
		format_address(address, connected);
		if (!egress_allows_address(&d->proxy->rules, address, d->port, d->resolved)) {
			if (result == DIAL_REFUSED && special)
				snprintf(d->why, DIAL_WHY_SIZE, "its address %s is %s, and no rule names that",
				        connected, special);
			else if (result == DIAL_REFUSED)
				snprintf(d->why, DIAL_WHY_SIZE, "no rule allows it");
			continue;
		}
		int64_t one = deadline_in(ADDRESS_MS);
		*fd = connect_one(address, d->port, one < deadline ? one : deadline);
		if (*fd >= 0)
			return DIAL_CONNECTED;
		result = DIAL_FAILED;
		snprintf(d->why, DIAL_WHY_SIZE, "cannot connect to %s: %s", connected, strerror(-*fd));
	}
	return result;
}

/* ---- The decision ---- */

static bool has_secret(const struct egress_rules *rules, const char *host)
{
	char own[EGRESS_HOST_MAX];
	for (size_t i = 0; i < rules->secret_count; i++) {
		egress_format_host(&rules->secrets[i].host, own);
		if (strcmp(own, host) == 0)
			return true;
	}
	return false;
}

enum dial_result dial(struct proxy *proxy, const char *how, const struct egress_host *host, uint16_t port, int *fd,
        char why[DIAL_WHY_SIZE])
{
	struct dialing d = {.proxy = proxy, .port = port, .resolved = !host->is_address, .why = why};
	char text[EGRESS_HOST_MAX], connected[EGRESS_HOST_MAX] = "";
	enum dial_result result = DIAL_CONNECTED;
	egress_format_host(host, text);
	if (host->is_address) {
		d.addresses[d.count++] = host->address;
	} else if (!egress_allows_name(&proxy->rules, host->name, port)) {
		/* It is not resolved either: a query would tell its server what the guest wants to tell. */
		snprintf(why, DIAL_WHY_SIZE, "no rule allows it");
		result = DIAL_REFUSED;
	} else {
		result = resolve(&d, host->name);
	}
	if (result == DIAL_CONNECTED)
		result = connect_allowed(&d, fd, connected);
	if (result == DIAL_CONNECTED)
		netlog_write(&proxy->log, "allowed %s %s:%u %s%s", how, text, port, connected,
		        strcmp(how, "http") != 0 && has_secret(&proxy->rules, text)
		                ? "; its secrets are replaced in plain HTTP only"
		                : "");
	else
		netlog_write(&proxy->log, "%s %s %s:%u: %s", result == DIAL_REFUSED ? "refused" : "failed", how, text,
		        port, why);
	return result;
}
