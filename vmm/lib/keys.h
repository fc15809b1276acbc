/* SPDX-License-Identifier: Apache-2.0 */
/* The keys that detach from a terminal, in docker's syntax. */
#ifndef WISP_LIB_KEYS_H
#define WISP_LIB_KEYS_H

#include "vmm/lib/lib.h"

#define KEYS_MAX 16

struct keys {
	unsigned char sequence[KEYS_MAX];
	size_t length;
	size_t matched; /* of it, typed last and not passed on yet */
};

/* NULL: "ctrl-]". */
int keys_parse(const char *text, struct keys *keys, struct wisp_error *error);

/*
 * Passes typed bytes on to `out`, which has room for length + KEYS_MAX. Returns true when the sequence is complete:
 * what was typed before it is in `out`, what comes after it is dropped.
 */
bool keys_filter(struct keys *keys, const unsigned char *in, size_t length, unsigned char *out, size_t *out_length);

#endif
