/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connects: short TCP connections, one after the other, for tests/bench/net.
 *
 *	connects serve PORT            answers each client's byte, in a process that goes on in the background
 *	connects ADDRESS PORT COUNT    connects, sends a byte, reads it back, closes; prints connections a second
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int die(const char *what)
{
	fprintf(stderr, "connects: %s: %s\n", what, strerror(errno));
	return 1;
}

static int serve(unsigned short port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1024) < 0)
		return die("cannot listen");
	if (daemon(0, 0) < 0)
		return die("daemon");
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		char byte;
		int fd = accept(listener, NULL, NULL);
		if (fd >= 0 && read(fd, &byte, 1) == 1 && write(fd, &byte, 1) != 1)
			continue;
		close(fd);
	}
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int measure(const char *host, unsigned short port, long count)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	/* So that neither end keeps the ports of thousands. */
	struct linger reset = {1, 0};
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
		return die(host);
	double begun = now();
	for (long i = 0; i < count; i++) {
		char byte = 'x';
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || write(fd, &byte, 1) != 1 ||
		        read(fd, &byte, 1) != 1)
			return die("a connection failed");
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
	}
	printf("%.1f\n", (double)count / (now() - begun));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve((unsigned short)atoi(argv[2]));
	if (argc == 4)
		return measure(argv[1], (unsigned short)atoi(argv[2]), atol(argv[3]));
	fprintf(stderr, "usage: connects serve PORT | ADDRESS PORT COUNT\n");
	return 2;
}
