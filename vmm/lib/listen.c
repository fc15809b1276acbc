/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PRIVILEGED_BELOW 1024u
#define SILENCE_S 300 /* of a client, until TCP asks whether it is there */

/* ---- Text ---- */

static int fail_text(const char *text, const char *why, struct wisp_error *error)
{
	return lib_fail(error, WISP_ERR_INVALID, EINVAL,
	        "'%.120s' is no place to listen: %s: write PORT, ADDRESS:PORT, [IPv6]:PORT or /PATH", text, why);
}

static int parse_path(const char *text, struct listen_address *out, struct wisp_error *error)
{
	struct sockaddr_un *address = (struct sockaddr_un *)&out->address;
	char *path = lib_absolute(text);
	if (!path)
		return lib_no_memory(error);
	size_t length = strlen(path);
	address->sun_family = AF_UNIX;
	out->size = sizeof(*address);
	if (length < sizeof(address->sun_path))
		memcpy(address->sun_path, path, length + 1);
	free(path);
	if (length >= sizeof(address->sun_path))
		return lib_fail(error, WISP_ERR_INVALID, ENAMETOOLONG,
		        "the path '%.80s...' is longer than the %zu bytes that a socket's may have", text,
		        sizeof(address->sun_path) - 1);
	if (strpbrk(address->sun_path, "\n"))
		return fail_text(text, "the path has a newline", error);
	return 0;
}

/* A decimal number up to 65535, and nothing else. */
static bool parse_port(const char *text, uint16_t *port)
{
	size_t length = strlen(text);
	if (length < 1 || length > 5 || strspn(text, "0123456789") != length)
		return false;
	long value = strtol(text, NULL, 10);
	*port = (uint16_t)value;
	return value <= UINT16_MAX;
}

static bool parse_v6(const char *host, uint16_t port, struct listen_address *out)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->address;
	*v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
	out->size = sizeof(*v6);
	return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
}

static bool parse_v4(const char *host, uint16_t port, struct listen_address *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&out->address;
	*v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	out->size = sizeof(*v4);
	return inet_pton(AF_INET, host, &v4->sin_addr) == 1;
}

int listen_parse(const char *text, struct listen_address *address, struct wisp_error *error)
{
	char host[INET6_ADDRSTRLEN + 2] = "127.0.0.1";
	uint16_t port;
	*address = (struct listen_address){0};
	if (lib_is_null(text, "host", error))
		return -EINVAL;
	if (strchr(text, '/'))
		return parse_path(text, address, error);
	const char *colon = strrchr(text, ':');
	if (!parse_port(colon ? colon + 1 : text, &port))
		return fail_text(text, "the port is not a number from 0 to 65535", error);
	size_t length = colon ? (size_t)(colon - text) : 0;
	if (length >= sizeof(host))
		return fail_text(text, "there is no such address", error);
	if (colon)
		snprintf(host, sizeof(host), "%.*s", (int)length, text);
	bool brackets = host[0] == '[' && host[length - 1] == ']';
	if (brackets)
		host[length - 1] = '\0';
	if (!brackets && strchr(host, ':'))
		return fail_text(text, "an IPv6 address stands in brackets", error);
	if (brackets ? !parse_v6(host + 1, port, address) : !parse_v4(host, port, address))
		return fail_text(text, "the address is not numeric", error);
	return 0;
}

const char *listen_path(const struct listen_address *address)
{
	return address->address.ss_family == AF_UNIX ? ((const struct sockaddr_un *)&address->address)->sun_path : NULL;
}

uint16_t listen_port(const struct listen_address *address)
{
	if (address->address.ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)&address->address)->sin_port);
	if (address->address.ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)&address->address)->sin6_port);
	return 0;
}

bool listen_format(const struct listen_address *address, char text[LISTEN_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN] = "";
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->address;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->address;
	text[0] = '\0';
	if (listen_path(address))
		lib_printable(text, LISTEN_TEXT_MAX, listen_path(address),
		        strnlen(listen_path(address), sizeof(((struct sockaddr_un *)0)->sun_path)));
	else if (address->address.ss_family == AF_INET6 && inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)))
		snprintf(text, LISTEN_TEXT_MAX, "[%s]:%u", host, listen_port(address));
	else if (address->address.ss_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host)))
		snprintf(text, LISTEN_TEXT_MAX, "%s:%u", host, listen_port(address));
	return text[0] != '\0';
}

bool listen_is_same(const struct listen_address *a, const struct listen_address *b)
{
	char first[LISTEN_TEXT_MAX], second[LISTEN_TEXT_MAX];
	return listen_format(a, first) && listen_format(b, second) && strcmp(first, second) == 0;
}

/* ---- Sockets ---- */

/*
 * Whether the file is that of a socket on which nothing listens. Who has put a listener of his own there in the
 * meantime sees a connection that ends at once.
 */
static bool is_abandoned(const struct sockaddr_un *address)
{
	struct stat st;
	if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool abandoned =
	        fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED;
	if (fd >= 0)
		close(fd);
	return abandoned;
}

void listen_remove(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) < sizeof(address.sun_path) &&
	        is_abandoned(&address))
		unlink(path);
}

static int bind_and_listen(int fd, const struct listen_address *address)
{
	const struct sockaddr *name = (const struct sockaddr *)&address->address;
	/* A Unix socket has its mode before it has a name: at no moment can others connect. */
	if (listen_path(address) && fchmod(fd, 0600) < 0)
		return -errno;
	int r = bind(fd, name, address->size) < 0 ? -errno : 0;
	if (r == 0 && listen_path(address) && chmod(listen_path(address), 0600) < 0)
		r = -errno;
	return r == 0 && listen(fd, SOMAXCONN) < 0 ? -errno : r;
}

static int fail_listen(const struct listen_address *address, int errnum, struct wisp_error *error)
{
	char text[LISTEN_TEXT_MAX];
	const char *path = listen_path(address), *advice = "";
	listen_format(address, text);
	if (errnum == EADDRINUSE)
		advice = path ? ": remove the file if no program uses it, or choose another path"
		              : ": choose another port, or 0 for any that is free";
	else if (errnum == EACCES && !path && listen_port(address) < PRIVILEGED_BELOW)
		advice = ": ports below 1024 require root, or a lower net.ipv4.ip_unprivileged_port_start";
	else if (errnum == EADDRNOTAVAIL)
		advice = ": this host does not have the address";
	return lib_fail(
	        error, WISP_ERR_SYSTEM, errnum, "cannot listen on %s: %s%s", text, strerrordesc_np(errnum), advice);
}

int listen_open(struct listen_address *address, int *out, struct wisp_error *error)
{
	static const int on = 1, silence = SILENCE_S;
	sa_family_t family = address->address.ss_family;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return lib_fail_errno(error, errno, "cannot make a socket");
	/* What is accepted inherits these. [::] is not 0.0.0.0 as well. */
	if (family != AF_UNIX) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		/* A client that has vanished does not hold its place, and a server's, for ever. */
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &silence, sizeof(silence));
	}
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	int r = bind_and_listen(fd, address);
	socklen_t size = sizeof(address->address);
	if (r == 0 && family != AF_UNIX && getsockname(fd, (struct sockaddr *)&address->address, &size) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		return fail_listen(address, -r, error);
	}
	*out = fd;
	return 0;
}
