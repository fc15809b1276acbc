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

struct vsock_options {
	uint64_t cid;            /* the guest's context id: 3 or more, 32 bits */
	const char *socket_path; /* created with mode 0600 (it must not exist yet) and unlinked at the end; copied */
	uint32_t patience_ms;    /* 0: VSOCK_PATIENCE_MS */
};

/* 0 and `*dev` (ended by virtio_destroy), or -errno with `err`. Loop's thread. */
int vsock_create(
        struct virtio_dev **dev, const struct virtio_env *env, const struct vsock_options *opt, struct err *err);

/* Lets clients connect. The guest may run before. Once; 0 or -errno with `err`. Loop's thread. */
int vsock_listen(struct virtio_dev *dev, struct err *err);

#endif
