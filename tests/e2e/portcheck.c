/* SPDX-License-Identifier: Apache-2.0 */
/*
 * portcheck: both ends of a forwarded port, for tests/e2e/ports.sh. Static: it runs in the guest as well.
 *
 *	portcheck serve PORT                a TCP server on 127.0.0.1. A client's first line says what it does:
 *		echo                        returns what it gets, to the end, and ends its stream
 *		hold                        reads nothing for as long as the client is there
 *		give N                      sends N bytes of the pattern, and ends its stream
 *		count                       reads to the end, and says how many bytes of the pattern came
 *		abort                       resets the connection
 *	portcheck many HOST COUNT           opens so many connections at once, each of which echoes
 *	portcheck half HOST                 ends its stream and then reads the answer
 *	portcheck slow HOST                 sends to one who does not read, while others are served; reads slowly
 *	portcheck reset HOST                expects a reset
 *
 * HOST is a port of 127.0.0.1 or the path of a Unix socket. Prints what is wrong, and exits with 1.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 120000
#define LINE_SIZE 32

static _Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 31 + at / 509);
}

static void raise_files(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* ---- The server: one process, as many clients as there are descriptors ---- */

#define CLIENTS_MAX 8192

struct client {
	int fd;
	char line[LINE_SIZE];
	size_t length;
	bool begun, ended, echoes, counts, gives;
	uint64_t left, got, wrong;
	uint8_t kept[4096]; /* to be echoed */
	size_t kept_length;
};

static struct client *clients[CLIENTS_MAX];
static struct pollfd polled[CLIENTS_MAX + 1];
static size_t client_count;

static void drop(size_t i, bool hard)
{
	const struct linger linger = {.l_onoff = 1};
	if (hard)
		setsockopt(clients[i]->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(clients[i]->fd);
	free(clients[i]);
	clients[i] = clients[--client_count];
}

/* Returns false if the client is to be reset. */
static bool begin(struct client *c)
{
	c->begun = true;
	c->echoes = strcmp(c->line, "echo") == 0;
	c->counts = strcmp(c->line, "count") == 0;
	c->gives = sscanf(c->line, "give %llu", (unsigned long long *)&c->left) == 1;
	return c->echoes || c->counts || c->gives || strcmp(c->line, "hold") == 0;
}

/* False: at its end. */
static bool read_line(struct client *c, bool *reset)
{
	char byte;
	while (!c->begun) {
		ssize_t n = recv(c->fd, &byte, 1, MSG_DONTWAIT);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		if (byte == '\n')
			*reset = !begin(c);
		else if (c->length < LINE_SIZE - 1)
			c->line[c->length++] = byte;
	}
	return true;
}

static bool take(struct client *c)
{
	ssize_t n = recv(c->fd, c->kept, sizeof(c->kept), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN;
	c->ended = n == 0;
	for (ssize_t i = 0; i < n && c->counts; i++)
		c->wrong += c->kept[i] != pattern(c->got++);
	c->kept_length = c->echoes ? (size_t)n : 0;
	return true;
}

static bool give(struct client *c)
{
	if (c->gives && c->kept_length == 0 && c->left > 0) {
		c->kept_length = c->left < sizeof(c->kept) ? (size_t)c->left : sizeof(c->kept);
		for (size_t i = 0; i < c->kept_length; i++)
			c->kept[i] = pattern(c->got++);
		c->left -= c->kept_length;
	}
	ssize_t n = send(c->fd, c->kept, c->kept_length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN;
	memmove(c->kept, c->kept + n, c->kept_length - (size_t)n);
	c->kept_length -= (size_t)n;
	return true;
}

static short wanted(const struct client *c)
{
	if (!c->begun)
		return POLLIN;
	if (c->kept_length > 0 || (c->gives && c->left > 0))
		return POLLOUT;
	return c->echoes || c->counts ? POLLIN : 0;
}

/* Returns whether the client goes on. */
static bool serve_client(struct client *c, short events, bool *reset)
{
	if (!c->begun && !read_line(c, reset))
		return false;
	if (*reset)
		return false;
	if (c->begun && events & POLLIN && wanted(c) & POLLIN && !take(c))
		return false;
	if (c->begun && wanted(c) & POLLOUT && !give(c))
		return false;
	if (c->counts && c->ended)
		dprintf(c->fd, "%llu %llu\n", (unsigned long long)c->got, (unsigned long long)c->wrong);
	return !(c->ended || (c->gives && c->left == 0 && c->kept_length == 0));
}

static void serve_round(int listener)
{
	for (size_t i = 0; i < client_count; i++)
		polled[i] = (struct pollfd){.fd = clients[i]->fd, .events = wanted(clients[i])};
	polled[client_count] = (struct pollfd){.fd = listener, .events = client_count < CLIENTS_MAX ? POLLIN : 0};
	if (poll(polled, client_count + 1, -1) < 0)
		fail("poll: %s", strerror(errno));
	bool more = polled[client_count].revents;
	for (size_t i = client_count; i-- > 0;) {
		bool reset = false, hold = wanted(clients[i]) == 0 && !(polled[i].revents & (POLLERR | POLLHUP));
		if (polled[i].revents && !hold && !serve_client(clients[i], polled[i].revents, &reset))
			drop(i, reset);
	}
	int fd = more ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
	if (fd >= 0) {
		clients[client_count] = calloc(1, sizeof(struct client));
		clients[client_count++]->fd = fd;
	}
}

static _Noreturn void serve(const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	        .sin_port = htons((uint16_t)atoi(port)),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	raise_files();
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4096) < 0)
		fail("cannot listen on %s: %s", port, strerror(errno));
	puts("listening");
	fflush(stdout);
	for (;;)
		serve_round(fd);
}

/* ---- Clients ---- */

static int dial(const char *host)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET,
	        .sin_port = htons((uint16_t)atoi(host)),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	bool is_path = host[0] == '/';
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", host);
	int fd = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval patience = {.tv_sec = WAIT_MS / 1000};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, is_path ? (struct sockaddr *)&un : (struct sockaddr *)&v4, is_path ? sizeof(un) : sizeof(v4)) <
	        0)
		fail("cannot connect to %s: %s", host, strerror(errno));
	return fd;
}

static void say(int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		fail("cannot send: %s", strerror(errno));
}

static void expect_text(int fd, const char *text)
{
	char got[128] = "";
	ssize_t n = recv(fd, got, strlen(text), MSG_WAITALL);
	if (n != (ssize_t)strlen(text) || memcmp(got, text, strlen(text)) != 0)
		fail("\"%s\" came (%s), not \"%s\"", got, n < 0 ? strerror(errno) : "", text);
}

static void expect_end(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);
	if (n != 0)
		fail("no end of the stream: %s", n < 0 ? strerror(errno) : "a byte");
}

/* All are connected before the first says anything, and all are served before the first leaves. */
static void many(const char *host, size_t count)
{
	int *fd = calloc(count, sizeof(*fd));
	char text[64];
	raise_files();
	for (size_t i = 0; i < count; i++)
		fd[i] = dial(host);
	for (size_t i = 0; i < count; i++) {
		snprintf(text, sizeof(text), "echo\nclient %zu", i);
		say(fd[i], text);
	}
	for (size_t i = 0; i < count; i++) {
		snprintf(text, sizeof(text), "client %zu", i);
		expect_text(fd[i], text);
	}
	for (size_t i = 0; i < count; i++) {
		shutdown(fd[i], SHUT_WR);
		expect_end(fd[i]);
		close(fd[i]);
	}
}

static void half(const char *host)
{
	int fd = dial(host);
	char expected[64];
	uint8_t block[1000];
	enum { BLOCKS = 3000 };
	say(fd, "count\n");
	for (unsigned i = 0; i < BLOCKS; i++) {
		for (size_t k = 0; k < sizeof(block); k++)
			block[k] = pattern(i * sizeof(block) + k);
		if (send(fd, block, sizeof(block), MSG_NOSIGNAL) != (ssize_t)sizeof(block))
			fail("cannot send: %s", strerror(errno));
	}
	shutdown(fd, SHUT_WR);
	snprintf(expected, sizeof(expected), "%u 0\n", BLOCKS * 1000u);
	expect_text(fd, expected);
	expect_end(fd);
}

/* Until nothing more is taken for a second. */
static uint64_t stuff(int fd)
{
	static const char block[65536];
	uint64_t sent = 0;
	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = POLLOUT};
		if (poll(&pfd, 1, 1000) <= 0)
			return sent;
		ssize_t n = send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (uint64_t)n : 0;
		if (sent > 200u << 20)
			fail("a server that does not read was sent 200 MiB");
	}
}

static void slow(const char *host)
{
	int held = dial(host), other = dial(host), reader = dial(host);
	enum { TOTAL = 20000000 };
	uint8_t block[10000];
	uint64_t got = 0;
	ssize_t n;
	char request[32];
	say(held, "hold\n");
	stuff(held);
	say(other, "echo\nstill served");
	expect_text(other, "still served");
	snprintf(request, sizeof(request), "give %u\n", TOTAL);
	say(reader, request);
	/* Everything between waits for this one; then it reads, and nothing is missing. */
	struct pollfd pfd = {.fd = reader, .events = POLLIN};
	poll(&pfd, 1, WAIT_MS);
	say(other, " and again");
	expect_text(other, " and again");
	while ((n = recv(reader, block, sizeof(block), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (block[i] != pattern(got++))
				fail("byte %llu is wrong", (unsigned long long)got - 1);
		}
	}
	if (got != TOTAL || n < 0)
		fail("%llu bytes came, not %u", (unsigned long long)got, TOTAL);
}

static void reset(const char *host)
{
	int fd = dial(host);
	char byte;
	ssize_t n = send(fd, "abort\n", 6, MSG_NOSIGNAL);
	n = n < 0 && (errno == ECONNRESET || errno == EPIPE) ? -1 : recv(fd, &byte, 1, 0);
	if (n >= 0 || (errno != ECONNRESET && errno != EPIPE))
		fail("no reset: %s", n < 0 ? strerror(errno) : n ? "a byte" : "the end of the stream");
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve(argv[2]);
	if (argc == 4 && strcmp(argv[1], "many") == 0)
		many(argv[2], (size_t)atoi(argv[3]));
	else if (argc == 3 && strcmp(argv[1], "half") == 0)
		half(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "slow") == 0)
		slow(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "reset") == 0)
		reset(argv[2]);
	else
		fail("usage: portcheck serve|many|half|slow|reset");
	return 0;
}
