/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of a terminal's modes a program has changed, told from its output: so that a client that detaches leaves the
 * terminal as it was, while the program goes on in the alternate screen.
 */
#ifndef WISP_LIB_MODES_H
#define WISP_LIB_MODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODES_RESET_MAX 256u

struct modes {
	uint32_t changed; /* a bit for each mode that differs from its default */
	enum { MODES_TEXT, MODES_ESCAPE, MODES_CSI, MODES_PRIVATE, MODES_OTHER } state;
	uint32_t number; /* the parameter that is being read */
	uint32_t listed; /* the modes of the parameters before it */
};

/* Takes output, in pieces of any length. */
void modes_track(struct modes *modes, const uint8_t *data, size_t length);
/* Writes the sequences that set the changed modes back, and returns their length. */
size_t modes_reset(const struct modes *modes, char out[MODES_RESET_MAX]);

#endif
