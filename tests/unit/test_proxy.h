/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-proxy as a process, started as the library starts it: the test is the guest, and the servers. */
#ifndef WISP_TEST_PROXY_H
#define WISP_TEST_PROXY_H

#include <netinet/in.h>
#include <sys/pidfd.h>

#include "tests/unit/test_lib.h"
#include "vmm/lib/egress.h"

#define WAIT_MS 20000

struct world {
	char dir[64];
	int dir_fd, monitor_fd, listen_fd;
	pid_t monitor, proxy;
	int server; /* listens on 127.0.0.1 */
	uint16_t port;
};

UNUSED static int listen_unix(const char *dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", dir);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	return -1;
}

UNUSED static int listen_tcp(uint16_t *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, SOMAXCONN) < 0 ||
	        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		return -1;
	*port = ntohs(address.sin_port);
	return fd;
}

/* "%u" in a rule or a secret is the server's port. */
UNUSED static bool world_start(struct world *w, const char *const *rules, const char *const *secrets)
{
	char program[PATH_MAX], texts[16][128];
	const char *allow[9] = {NULL}, *given[5] = {NULL};
	struct egress *egress = NULL;
	struct wisp_error error = {0};
	size_t count = 0;
	*w = (struct world){.monitor = -1, .proxy = -1, .monitor_fd = -1};
	snprintf(w->dir, sizeof(w->dir), "/tmp/wisp-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return false;
	w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	w->server = listen_tcp(&w->port);
	w->listen_fd = listen_unix(w->dir);
	for (size_t i = 0; rules[i]; i++, count++)
		allow[i] = (snprintf(texts[count], sizeof(texts[0]), rules[i], w->port), texts[count]);
	for (size_t i = 0; secrets && secrets[i]; i++, count++)
		given[i] = (snprintf(texts[count], sizeof(texts[0]), secrets[i], w->port), texts[count]);
	fflush(stdout);
	w->monitor = fork();
	if (w->monitor == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(w->server);
		close(w->listen_fd);
		for (;;)
			pause();
	}
	w->monitor_fd = pidfd_open(w->monitor, 0);
	const struct wisp_create_options options = {.size = sizeof(options), .allow = allow, .secrets = given};
	int r = egress_prepare(&options, built("../../lib/wisp/wisp-proxy", program), &egress, &error);
	if (r == 0) {
		egress->listen_fd = dup(w->listen_fd);
		r = egress_start(egress, w->dir_fd, w->monitor_fd, &w->proxy, &error);
	}
	egress_free(egress);
	close(w->listen_fd);
	if (r < 0)
		printf("# %s\n", error.message);
	return r == 0 && w->proxy > 0 && w->server >= 0;
}

/* Returns the exit status of the proxy, which ends with the monitor. */
UNUSED static int world_end(struct world *w)
{
	int status = -1;
	kill(w->monitor, SIGKILL);
	waitpid(w->monitor, NULL, 0);
	if (w->proxy > 0 && waitpid(w->proxy, &status, 0) != w->proxy)
		status = -1;
	close(w->monitor_fd);
	close(w->dir_fd);
	close(w->server);
	remove_all(w->dir);
	return status;
}

UNUSED static int dial_proxy(const struct world *w)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", w->dir);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

UNUSED static bool await(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	return poll(&pfd, 1, WAIT_MS) > 0;
}

UNUSED static int accept_one(const struct world *w)
{
	return await(w->server) ? accept4(w->server, NULL, NULL, SOCK_CLOEXEC) : -1;
}

UNUSED static bool put(int fd, const char *text)
{
	return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

/* Receives until the text ends with `end`, or the stream. */
UNUSED static void get(int fd, const char *end, char *text, size_t size)
{
	size_t length = 0;
	text[0] = '\0';
	while (length < size - 1 && await(fd)) {
		ssize_t n = recv(fd, text + length, size - 1 - length, 0);
		if (n <= 0)
			break;
		length += (size_t)n;
		text[length] = '\0';
		if (end[0] && length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0)
			break;
	}
}

static const char *request(const struct world *w, const char *format)
{
	static char text[1024];
	snprintf(text, sizeof(text), format, w->port, w->port);
	return text;
}

/* Sends a request to a proxy that is to refuse it, and stores its answer. */
UNUSED static void ask(const struct world *w, const char *format, char *answer, size_t size)
{
	int fd = dial_proxy(w);
	if (!put(fd, request(w, format)))
		test_failed = true;
	get(fd, "", answer, size);
	close(fd);
}

UNUSED static bool log_has(const struct world *w, const char *format)
{
	char text[8192];
	read_text(w->dir, "net.log", text, sizeof(text));
	if (strstr(text, request(w, format)))
		return true;
	printf("# net.log: %s", text);
	return false;
}

UNUSED static const char *const here[] = {"127.0.0.1:%u", NULL};

#endif
