/* SPDX-License-Identifier: Apache-2.0 */
/* A program in the guest with a pipe to it and one from it, for wisp cp. */
#ifndef WISP_CLI_GUEST_H
#define WISP_CLI_GUEST_H

#include "vmm/cli/command.h"

struct guest {
	struct wisp_session *session;
	struct wisp_stdin *writer;
	struct wisp_error error;
	const uint8_t *data; /* stdout that was received and not read yet */
	size_t length;
	char complaint[512]; /* the beginning of stderr */
	size_t complaint_length;
	int code;    /* the exit code, once `ended` */
	bool ended;  /* DONE */
	bool failed; /* `error` is set: the connection was lost, or the program did not start */
};

/* Starts argv as `user` (NULL: the default). False after a message. */
bool guest_start(
        struct guest *guest, struct wisp_sandbox *sandbox, const char *const *argv, const char *user, bool feeds);
/* Sends all of the data, and receives output meanwhile. False if the program takes no more. */
bool guest_write(struct guest *guest, const void *data, size_t length);
/* Reads up to `length` bytes of output; 0 at the end. */
size_t guest_read(struct guest *guest, void *data, size_t length);
/* Closes stdin, waits for the end and releases it. 0, or an exit code after a message that begins with `what`. */
int guest_finish(struct guest *guest, const char *what);
/* Kills the program and releases it. */
void guest_abort(struct guest *guest);

#endif
