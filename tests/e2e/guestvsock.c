/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guestvsock connect CID PORT | listen CID PORT: does that with a stream socket, as a program of the guest, and prints
 * "done" or why not. A connection is then read to its end, and what came is printed: an agent would say HELLO.
 *
 * guestvsock serve PATH: opens a port on the host, and greets the one who connects to it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int serve(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0) {
		perror(path);
		return 1;
	}
	puts("listens");
	fflush(stdout);
	int peer = accept(fd, NULL, NULL);
	return peer >= 0 && write(peer, "from the host", 13) == 13 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2]);
	if (argc != 4)
		return 2;
	struct sockaddr_vm address = {.svm_family = AF_VSOCK,
	        .svm_cid = (unsigned int)strtoul(argv[2], NULL, 10),
	        .svm_port = (unsigned int)strtoul(argv[3], NULL, 10)};
	int connects = strcmp(argv[1], "connect") == 0;
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	int error = fd < 0 ? errno : 0;
	if (!error && (connects ? connect : bind)(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		error = errno;
	if (!error && !connects && listen(fd, 1) < 0)
		error = errno;
	printf("%s", error ? strerror(error) : "done");
	char buffer[64];
	ssize_t n = 0;
	while (!error && connects && (n = read(fd, buffer, sizeof(buffer))) > 0)
		printf(" %.*s", (int)n, buffer);
	putchar('\n');
	return 0;
}
