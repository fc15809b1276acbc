/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/shared/egress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_MAX 63u
#define IPV4_BITS 96u /* of the mapped form, before those of IPv4 */

static const uint8_t ipv4_prefix[12] = {[10] = 0xff, [11] = 0xff};
static const uint8_t nat64_prefix[12] = {0x00, 0x64, 0xff, 0x9b};

/* ---- Hosts ---- */

static bool is_ipv4(const struct egress_address *address)
{
	return memcmp(address->bytes, ipv4_prefix, sizeof(ipv4_prefix)) == 0;
}

static void set_ipv4(struct egress_address *address, const void *bytes)
{
	memcpy(address->bytes, ipv4_prefix, sizeof(ipv4_prefix));
	memcpy(address->bytes + 12, bytes, 4);
}

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool is_name(const char *name)
{
	size_t label = 0;
	for (; *name; name++) {
		if (*name == '.' && label == 0)
			return false;
		label = *name == '.' ? 0 : label + 1;
		if (label > LABEL_MAX || (*name != '.' && !is_name_byte(*name)))
			return false;
	}
	return label > 0;
}

/* Some resolver might take the name for an address: its last label is a number. */
static bool ends_in_number(const char *name)
{
	const char *dot = strrchr(name, '.'), *label = dot ? dot + 1 : name;
	if (label[0] == '0' && label[1] == 'x')
		return label[2 + strspn(label + 2, "0123456789abcdef")] == '\0';
	return label[strspn(label, "0123456789")] == '\0';
}

bool egress_parse_host(const char *text, size_t length, struct egress_host *host)
{
	struct in_addr ipv4;
	*host = (struct egress_host){0};
	if (length > 1 && text[length - 1] == '.')
		length--;
	if (length == 0 || length >= sizeof(host->name))
		return false;
	for (size_t i = 0; i < length; i++) {
		char c = text[i];
		if (c == '\0')
			return false;
		host->name[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
	}
	if (memchr(host->name, ':', length)) {
		host->is_address = inet_pton(AF_INET6, host->name, host->address.bytes) == 1;
		return host->is_address;
	}
	if (!is_name(host->name))
		return false;
	if (!ends_in_number(host->name))
		return true;
	host->is_address = inet_aton(host->name, &ipv4) != 0;
	set_ipv4(&host->address, &ipv4);
	return host->is_address;
}

void egress_format_host(const struct egress_host *host, char text[EGRESS_HOST_MAX])
{
	char address[INET6_ADDRSTRLEN] = "";
	if (!host->is_address)
		snprintf(text, EGRESS_HOST_MAX, "%s", host->name);
	else if (is_ipv4(&host->address))
		inet_ntop(AF_INET, host->address.bytes + 12, text, EGRESS_HOST_MAX);
	else if (inet_ntop(AF_INET6, host->address.bytes, address, sizeof(address)))
		snprintf(text, EGRESS_HOST_MAX, "[%s]", address);
}

uint16_t egress_parse_port(const char *text, size_t length)
{
	uint32_t port = 0;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9' || length > 5)
			return 0;
		port = port * 10 + (uint32_t)(text[i] - '0');
	}
	return port <= UINT16_MAX ? (uint16_t)port : 0;
}

/* ---- Rules ---- */

static bool refuse(const char **why, const char *reason)
{
	*why = reason;
	return false;
}

/* Splits HOST[:PORT]: *length of the host, which begins at *host; the port's text, or NULL. */
static bool split(const char *text, const char **host, size_t *length, const char **port)
{
	const char *colon = strchr(text, ':'), *bracket = text[0] == '[' ? strchr(text, ']') : NULL;
	*host = text;
	*length = strlen(text);
	*port = NULL;
	if (text[0] == '[') {
		if (!bracket || (bracket[1] && bracket[1] != ':'))
			return false;
		*host = text + 1;
		*length = (size_t)(bracket - text - 1);
		*port = bracket[1] ? bracket + 2 : NULL;
		return memchr(*host, ':', *length) != NULL;
	}
	/* More than one colon is an IPv6 address, which has no port without brackets. */
	if (colon && !strchr(colon + 1, ':')) {
		*length = (size_t)(colon - text);
		*port = colon + 1;
	}
	return true;
}

/* Whether the first `bits` bits are the same. */
static bool is_same(const struct egress_address *a, const struct egress_address *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;
	if (memcmp(a->bytes, b->bytes, whole) != 0)
		return false;
	return rest == 0 || (a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest) == 0;
}

static bool parse_network(const char *text, size_t length, struct egress_rule *rule, const char **why)
{
	static const struct egress_address none;
	const char *slash = memchr(text, '/', length);
	size_t host = slash ? (size_t)(slash - text) : length;
	size_t digits = slash ? length - host - 1 : 0;
	unsigned bits = 0;
	rule->kind = EGRESS_NETWORK;
	if (!egress_parse_host(text, host, &rule->host) || !rule->host.is_address)
		return refuse(why, "is not a network: write ADDRESS/BITS");
	unsigned most = memchr(text, ':', host) ? 128 : 32;
	for (size_t i = 0; i < digits; i++) {
		if (digits > 3 || slash[1 + i] < '0' || slash[1 + i] > '9')
			return refuse(why, "has a prefix that is not a number");
		bits = bits * 10 + (unsigned)(slash[1 + i] - '0');
	}
	if (digits == 0 || bits > most)
		return refuse(why, "has a prefix that is too long for its address, or none behind the slash");
	rule->prefix = bits + 128 - most;
	struct egress_address beyond = rule->host.address;
	for (unsigned i = 0; i < rule->prefix; i++)
		beyond.bytes[i / 8] &= (uint8_t) ~(0x80u >> i % 8);
	return is_same(&beyond, &none, 128) || refuse(why, "is a network whose address has bits beyond its prefix");
}

static bool parse_rule_host(const char *text, size_t length, struct egress_rule *rule, const char **why)
{
	if (memchr(text, '/', length))
		return parse_network(text, length, rule, why);
	if (length == 1 && text[0] == '*') {
		rule->kind = EGRESS_ANY_NAME;
		return true;
	}
	bool below = length > 2 && text[0] == '*' && text[1] == '.';
	if (below)
		rule->kind = EGRESS_BELOW;
	for (size_t i = 0; i < length; i++) {
		if ((unsigned char)text[i] >= 0x80)
			return refuse(why, "has characters that DNS does not have: write the name as xn--");
	}
	if (!egress_parse_host(text + (below ? 2 : 0), length - (below ? 2 : 0), &rule->host))
		return refuse(why, "is neither a name nor an address");
	if (below && rule->host.is_address)
		return refuse(why, "is a pattern of addresses: write a network, ADDRESS/BITS");
	if (rule->host.is_address) {
		rule->kind = EGRESS_NETWORK;
		rule->prefix = 128;
	}
	return true;
}

bool egress_parse_rule(const char *text, struct egress_rule *rule, const char **why)
{
	const char *host, *port;
	size_t length;
	*rule = (struct egress_rule){.port = EGRESS_PORTS_WEB};
	if (!split(text, &host, &length, &port))
		return refuse(why, "is not an address in brackets");
	if (port && strcmp(port, "*") == 0)
		rule->port = EGRESS_PORTS_ALL;
	else if (port && !(rule->port = egress_parse_port(port, strlen(port))))
		return refuse(why, "has a port that is neither * nor a number from 1 to 65535");
	return parse_rule_host(host, length, rule, why);
}

/* ---- Secrets ---- */

static bool is_variable(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		char c = text[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
		if (!letter && (i == 0 || c < '0' || c > '9'))
			return false;
	}
	return length > 0 && length <= EGRESS_SECRET_NAME_MAX;
}

/* What a header may have. A space at either end would vanish. */
static bool is_value(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	}
	return length > 0 && length <= EGRESS_SECRET_VALUE_MAX && text[0] != ' ' && text[length - 1] != ' ';
}

bool egress_parse_secret(const char *text, struct egress_secret *secret, const char **why)
{
	const char *equals = strchr(text, '='), *at = strrchr(text, '@');
	struct egress_rule rule;
	*secret = (struct egress_secret){0};
	if (!equals || !at || at < equals)
		return refuse(why, "is not of the form NAME=VALUE@HOST[:PORT]");
	if (!is_variable(text, (size_t)(equals - text)))
		return refuse(why, "has a name that no variable can have, or that is longer than 64 bytes");
	if (!is_value(equals + 1, (size_t)(at - equals - 1)))
		return refuse(why, "has a value that no header can have, or that is longer than 4096 bytes");
	if (!egress_parse_rule(at + 1, &rule, why))
		return false;
	if (rule.kind != EGRESS_NAME && !(rule.kind == EGRESS_NETWORK && rule.prefix == 128))
		return refuse(why, "is for more than one host");
	if (rule.port == EGRESS_PORTS_ALL)
		return refuse(why, "is for more than one port");
	if (rule.port == 443)
		return refuse(
		        why, "is for port 443, which is TLS: replacing it there needs interception, which is not done");
	memcpy(secret->name, text, (size_t)(equals - text));
	memcpy(secret->value, equals + 1, (size_t)(at - equals - 1));
	secret->host = rule.host;
	secret->port = rule.port ? rule.port : 80;
	return true;
}

/* ---- All of them ---- */

static bool take_line(const char *line, struct egress_rules *rules)
{
	const char *why;
	if (strncmp(line, "allow ", 6) == 0)
		return rules->count < EGRESS_RULES_MAX &&
		       egress_parse_rule(line + 6, &rules->rules[rules->count++], &why);
	if (strncmp(line, "secret ", 7) == 0)
		return rules->secret_count < EGRESS_SECRETS_MAX &&
		       egress_parse_secret(line + 7, &rules->secrets[rules->secret_count++], &why);
	if (strcmp(line, "detach") == 0)
		return rules->detach = true;
	return line[0] == '\0';
}

int egress_read_rules(char *text, struct egress_rules *rules)
{
	*rules = (struct egress_rules){.rules = calloc(EGRESS_RULES_MAX, sizeof(*rules->rules)),
	        .secrets = calloc(EGRESS_SECRETS_MAX, sizeof(*rules->secrets))};
	if (!rules->rules || !rules->secrets)
		return -ENOMEM;
	for (char *line; (line = strsep(&text, "\n"));) {
		if (!take_line(line, rules))
			return -EINVAL;
	}
	return 0;
}

void egress_free_rules(struct egress_rules *rules)
{
	free(rules->rules);
	free(rules->secrets);
	free(rules->own);
	*rules = (struct egress_rules){0};
}

/* ---- Decisions ---- */

/* IANA's registries of special addresses, and the addresses at which clouds serve credentials. The narrowest counts. */
static const struct {
	const char *network;
	unsigned prefix;
	const char *what;
} special[] = {
        {"0.0.0.0", 8, "reserved"},
        {"10.0.0.0", 8, "private"},
        {"100.64.0.0", 10, "private"},
        {"100.100.100.200", 32, "metadata"},
        {"127.0.0.0", 8, "loopback"},
        {"168.63.129.16", 32, "metadata"},
        {"169.254.0.0", 16, "link-local"},
        {"169.254.169.254", 32, "metadata"},
        {"169.254.170.2", 32, "metadata"},
        {"172.16.0.0", 12, "private"},
        {"192.0.0.0", 24, "reserved"},
        {"192.0.0.192", 32, "metadata"},
        {"192.0.2.0", 24, "reserved"},
        {"192.88.99.0", 24, "reserved"},
        {"192.168.0.0", 16, "private"},
        {"198.18.0.0", 15, "private"},
        {"198.51.100.0", 24, "reserved"},
        {"203.0.113.0", 24, "reserved"},
        {"224.0.0.0", 4, "multicast"},
        {"240.0.0.0", 4, "reserved"},
        {"255.255.255.255", 32, "broadcast"},
        {"::", 96, "reserved"},
        {"::1", 128, "loopback"},
        {"64:ff9b:1::", 48, "private"},
        {"100::", 64, "reserved"},
        {"2001::", 23, "reserved"},
        {"2001:db8::", 32, "reserved"},
        {"2002::", 16, "reserved"},
        {"3fff::", 20, "reserved"},
        {"5f00::", 16, "reserved"},
        {"fc00::", 7, "private"},
        {"fd00:ec2::254", 128, "metadata"},
        {"fe80::", 10, "link-local"},
        {"fec0::", 10, "private"},
        {"ff00::", 8, "multicast"},
};

static const char *find_own(const struct egress_rules *rules, const struct egress_address *address, unsigned *prefix)
{
	const char *what = NULL;
	for (size_t i = 0; i < rules->own_count; i++) {
		const struct egress_own *own = &rules->own[i];
		if (own->prefix <= *prefix || !is_same(address, &own->address, own->prefix))
			continue;
		*prefix = own->prefix;
		what = own->what;
	}
	return what;
}

const char *egress_special(const struct egress_rules *rules, const struct egress_address *address, unsigned *prefix)
{
	struct egress_address own = *address;
	const char *what = NULL;
	/* A translator would lead it to the IPv4 address inside. */
	if (memcmp(own.bytes, nat64_prefix, sizeof(nat64_prefix)) == 0)
		memcpy(own.bytes, ipv4_prefix, sizeof(ipv4_prefix));
	*prefix = 0;
	for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
		struct egress_host network;
		egress_parse_host(special[i].network, strlen(special[i].network), &network);
		unsigned bits = special[i].prefix + (is_ipv4(&network.address) ? IPV4_BITS : 0);
		if (bits <= *prefix || !is_same(&own, &network.address, bits))
			continue;
		*prefix = bits;
		what = special[i].what;
	}
	return what ? what : find_own(rules, &own, prefix);
}

static bool has_port(const struct egress_rule *rule, uint16_t port)
{
	if (rule->port == EGRESS_PORTS_WEB)
		return port == 80 || port == 443;
	return rule->port == EGRESS_PORTS_ALL || rule->port == port;
}

static bool is_below(const char *name, const char *top)
{
	size_t length = strlen(name), below = strlen(top);
	return length > below + 1 && name[length - below - 1] == '.' && strcmp(name + length - below, top) == 0;
}

static bool names(const struct egress_rule *rule, const char *name)
{
	switch (rule->kind) {
	case EGRESS_NAME: return strcmp(rule->host.name, name) == 0;
	case EGRESS_BELOW: return is_below(name, rule->host.name);
	case EGRESS_ANY_NAME: return true;
	default: return false;
	}
}

bool egress_allows_name(const struct egress_rules *rules, const char *name, uint16_t port)
{
	for (size_t i = 0; i < rules->count; i++) {
		if (names(&rules->rules[i], name) && has_port(&rules->rules[i], port))
			return true;
	}
	return false;
}

bool egress_allows_address(
        const struct egress_rules *rules, const struct egress_address *address, uint16_t port, bool resolved)
{
	unsigned least;
	if (!egress_special(rules, address, &least) && resolved)
		return true;
	for (size_t i = 0; i < rules->count; i++) {
		const struct egress_rule *rule = &rules->rules[i];
		/* IPv4 is not a part of IPv6's ::/0. */
		if (rule->kind == EGRESS_NETWORK && is_ipv4(address) == is_ipv4(&rule->host.address) &&
		        rule->prefix >= least && is_same(address, &rule->host.address, rule->prefix) &&
		        has_port(rule, port))
			return true;
	}
	return false;
}
