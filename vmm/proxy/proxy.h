/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp-proxy: a sandbox's way out. Each connection of the guest is a thread, which parses one request, asks the rules,
 * resolves and connects, and then relays. What the threads share is constant, apart from the log.
 */
#ifndef WISP_PROXY_H
#define WISP_PROXY_H

#include <ifaddrs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "vmm/proxy/http.h"
#include "vmm/proxy/netlog.h"

struct proxy {
	struct egress_rules rules;
	struct netlog log;
	/* Milliseconds; less in tests. */
	int request_ms; /* for a client to send its request */
	int connect_ms; /* for all of a host's addresses together */
	int linger_ms;  /* without a byte, once one side has ended its stream */
};

#define PROXY_REQUEST_MS 30000
#define PROXY_CONNECT_MS 30000
#define PROXY_LINGER_MS 60000

/* ---- serve.c ---- */

/* Serves one client and closes it. Blocks until both sides have ended. */
void serve_client(struct proxy *proxy, int fd);

/* ---- dial.c ---- */

enum dial_result {
	DIAL_CONNECTED,
	DIAL_REFUSED, /* by the rules */
	DIAL_FAILED,  /* the name has no address, or no address answers */
};

/*
 * Decides about a host, and connects to it. `how` is the request's kind, for the log. Stores a descriptor, or why there
 * is none as one line of DIAL_WHY_SIZE bytes.
 */
#define DIAL_WHY_SIZE 512u
enum dial_result dial(struct proxy *proxy, const char *how, const struct egress_host *host, uint16_t port, int *fd,
        char why[DIAL_WHY_SIZE]);

/* False if it is of another family. */
bool take_address(const struct sockaddr *from, struct egress_address *address);

/* ---- own.c ---- */

/*
 * Stores the host's addresses and the networks of its interfaces, as they are now, in rules->own. Before the jail. 0 or
 * -errno.
 */
int own_read(struct egress_rules *rules);
/* The same, of a list. */
int own_take(struct egress_rules *rules, const struct ifaddrs *list);

/* ---- relay.c ---- */

int64_t deadline_in(int ms);
/* Waits until `fd` is ready for `events`. 0, -ETIMEDOUT or -errno. */
int wait_for(int fd, short events, int64_t deadline_ns);
/* Sends everything to a socket that does not block. 0 or -errno. */
int send_all(int fd, const void *data, size_t length, int64_t deadline_ns);

/*
 * Ends the stream to the client, and waits until it has ended its own: what it has sent and nobody has read would reset
 * the connection.
 */
void end_client(int client, int linger_ms);

/*
 * Carries bytes both ways until both streams have ended, or one has broken off; then the other side sees a reset, too.
 * `client` has been read up to `length` bytes at `data`. With `body`, only the request's body is passed on to the
 * server.
 */
void relay(int client, int server, struct http_body *body, const char *data, size_t length, int linger_ms);

/* ---- jail.c ---- */

/*
 * Gives up what the proxy does not need. Before it has other threads. 0, or -1 with errno: then no guest may be served.
 */
int proxy_jail(const struct egress_rules *rules);

#endif
