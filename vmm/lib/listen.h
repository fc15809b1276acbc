/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets of the host that a caller names as text: "[ADDRESS:]PORT", or a path. */
#ifndef WISP_LIB_LISTEN_H
#define WISP_LIB_LISTEN_H

#include <sys/socket.h>

#include "vmm/lib/lib.h"

struct listen_address {
	struct sockaddr_storage address;
	socklen_t size;
};

#define LISTEN_TEXT_MAX 128u /* of any address, with the NUL */

int listen_parse(const char *text, struct listen_address *address, struct wisp_error *error);
/* As listen_parse reads it. False, and "", for an address of another kind. */
bool listen_format(const struct listen_address *address, char text[LISTEN_TEXT_MAX]);
bool listen_is_same(const struct listen_address *a, const struct listen_address *b);
/* The TCP port; 0 for a path. */
uint16_t listen_port(const struct listen_address *address);
/* The path, or NULL. */
const char *listen_path(const struct listen_address *address);

/* Opens a listening socket that does not block, and tells its address in `address`, where the port may have been 0. */
int listen_open(struct listen_address *address, int *fd, struct wisp_error *error);
/* Deletes the file of a Unix socket if nothing listens there any more. */
void listen_remove(const char *path);

#endif
