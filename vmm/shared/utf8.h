/* SPDX-License-Identifier: Apache-2.0 */
/* Where one character of UTF-8 ends. */
#ifndef WISP_UTF8_H
#define WISP_UTF8_H

#include <stddef.h>
#include <stdint.h>

/*
 * The bytes of the well-formed sequence at `s`, of which `left` bytes (at least 1) may be read; 0 if there is none.
 * Well-formed is what RFC 3629 allows: no overlong form, no surrogate, nothing above U+10FFFF.
 */
static inline size_t utf8_length(const uint8_t *s, size_t left)
{
	if (s[0] < 0x80)
		return 1;
	size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || length > left)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	        (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return length;
}

#endif
