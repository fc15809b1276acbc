/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A terminal that is shown a session's retained output must not answer the queries in it: whoever asked was answered
 * then, or is not waiting any more, and the answer would be typed into the program's standard input. So they are taken
 * out: the cursor's position, device attributes, colours, modes, sizes, and what else terminals answer to.
 */
#ifndef WISP_LIB_REPLAY_H
#define WISP_LIB_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is longer is no query, but a title, an image, a clipboard. */
#define REPLAY_HELD_MAX 4096u

struct replay {
	uint64_t left;      /* bytes of the past that are still to come; set by the owner, counted down here */
	size_t held_length; /* of a control sequence whose end is to come */
	size_t given;       /* of it, handed out by the last call */
	uint8_t held[REPLAY_HELD_MAX];
};

/*
 * The next piece to show of the bytes `*in`, which it moves on; it is valid until the next call. False when all of
 * `*in` is used up. Beyond `left` everything is passed on: a sequence that the past only began is the present's.
 */
bool replay_next(struct replay *replay, const uint8_t **in, size_t *length, const uint8_t **out, size_t *out_length);

/* So many bytes of the past were lost here. */
void replay_drop(struct replay *replay, uint64_t bytes);

#endif
