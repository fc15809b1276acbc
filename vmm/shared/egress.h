/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest may reach on the network: rules, the hosts that they name, and secrets. The library checks them, and
 * wisp-proxy obeys them.
 *
 * A rule is HOST[:PORT]. HOST is a name, "*.NAME" (every name below NAME, not NAME itself), "*" (every name), an
 * address, or a network in CIDR notation; IPv6 with a port stands in brackets. PORT is a number or "*"; without it, the
 * rule is for 80 and 443.
 */
#ifndef WISP_EGRESS_H
#define WISP_EGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The agent listens on these ports of the guest's loopback. Either leads to the host's vsock port, and takes both. */
#define EGRESS_HTTP_PORT 3128u
#define EGRESS_SOCKS_PORT 1080u
#define EGRESS_VSOCK_PORT 1026u

#define EGRESS_RULES_MAX 1024u
#define EGRESS_SECRETS_MAX 32u
#define EGRESS_CONNECTIONS_MAX 512u /* of a sandbox, at once */

#define EGRESS_NAME_MAX 254u /* bytes with the NUL: DNS has no longer names */
#define EGRESS_HOST_MAX 260u /* of a host as text */
#define EGRESS_SECRET_NAME_MAX 64u
#define EGRESS_SECRET_VALUE_MAX 4096u

/* What wisp-proxy finds open when it starts. */
enum {
	EGRESS_STATUS_FD = 1, /* it writes "ok" or what failed, one line, and closes it */
	EGRESS_RULES_FD = 3,  /* a file of lines: "allow RULE", "secret SECRET", and "detach": struct egress_rules */
	EGRESS_LISTEN_FD,     /* a listening Unix socket */
	EGRESS_LOG_FD,        /* net.log, open for reading and appending */
	EGRESS_MONITOR_FD,    /* a pidfd: it ends with this process */
	EGRESS_FD_END,
};

/* IPv4 is the mapped form, ::ffff:0:0/96, here and everywhere below. */
struct egress_address {
	uint8_t bytes[16];
};

struct egress_host {
	bool is_address;
	char name[EGRESS_NAME_MAX]; /* in lower case, without a trailing dot */
	struct egress_address address;
};

enum egress_kind {
	EGRESS_NAME,
	EGRESS_BELOW, /* every name that ends in ".name" */
	EGRESS_ANY_NAME,
	EGRESS_NETWORK,
};

enum { EGRESS_PORTS_WEB = 0, EGRESS_PORTS_ALL = 65536 };

struct egress_rule {
	enum egress_kind kind;
	struct egress_host host;
	unsigned prefix; /* of a network: bits of the mapped form that count */
	uint32_t port;   /* or EGRESS_PORTS_WEB, EGRESS_PORTS_ALL */
};

struct egress_secret {
	char name[EGRESS_SECRET_NAME_MAX + 1]; /* of the variable in the guest */
	char value[EGRESS_SECRET_VALUE_MAX + 1];
	struct egress_host host;
	uint32_t port;
};

/* A network that is not the internet to this host. */
struct egress_own {
	struct egress_address address;
	unsigned prefix;
	const char *what; /* a constant, as of egress_special */
};

struct egress_rules {
	struct egress_rule *rules;
	size_t count;
	struct egress_secret *secrets;
	size_t secret_count;
	struct egress_own *own;
	size_t own_count;
	bool detach; /* the proxy leaves the process that started it, which may end before the sandbox */
};

/*
 * Parses a host of `length` bytes, which need not end with a NUL. Whatever resolvers take for an IPv4 address ("127.1",
 * "0x7f000001") is one. False if it is neither a name nor an address. An IPv6 address stands without brackets.
 */
bool egress_parse_host(const char *text, size_t length, struct egress_host *host);

/* The host as text, an IPv6 address in brackets. */
void egress_format_host(const struct egress_host *host, char text[EGRESS_HOST_MAX]);

/* 1 to 65535, or 0 if it is none. */
uint16_t egress_parse_port(const char *text, size_t length);

/* False, with the reason in *why, a constant that follows "it " in a message. */
bool egress_parse_rule(const char *text, struct egress_rule *rule, const char **why);

/* NAME=VALUE@HOST[:PORT]; the port is 80 if none is given. As egress_parse_rule. */
bool egress_parse_secret(const char *text, struct egress_secret *secret, const char **why);

/* What stands for a secret in the guest: no name's is a part of another's. */
#define EGRESS_PLACEHOLDER_FORMAT "wisp-secret-%s-"

/* Parses a file for EGRESS_RULES_FD, which is changed. 0, -EINVAL or -ENOMEM; free with egress_free_rules either way.
 */
int egress_read_rules(char *text, struct egress_rules *rules);
void egress_free_rules(struct egress_rules *rules);

/*
 * What the address is, if it is not a host of the internet: "private", "loopback", "link-local", "metadata" and so on;
 * NULL if it is one. *prefix is then the length of the network that makes it so. Of rules->own, only those count that
 * are public: what names a private network does so whether this host is in it or not.
 */
const char *egress_special(const struct egress_rules *rules, const struct egress_address *address, unsigned *prefix);

/* Whether a rule names the name. Then it may be resolved, and its addresses are to be checked. */
bool egress_allows_name(const struct egress_rules *rules, const char *name, uint16_t port);

/*
 * Whether the guest may be connected to the address: by a rule for a network that has it, or, if it was resolved from
 * a name that is allowed, because it is on the internet. A network that is wider than the special network of an
 * address does not name that address: 0.0.0.0/0 is the internet, and not the host's loopback.
 */
bool egress_allows_address(
        const struct egress_rules *rules, const struct egress_address *address, uint16_t port, bool resolved);

#endif
