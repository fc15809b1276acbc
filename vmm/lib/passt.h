/* SPDX-License-Identifier: Apache-2.0 */
/* passt(1), a network for the guest of an ordinary user. */
#ifndef WISP_LIB_PASST_H
#define WISP_LIB_PASST_H

#include "vmm/lib/listen.h"

struct passt_options {
	const char *program;
	const char *dns; /* the name server that the guest is told; NULL: the host's */
	unsigned mtu;
	const struct wisp_create_options *create; /* whose ports it takes */
};

/* Whether a port of the host is passt's to listen on. */
bool passt_takes(const struct listen_address *address);

/*
 * Starts passt and stores its stream socket in *fd. It ends when all duplicates of that are closed. Waits until it
 * serves; `cancel` ends the wait. 0, or -errno with `error`.
 */
int passt_start(
        const struct passt_options *options, const struct lib_cancel *cancel, int *fd, struct wisp_error *error);

#endif
