/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to the guest's vsock ports, through the Unix sockets of the sandbox's directory
 * (docs/internals/protocol.md). */
#ifndef WISP_LIB_PORT_H
#define WISP_LIB_PORT_H

#include "vmm/lib/lib.h"

/* A guest that is alive answers in milliseconds; on an overloaded or emulated host, in seconds. */
#define PORT_ANSWER_MS 10000

/*
 * The steps of a connection to a socket of the monitor: SANDBOX_FILES_VSOCK, but for port_open's other users. Between
 * the first and the last, the caller sends "CONNECT port\n", and may send what is for the guest with it. A step that is
 * not over at the deadline returns -ETIMEDOUT, one that the caller ends -ECANCELED or -EINTR; these leave *error as it
 * is. The descriptor is non-blocking.
 */
int port_open(const struct wisp_sandbox *sandbox, const char *file, const struct lib_cancel *cancel,
        int64_t deadline_ns, int *fd, struct wisp_error *error);
/* An error if the guest is paused: one that does not run does not answer either. port_open does this for
 * SANDBOX_FILES_VSOCK. */
int port_check_runs(const struct wisp_sandbox *sandbox, struct wisp_error *error);
/* Returns -errno; leaves it to port_wait_ok to say what a connection that breaks means. */
int port_send(int fd, const struct lib_cancel *cancel, const void *data, size_t length, int64_t deadline_ns);
/* Whether a call that returned `r` found that the other end has hung up. */
bool port_is_cut(int r);
/*
 * Reads the line "OK number\n". -ECONNREFUSED without an error's text if there is none. With `rest`, what follows the
 * line and has arrived is read too: it is then in `buffer`, and *rest is its length. Otherwise it is left in the
 * socket.
 */
int port_wait_ok(int fd, const struct lib_cancel *cancel, const char *name, int64_t deadline_ns, void *buffer,
        size_t size, size_t *rest, struct wisp_error *error);

#endif
