/* SPDX-License-Identifier: Apache-2.0 */
/* The keys that detach from a terminal, in docker's syntax. */
#ifndef WISP_LIB_KEYS_H
#define WISP_LIB_KEYS_H

#include "vmm/lib/lib.h"

#define KEYS_MAX 16

struct keys {
	unsigned char sequence[KEYS_MAX];
	size_t length;
	size_t matched; /* its first bytes that were typed last, and are held back */
};

/* Parses a sequence; NULL is "ctrl-]". */
int keys_parse(const char *text, struct keys *keys, struct wisp_error *error);

/*
 * Passes typed bytes on to `out`, which has room for length + KEYS_MAX bytes. Returns true when the sequence is
 * complete: `out` has what was typed before it, and what was typed after it is dropped.
 */
bool keys_filter(struct keys *keys, const unsigned char *in, size_t length, unsigned char *out, size_t *out_length);

#endif
