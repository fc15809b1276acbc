/* SPDX-License-Identifier: Apache-2.0 */
/* Whether memory is all zero: what a snapshot leaves out, and what becomes a hole in a copy. */
#ifndef WISP_ZERO_H
#define WISP_ZERO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* By words: musl's memcmp, which the monitor has, compares bytes. Any alignment; true for a size of 0. */
static inline bool is_zero(const void *data, size_t size)
{
	const uint8_t *at = data;
	uint64_t word[8], any = 0;
	for (; size >= sizeof(word) && any == 0; at += sizeof(word), size -= sizeof(word)) {
		memcpy(word, at, sizeof(word));
		any = word[0] | word[1] | word[2] | word[3] | word[4] | word[5] | word[6] | word[7];
	}
	for (; size > 0 && any == 0; size--)
		any = *at++;
	return any == 0;
}

#endif
