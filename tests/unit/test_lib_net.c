/* SPDX-License-Identifier: Apache-2.0 */
/* The network of a sandbox: what the monitor and the config are told of it, and what is refused. */
#include "tests/unit/tap.h"
#include "tests/unit/test_place.h"

static void read_description(struct wisp_sandbox *sandbox, struct description *d)
{
	int dir = open(wisp_get_sandbox_dir(sandbox), O_RDONLY | O_DIRECTORY);
	int file = openat(dir, "description", O_RDONLY);
	CHECK_EQ(read(file, d, sizeof(*d)), (long)sizeof(*d));
	close(file);
	close(dir);
}

static void expect(struct place *p, const struct wisp_net *net, const char *word)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error = {0};
	p->options.net = net;
	CHECK(wisp_create_sandbox(&p->options, &sandbox, &error) < 0);
	CHECK(!sandbox);
	if (!strstr(error.message, word)) {
		printf("# \"%s\" does not say \"%s\"\n", error.message, word);
		test_failed = true;
	}
}

/* The same for each text in the field, which is one of *net. */
static void expect_each(struct place *p, const struct wisp_net *net, const char **field, const char *const *texts,
        size_t count, const char *word)
{
	for (size_t i = 0; i < count; i++) {
		*field = texts[i];
		expect(p, net, word);
	}
}

static void a_tap_device_is_described(int tap)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL, *clone = NULL;
	struct wisp_sandbox_info *info;
	struct wisp_error error = {.message = ""};
	struct description d;
	struct wisp_net net = {.size = sizeof(net),
	        .kind = WISP_NET_TAP,
	        .fd = &tap,
	        .mac = "02:aB:00:00:00:07",
	        .address = "192.0.2.130/25",
	        .gateway = "192.0.2.129",
	        .dns = "9.9.9.9",
	        .rate = {.bytes = 5000, .operations = 6},
	        .address6 = "2001:db8::2/64",
	        .gateway6 = "fe80::1",
	        .dns6 = "2001:db8:1::53",
	        .queues = 1};
	REQUIRE(make_place(&p));
	p.options.net = &net;
	REQUIRE((sandbox = create(&p.options)));
	read_description(sandbox, &d);
	CHECK_EQ(d.net.port, DESCRIPTION_NET_TAP);
	CHECK_EQ(d.net.mtu, 1500);
	CHECK(memcmp(d.net.mac, "\2\xab\0\0\0\7", 6) == 0);
	CHECK_EQ(d.net.prefix, 25);
	CHECK_EQ(d.net.address, inet_addr("192.0.2.130"));
	CHECK_EQ(d.net.gateway, inet_addr("192.0.2.129"));
	CHECK_EQ(d.net.dns, inet_addr("9.9.9.9"));
	CHECK(d.net.rate.bytes == 5000 && d.net.rate.operations == 6);
	CHECK_EQ(d.net.prefix6, 64);
	CHECK(memcmp(&d.net.address6, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2", 16) == 0);
	CHECK(memcmp(&d.net.gateway6, "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16) == 0);
	CHECK(memcmp(&d.net.dns6, "\x20\x01\x0d\xb8\0\1\0\0\0\0\0\0\0\0\0\x53", 16) == 0);
	REQUIRE(wisp_inspect_sandbox(p.root, "box", &info, NULL) == 0);
	CHECK_STR(info->net, "tap=tap0,mac=02:ab:00:00:00:07,mtu=1500,address=192.0.2.130/25,gateway=192.0.2.129,"
	                     "dns=9.9.9.9,address6=2001:db8::2/64,gateway6=fe80::1,dns6=2001:db8:1::53");
	wisp_free_sandbox_info(info);
	/* A clone has the device, and nothing on it. */
	REQUIRE(wisp_fork_sandbox(sandbox, 1,
	                &(struct wisp_fork_options){.size = sizeof(struct wisp_fork_options), .name = "twin"}, &clone,
	                NULL) == 0);
	read_description(clone, &d);
	CHECK_EQ(d.net.port, DESCRIPTION_NET_DOWN);
	REQUIRE(wisp_inspect_sandbox(p.root, "twin", &info, NULL) == 0);
	CHECK(strncmp(info->net, "down,mac=02:ab:", 15) == 0);
	wisp_free_sandbox_info(info);
	wisp_close_sandbox(clone);
	wisp_close_sandbox(sandbox);

	/* Without a MAC, a random one; by name, while nobody else has it. */
	CHECK_EQ(ioctl(tap, TUNSETPERSIST, 1), 0);
	close(tap);
	net = (struct wisp_net){.size = sizeof(net), .kind = WISP_NET_TAP, .tap = "tap0", .mtu = 9000};
	uint8_t macs[2][6];
	for (unsigned i = 0; i < 2; i++) {
		REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
		read_description(sandbox, &d);
		CHECK_EQ(d.net.mtu, 9000);
		CHECK_EQ(d.net.address, 0);
		CHECK_EQ(d.net.mac[0] & 3, 2);
		memcpy(macs[i], d.net.mac, 6);
		wisp_close_sandbox(sandbox);
	}
	CHECK(memcmp(macs[0], macs[1], 6) != 0);
	net.queues = 2;
	expect(&p, &net, "not a tap device with several queues");
	end_place(&p, 0);
}

/* Each queue has a descriptor; a clone has as many queues, and nothing on them. */
static void several_queues_are_described(int tap)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL, *clone = NULL;
	struct wisp_sandbox_info *info;
	struct description d;
	struct wisp_net net = {.size = sizeof(net), .kind = WISP_NET_TAP, .tap = "tap0", .queues = 2};
	REQUIRE(make_place(&p));
	CHECK_EQ(ioctl(tap, TUNSETPERSIST, 1), 0);
	close(tap);
	p.options.net = &net;
	REQUIRE((sandbox = create(&p.options)));
	read_description(sandbox, &d);
	CHECK_EQ(d.net.queues, 2); /* the monitor checks that as many descriptors came */
	REQUIRE(wisp_inspect_sandbox(p.root, "box", &info, NULL) == 0);
	CHECK(strstr(info->net, ",mtu=1500,queues=2"));
	wisp_free_sandbox_info(info);
	REQUIRE(wisp_fork_sandbox(sandbox, 1,
	                &(struct wisp_fork_options){.size = sizeof(struct wisp_fork_options), .name = "twin"}, &clone,
	                NULL) == 0);
	read_description(clone, &d);
	CHECK_EQ(d.net.port, DESCRIPTION_NET_DOWN);
	CHECK_EQ(d.net.queues, 2);
	wisp_close_sandbox(clone);
	wisp_close_sandbox(sandbox);
	net.queues = 0;
	expect(&p, &net, "or one with several queues");
	end_place(&p, 0);
}

static int make_tap(short flags)
{
	return tap_make(IFF_TAP | IFF_NO_PI | flags, "10.9.0.1");
}

static void tap_devices(void)
{
	tap_in_child(make_tap, IFF_VNET_HDR, a_tap_device_is_described, TAP_MISSING);
}

static void tap_devices_with_several_queues(void)
{
	tap_in_child(make_tap, IFF_VNET_HDR | IFF_MULTI_QUEUE, several_queues_are_described, TAP_MISSING);
}

static void a_wrong_tap_is_refused(int tap)
{
	struct place p;
	struct wisp_net net = {.size = sizeof(net), .kind = WISP_NET_TAP, .fd = &tap};
	REQUIRE(make_place(&p));
	expect(&p, &net, "lacks IFF_NO_PI or IFF_VNET_HDR");
	net.fd = NULL;
	net.tap = "tap0";
	expect(&p, &net, "another program uses it");
	net.tap = "lo";
	expect(&p, &net, "not a tap device");
	end_place(&p, 0);
}

static void a_tap_with_a_comma_is_refused(int tap)
{
	struct place p;
	struct ifreq odd = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = "t,queues=3"};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct wisp_net net = {.size = sizeof(net), .kind = WISP_NET_TAP, .fd = &fd};
	(void)tap;
	REQUIRE(make_place(&p) && fd >= 0 && ioctl(fd, TUNSETIFF, &odd) == 0);
	expect(&p, &net, "the tap device 't,queues=3' has a comma in its name");
	close(fd);
	end_place(&p, 0);
}

static void a_comma_in_the_name_of_a_tap(void)
{
	tap_in_child(make_tap, 0, a_tap_with_a_comma_is_refused, TAP_MISSING);
}

static void taps_that_cannot_be_used(void)
{
	tap_in_child(make_tap, 0, a_wrong_tap_is_refused, TAP_MISSING);
}

static void bad_networks_are_refused(void)
{
	int null = open("/dev/null", O_RDWR), closed = 4000;
	struct place p;
	REQUIRE(make_place(&p));
	const struct wisp_net good = {.size = sizeof(good), .kind = WISP_NET_TAP, .tap = "lo"};
	struct wisp_net net = good;
	net.kind = (enum wisp_net_kind)0;
	expect(&p, &net, "no kind of network 0");
	net = good;
	net.tap = NULL;
	expect(&p, &net, "requires its name or its descriptor");
	net.fd = &null;
	expect(&p, &net, "not that of a tap device");
	net.fd = &closed;
	expect(&p, &net, "is not open");
	net.tap = "lo";
	expect(&p, &net, "not both");
	net = good;
	net.tap = "no-such-interface";
	expect(&p, &net, "there is no network interface");
	net = good;
	for (unsigned mtu = 67; mtu < 70000; mtu += 65536 - 67) {
		net.mtu = mtu;
		expect(&p, &net, "MTU");
	}
	net = good;
	static const char *const macs[] = {"", "02:00:00:00:00", "02:00:00:00:00:0g", "02:00:00:00:00:001",
	        "2:0:0:0:0:0:0:0:0", "0200:00:00:00:000"};
	expect_each(&p, &net, &net.mac, macs, sizeof(macs) / sizeof(macs[0]), "six hexadecimal bytes");
	net.mac = "03:00:00:00:00:01";
	expect(&p, &net, "not the address of a single card");
	net.mac = "00:00:00:00:00:00";
	expect(&p, &net, "not the address of a single card");
	net = good;
	static const char *const addresses[] = {"", "192.0.2.1", "192.0.2.1/", "192.0.2.1/0", "192.0.2.1/33",
	        "192.0.2.1/024", "192.0.2.256/24", "0.0.0.0/8", "fd00::1/64", "1111.2222.3333.4444/24"};
	expect_each(&p, &net, &net.address, addresses, sizeof(addresses) / sizeof(addresses[0]), "and its prefix");
	net.address = "192.0.2.1/24";
	net.gateway = "192.0.3.1";
	expect(&p, &net, "not in the network of the address");
	net.gateway = "192.0.2";
	expect(&p, &net, "as in 192.0.2.1");
	net.gateway = NULL;
	net.dns = "ns.example.org";
	expect(&p, &net, "as in 192.0.2.1");
	net.address = NULL;
	expect(&p, &net, "requires a static address");
	net = good;
	net.queues = WISP_NET_QUEUES_MAX + 1;
	expect(&p, &net, "with 4 queues: give 1 to 3");
	net.queues = 2;
	net.tap = NULL;
	net.fd = &null;
	expect(&p, &net, "require its name");
	net = good;
	net.tap = "no-such-interface";
	static const char *const addresses6[] = {"", "2001:db8::2", "2001:db8::2/", "2001:db8::2/0", "2001:db8::2/129",
	        "2001:db8::2/064", "::/64", "::1/128", "ff02::1/16", "192.0.2.1/24", "2001:db8::2%eth0/64"};
	expect_each(&p, &net, &net.address6, addresses6, sizeof(addresses6) / sizeof(addresses6[0]),
	        "an IPv6 address and its prefix");
	net.address6 = "2001:db8:0:ff10::2/60";
	net.gateway6 = "2001:db8:0:ff20::1";
	expect(&p, &net, "not in the network of the address");
	net.gateway6 = "192.0.2.1";
	expect(&p, &net, "as in 2001:db8::1");
	net.gateway6 = "2001:db8:0:ff1f::1";
	net.dns6 = "::";
	expect(&p, &net, "as in 2001:db8::1");
	net.dns6 = NULL;
	expect(&p, &net, "there is no network interface"); /* all else is well */
	const char *kernel = p.options.kernel;
	p.options.kernel = NULL;
	expect(&p, &net, "use the kernel \"full\"");
	p.options.kernel = kernel;
	net.address6 = NULL;
	expect(&p, &net, "IPv6 requires a static address");
	p.options.bare = p.options.no_wait = true;
	expect(&p, &good, "takes no network");
	p.options.bare = p.options.no_wait = false;
	p.options.warm = true;
	p.options.cache_dir = p.dir;
	expect(&p, &good, "cannot be combined with net");
	close(null);
	remove_all(p.dir);
}

/* A program in passt's place, which does what the script says. */
static void write_program(const struct place *p, char path[128], const char *script)
{
	char text[512];
	snprintf(path, 128, "%s/passt", p->dir);
	snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", script);
	unlink(path);
	write_file(p->dir, "passt", text);
	CHECK_EQ(chmod(path, 0755), 0);
}

static bool appears(const char *path)
{
	for (unsigned i = 0; i < 500 && access(path, F_OK) < 0; i++)
		usleep(10000);
	return access(path, F_OK) == 0;
}

static void passt_is_started_and_ends(void)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL;
	struct wisp_sandbox_info *info;
	struct description d;
	char program[128], script[400], args[128], ended[128], said[512] = "";
	struct wisp_port ports[] = {{"127.0.0.1:18080", 80}, {"0", 81}, {"[::1]:18082", 82}};
	REQUIRE(make_place(&p));
	struct wisp_net net = {.size = sizeof(net), .kind = WISP_NET_PASST, .program = program, .dns = "9.9.9.9"};
	snprintf(args, sizeof(args), "%s/args", p.dir);
	snprintf(ended, sizeof(ended), "%s/ended", p.dir);
	snprintf(script, sizeof(script), "echo \"$@\" >%s; (cat <&3; echo >%s) >/dev/null 2>&1 </dev/null & exit 0",
	        args, ended);
	write_program(&p, program, script);
	p.options.net = &net;
	p.options.ports = ports;
	p.options.port_count = 3;
	p.options.port_size = sizeof(ports[0]);
	int before = count_entries("/proc/self/fd");
	REQUIRE((sandbox = create(&p.options)));
	int file = open(args, O_RDONLY);
	CHECK(read(file, said, sizeof(said) - 1) > 0);
	close(file);
	CHECK_STR(said, "--quiet --fd 3 --mtu 65520 --no-map-gw --dns 9.9.9.9 --tcp-ports 127.0.0.1/18080:80 "
	                "--tcp-ports ::1/18082:82\n");
	read_description(sandbox, &d);
	CHECK_EQ(d.net.port, DESCRIPTION_NET_STREAM);
	CHECK_EQ(d.net.mtu, 65520);
	REQUIRE(wisp_inspect_sandbox(p.root, "box", &info, NULL) == 0);
	CHECK(strncmp(info->net, "passt,mac=", 10) == 0);
	wisp_free_sandbox_info(info);
	CHECK(access(ended, F_OK) < 0);
	wisp_close_sandbox(sandbox);
	CHECK(appears(ended));
	CHECK_EQ(count_entries("/proc/self/fd"), before);
	end_place(&p, 0);
}

static void passt_that_fails_is_told(void)
{
	struct place p;
	char program[128];
	int ready[2];
	REQUIRE(make_place(&p));
	struct wisp_net net = {.size = sizeof(net), .kind = WISP_NET_PASST, .program = program};
	/* The second time, the kernel reaps it, and nobody learns its status. */
	for (unsigned i = 0; i < 2; i++) {
		signal(SIGCHLD, i ? SIG_IGN : SIG_DFL);
		write_program(&p, program, "echo 'a first line' >&2; echo 'No route to anywhere' >&2; exit 1");
		expect(&p, &net, "could not start: No route to anywhere");
		write_program(&p, program,
		        "i=0; while [ $i -lt 300 ]; do echo 'much of this' >&2; i=$((i+1)); done; printf end >&2; "
		        "kill -9 $$");
		expect(&p, &net, "could not start: end");
		write_program(&p, program, "exit 3");
		expect(&p, &net, "it gave no reason");
	}
	signal(SIGCHLD, SIG_DFL);
	unlink(program);
	expect(&p, &net, "install the package passt");
	/* One that never serves is not waited for by a caller that gives up. */
	write_program(&p, program, "exec sleep 1000");
	REQUIRE(pipe(ready) == 0);
	close(ready[1]);
	p.options.cancel = &(struct wisp_cancel){.size = sizeof(struct wisp_cancel), .fd = &ready[0]};
	expect(&p, &net, "cancel");
	close(ready[0]);
	p.options.cancel = NULL;
	net.tap = "lo";
	expect(&p, &net, "has no tap device");
	net.tap = NULL;
	net.dns = "name";
	expect(&p, &net, "as in 192.0.2.1");
	net.dns = NULL;
	net.address6 = "2001:db8::2/64";
	expect(&p, &net, "has no tap device");
	net.address6 = NULL;
	net.queues = 2;
	expect(&p, &net, "by passt has one queue");
	end_place(&p, 0);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"tap_devices", tap_devices},
	        {"tap_devices_with_several_queues", tap_devices_with_several_queues},
	        {"taps_that_cannot_be_used", taps_that_cannot_be_used},
	        {"a_comma_in_the_name_of_a_tap", a_comma_in_the_name_of_a_tap},
	        {"bad_networks_are_refused", bad_networks_are_refused},
	        {"passt_is_started_and_ends", passt_is_started_and_ends},
	        {"passt_that_fails_is_told", passt_that_fails_is_told},
	};
	return test_main("lib_net", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
