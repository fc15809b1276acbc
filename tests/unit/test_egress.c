/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest may reach: rules, hosts, addresses, secrets. */
#include "tests/unit/test.h"
#include "vmm/shared/egress.h"

static bool parse_host(const char *text, struct egress_host *host)
{
	/* Not NUL-terminated, and exactly as long as it says. */
	char *copy = malloc(strlen(text) ? strlen(text) : 1);
	memcpy(copy, text, strlen(text));
	bool good = egress_parse_host(copy, strlen(text), host);
	free(copy);
	return good;
}

static void test_hosts(void)
{
	char long_label[80], long_name[300];
	static const struct {
		const char *text, *wanted; /* NULL: it is none */
	} hosts[] = {
	        {"example.org", "example.org"},
	        {"Example.ORG.", "example.org"},
	        {"a_b-c.0x", NULL},
	        {"xn--bcher-kva.example", "xn--bcher-kva.example"},
	        {"b\xc3\xbc"
	         "cher.example",
	                NULL},
	        {"localhost", "localhost"},
	        {"", NULL},
	        {".", NULL},
	        {"a..b", NULL},
	        {".a", NULL},
	        {"a.b..", NULL},
	        {"a b", NULL},
	        {"a/b", NULL},
	        {"a%00b", NULL},
	        {"user@host", NULL},
	        {"127.0.0.1", "127.0.0.1"},
	        {"127.1", "127.0.0.1"},
	        {"2130706433", "127.0.0.1"},
	        {"0x7f.1", "127.0.0.1"},
	        {"0X7F000001", "127.0.0.1"},
	        {"0177.0.0.01", "127.0.0.1"},
	        {"127.0.0.1.", "127.0.0.1"},
	        {"0", "0.0.0.0"},
	        {"1.2.3.4.5", NULL},
	        {"256.1.1.1", NULL},
	        {"1.2.3.0x100", NULL},
	        {"example.123", NULL}, /* a resolver may take it for an address */
	        {"::1", "[::1]"},
	        {"0:0:0:0:0:0:0:1", "[::1]"},
	        {"::ffff:127.0.0.1", "127.0.0.1"},
	        {"::FFFF:7f00:1", "127.0.0.1"},
	        {"fe80::1%eth0", NULL},
	        {"::g", NULL},
	        {"[::1]", NULL},
	};
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		struct egress_host host;
		char text[EGRESS_HOST_MAX] = "";
		bool good = parse_host(hosts[i].text, &host);
		if (good)
			egress_format_host(&host, text);
		if (good != (hosts[i].wanted != NULL) || (good && strcmp(text, hosts[i].wanted) != 0)) {
			test_failed = true;
			printf("# %s: %s\n", hosts[i].text, good ? text : "none");
		}
	}
	struct egress_host host;
	memset(long_label, 'a', 64);
	strcpy(long_label + 63, ".org");
	CHECK(parse_host(long_label, &host));
	memset(long_label, 'a', 64);
	strcpy(long_label + 64, ".org");
	CHECK(!parse_host(long_label, &host));
	for (size_t i = 0; i < 254; i++)
		long_name[i] = i % 2 ? '.' : 'a';
	long_name[253] = '\0';
	CHECK(parse_host(long_name, &host));
	strcpy(long_name + 253, "aa");
	CHECK(!parse_host(long_name, &host));
}

static void test_ports(void)
{
	CHECK_EQ(egress_parse_port("1", 1), 1);
	CHECK_EQ(egress_parse_port("65535", 5), 65535);
	CHECK_EQ(egress_parse_port("00080", 5), 80);
	CHECK_EQ(egress_parse_port("0", 1), 0);
	CHECK_EQ(egress_parse_port("65536", 5), 0);
	CHECK_EQ(egress_parse_port("000080", 6), 0);
	CHECK_EQ(egress_parse_port("", 0), 0);
	CHECK_EQ(egress_parse_port("+80", 3), 0);
	CHECK_EQ(egress_parse_port("80 ", 3), 0);
}

static void test_bad_rules(void)
{
	static const char *const rules[] = {"", ":80", "host:", "host:0", "host:65536", "host:http", "a:b:c", "[::1",
	        "[::1]80", "[host]:80", "*.", "*x.org", "a.*.org", "*.*", "*.127.0.0.1", "10.0.0.0/", "10.0.0.0/33",
	        "10.0.0.1/8", "10.0.0.0/8/8", "::/129", "::1/64", "host/8", "10.0.0.0/x", "ex ample.org", "http://host",
	        "b\xc3\xbc"
	        "cher.org",
	        "::ffff:0:0/50"};
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		struct egress_rule rule;
		const char *why = NULL;
		if (egress_parse_rule(rules[i], &rule, &why) || !why) {
			test_failed = true;
			printf("# '%s' is a rule\n", rules[i]);
		}
	}
}

/* Whether one rule allows what a client asks for: a name that resolves to `address`, or an address alone. */
static bool allows(const char *rule_text, const char *name, const char *address, uint16_t port)
{
	struct egress_rule rule;
	struct egress_rules rules = {.rules = &rule, .count = 1};
	struct egress_host host;
	const char *why;
	if (!egress_parse_rule(rule_text, &rule, &why) || (address && !parse_host(address, &host))) {
		test_failed = true;
		return false;
	}
	if (name && (!egress_allows_name(&rules, name, port) || !address))
		return egress_allows_name(&rules, name, port);
	return egress_allows_address(&rules, &host.address, port, name != NULL);
}

static void test_matches(void)
{
	CHECK(allows("example.org", "example.org", NULL, 80));
	CHECK(allows("example.org", "example.org", NULL, 443));
	CHECK(!allows("example.org", "example.org", NULL, 8080));
	CHECK(!allows("example.org", "www.example.org", NULL, 80));
	CHECK(!allows("example.org", "badexample.org", NULL, 80));
	CHECK(allows("Example.Org.:8080", "example.org", NULL, 8080));
	CHECK(!allows("example.org:8080", "example.org", NULL, 80));
	CHECK(allows("example.org:*", "example.org", NULL, 22));
	CHECK(allows("*.example.org", "www.example.org", NULL, 443));
	CHECK(allows("*.example.org", "a.b.example.org", NULL, 443));
	CHECK(!allows("*.example.org", "example.org", NULL, 443));
	CHECK(!allows("*.example.org", "badexample.org", NULL, 443));
	CHECK(allows("*", "any.example", NULL, 443));
	CHECK(allows("*:22", "any.example", NULL, 22));
	/* A rule for names is none for addresses, and the other way round. */
	CHECK(!allows("*", NULL, "93.184.216.34", 443));
	CHECK(!allows("93.184.216.34", "example.org", NULL, 443));
	CHECK(allows("93.184.216.34", NULL, "93.184.216.34", 443));
	CHECK(allows("93.184.216.0/24:22", NULL, "93.184.216.34", 22));
	CHECK(!allows("93.184.216.0/24:22", NULL, "93.184.217.34", 22));
	CHECK(allows("[2606:2800::]:22", NULL, "2606:2800::", 22));
	CHECK(allows("2606:2800::/32", NULL, "2606:2800::1", 443));
	CHECK(allows("[2606:2800::/32]:22", NULL, "2606:2800:1::1", 22));
	/* 0.0.0.0/0 is IPv4, ::/0 is IPv6. */
	CHECK(allows("0.0.0.0/0", NULL, "93.184.216.34", 443));
	CHECK(!allows("0.0.0.0/0", NULL, "2606:2800::1", 443));
	CHECK(allows("::/0", NULL, "2606:2800::1", 443));
	CHECK(!allows("::/0", NULL, "93.184.216.34", 443));
}

/* Resolved from an allowed name, and named by rules of several widths. */
static void test_special_addresses(void)
{
	static const struct {
		const char *address, *what;
	} table[] = {
	        {"0.0.0.0", "reserved"},
	        {"0.1.2.3", "reserved"},
	        {"10.0.0.1", "private"},
	        {"9.255.255.255", NULL},
	        {"11.0.0.0", NULL},
	        {"100.63.255.255", NULL},
	        {"100.64.0.1", "private"},
	        {"100.127.255.255", "private"},
	        {"100.128.0.0", NULL},
	        {"100.100.100.200", "metadata"},
	        {"127.0.0.1", "loopback"},
	        {"127.255.255.255", "loopback"},
	        {"128.0.0.0", NULL},
	        {"168.63.129.16", "metadata"},
	        {"168.63.129.17", NULL},
	        {"169.254.1.1", "link-local"},
	        {"169.254.169.254", "metadata"},
	        {"169.254.170.2", "metadata"},
	        {"172.15.255.255", NULL},
	        {"172.16.0.1", "private"},
	        {"172.31.255.255", "private"},
	        {"172.32.0.0", NULL},
	        {"192.0.0.8", "reserved"},
	        {"192.0.0.192", "metadata"},
	        {"192.0.2.1", "reserved"},
	        {"192.167.255.255", NULL},
	        {"192.168.1.1", "private"},
	        {"192.169.0.0", NULL},
	        {"198.17.255.255", NULL},
	        {"198.18.0.1", "private"},
	        {"198.19.255.255", "private"},
	        {"198.51.100.1", "reserved"},
	        {"203.0.113.1", "reserved"},
	        {"223.255.255.255", NULL},
	        {"224.0.0.1", "multicast"},
	        {"240.0.0.1", "reserved"},
	        {"255.255.255.255", "broadcast"},
	        {"8.8.8.8", NULL},
	        {"::", "reserved"},
	        {"::1", "loopback"},
	        {"::7f00:1", "reserved"},
	        {"::ffff:10.0.0.1", "private"},
	        {"::ffff:8.8.8.8", NULL},
	        {"64:ff9b::a00:1", "private"},
	        {"64:ff9b::7f00:1", "loopback"},
	        {"64:ff9b::a9fe:a9fe", "metadata"},
	        {"64:ff9b::808:808", NULL},
	        {"64:ff9b:1::808:808", "private"},
	        {"100::1", "reserved"},
	        {"2001::1", "reserved"},
	        {"2001:db8::1", "reserved"},
	        {"2001:4860::8888", NULL},
	        {"2002:7f00:1::", "reserved"},
	        {"2606:2800::1", NULL},
	        {"3fff::1", "reserved"},
	        {"5f00::1", "reserved"},
	        {"fc00::1", "private"},
	        {"fdff::1", "private"},
	        {"fd00:ec2::254", "metadata"},
	        {"fe00::1", NULL},
	        {"fe80::1", "link-local"},
	        {"febf::1", "link-local"},
	        {"fec0::1", "private"},
	        {"ff02::1", "multicast"},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct egress_host host;
		static const struct egress_rules none;
		unsigned prefix;
		const char *address = table[i].address, *what;
		REQUIRE(parse_host(address, &host));
		what = egress_special(&none, &host.address, &prefix);
		bool is_public = allows("*", "any.example", address, 443);
		if ((what != NULL) != (table[i].what != NULL) || (what && strcmp(what, table[i].what) != 0) ||
		        is_public != !what ||
		        allows("0.0.0.0/0", NULL, address, 443) != (!what && !strchr(address, ':')) ||
		        !allows(address, NULL, address, 443)) {
			/* The mapped form is IPv4. */
			if (strncmp(address, "::ffff:", 7) == 0 && is_public == !what)
				continue;
			test_failed = true;
			printf("# %s: %s\n", address, what ? what : "public");
		}
	}
	/* A network names what it is no wider than. */
	CHECK(allows("10.0.0.0/8", NULL, "10.1.2.3", 443));
	CHECK(allows("10.1.0.0/16", NULL, "10.1.2.3", 443));
	CHECK(!allows("8.0.0.0/5", NULL, "10.1.2.3", 443));
	CHECK(allows("8.0.0.0/5", NULL, "8.8.8.8", 443));
	CHECK(!allows("169.254.0.0/16", NULL, "169.254.169.254", 443));
	CHECK(allows("169.254.169.254", NULL, "169.254.169.254", 443));
	CHECK(allows("fc00::/7", NULL, "fd12::1", 443));
	CHECK(!allows("fc00::/6", NULL, "fd12::1", 443));
	CHECK(allows("64:ff9b::a00:0/104", NULL, "64:ff9b::a00:1", 443));
	CHECK(!allows("64:ff9b::/96", NULL, "64:ff9b::a00:1", 443));
	/* On its port only. */
	CHECK(!allows("10.0.0.0/8", NULL, "10.1.2.3", 22));
}

/* A name whose server says that it is here: rebinding gains nothing. */
static void test_names_need_their_addresses(void)
{
	struct egress_rule list[2];
	struct egress_rules rules = {.rules = list, .count = 2};
	struct egress_host inside, outside, other;
	const char *why;
	REQUIRE(egress_parse_rule("db.example:5432", &list[0], &why) &&
	        egress_parse_rule("10.0.0.5:5432", &list[1], &why) && parse_host("10.0.0.5", &inside) &&
	        parse_host("8.8.8.8", &outside) && parse_host("10.0.0.6", &other));
	CHECK(egress_allows_name(&rules, "db.example", 5432));
	CHECK(egress_allows_address(&rules, &inside.address, 5432, true));
	CHECK(egress_allows_address(&rules, &outside.address, 5432, true));
	CHECK(!egress_allows_address(&rules, &other.address, 5432, true));
	CHECK(!egress_allows_address(&rules, &outside.address, 5432, false));
}

/* Networks of this host that are public are named as private ones are. */
static void test_own_networks(void)
{
	static const struct {
		const char *rule, *address;
		bool resolved, allowed;
	} cases[] = {
	        {"*", "2606:2800:1::5", true, false},
	        {"*", "2606:2800:1::6", true, false},
	        {"*", "2606:2800:1:1::5", true, true},
	        {"*", "8.8.8.8", true, false},
	        {"*", "64:ff9b::808:808", true, false},
	        {"*", "8.8.9.8", true, true},
	        {"::/0", "2606:2800:1::6", false, false},
	        {"2606:2800::/32", "2606:2800:1::6", false, false},
	        {"2606:2800::/32", "2606:2800:2::6", false, true},
	        {"2606:2800:1::/64", "2606:2800:1::6", false, true},
	        {"2606:2800:1::/64", "2606:2800:1::6", true, true},
	        {"2606:2800:1::/64", "2606:2800:1::5", false, false},
	        {"2606:2800:1::5", "2606:2800:1::5", false, true},
	        {"10.0.0.0/8", "10.1.2.3", false, true}, /* private all the same */
	        {"10.0.0.0/8", "10.1.2.4", false, true},
	};
	static const struct {
		const char *address;
		unsigned prefix;
	} own[] = {{"2606:2800:1::5", 128}, {"2606:2800:1::5", 64}, {"8.8.8.1", 96 + 24}, {"10.1.2.3", 128},
	        {"10.1.2.3", 96 + 24}};
	struct egress_own list[5];
	for (size_t i = 0; i < 5; i++) {
		struct egress_host host;
		REQUIRE(parse_host(own[i].address, &host));
		list[i] = (struct egress_own){host.address, own[i].prefix, own[i].prefix == 128 ? "host" : "network"};
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct egress_rule rule;
		struct egress_rules rules = {.rules = &rule, .count = 1, .own = list, .own_count = 5};
		struct egress_host host;
		const char *why;
		REQUIRE(egress_parse_rule(cases[i].rule, &rule, &why) && parse_host(cases[i].address, &host));
		if (egress_allows_address(&rules, &host.address, 80, cases[i].resolved) != cases[i].allowed) {
			test_failed = true;
			printf("# %s by %s\n", cases[i].address, cases[i].rule);
		}
	}
}

static void test_secrets(void)
{
	struct egress_secret secret;
	const char *why;
	char long_value[EGRESS_SECRET_VALUE_MAX + 40];
	REQUIRE(egress_parse_secret("TOKEN=a=b@c@Example.org", &secret, &why));
	CHECK_STR(secret.name, "TOKEN");
	CHECK_STR(secret.value, "a=b@c");
	CHECK_STR(secret.host.name, "example.org");
	CHECK_EQ(secret.port, 80);
	REQUIRE(egress_parse_secret("_t0=x@127.1:8080", &secret, &why));
	CHECK(secret.host.is_address);
	CHECK_EQ(secret.port, 8080);
	static const char *const bad[] = {"", "A", "A=b", "=b@h", "0A=b@h", "A-B=b@h", "A=@h", "A=b@", "A=b@*",
	        "A=b@*.h.org", "A=b@10.0.0.0/8", "A=b@h:*", "A=b@h:443", "A=b\r\n@h", "A=b\x01@h", "A= b@h", "A=b @h",
	        "A=b@h:0"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (egress_parse_secret(bad[i], &secret, &why)) {
			test_failed = true;
			printf("# '%s' is a secret\n", bad[i]);
		}
	}
	snprintf(long_value, sizeof(long_value), "A=%0*d@h", (int)EGRESS_SECRET_VALUE_MAX, 1);
	CHECK(egress_parse_secret(long_value, &secret, &why));
	snprintf(long_value, sizeof(long_value), "A=%0*d@h", (int)EGRESS_SECRET_VALUE_MAX + 1, 1);
	CHECK(!egress_parse_secret(long_value, &secret, &why));
}

static char *repeat(const char *line, size_t count)
{
	size_t length = strlen(line);
	char *text = calloc(count + 1, length);
	for (size_t i = 0; i < count; i++)
		memcpy(text + i * length, line, length);
	return text;
}

static void test_files(void)
{
	struct egress_rules rules;
	char good[] = "allow example.org\ndetach\nallow 10.0.0.0/8:*\nsecret A=b@example.org\n";
	CHECK_EQ(egress_read_rules(good, &rules), 0);
	CHECK_EQ(rules.count, 2);
	CHECK_EQ(rules.secret_count, 1);
	CHECK(rules.detach);
	egress_free_rules(&rules);
	char unknown[] = "deny example.org\n";
	CHECK_EQ(egress_read_rules(unknown, &rules), -EINVAL);
	egress_free_rules(&rules);
	char bad[] = "allow \n";
	CHECK_EQ(egress_read_rules(bad, &rules), -EINVAL);
	egress_free_rules(&rules);
	char *many = repeat("allow h\n", EGRESS_RULES_MAX);
	CHECK_EQ(egress_read_rules(many, &rules), 0);
	CHECK_EQ(rules.count, EGRESS_RULES_MAX);
	egress_free_rules(&rules);
	free(many);
	many = repeat("allow h\n", EGRESS_RULES_MAX + 1);
	CHECK_EQ(egress_read_rules(many, &rules), -EINVAL);
	egress_free_rules(&rules);
	free(many);
	many = repeat("secret A=b@h\n", EGRESS_SECRETS_MAX + 1);
	CHECK_EQ(egress_read_rules(many, &rules), -EINVAL);
	egress_free_rules(&rules);
	free(many);
}

TEST_MAIN("egress", {"hosts", test_hosts}, {"ports", test_ports}, {"bad_rules", test_bad_rules},
        {"matches", test_matches}, {"special_addresses", test_special_addresses},
        {"names_need_their_addresses", test_names_need_their_addresses}, {"own_networks", test_own_networks},
        {"secrets", test_secrets}, {"files", test_files})
