/* SPDX-License-Identifier: Apache-2.0 */
/* A program in the guest with a pipe to it and one from it, for wisp cp. */
#ifndef WISP_CLI_GUEST_H
#define WISP_CLI_GUEST_H

#include "vmm/cli/command.h"

struct copy;

struct guest {
	struct wisp_session *session;
	struct wisp_stdin *writer;
	struct wisp_error error;
	const uint8_t *data; /* stdout that was received and not read yet */
	size_t length;
	char complaint[512]; /* the beginning of stderr */
	size_t complaint_length;
	int signals; /* a signalfd */
	int signal;  /* of `signals`: it interrupts everything */
	int code;    /* the exit code, once `ended` */
	bool ended;  /* DONE */
	bool failed; /* `error` is set: the connection was lost, or the program did not start */
};

/* Starts argv as the copy's user. False after a message. */
bool guest_start(struct guest *guest, const struct copy *copy, const char *const *argv, bool feeds);
/* Sends all of the data, and receives output meanwhile. False if the program takes no more, or after a signal. */
bool guest_write(struct guest *guest, const void *data, size_t length);
/* Reads up to `length` bytes of output; 0 at the end, or after a signal. */
size_t guest_read(struct guest *guest, void *data, size_t length);
/*
 * Closes stdin, waits for the end and releases the program. 0, or an exit code after a message that begins with `what`.
 * After a signal it kills the program and returns 128 and the signal's number.
 */
int guest_finish(struct guest *guest, const char *what);
/* Kills the program and releases it. */
void guest_abort(struct guest *guest);

/*
 * What a path of the guest is: 'd' a directory or a link to one, 'l' a link to anything else, 'x' a link that leads
 * nowhere, 'f' a file, 'o' something else, 'n' nothing. Minus an exit code after a message.
 */
int guest_kind(const struct copy *copy, const char *path);

#endif
