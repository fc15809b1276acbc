/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "vmm/lib/keys.h"

/* Returns the byte that a key sends, or -1. */
static int parse_key(const char *text, size_t length)
{
	if (length == 1)
		return (unsigned char)text[0];
	if (length != 6 || strncasecmp(text, "ctrl-", 5) != 0)
		return -1;
	unsigned char key = (unsigned char)text[5];
	if (key >= 'a' && key <= 'z')
		return key - 'a' + 1;
	return key >= '@' && key <= '_' ? key - '@' : -1;
}

int keys_parse(const char *text, struct keys *keys, struct wisp_error *error)
{
	*keys = (struct keys){0};
	const char *at = text ? text : "ctrl-]";
	for (;;) {
		/* A comma can be a key: only one that follows a character ends a key. */
		size_t length = at[0] ? 1 + strcspn(at + 1, ",") : 0;
		int key = parse_key(at, length);
		if (key < 0)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "'%.80s' are not detach keys: write keys separated by commas, each a character or "
			        "ctrl- and one of "
			        "a-z @ [ \\ ] ^ _",
			        text ? text : "");
		if (keys->length == KEYS_MAX)
			return lib_fail(
			        error, WISP_ERR_INVALID, EINVAL, "'%.80s': at most %d detach keys", text, KEYS_MAX);
		keys->sequence[keys->length++] = (unsigned char)key;
		if (!at[length])
			return 0;
		at += length + 1;
	}
}

bool keys_filter(struct keys *keys, const unsigned char *in, size_t length, unsigned char *out, size_t *out_length)
{
	size_t n = 0;
	for (size_t i = 0; i < length; i++) {
		/* Passes on as few held bytes as let the rest still match. */
		while (keys->matched > 0 && in[i] != keys->sequence[keys->matched]) {
			size_t shift = 1;
			while (shift < keys->matched &&
			        memcmp(keys->sequence, keys->sequence + shift, keys->matched - shift) != 0)
				shift++;
			memcpy(out + n, keys->sequence, shift);
			n += shift;
			keys->matched -= shift;
		}
		if (in[i] == keys->sequence[keys->matched])
			keys->matched++;
		else
			out[n++] = in[i];
		if (keys->matched == keys->length) {
			*out_length = n;
			keys->matched = 0;
			return true;
		}
	}
	*out_length = n;
	return false;
}
