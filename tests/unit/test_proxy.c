/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of HTTP to wisp-proxy: what passes, what is refused, and secrets. */
#include <arpa/inet.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "tests/unit/test_proxy.h"

static void test_plain_request(void)
{
	struct world w;
	char text[1024], wanted[256];
	REQUIRE(world_start(&w, here, NULL));
	int client = dial_proxy(&w);
	CHECK(put(client, request(&w, "GET http://127.1:%u/a HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")));
	int server = accept_one(&w);
	get(server, "\r\n\r\n", text, sizeof(text));
	snprintf(wanted, sizeof(wanted),
	        "GET /a HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept: */*\r\nConnection: close\r\n\r\n", w.port);
	CHECK_STR(text, wanted);
	/* A second request on the connection does not reach the server. */
	CHECK(put(client, request(&w, "GET http://127.0.0.1:%u/b HTTP/1.1\r\n\r\n")));
	CHECK(put(server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
	close(server);
	get(client, "", text, sizeof(text));
	CHECK_STR(text, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
	close(client);
	CHECK(log_has(&w, " allowed http 127.0.0.1:%u 127.0.0.1\n"));
	CHECK_EQ(world_end(&w), 0);
}

static void test_request_bodies(void)
{
	struct world w;
	char text[1024];
	REQUIRE(world_start(&w, here, NULL));
	int client = dial_proxy(&w);
	CHECK(put(
	        client, request(&w, "POST http://127.0.0.1:%u/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na")));
	int server = accept_one(&w);
	get(server, "3\r\na", text, sizeof(text));
	CHECK(put(client, "bc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"));
	get(server, "0\r\n\r\n", text, sizeof(text));
	CHECK_STR(text, "bc\r\n0\r\n\r\n");
	struct pollfd more = {.fd = server, .events = POLLIN};
	CHECK(put(server, "HTTP/1.1 204 No Content\r\n\r\n"));
	get(client, "\r\n\r\n", text, sizeof(text));
	CHECK_EQ(poll(&more, 1, 0), 0); /* nothing but the body */
	close(server);
	get(client, "", text, sizeof(text));
	close(client);
	/* A body that is longer than a buffer, and one that is cut short. */
	client = dial_proxy(&w);
	CHECK(put(client, request(&w, "POST http://127.0.0.1:%u/ HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")));
	char *body = malloc(100000);
	memset(body, 'x', 100000);
	CHECK_EQ(send(client, body, 50000, MSG_NOSIGNAL), 50000);
	shutdown(client, SHUT_WR);
	server = accept_one(&w);
	size_t length = 0;
	ssize_t n;
	while (await(server) && (n = recv(server, body, 100000, 0)) > 0)
		length += (size_t)n;
	CHECK(length > 50000 && length < 50200);
	free(body);
	close(server);
	close(client);
	CHECK_EQ(world_end(&w), 0);
}

static void test_refusals(void)
{
	static const char *const rules[] = {"localhost:%u", "93.184.216.34", NULL};
	struct world w;
	char text[1024];
	REQUIRE(world_start(&w, rules, NULL));
	/* A name that leads to the host itself gains nothing. */
	ask(&w, "GET http://localhost:%u/ HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 403 ", 13) == 0 && strstr(text, "loopback, and no rule names that\n"));
	ask(&w, "CONNECT LOCALHOST.:%u HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 403 ", 13) == 0);
	static const char *const literals[] = {"127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0",
	        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254",
	        "10.0.0.1"};
	for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
		char line[128];
		snprintf(line, sizeof(line), "GET http://%s:%%u/ HTTP/1.1\r\n\r\n", literals[i]);
		ask(&w, line, text, sizeof(text));
		if (strncmp(text, "HTTP/1.1 403 ", 13) != 0) {
			test_failed = true;
			printf("# %s: %s\n", literals[i], text);
		}
	}
	ask(&w, "GET http://unnamed.example/ HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strstr(text, "wisp-proxy: unnamed.example:80: no rule allows it\n"));
	ask(&w, "GET http://93.184.216.34:81/ HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strstr(text, "wisp-proxy: 93.184.216.34:81: no rule allows it\n"));
	ask(&w, "GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 400 ", 13) == 0);
	ask(&w, "\x16\x03\x01 is TLS\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 400 ", 13) == 0);
	ask(&w, "TRACE http://localhost:%u/ HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 501 ", 13) == 0 && strstr(text, "wisp-proxy: TRACE is not served, "));
	struct pollfd pfd = {.fd = w.server, .events = POLLIN};
	CHECK_EQ(poll(&pfd, 1, 0), 0); /* nobody came */
	CHECK(log_has(&w, " refused http localhost:%u: its address "));
	CHECK(log_has(&w, " refused connect localhost:%u: its address "));
	CHECK(log_has(&w, " refused http unnamed.example:80: no rule allows it\n"));
	CHECK(log_has(&w, " refused http -: this is a proxy, and the target is not a whole URL\n"));
	CHECK(log_has(&w, " refused http -: TRACE is not served, because it would show secrets\n"));
	CHECK_EQ(world_end(&w), 0);
}

static void test_names_with_their_address(void)
{
	static const char *const rules[] = {"localhost:%u", "127.0.0.1:%u", "127.0.0.2:%u", NULL};
	struct world w;
	char text[256];
	REQUIRE(world_start(&w, rules, NULL));
	int client = dial_proxy(&w);
	CHECK(put(client, request(&w, "GET http://LocalHost:%u/ HTTP/1.0\r\n\r\n")));
	int server = accept_one(&w);
	REQUIRE(server >= 0);
	get(server, "\r\n\r\n", text, sizeof(text));
	CHECK(strstr(text, request(&w, "\r\nHost: localhost:%u\r\n")));
	close(server);
	get(client, "", text, sizeof(text));
	CHECK_STR(text, "");
	close(client);
	/* Nobody listens on this address. A port that is closed could be another test's by now. */
	ask(&w, "GET http://127.0.0.2:%u/ HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 502 ", 13) == 0);
	CHECK(log_has(&w, " failed http 127.0.0.2:%u: cannot connect to 127.0.0.2: Connection refused\n"));
	CHECK_EQ(world_end(&w), 0);
}

static void test_ipv6(void)
{
	static const char *const rules[] = {"[::1]:*", NULL};
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t size = sizeof(address);
	struct world w;
	char text[256];
	REQUIRE(world_start(&w, rules, NULL));
	close(w.server);
	w.server = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(w.server, (struct sockaddr *)&address, size) < 0 || listen(w.server, 1) < 0 ||
	        getsockname(w.server, (struct sockaddr *)&address, &size) < 0) {
		world_end(&w);
		SKIP("no IPv6");
	}
	w.port = ntohs(address.sin6_port);
	int client = dial_proxy(&w);
	CHECK(put(client, request(&w, "GET http://[0:0::1]:%u/ HTTP/1.1\r\n\r\n")));
	int server = accept_one(&w);
	get(server, "\r\n\r\n", text, sizeof(text));
	CHECK(strstr(text, request(&w, "\r\nHost: [::1]:%u\r\n")));
	close(server);
	close(client);
	CHECK(log_has(&w, " allowed http [::1]:%u [::1]\n"));
	CHECK_EQ(world_end(&w), 0);
}

static void test_secrets(void)
{
	static const char *const secrets[] = {"KEY=sesame@127.0.0.1:%u", "OTHER=open@other.example:%u", NULL};
	struct world w;
	char text[8192];
	REQUIRE(world_start(&w, here, secrets));
	int client = dial_proxy(&w);
	CHECK(put(client, request(&w, "POST http://127.0.0.1:%u/wisp-secret-KEY- HTTP/1.1\r\nContent-Length: 16\r\n"
	                              "Authorization: Bearer wisp-secret-KEY-\r\nB: wisp-secret-OTHER-\r\n\r\n"
	                              "wisp-secret-KEY-")));
	int server = accept_one(&w);
	get(server, "wisp-secret-KEY-", text, sizeof(text));
	CHECK(strncmp(text, "POST /wisp-secret-KEY- HTTP/1.1\r\n", 33) == 0);
	CHECK(strstr(text, "\r\nAuthorization: Bearer sesame\r\nB: wisp-secret-OTHER-\r\n"));
	CHECK(strstr(text, "\r\n\r\nwisp-secret-KEY-"));
	close(server);
	close(client);
	/* Heads do not grow without end. The server, which nobody accepts from, hears nothing of it. */
	ask(&w,
	        "GET http://127.0.0.1:%u/ HTTP/1.1\r\nA: wisp-secret-KEY-wisp-secret-KEY-wisp-secret-KEY-"
	        "wisp-secret-KEY-wisp-secret-KEY-wisp-secret-KEY-wisp-secret-KEY-wisp-secret-KEY-wisp-secret-KEY-"
	        "\r\n\r\n",
	        text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 431 ", 13) == 0 &&
	        strstr(text, "wisp-proxy: the head has more than 8 secrets\n"));
	CHECK(log_has(&w, " refused http -: the head has more than 8 secrets\n"));
	struct pollfd pfd = {.fd = w.server, .events = POLLIN};
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	/* A tunnel is not looked into. */
	client = dial_proxy(&w);
	CHECK(put(client,
	        request(&w, "CONNECT 127.0.0.1:%u HTTP/1.1\r\nX: wisp-secret-KEY-\r\n\r\nA: wisp-secret-KEY-")));
	server = accept_one(&w);
	get(server, "KEY-", text, sizeof(text));
	CHECK_STR(text, "A: wisp-secret-KEY-");
	close(server);
	close(client);
	CHECK(log_has(&w, " allowed connect 127.0.0.1:%u 127.0.0.1; its secrets are replaced in plain HTTP only\n"));
	read_text(w.dir, "net.log", text, sizeof(text));
	CHECK(!strstr(text, "sesame"));
	CHECK_EQ(world_end(&w), 0);
}

/* ---- DNS ---- */

static const char *dns_address; /* what every name has */
static unsigned dns_queries;    /* atomic */

static void *serve_dns(void *argument)
{
	uint8_t packet[512];
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	int fd = *(int *)argument;
	for (;;) {
		ssize_t n = recvfrom(fd, packet, sizeof(packet) - 16, 0, (struct sockaddr *)&from, &size);
		if (n < 17)
			return NULL;
		__atomic_add_fetch(&dns_queries, 1, __ATOMIC_SEQ_CST);
		bool a = packet[n - 3] == 1; /* the type of the one question */
		memcpy(packet + 2, "\x81\x80\0\1\0\0\0\0\0\0", 10);
		packet[7] = a;
		if (a) {
			memcpy(packet + n, "\xc0\x0c\0\1\0\1\0\0\0\0\0\4", 12);
			inet_pton(AF_INET, dns_address, packet + n + 12);
			n += 16;
		}
		sendto(fd, packet, (size_t)n, 0, (struct sockaddr *)&from, size);
	}
}

static bool give_address(int fd, const char *text, unsigned long request)
{
	struct ifreq lo = {.ifr_name = "lo:1"};
	struct sockaddr_in address = {.sin_family = AF_INET};
	inet_pton(AF_INET, text, &address.sin_addr);
	memcpy(&lo.ifr_addr, &address, sizeof(address));
	return ioctl(fd, request, &lo) == 0;
}

/* A network with nothing but loopback, which has a public address too, and a resolv.conf that names it. */
static bool enter_own_network(const char *resolv_conf)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	        mount(resolv_conf, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0)
		return false;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = ioctl(fd, SIOCSIFFLAGS, &lo) == 0 && give_address(fd, "8.8.8.8", SIOCSIFADDR) &&
	          give_address(fd, "255.255.255.0", SIOCSIFNETMASK);
	close(fd);
	return up;
}

static void ask_by_dns(void)
{
	static const char *const rules[] = {"*.test:%u", "127.0.0.1:%u", NULL};
	struct sockaddr_in address = {
	        .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct world w;
	char text[1024];
	pthread_t thread;
	int dns = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	REQUIRE(bind(dns, (struct sockaddr *)&address, sizeof(address)) == 0);
	REQUIRE(world_start(&w, rules, NULL));
	dns_address = "127.0.0.1";
	pthread_create(&thread, NULL, serve_dns, &dns);
	int client = dial_proxy(&w);
	CHECK(put(client, request(&w, "CONNECT here.test:%u HTTP/1.1\r\n\r\n")));
	int server = accept_one(&w);
	get(client, "\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 200 ", 13) == 0);
	close(client);
	close(server);
	/* The name's server changes its mind: each connection is decided by the address that it leads to. */
	dns_address = "169.254.169.254";
	ask(&w, "CONNECT here.test:%u HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 403 ", 13) == 0 && strstr(text, "169.254.169.254 is metadata"));
	dns_address = "8.8.8.8";
	ask(&w, "CONNECT here.test:%u HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 403 ", 13) == 0 &&
	        strstr(text, "8.8.8.8 is this host's, and no rule names that"));
	dns_address = "8.8.8.9";
	ask(&w, "CONNECT here.test:%u HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 403 ", 13) == 0 && strstr(text, "8.8.8.9 is in a network of this host, and"));
	unsigned queries = __atomic_load_n(&dns_queries, __ATOMIC_SEQ_CST);
	CHECK(queries >= 2);
	/* What no rule names is not asked for: a query could tell its server anything. */
	ask(&w, "CONNECT what-the-guest-knows.example:%u HTTP/1.1\r\n\r\n", text, sizeof(text));
	CHECK(strncmp(text, "HTTP/1.1 403 ", 13) == 0);
	CHECK_EQ(__atomic_load_n(&dns_queries, __ATOMIC_SEQ_CST), queries);
	CHECK(log_has(&w, " allowed connect here.test:%u 127.0.0.1\n"));
	CHECK_EQ(world_end(&w), 0);
}

static void test_dns(void)
{
	char dir[] = "/tmp/wisp-test-XXXXXX", path[64];
	int status = 0;
	REQUIRE(mkdtemp(dir));
	chmod(dir, 0755);
	write_file(dir, "resolv.conf", "nameserver 127.0.0.1\n");
	snprintf(path, sizeof(path), "%s/resolv.conf", dir);
	chmod(path, 0644);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		if (!enter_own_network(path))
			_exit(77);
		ask_by_dns();
		fflush(stdout);
		_exit(test_failed);
	}
	waitpid(pid, &status, 0);
	remove_all(dir);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("no namespaces");
	CHECK_EQ(status, 0);
}

TEST_MAIN("proxy", {"plain_request", test_plain_request}, {"request_bodies", test_request_bodies},
        {"refusals", test_refusals}, {"names_with_their_address", test_names_with_their_address}, {"ipv6", test_ipv6},
        {"secrets", test_secrets}, {"dns", test_dns})
