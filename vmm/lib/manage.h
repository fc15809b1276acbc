/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a running monitor (vmm/shared/manage.h), over connections that a caller keeps for as long as it needs. */
#ifndef WISP_LIB_MANAGE_H
#define WISP_LIB_MANAGE_H

#include "vmm/lib/lib.h"
#include "vmm/shared/manage.h"

/* Connects to the sandbox's monitor, and stores the socket in *fd, which the caller closes. */
int manage_connect(
        const struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, int *fd, struct wisp_error *error);

/* A request, and what comes of it. */
struct manage_ask {
	enum manage_op op;
	uint32_t flags;            /* enum manage_flags */
	uint32_t value;            /* as in struct manage_request */
	int file;                  /* the descriptor that goes with the request, or -1 */
	struct manage_reply reply; /* checked, its text printable; with an error of the monitor too */
};

/*
 * Sends the request, and waits for the reply: as long as a freeze may take, and while `file` grows. Returns the reply's
 * error, or the connection's. -EALREADY leaves *error as it is.
 */
int manage_request(const struct wisp_sandbox *sandbox, int fd, const struct lib_cancel *cancel, struct manage_ask *ask,
        struct wisp_error *error);

/* A connection of its own for one request. */
int manage_once(const struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, struct manage_ask *ask,
        struct wisp_error *error);

/* A pause that ends with its connection. */
struct manage_hold {
	int fd; /* -1: there is none */
};

/* Keeps the sandbox from running until manage_release, whoever else pauses or resumes it. */
int manage_hold(const struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, struct manage_hold *hold,
        struct wisp_error *error);
/* With `wait`, after requests that succeeded, the sandbox has resumed when this returns; else soon after. */
void manage_release(const struct wisp_sandbox *sandbox, struct manage_hold *hold, bool wait);

#endif
