/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest sends to wisp-proxy, and the rules. The first byte says what the rest is: an HTTP request, SOCKS
 * messages, a rule, a secret, a server's answer, or a host. What is accepted must keep the promises on which decisions
 * rest.
 */
#include <stdio.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/proxy/http.h"
#include "vmm/proxy/socks.h"

#define REWRITTEN_MAX ((size_t)128 << 10)

static const char secret_value[] = "sesame";

static void check_host(const struct egress_host *host)
{
	struct egress_host again;
	char text[EGRESS_HOST_MAX];
	egress_format_host(host, text);
	size_t length = strlen(text);
	MUST(length > 0 && length < EGRESS_HOST_MAX - 1);
	/* Printable, and the same when it is read again. */
	for (size_t i = 0; i < length; i++)
		MUST(text[i] > ' ' && text[i] < 0x7f && !(text[i] >= 'A' && text[i] <= 'Z'));
	bool bracket = text[0] == '[';
	MUST(egress_parse_host(text + bracket, length - 2 * bracket, &again));
	MUST(again.is_address == host->is_address);
	MUST(strcmp(again.name, host->name) == 0 || host->is_address);
	MUST(!host->is_address || memcmp(&again.address, &host->address, sizeof(host->address)) == 0);
}

static unsigned count(const char *text, size_t length, const char *word)
{
	unsigned n = 0;
	const char *end = text + length;
	while ((text = memmem(text, (size_t)(end - text), word, strlen(word)))) {
		text += strlen(word);
		n++;
	}
	return n;
}

/* The head that a server gets: whole lines, one Host, one Connection, the same framing, no secret of another host. */
static void check_rewritten(const struct http_request *request, bool own)
{
	struct egress_secret secret;
	struct egress_rules rules = {.secrets = &secret, .secret_count = 1};
	char text[EGRESS_HOST_MAX + 64], host[EGRESS_HOST_MAX];
	const char *why;
	egress_format_host(&request->host, host);
	snprintf(text, sizeof(text), "KEY=%s@%s:%u", secret_value, own ? host : "other.example", request->port);
	if (!egress_parse_secret(text, &secret, &why))
		rules.secret_count = 0;
	char *head = malloc(REWRITTEN_MAX);
	MUST(head);
	size_t length = http_rewrite(request, &rules, head, REWRITTEN_MAX);
	if (length == 0) {
		MUST(own && count(request->method, request->head, "wisp-secret-KEY-") > HTTP_SECRETS_MAX);
		free(head);
		return;
	}
	MUST(length > 4 && memcmp(head + length - 4, "\r\n\r\n", 4) == 0);
	MUST(count(head, length, "\r\n\r\n") == 1);
	MUST(count(head, length, "\r\nHost: ") == 1 && count(head, length, "\r\nConnection: ") == 1);
	MUST(!memchr(head, '\0', length) && count(head, length, "\n") == count(head, length, "\r\n"));
	free(head);
}

static void fuzz_http(const uint8_t *data, size_t size, size_t step)
{
	struct http_request request, first;
	const char *why = NULL;
	int status = 1, whole = http_parse((const char *)data, size, &first, &why);
	/* As it may arrive: the answer is the same, and is known with the head's last byte. */
	for (size_t length = 0; status == 1 && length < size;) {
		length = size - length < step ? size : length + step;
		status = http_parse((const char *)data, length, &request, &why);
	}
	MUST(size == 0 || status == whole || whole == 1);
	if (whole != 0) {
		MUST(whole == 1 || why);
		return;
	}
	check_host(&first.host);
	MUST(first.port != 0 && first.head <= size && first.head <= HTTP_HEAD_MAX);
	if (first.connect)
		return;
	check_rewritten(&first, true);
	check_rewritten(&first, false);
	/* The body is the same, however it is cut. */
	struct http_body at_once = first.body, pieces = first.body;
	const char *body = (const char *)data + first.head;
	size_t length = size - first.head, at = 0;
	ptrdiff_t taken = http_body_take(&at_once, body, length), n = 0;
	while (at < length && !pieces.ended && n >= 0) {
		size_t part = length - at < step ? length - at : step;
		n = http_body_take(&pieces, body + at, part);
		at += n > 0 ? (size_t)n : 0;
	}
	MUST((n < 0) == (taken < 0));
	MUST(taken < 0 || ((size_t)taken == at && pieces.ended == at_once.ended));
}

/* The field's place does not depend on how the answer is cut, and it has one at most. */
static void fuzz_answer(const char *data, size_t size, size_t step)
{
	struct http_answer whole = {0}, pieces = {0};
	ptrdiff_t place = http_answer_find(&whole, data, size), found = -1;
	for (size_t at = 0; at < size; at += step) {
		ptrdiff_t n = http_answer_find(&pieces, data + at, size - at < step ? size - at : step);
		MUST(n < 0 || found < 0);
		found = n < 0 ? found : (ptrdiff_t)at + n;
	}
	MUST(found == place && place <= (ptrdiff_t)size);
	MUST(place < 0 || data[place - 1] == '\n');
}

static void fuzz_socks(const uint8_t *data, size_t size)
{
	struct egress_host host;
	uint16_t port = 0;
	uint8_t method;
	enum socks_reply reply;
	int n = socks_parse_greeting(data, size, &method);
	MUST(n <= (int)size && n <= (int)SOCKS_MESSAGE_MAX);
	if (n <= 0)
		return;
	int m = socks_parse_request(data + n, size - (size_t)n, &host, &port, &reply);
	MUST(m <= (int)size - n && m <= (int)SOCKS_MESSAGE_MAX);
	if (m > 0 && reply == SOCKS_OK) {
		check_host(&host);
		MUST(port != 0);
	}
}

static void fuzz_rule(const char *text)
{
	struct egress_rule rule;
	struct egress_rules rules = {.rules = &rule, .count = 1};
	const char *why = NULL;
	unsigned least;
	if (!egress_parse_rule(text, &rule, &why)) {
		MUST(why);
		return;
	}
	MUST(rule.port <= EGRESS_PORTS_ALL);
	if (rule.kind != EGRESS_NETWORK)
		return;
	/* A special address is named by nothing that is wider than what makes it special. */
	MUST(rule.prefix <= 128);
	const char *special = egress_special(&rules, &rule.host.address, &least);
	uint16_t port = rule.port == EGRESS_PORTS_WEB || rule.port == EGRESS_PORTS_ALL ? 80 : (uint16_t)rule.port;
	MUST(egress_allows_address(&rules, &rule.host.address, port, false) == (!special || rule.prefix >= least));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t what = in8(&in);
	struct egress_host host;
	struct egress_secret secret;
	const char *why = NULL;
	char *text = malloc(in.left + 1);
	MUST(text);
	memcpy(text, in.at, in.left);
	text[in.left] = '\0';
	switch (what % 6) {
	case 0: fuzz_http(in.at, in.left, 1u + what / 6); break;
	case 1: fuzz_socks(in.at, in.left); break;
	case 2: fuzz_rule(text); break;
	case 3: MUST(egress_parse_secret(text, &secret, &why) || why); break;
	case 4: fuzz_answer((const char *)in.at, in.left, 1u + what / 6); break;
	default:
		if (egress_parse_host((const char *)in.at, in.left, &host))
			check_host(&host);
	}
	free(text);
	return 0;
}
