/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/init_args.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vmm/shared/fs_wire.h"

struct words {
	char *to;
	size_t used;
};

static void add(struct words *words, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct words *words, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(words->to + words->used, INIT_ARGS_MAX - words->used, format, arguments);
	va_end(arguments);
	words->used += (size_t)length;
	if (words->used >= INIT_ARGS_MAX)
		words->used = INIT_ARGS_MAX - 1;
}

/* What is not plain in a path is written as %XX: the kernel's words end at a space, and quotes have a meaning. */
static void add_path(struct words *words, const char *path)
{
	for (; *path; path++) {
		bool plain = isalnum((unsigned char)*path) || strchr("/._-+,@", *path);
		add(words, plain ? "%c" : "%%%02X", (unsigned char)*path);
	}
}

static bool is_root(const struct description_folder *folder)
{
	return strcmp(folder->path, "/") == 0;
}

static void add_folder(struct words *words, const struct description_folder *folder)
{
	if (is_root(folder)) {
		add(words, " folder=/");
		return;
	}
	add(words, " folder=%s%s:", folder->read_only ? "ro" : "rw", folder->is_file ? ":file" : "");
	add_path(words, folder->path);
}

static void add_address6(struct words *words, const struct in6_addr *address)
{
	for (unsigned i = 0; i < sizeof(address->s6_addr); i++)
		add(words, "%02x", address->s6_addr[i]);
}

/* A static address with its gateway and name server, each of which may be 0; or what IPv4 has without one. */
static void add_net(struct words *words, const struct description_net *net)
{
	char address[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN], dns[INET_ADDRSTRLEN];
	if (net->prefix6) {
		add(words, " net6=");
		add_address6(words, &net->address6);
		add(words, "/%u,", net->prefix6);
		add_address6(words, &net->gateway6);
		add(words, ",");
		add_address6(words, &net->dns6);
	}
	if (net->address == 0) {
		add(words, " net=%s", net->prefix6 ? "none" : "dhcp");
		return;
	}
	inet_ntop(AF_INET, &net->address, address, sizeof(address));
	inet_ntop(AF_INET, &net->gateway, gateway, sizeof(gateway));
	inet_ntop(AF_INET, &net->dns, dns, sizeof(dns));
	add(words, " net=%s/%u,%s,%s", address, net->prefix, gateway, dns);
}

void init_args_make(const struct description *d, char to[INIT_ARGS_MAX])
{
	struct words words = {.to = to};
	to[0] = '\0';
	if (d->flags & DESCRIPTION_BARE)
		return;
	add(&words, "host=%s", d->hostname);
	if (d->flags & DESCRIPTION_IMAGE)
		add(&words, " root=vda mode=%s", d->disk[0].read_only ? "ro" : "rw");
	if (d->folder_count > 0 && is_root(&d->folder[0]))
		add(&words, " root=" FS_TAG " mode=ro", 0u);
	if (d->flags & DESCRIPTION_OVERLAY)
		add(&words, " overlay=vdb");
	if (d->net.port != DESCRIPTION_NET_NONE)
		add_net(&words, &d->net);
	if (d->cpus > 1)
		add(&words, " cpus=%u", d->cpus);
	if (d->flags & DESCRIPTION_TRACE)
		add(&words, " stamps=1");
	for (uint32_t i = 0; i < d->folder_count; i++)
		add_folder(&words, &d->folder[i]);
}
