/* SPDX-License-Identifier: Apache-2.0 */
/* A helper program in the guest with a pipe to it and one from it, for cp. */
#ifndef WISP_CLI_GUEST_H
#define WISP_CLI_GUEST_H

#include "vmm/cli/cli.h"

struct guest {
	struct wisp_session *session;
	struct wisp_stdin *writer;
	struct wisp_error error;
	const uint8_t *data; /* stdout that was received and not taken yet */
	size_t length;
	char complaint[512]; /* the beginning of its stderr */
	size_t complaint_length;
	int code;    /* its exit code, once ended */
	bool ended;  /* DONE */
	bool failed; /* error holds, or the program did not start */
};

/* Starts argv as `user` (may be NULL). False after a message. */
bool guest_start(
        struct guest *guest, struct wisp_sandbox *sandbox, const char *const *argv, const char *user, bool feeds);
/* Sends all of it while it takes in what comes back. False when the program takes no more. */
bool guest_write(struct guest *guest, const void *data, size_t length);
/* Up to `length` bytes of its output; 0 at the end. */
size_t guest_read(struct guest *guest, void *data, size_t length);
/* Closes its stdin, waits for its end and releases it. 0, or an exit code after a message that begins with `what`. */
int guest_finish(struct guest *guest, const char *what);
/* Ends it, whatever it does. */
void guest_abort(struct guest *guest);

#endif
