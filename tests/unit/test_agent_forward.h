/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the agent's forwarded connections share: servers, and streams whose bytes are known. */
#ifndef WISP_TEST_AGENT_FORWARD_H
#define WISP_TEST_AGENT_FORWARD_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/test.h"

#define WAIT_MS 20000

static int listen_tcp(int family, uint16_t *port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr *address = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t size = family == AF_INET ? sizeof(v4) : sizeof(v6);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, address, size) < 0 || listen(fd, 4096) < 0 || getsockname(fd, address, &size) < 0) {
		close(fd);
		return -1;
	}
	*port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	return fd;
}

static bool await(int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};
	return poll(&pfd, 1, WAIT_MS) > 0;
}

static bool say(int fd, const char *text)
{
	return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

/* Reads exactly this. */
static bool hears(int fd, const char *text)
{
	char got[64];
	size_t done = 0, length = strlen(text);
	while (done < length) {
		ssize_t n = await(fd, POLLIN) ? recv(fd, got + done, length - done, MSG_DONTWAIT) : -1;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return memcmp(got, text, length) == 0;
}

static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 31 + at / 509);
}

/* Sends what is taken, from *at on, until it has sent `total` and ended the stream. */
static bool push(int fd, size_t *at, size_t total)
{
	static uint8_t block[100000];
	size_t length = total - *at < sizeof(block) ? total - *at : sizeof(block);
	for (size_t i = 0; i < length; i++)
		block[i] = pattern(*at + i);
	ssize_t n = send(fd, block, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n <= 0)
		return false;
	*at += (size_t)n;
	if (*at == total)
		shutdown(fd, SHUT_WR);
	return true;
}

/* Takes what there is. False at the end, or when the bytes are not those. */
static bool pull(int fd, size_t *at)
{
	static uint8_t block[70000];
	ssize_t n = recv(fd, block, sizeof(block), MSG_DONTWAIT);
	for (ssize_t i = 0; i < n; i++) {
		if (block[i] != pattern((*at)++)) {
			CHECK(false);
			return false;
		}
	}
	return n > 0 || (n < 0 && errno == EAGAIN);
}

#endif
