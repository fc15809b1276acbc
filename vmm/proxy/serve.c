/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/proxy/proxy.h"
#include "vmm/proxy/socks.h"

#define ANSWER_MAX 1024u
/* More than any head takes with HTTP_SECRETS_MAX secrets. */
#define REWRITTEN_MAX ((size_t)128 << 10)

struct visit {
	struct proxy *proxy;
	int client;
	int64_t deadline_ns;
	char *head; /* for the server; NULL: none */
	size_t head_length;
	size_t length;
	char data[HTTP_HEAD_MAX]; /* what the client has sent */
};

/* Receives more. 0, or -errno if there is no more. */
static int receive(struct visit *visit)
{
	for (;;) {
		int r = wait_for(visit->client, POLLIN, visit->deadline_ns);
		if (r < 0)
			return r;
		ssize_t n = recv(
		        visit->client, visit->data + visit->length, sizeof(visit->data) - visit->length, MSG_DONTWAIT);
		if (n > 0) {
			visit->length += (size_t)n;
			return 0;
		}
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return n == 0 ? -ECONNRESET : -errno;
	}
}

static void answer(struct visit *visit, const void *data, size_t length)
{
	if (send_all(visit->client, data, length, deadline_in(visit->proxy->request_ms)) == 0)
		end_client(visit->client, visit->proxy->linger_ms);
}

/* ---- HTTP ---- */

static const char *phrase_of(int status)
{
	switch (status) {
	case 403: return "Forbidden";
	case 431: return "Request Header Fields Too Large";
	case 501: return "Not Implemented";
	case 502: return "Bad Gateway";
	case 505: return "HTTP Version Not Supported";
	default: return "Bad Request";
	}
}

static void answer_http(struct visit *visit, int status, const char *why)
{
	char text[ANSWER_MAX], body[ANSWER_MAX / 2 + 64];
	int size = snprintf(body, sizeof(body), "wisp-proxy: %.500s\n", why);
	int n = snprintf(text, sizeof(text),
	        "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
	        status, phrase_of(status), size, body);
	answer(visit, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* Before the server is dialled, so that it hears of no request that is refused. 0, or the status of the answer. */
static int make_head(struct visit *visit, const struct http_request *request, const char **why)
{
	if (request->connect)
		return 0;
	visit->head = malloc(REWRITTEN_MAX);
	if (!visit->head) {
		*why = "there is no memory for the head";
		return 502;
	}
	visit->head_length = http_rewrite(request, &visit->proxy->rules, visit->head, REWRITTEN_MAX);
	*why = "the head has more than 8 secrets";
	return visit->head_length > 0 ? 0 : 431;
}

/* 0 or -errno. */
static int send_request(struct visit *visit, int server)
{
	static const char established[] = "HTTP/1.1 200 Connection established\r\n\r\n";
	int64_t deadline = deadline_in(visit->proxy->request_ms);
	if (!visit->head)
		return send_all(visit->client, established, sizeof(established) - 1, deadline);
	int r = send_all(server, visit->head, visit->head_length, deadline);
	free(visit->head);
	visit->head = NULL;
	return r;
}

static void serve_http(struct visit *visit)
{
	struct http_request request;
	char host[EGRESS_HOST_MAX], refusal[DIAL_WHY_SIZE + EGRESS_HOST_MAX], why[DIAL_WHY_SIZE] = "";
	const char *reason = "";
	int server, status;
	while ((status = http_parse(visit->data, visit->length, &request, &reason)) == 1) {
		if (receive(visit) < 0)
			return;
	}
	if (status == 0)
		status = make_head(visit, &request, &reason);
	if (status != 0) {
		netlog_write(&visit->proxy->log, "refused http -: %s", reason);
		answer_http(visit, status, reason);
		return;
	}
	enum dial_result result =
	        dial(visit->proxy, request.connect ? "connect" : "http", &request.host, request.port, &server, why);
	if (result != DIAL_CONNECTED) {
		egress_format_host(&request.host, host);
		snprintf(refusal, sizeof(refusal), "%s:%u: %s", host, request.port, why);
		answer_http(visit, result == DIAL_REFUSED ? 403 : 502, refusal);
		return;
	}
	if (send_request(visit, server) == 0)
		relay(visit->client, server, request.connect ? NULL : &request.body, visit->data + request.head,
		        visit->length - request.head, visit->proxy->linger_ms);
	close(server);
}

/* ---- SOCKS ---- */

static void answer_socks(struct visit *visit, enum socks_reply reply)
{
	uint8_t bytes[SOCKS_ANSWER_BYTES];
	socks_make_answer(reply, bytes);
	answer(visit, bytes, sizeof(bytes));
}

static void drop(struct visit *visit, size_t length)
{
	visit->length -= length;
	memmove(visit->data, visit->data + length, visit->length);
}

/* The number of bytes of a message, or -1 if there is none. */
static int greet(struct visit *visit)
{
	uint8_t method = 0;
	int n;
	while ((n = socks_parse_greeting((uint8_t *)visit->data, visit->length, &method)) == 0) {
		if (receive(visit) < 0)
			return -1;
	}
	if (n < 0)
		return -1;
	drop(visit, (size_t)n);
	const uint8_t choice[] = {SOCKS_VERSION, method};
	if (method == SOCKS_NO_METHOD)
		answer(visit, choice, sizeof(choice));
	else if (send_all(visit->client, choice, sizeof(choice), visit->deadline_ns) == 0)
		return n;
	return -1;
}

static void serve_socks(struct visit *visit)
{
	struct egress_host host;
	uint16_t port = 0;
	uint8_t connected[SOCKS_ANSWER_BYTES];
	enum socks_reply reply = SOCKS_OK;
	char why[DIAL_WHY_SIZE];
	int n, server;
	if (greet(visit) < 0)
		return;
	while ((n = socks_parse_request((uint8_t *)visit->data, visit->length, &host, &port, &reply)) == 0) {
		if (receive(visit) < 0)
			return;
	}
	if (n < 0 || reply != SOCKS_OK) {
		netlog_write(&visit->proxy->log, "refused socks -: the request is %s",
		        n < 0 ? "malformed" : "not a CONNECT to a name or an address");
		answer_socks(visit, n < 0 ? SOCKS_FAILED : reply);
		return;
	}
	drop(visit, (size_t)n);
	enum dial_result result = dial(visit->proxy, "socks", &host, port, &server, why);
	if (result != DIAL_CONNECTED) {
		answer_socks(visit, result == DIAL_REFUSED ? SOCKS_NOT_ALLOWED : SOCKS_UNREACHABLE);
		return;
	}
	socks_make_answer(SOCKS_OK, connected);
	if (send_all(visit->client, connected, sizeof(connected), deadline_in(visit->proxy->request_ms)) == 0)
		relay(visit->client, server, NULL, visit->data, visit->length, visit->proxy->linger_ms);
	close(server);
}

void serve_client(struct proxy *proxy, int fd)
{
	struct visit *visit = malloc(sizeof(*visit));
	if (visit) {
		visit->proxy = proxy;
		visit->client = fd;
		visit->deadline_ns = deadline_in(proxy->request_ms);
		visit->head = NULL;
		visit->length = 0;
		/* No method of HTTP begins with SOCKS' first byte. */
		if (receive(visit) == 0) {
			if (visit->data[0] == SOCKS_VERSION)
				serve_socks(visit);
			else
				serve_http(visit);
		}
		free(visit->head);
		free(visit);
	}
	close(fd);
}
