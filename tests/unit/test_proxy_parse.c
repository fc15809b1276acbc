/* SPDX-License-Identifier: Apache-2.0 */
/* The parsers of wisp-proxy, without a process. */
#include "tests/unit/test.h"
#include "vmm/proxy/http.h"
#include "vmm/proxy/netlog.h"
#include "vmm/proxy/proxy.h"
#include "vmm/proxy/socks.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/mman.h>
#include <unistd.h>

/* Parses as many bytes as there are, of memory that ends with them. */
static int parse(const char *text, size_t length, struct http_request *request, const char **why)
{
	static char *copy;
	free(copy);
	copy = malloc(length ? length : 1);
	memcpy(copy, text, length);
	return http_parse(copy, length, request, why);
}

/* The status of a whole text, which is not known before its last byte, unless it is a refusal. */
static int status_of(const char *text)
{
	struct http_request request;
	const char *why = "";
	int status = 1;
	for (size_t length = 0; length <= strlen(text) && status == 1; length++) {
		status = parse(text, length, &request, &why);
		if (status == 0 && length < strlen(text))
			return -1;
	}
	return status;
}

static void rewrite(const char *text, const struct egress_rules *rules, char *to, size_t size)
{
	static const struct egress_rules none;
	struct http_request request;
	const char *why = "";
	to[0] = '\0';
	if (parse(text, strlen(text), &request, &why) == 0) {
		size_t length = http_rewrite(&request, rules ? rules : &none, to, size - 1);
		to[length] = '\0';
	} else {
		printf("# refused: %s\n", why);
	}
}

static void test_requests(void)
{
	static const struct {
		const char *text;
		int status;
	} requests[] = {
	        {"GET http://example.org/ HTTP/1.1\r\n\r\n", 0},
	        {"GET http://example.org HTTP/1.0\r\nHost: example.org\r\n\r\n", 0},
	        {"OPTIONS http://example.org:81?a HTTP/1.1\r\n\r\n", 0},
	        {"GET HTTP://[::1]:81/ HTTP/1.1\r\n\r\n", 0},
	        {"CONNECT example.org:443 HTTP/1.1\r\n\r\n", 0},
	        {"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 0},
	        {"POST http://h/ HTTP/1.1\r\nContent-Length: 10\r\n\r\n", 0},
	        {"POST http://h/ HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n", 0},
	        {"\r\n\r\n", 400},
	        {"GET\r\n\r\n", 400},
	        {"GET /\r\n\r\n", 400},
	        {"GET / HTTP/1.1\r\n\r\n", 400},
	        {"GET https://example.org/ HTTP/1.1\r\n\r\n", 400},
	        {"GET ftp://example.org/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http:///x HTTP/1.1\r\n\r\n", 400},
	        {"GET http://user@example.org/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://user:pw@example.org/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://example.org:/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://example.org:0/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://example.org:65536/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://a:b:80/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://::1/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://[::1/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://[example.org]/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://[::1]x/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://example.org/#x HTTP/1.1\r\n\r\n", 400},
	        {"GET http://exa\tmple.org/ HTTP/1.1\r\n\r\n", 400},
	        {"GET  http://example.org/ HTTP/1.1\r\n\r\n", 400},
	        {"GET http://example.org/ x HTTP/1.1\r\n\r\n", 400},
	        {"G(T http://example.org/ HTTP/1.1\r\n\r\n", 400},
	        {"TRACE http://example.org/ HTTP/1.1\r\n\r\n", 501},
	        {"trace http://example.org/ HTTP/1.1\r\n\r\n", 501},
	        {"TRACES http://example.org/ HTTP/1.1\r\n\r\n", 0},
	        {"GET http://example.org/ HTTP/1.2\r\n\r\n", 505},
	        {"GET http://example.org/ HTTP/2.0\r\n\r\n", 505},
	        {"GET http://example.org/ http/1.1x\r\n\r\n", 505},
	        {"CONNECT example.org HTTP/1.1\r\n\r\n", 400},
	        {"CONNECT http://example.org:443/ HTTP/1.1\r\n\r\n", 400},
	        {"CONNECT :443 HTTP/1.1\r\n\r\n", 400},
	        {"CONNECT example.org:443 HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 400},
	        {"GET http://h/ HTTP/1.1\r\nName : x\r\n\r\n", 400},
	        {"GET http://h/ HTTP/1.1\r\n: x\r\n\r\n", 400},
	        {"GET http://h/ HTTP/1.1\r\nno colon\r\n\r\n", 400},
	        {"GET http://h/ HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400},
	        {"GET http://h/ HTTP/1.1\r\nA: b\nB: c\r\n\r\n", 400},
	        {"GET http://h/ HTTP/1.1\r\nA: b\rc\r\n\r\n", 400},
	        {"GET http://h/ HTTP/1.1\r\nA: b\x7f\r\n\r\n", 400},
	        {"POST http://h/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
	        {"POST http://h/ HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", 400},
	        {"POST http://h/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400},
	        {"POST http://h/ HTTP/1.1\r\nContent-Length: \r\n\r\n", 400},
	        {"POST http://h/ HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n", 400},
	        {"POST http://h/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
	        {"POST http://h/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
	        {"POST http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
	        {"POST http://h/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
	};
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		int status = status_of(requests[i].text);
		if (status != requests[i].status) {
			test_failed = true;
			printf("# %d, not %d: %s\n", status, requests[i].status, requests[i].text);
		}
	}
	struct http_request request;
	const char *why;
	/* A NUL is no character of a head. */
	static const char nul[] = "GET http://h/ HTTP/1.1\r\nA: b\0c\r\n\r\n";
	CHECK_EQ(parse(nul, sizeof(nul) - 1, &request, &why), 400);
	char *endless = malloc(HTTP_HEAD_MAX);
	memset(endless, 'a', HTTP_HEAD_MAX);
	CHECK_EQ(parse(endless, HTTP_HEAD_MAX - 1, &request, &why), 1);
	CHECK_EQ(parse(endless, HTTP_HEAD_MAX, &request, &why), 431);
	free(endless);
}

static void test_rewriting(void)
{
	char text[2048];
	rewrite("GET http://Example.ORG:80/a?b HTTP/1.1\r\nHost: evil.example\r\nAccept:  x \r\n"
	        "Connection: keep-alive, X-Own\r\nX-Own: 1\r\nProxy-Connection: Keep-Alive\r\n"
	        "Proxy-Authorization: Basic eA==\r\nUpgrade: h2c\r\nTE: trailers\r\nKeep-Alive: 5\r\n\r\nrest",
	        NULL, text, sizeof(text));
	CHECK_STR(text, "GET /a?b HTTP/1.1\r\nHost: example.org\r\nAccept: x\r\nConnection: close\r\n\r\n");
	rewrite("GET http://[::1]:81?q HTTP/1.0\r\n\r\n", NULL, text, sizeof(text));
	CHECK_STR(text, "GET /?q HTTP/1.0\r\nHost: [::1]:81\r\nConnection: close\r\n\r\n");
	rewrite("GET http://127.1 HTTP/1.1\r\n\r\n", NULL, text, sizeof(text));
	CHECK_STR(text, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
	/* What frames the body stays, even if a Connection field names it. */
	rewrite("POST http://h/ HTTP/1.1\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc", NULL, text,
	        sizeof(text));
	CHECK_STR(text, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\n");
	/* No room, at any size. */
	struct http_request request;
	const char *why, *given = "GET http://h/ HTTP/1.1\r\nA: b\r\n\r\n";
	static const struct egress_rules none;
	REQUIRE(parse(given, strlen(given), &request, &why) == 0);
	size_t whole = http_rewrite(&request, &none, text, sizeof(text));
	for (size_t size = 0; size < whole; size++)
		CHECK_EQ(http_rewrite(&request, &none, text, size), 0);
}

static void test_secrets(void)
{
	struct egress_secret secrets[2];
	struct egress_rules rules = {.secrets = secrets, .secret_count = 2};
	char text[2048];
	const char *why;
	REQUIRE(egress_parse_secret("TOKEN=sesame@api.example", &secrets[0], &why) &&
	        egress_parse_secret("TOKEN_B=open@api.example:8080", &secrets[1], &why));
	static const char *const request = "POST http://%s/wisp-secret-TOKEN- HTTP/1.1\r\nA: Bearer wisp-secret-TOKEN-;"
	                                   "wisp-secret-TOKEN-\r\nB: wisp-secret-TOKEN_B-\r\nC: wisp-secret-TOKEN\r\n"
	                                   "wisp-secret-TOKEN-: x\r\n\r\n";
	static const char *const answer =
	        "POST /wisp-secret-TOKEN- HTTP/1.1\r\nHost: %s\r\nA: Bearer %s;%s\r\nB: %s\r\n"
	        "C: wisp-secret-TOKEN\r\nwisp-secret-TOKEN-: x\r\nConnection: close\r\n\r\n";
	static const struct {
		const char *to, *a, *b;
	} cases[] = {
	        {"api.example", "sesame", "wisp-secret-TOKEN_B-"},
	        {"API.Example:80", "sesame", "wisp-secret-TOKEN_B-"},
	        {"api.example:8080", "wisp-secret-TOKEN-", "open"},
	        {"api.example:81", "wisp-secret-TOKEN-", "wisp-secret-TOKEN_B-"},
	        {"www.api.example", "wisp-secret-TOKEN-", "wisp-secret-TOKEN_B-"},
	        {"evil.example", "wisp-secret-TOKEN-", "wisp-secret-TOKEN_B-"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char given[1024], wanted[1024], host[64];
		snprintf(given, sizeof(given), request, cases[i].to);
		rewrite(given, &rules, text, sizeof(text));
		/* The name in lower case; the port if it is not 80. */
		struct http_request parsed;
		REQUIRE(parse(given, strlen(given), &parsed, &why) == 0);
		snprintf(host, sizeof(host), parsed.port == 80 ? "%s" : "%s:%u", parsed.host.name, parsed.port);
		snprintf(wanted, sizeof(wanted), answer, host, cases[i].a, cases[i].a, cases[i].b);
		CHECK_STR(text, wanted);
	}
	/* As many as there may be, in fields and in one field, and one more. Those of another host do not count. */
	char many[512] = "GET http://api.example/ HTTP/1.1\r\nA: wisp-secret-TOKEN_B-\r\nB: ";
	for (unsigned i = 0; i < HTTP_SECRETS_MAX; i++)
		strcat(many, i == 4 ? "\r\nC: wisp-secret-TOKEN-" : "wisp-secret-TOKEN-");
	size_t length = strlen(many);
	strcpy(many + length, "\r\n\r\n");
	rewrite(many, &rules, text, sizeof(text));
	CHECK(strstr(text, "\r\nB: sesamesesamesesamesesame\r\nC: sesamesesamesesamesesame\r\n"));
	strcpy(many + length, "wisp-secret-TOKEN-\r\n\r\n");
	rewrite(many, &rules, text, sizeof(text));
	CHECK_STR(text, "");
}

/* The body's bytes among `text`, taken `step` at once; -1 if it is malformed, -2 if it does not end. */
static long take(struct http_body body, const char *text, size_t step)
{
	size_t at = 0, length = strlen(text);
	while (at < length && !body.ended) {
		size_t part = length - at < step ? length - at : step;
		ptrdiff_t n = http_body_take(&body, text + at, part);
		if (n < 0)
			return -1;
		at += (size_t)n;
		if ((size_t)n < part)
			break;
	}
	return body.ended ? (long)at : -2;
}

static void test_bodies(void)
{
	const struct http_body chunked = {.kind = HTTP_BODY_CHUNKED};
	static const struct {
		const char *text;
		long taken;
	} bodies[] = {
	        {"0\r\n\r\nGET", 5},
	        {"3\r\nabc\r\n0\r\n\r\nGET", 13},
	        {"a;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nGET", 36},
	        {"00000\r\n\r\nGET", 9},
	        {"3\r\nabc\r\n", -2},
	        {"3\r\nabcd\r\n0\r\n\r\n", -1},
	        {"3\nabc\r\n0\r\n\r\n", -1},
	        {"\r\n\r\n", -1},
	        {"g\r\n", -1},
	        {"-1\r\n", -1},
	        {"0x3\r\nabc\r\n", -1},
	        {"1000000000000000\r\n", -1},
	        {"0\r\n\n", -1},
	        {"0\r\nA: b\n\r\n", -1},
	        {"0\r\n\rx", -1},
	        {"3 \r\nabc\r\n0\r\n\r\n", -1},
	};
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		for (size_t step = 1; step <= strlen(bodies[i].text); step++) {
			long taken = take(chunked, bodies[i].text, step);
			if (taken == bodies[i].taken)
				continue;
			test_failed = true;
			printf("# %ld, not %ld, by %zu of: %s\n", taken, bodies[i].taken, step, bodies[i].text);
			break;
		}
	}
	for (size_t step = 1; step <= 5; step++)
		CHECK_EQ(take((struct http_body){.kind = HTTP_BODY_LENGTH, .left = 3}, "abcde", step), 3);
	struct http_body endless = chunked;
	CHECK_EQ(http_body_take(&endless, "1;", 2), 2);
	ptrdiff_t n = 1;
	for (int i = 0; i < 5000 && n == 1; i++)
		n = http_body_take(&endless, "x", 1);
	CHECK_EQ(n, -1);
}

/* The answer as the client gets it, if it arrives in pieces of `step` bytes. */
static void mark(const char *answer, size_t step, char *to)
{
	struct http_answer state = {0};
	size_t length = strlen(answer), n = 0;
	for (size_t at = 0; at < length; at += step) {
		size_t part = length - at < step ? length - at : step;
		ptrdiff_t place = http_answer_find(&state, answer + at, part);
		size_t before = place < 0 ? part : (size_t)place;
		n += (size_t)sprintf(to + n, "%.*s%s%.*s", (int)before, answer + at, place < 0 ? "" : HTTP_ANSWER_FIELD,
		        (int)(part - before), answer + at + before);
	}
}

/* A client must not send its next request on a connection that is about to close. */
static void test_answers(void)
{
	static const struct {
		const char *given, *wanted;
	} answers[] = {
	        {"HTTP/1.1 200 OK\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n",
	                "HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n"},
	        {"HTTP/1.0 404\r\n\r\n", "HTTP/1.0 404\r\nConnection: close\r\n\r\n"},
	        {"HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 103 x\n\nHTTP/1.1 200 OK\r\n\r\n1",
	                "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 103 x\n\nHTTP/1.1 200 OK\r\n"
	                "Connection: close\r\n\r\n1"},
	        {"HTTP/1.1 101 x\r\n\r\n", "HTTP/1.1 101 x\r\nConnection: close\r\n\r\n"},
	        {"ICY 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", "ICY 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n"},
	        {"\r\nHTTP/1.1 200 OK\r\n", "\r\nHTTP/1.1 200 OK\r\n"},
	        {"HTTP/1.1 200 OK", "HTTP/1.1 200 OK"},
	};
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		for (size_t step = 1; step <= strlen(answers[i].given); step++) {
			char text[256] = "";
			mark(answers[i].given, step, text);
			CHECK_STR(text, answers[i].wanted);
		}
	}
}

static void test_greetings(void)
{
	uint8_t method;
	static const uint8_t good[] = {5, 2, 2, 0, 5};
	for (size_t length = 0; length < 4; length++)
		CHECK_EQ(socks_parse_greeting(good, length, &method), 0);
	CHECK_EQ(socks_parse_greeting(good, sizeof(good), &method), 4);
	CHECK_EQ(method, SOCKS_NO_AUTHENTICATION);
	CHECK_EQ(socks_parse_greeting((const uint8_t[]){5, 1, 2}, 3, &method), 3);
	CHECK_EQ(method, SOCKS_NO_METHOD);
	CHECK_EQ(socks_parse_greeting((const uint8_t[]){5, 0}, 2, &method), 2);
	CHECK_EQ(method, SOCKS_NO_METHOD);
	CHECK_EQ(socks_parse_greeting((const uint8_t[]){4, 1}, 2, &method), -1);
}

static void test_socks_requests(void)
{
	static const struct {
		const char *bytes;
		size_t length;
		int result;
		enum socks_reply reply;
		const char *host;
		uint16_t port;
	} requests[] = {
	        {"\5\1\0\1\177\0\0\1\0\120", 10, 10, SOCKS_OK, "127.0.0.1", 80},
	        {"\5\1\0\3\7example\1\273rest", 18, 14, SOCKS_OK, "example", 443},
	        {"\5\1\0\3\3"
	         "127\0\120",
	                10, 10, SOCKS_OK, "0.0.0.127", 80},
	        {"\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\26", 22, 22, SOCKS_OK, "[::1]", 22},
	        {"\5\1\0\4\0\0\0\0\0\0\0\0\0\0\377\377\12\0\0\1\0\26", 22, 22, SOCKS_OK, "10.0.0.1", 22},
	        {"\5\2\0\1\177\0\0\1\0\120", 10, 10, SOCKS_NO_COMMAND, NULL, 0},
	        {"\5\3\0\1\177\0\0\1\0\120", 10, 10, SOCKS_NO_COMMAND, NULL, 0},
	        {"\5\1\0\2", 4, 4, SOCKS_NO_ADDRESS_TYPE, NULL, 0},
	        {"\5\1\0\1\177\0\0\1\0\0", 10, -1, SOCKS_OK, NULL, 0},
	        {"\5\1\0\3\0\0\120", 7, -1, SOCKS_OK, NULL, 0},
	        {"\5\1\0\3\3a\0b\0\120", 10, -1, SOCKS_OK, NULL, 0},
	        {"\5\1\0\3\3a/b\0\120", 10, -1, SOCKS_OK, NULL, 0},
	        {"\5\1\1\1", 4, -1, SOCKS_OK, NULL, 0},
	        {"\4\1\0\1", 4, -1, SOCKS_OK, NULL, 0},
	};
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		struct egress_host host;
		uint16_t port = 0;
		enum socks_reply reply = SOCKS_OK;
		char text[EGRESS_HOST_MAX] = "";
		int result = 0;
		size_t length = 0;
		for (; result == 0 && length <= requests[i].length; length++) {
			uint8_t *copy = malloc(length ? length : 1);
			memcpy(copy, requests[i].bytes, length);
			result = socks_parse_request(copy, length, &host, &port, &reply);
			free(copy);
		}
		bool good = result == requests[i].result && (result < 0 || reply == requests[i].reply);
		if (good && requests[i].host) {
			egress_format_host(&host, text);
			/* Known with its last byte, and not before. */
			good = strcmp(text, requests[i].host) == 0 && port == requests[i].port &&
			       (int)length - 1 == result;
		}
		if (!good) {
			test_failed = true;
			printf("# request %zu: %d, reply %d, %s:%u\n", i, result, reply, text, port);
		}
	}
	uint8_t answer[SOCKS_ANSWER_BYTES];
	socks_make_answer(SOCKS_NOT_ALLOWED, answer);
	CHECK(memcmp(answer, "\5\2\0\1\0\0\0\0\0\0", sizeof(answer)) == 0);
}

static struct sockaddr *make_address(const char *text)
{
	struct sockaddr_storage *storage = calloc(1, sizeof(*storage));
	struct sockaddr_in *v4 = (struct sockaddr_in *)storage;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)storage;
	storage->ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	void *bytes = storage->ss_family == AF_INET ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr;
	if (inet_pton(storage->ss_family, text, bytes) != 1)
		test_failed = true;
	return (struct sockaddr *)storage;
}

/* The host's addresses, and the networks that they are in. */
static void test_own_networks(void)
{
	static const struct {
		const char *address, *mask, *peer;
		const char *wanted; /* the network; NULL: none */
		unsigned prefix;
	} list[] = {
	        {"8.8.8.1", "255.255.255.0", NULL, "8.8.8.1", 24},
	        {"2606:2800:1::5", "ffff:ffff:ffff:ffff::", NULL, "[2606:2800:1::5]", 64},
	        {"8.8.4.1", "255.255.255.255", "8.8.5.1", "8.8.5.1", 32},
	        {"9.9.9.9", "255.0.0.0", NULL, "9.9.9.9", 8},
	        {"9.9.9.9", "254.0.0.0", NULL, NULL, 0},
	        {"9.9.9.9", "0.0.0.0", NULL, NULL, 0},
	        {"2606::1", "ffff::", NULL, "[2606::1]", 16},
	        {"2606::1", "fffe::", NULL, NULL, 0},
	        {"2606::1", "::", NULL, NULL, 0},
	};
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		struct sockaddr other = {.sa_family = AF_PACKET};
		struct ifaddrs none = {0}, packet = {.ifa_next = &none, .ifa_addr = &other};
		struct ifaddrs own = {.ifa_next = &packet, .ifa_flags = list[i].peer ? IFF_POINTOPOINT : 0};
		struct egress_rules rules = {0};
		struct egress_host host = {.is_address = true};
		char text[EGRESS_HOST_MAX];
		own.ifa_addr = make_address(list[i].address);
		own.ifa_netmask = make_address(list[i].mask);
		own.ifa_dstaddr = list[i].peer ? make_address(list[i].peer) : NULL;
		REQUIRE(own_take(&rules, &own) == 0);
		bool six = strchr(list[i].address, ':');
		CHECK_EQ(rules.own_count, list[i].wanted ? 2 : 1);
		CHECK_EQ(rules.own[0].prefix, 128);
		CHECK_STR(rules.own[0].what, "this host's");
		if (list[i].wanted) {
			host.address = rules.own[1].address;
			egress_format_host(&host, text);
			CHECK_STR(text, list[i].wanted);
			CHECK_EQ(rules.own[1].prefix, list[i].prefix + (six ? 0 : 96));
		}
		egress_free_rules(&rules);
		free(own.ifa_addr);
		free(own.ifa_netmask);
		free(own.ifa_dstaddr);
	}
}

/* The log keeps within its size, and the newest lines whole. */
static void test_log_is_bounded(void)
{
	struct netlog log;
	char text[1 << 13] = "", last[64], *line, *rest = text;
	int fd = memfd_create("log", MFD_CLOEXEC), lines = 0;
	REQUIRE(fd >= 0 && fcntl(fd, F_SETFL, O_APPEND) == 0);
	netlog_init(&log, fd, 4096);
	for (int i = 0; i < 1000; i++) {
		netlog_write(&log, "line %d", i);
		off_t size = lseek(fd, 0, SEEK_END);
		CHECK(size > 0 && size <= 4096);
	}
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	REQUIRE(n > 2048);
	CHECK(text[n - 1] == '\n');
	text[n - 1] = '\0';
	int first = -1;
	while ((line = strsep(&rest, "\n"))) {
		int number = -1;
		CHECK(sscanf(line, "20%*[0-9TZ:.-] line %d", &number) == 1);
		first = first < 0 ? number : first;
		CHECK_EQ(number, first + lines);
		lines++;
		snprintf(last, sizeof(last), "%s", strstr(line, "line"));
	}
	CHECK_STR(last, "line 999");
	close(fd);
}

TEST_MAIN("proxy_parse", {"requests", test_requests}, {"rewriting", test_rewriting}, {"secrets", test_secrets},
        {"bodies", test_bodies}, {"answers", test_answers}, {"greetings", test_greetings},
        {"socks_requests", test_socks_requests}, {"own_networks", test_own_networks},
        {"log_is_bounded", test_log_is_bounded})
