/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/egress.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/serve.h"
#include "vmm/shared/egress.h"

#define AGAIN_NS (100u * 1000 * 1000)

static void again(struct poller_timer *timer)
{
	struct egress_door *door = container_of(timer, struct egress_door, again);
	poller_watch(&door->agent->poller, &door->watch, EPOLLIN);
}

/* One connection an event, as the agent's own listener takes them. */
static void door_ready(struct poller_watch *watch, uint32_t events)
{
	struct egress_door *door = container_of(watch, struct egress_door, watch);
	struct agent *agent = door->agent;
	bool full = agent->forwards.out_count >= EGRESS_CONNECTIONS_MAX;
	int fd = events && !full ? accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
	if (fd >= 0) {
		agent_forward_out(&agent->forwards, fd, agent->hooks->dial(agent, EGRESS_VSOCK_PORT));
	} else if (full || (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)) {
		/* What waits in the queue would be told again at once, for ever. */
		poller_unwatch(&agent->poller, watch);
		poller_arm(&agent->poller, &door->again, poller_now() + AGAIN_NS);
	}
}

static int listen_on(uint16_t port)
{
	struct sockaddr_in address = {
	        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

static void open_door(struct egress_door *door)
{
	int fd = listen_on(door->port), error = fd < 0 ? fd : 0;
	if (!error) {
		door->watch.fd = fd;
		error = poller_watch(&door->agent->poller, &door->watch, EPOLLIN);
	}
	if (error)
		agent_log(door->agent, "cannot listen on 127.0.0.1:%u, for the host's proxy: %s", door->port,
		        strerror(-error));
}

void agent_egress_open(struct agent_egress *egress)
{
	if (egress->open || !egress->http.agent->hooks->dial)
		return;
	egress->open = true;
	open_door(&egress->http);
	open_door(&egress->socks);
}

static void init_door(struct egress_door *door, struct agent *agent, uint16_t port)
{
	*door = (struct egress_door){.agent = agent, .port = port};
	door->watch = (struct poller_watch){.fd = -1, .ready = door_ready};
	door->again.fire = again;
}

void agent_egress_init(struct agent_egress *egress, struct agent *agent)
{
	egress->open = false;
	init_door(&egress->http, agent, EGRESS_HTTP_PORT);
	init_door(&egress->socks, agent, EGRESS_SOCKS_PORT);
}

void agent_egress_destroy(struct agent_egress *egress)
{
	struct egress_door *const doors[] = {&egress->http, &egress->socks};
	for (int i = 0; i < 2; i++) {
		poller_disarm(&doors[i]->again);
		poller_close(&doors[i]->agent->poller, &doors[i]->watch);
	}
}
