/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removes queries from a session's retained output. The program that sent a query has had its answer or no longer waits
 * for one, and a terminal that is shown the query again would type an answer into the program's standard input. Queries
 * are for the cursor's position, device attributes, colours, modes, sizes, and all else that terminals answer.
 */
#ifndef WISP_LIB_REPLAY_H
#define WISP_LIB_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A longer sequence is not a query but a title, an image or a clipboard. */
#define REPLAY_HELD_MAX 4096u

struct replay {
	uint64_t left;      /* retained bytes that are still to come: the owner sets it, replay_next counts it down */
	size_t held_length; /* of a control sequence that is not complete */
	size_t given;       /* how much of it the last call handed out */
	uint8_t held[REPLAY_HELD_MAX];
};

/*
 * Stores the next piece to show of the bytes `*in`, and advances `*in`. The piece is valid until the next call. Returns
 * false when `*in` is used up. Beyond `left` everything is passed on, and so is a sequence that only began before it.
 */
bool replay_next(struct replay *replay, const uint8_t **in, size_t *length, const uint8_t **out, size_t *out_length);

/* Notes that `bytes` retained bytes were lost here. */
void replay_drop(struct replay *replay, uint64_t bytes);

#endif
