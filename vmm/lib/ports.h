/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of the host that lead to TCP servers of the guest. The library opens the listening sockets and passes them to
 * the monitor, whose jail lets it neither make nor remove any outside the sandbox's directory.
 *
 * So the library also removes the files of Unix sockets. Their paths stand in the file `sockets` of the sandbox's
 * directory, for whoever ends the sandbox.
 */
#ifndef WISP_LIB_PORTS_H
#define WISP_LIB_PORTS_H

#include "vmm/lib/listen.h"

struct wisp_sandbox;

/* Sockets that listen, and that the monitor does not have yet. */
struct ports {
	size_t count;
	struct port {
		int fd;
		uint16_t guest_port;
		struct listen_address address;
	} port[WISP_PORTS_MAX];
};

/*
 * Opens what the options ask for, and stores it in *ports, NULL for none. With `has_passt`, those that passt listens on
 * are left out.
 */
int ports_open(
        const struct wisp_create_options *options, bool has_passt, struct ports **ports, struct wisp_error *error);
/* Passes all to the monitor, and releases *ports. On failure some may have been passed. */
int ports_pass(struct wisp_sandbox *sandbox, struct ports **ports, struct wisp_error *error);
/* The sandbox is ready: passes what waits in its handle. If that fails, the start of the sandbox does, which is killed.
 */
int ports_begin(struct wisp_sandbox *sandbox, struct wisp_error *error);
/* Closes what the monitor does not have. Takes NULL. */
void ports_close(struct ports *ports);

/* Before the end of a sandbox, whose directory may vanish with it, and after: its Unix sockets. */
void ports_before_end(struct wisp_sandbox *sandbox);
void ports_after_end(struct wisp_sandbox *sandbox);
/* The same for the directory of one that has ended. */
void ports_forget(int dir_fd);

#endif
