/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio socket device (virtio 1.2, section 5.10), with Unix stream sockets on the host's side.
 *
 * Host to guest: a client connects to `socket_path` and sends "CONNECT <port>\n". When a program in the guest accepts
 * the connection on that port, the client reads "OK <host port>\n", and everything after that is the stream. If the
 * guest refuses, the socket is closed. A client that connects before the guest's driver is ready waits for it.
 *
 * Guest to host: a connection to CID 2, port P goes to the Unix socket "<socket_path>_<P>", and is reset if nothing
 * listens there.
 *
 * Forwarded connections: clients of further listening sockets go to one port of the guest, without a line. The port
 * that they come from tells where they are forwarded to: VSOCK_FORWARD_PORTS, a number of 15 bits, and in the lower 16
 * bits a TCP port. When the guest ends its half by a shutdown, the client sees the end of the stream; when it only
 * closes or resets the connection, the client sees a reset.
 */
#ifndef WISP_VIRTIO_VSOCK_H
#define WISP_VIRTIO_VSOCK_H

#include <stdint.h>

#include "virtio/device.h"

/*
 * How long a connection may wait for a silent peer: for a client's line, or, after the client has shut down both ways,
 * for the guest's answer. The connection ends after one to two times this long.
 */
#define VSOCK_PATIENCE_MS 30000u

#define VSOCK_FORWARD_PORTS (1u << 31) /* host ports from here on belong to forwarded connections */
#define VSOCK_FORWARDS_MAX 4096u       /* at once, or fewer; then clients wait in their listener's backlog */
#define VSOCK_LISTENERS_MAX 64u

struct vsock_options {
	uint64_t cid;            /* the guest's context id: 3 or more, 32 bits */
	const char *socket_path; /* created with mode 0600 (it must not exist yet) and unlinked at the end; copied */
	uint32_t patience_ms;    /* 0: VSOCK_PATIENCE_MS */
	uint32_t forward_port;   /* of the guest, for forwarded connections */
	uint32_t files; /* the process may have so many descriptors: forwarded connections take half; 0: enough */
};

/* 0 and `*dev` (ended by virtio_destroy), or -errno with `err`. Loop's thread. */
int vsock_create(
        struct virtio_dev **dev, const struct virtio_env *env, const struct vsock_options *opt, struct err *err);

/* Lets clients connect. The guest may run before. Once; 0 or -errno with `err`. Loop's thread. */
int vsock_listen(struct virtio_dev *dev, struct err *err);

/*
 * Forwards the connections of a listening stream socket, TCP or Unix, to the guest's TCP port `to`, which is not 0.
 * Takes over the descriptor, also on failure. Needs a loop that runs. Returns the listener's id, or -errno with `err`.
 * Loop's thread.
 */
int vsock_forward(struct virtio_dev *dev, int fd, uint16_t to, struct err *err);

/* Closes a listener. Its connections go on. 0 or -ENOENT. Loop's thread. */
int vsock_unforward(struct virtio_dev *dev, uint32_t id);

/* Calls `each` for every listener that forwards, in the order of their ids. Loop's thread. */
void vsock_each_forward(
        const struct virtio_dev *dev, void (*each)(void *context, uint32_t id, int fd, uint16_t to), void *context);

#endif
