/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_host DIR: the agent on this machine, behind DIR/vsock.sock, as if DIR were a running sandbox's directory.
 *
 * For tests of what talks to an agent, without a guest. It speaks the VMM's part of the transport (CONNECT 1024, OK
 * 1024) and connects the control connection to DIR/vsock.sock_1024 where something listens. Programs run as this
 * process's user on this machine; their orphans are reaped here. POWEROFF, SIGTERM and the like end it, with SIGKILL
 * to the sessions that are left. When it serves, it writes "ready" to standard output.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/serve.h"
#include "agent/session.h"

#define LINE_MAX_BYTES 32

/* A connection whose CONNECT line has not come yet. */
struct visitor {
	struct poller_watch watch;
	struct agent *agent;
};

struct door {
	struct poller_watch watch;
	struct agent *agent;
};

static void visitor_leave(struct visitor *visitor)
{
	poller_close(&visitor->agent->poller, &visitor->watch);
	free(visitor);
}

static void visitor_ready(struct poller_watch *watch, uint32_t events)
{
	struct visitor *visitor = container_of(watch, struct visitor, watch);
	char line[LINE_MAX_BYTES + 1] = "";
	unsigned int port = 0;
	ssize_t count = events ? recv(watch->fd, line, LINE_MAX_BYTES, MSG_PEEK) : -1;
	char *end = count > 0 ? memchr(line, '\n', (size_t)count) : NULL;
	if (!end && count > 0 && count < LINE_MAX_BYTES)
		return;
	if (!end || sscanf(line, "CONNECT %u\n", &port) != 1 || port != PROTO_PORT_AGENT ||
	        recv(watch->fd, line, (size_t)(end + 1 - line), 0) < 0 ||
	        send(watch->fd, "OK 1024\n", 8, MSG_NOSIGNAL) != 8) {
		visitor_leave(visitor);
		return;
	}
	int fd = watch->fd;
	poller_unwatch(&visitor->agent->poller, watch);
	agent_serve_connection(visitor->agent, fd);
	free(visitor);
}

static void door_ready(struct poller_watch *watch, uint32_t events)
{
	struct door *door = container_of(watch, struct door, watch);
	int fd = events ? accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
	if (fd < 0)
		return;
	struct visitor *visitor = calloc(1, sizeof(*visitor));
	if (!visitor) {
		close(fd);
		return;
	}
	visitor->agent = door->agent;
	visitor->watch = (struct poller_watch){.fd = fd, .ready = visitor_ready};
	/* Level-triggered would spin on half a line that is only peeked at. */
	if (poller_watch(&door->agent->poller, &visitor->watch, EPOLLIN | EPOLLRDHUP | EPOLLET))
		visitor_leave(visitor);
}

static void power(struct agent *agent, enum agent_power wanted, uint32_t grace_ms)
{
	(void)grace_ms;
	(void)wanted;
	agent->poller.stop = true;
}

static void log_line(struct agent *agent, const char *line)
{
	(void)agent;
	fprintf(stderr, "agent: %s\n", line);
}

static int unix_address(const char *directory, const char *name, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	int length = snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s", directory, name);
	return length > 0 && (size_t)length < sizeof(address->sun_path) ? 0 : -1;
}

static int open_door(struct door *door, const char *directory)
{
	struct sockaddr_un address;
	if (unix_address(directory, "vsock.sock", &address))
		return -1;
	unlink(address.sun_path);
	door->watch.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (door->watch.fd < 0 || bind(door->watch.fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	        listen(door->watch.fd, 256) < 0)
		return -1;
	return poller_watch(&door->agent->poller, &door->watch, EPOLLIN);
}

static void connect_control(struct agent *agent, const char *directory)
{
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && unix_address(directory, "vsock.sock_1024", &address) == 0 &&
	        connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		agent_serve_control(agent, fd);
	else if (fd >= 0)
		close(fd);
}

/* As the monitor connects the guest to a port of the host. */
static int dial(struct agent *agent, uint32_t port)
{
	struct sockaddr_un address;
	char name[32];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(name, sizeof(name), "vsock.sock_%u", port);
	if (fd < 0 || unix_address(agent->owner, name, &address) < 0 ||
	        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		return -error;
	}
	return fd;
}

int main(int argc, char **argv)
{
	static const struct agent_hooks hooks = {.power = power, .dial = dial, .log = log_line};
	struct agent *agent = calloc(1, sizeof(*agent));
	if (argc != 2 || !agent) {
		fprintf(stderr, "usage: agent_host DIR\n");
		return 2;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	struct door door = {.watch = {.fd = -1, .ready = door_ready}, .agent = agent};
	if (agent_init(agent, &hooks, argv[1]) || open_door(&door, argv[1])) {
		fprintf(stderr, "agent_host: cannot serve in %s: %s\n", argv[1], strerror(errno));
		free(agent);
		return 1;
	}
	/* Many of these run on one machine. */
	agent->egress.http.port = agent->egress.socks.port = 0;
	connect_control(agent, argv[1]);
	puts("ready");
	fflush(stdout);
	int error = agent_run(agent);
	list_for_each_safe(node, next, &agent->running)
	        agent_session_signal(container_of(node, struct agent_session, node), SIGKILL);
	poller_close(&agent->poller, &door.watch);
	agent_destroy(agent);
	free(agent);
	return error ? 1 : 0;
}
