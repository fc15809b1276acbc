/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of bytes that grows on demand up to a bound, and gives its memory back when it is empty. */
#ifndef WISP_AGENT_BYTES_H
#define WISP_AGENT_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct bytes {
	uint8_t *memory;
	size_t start; /* where the content begins in memory */
	size_t length;
	size_t capacity;
};

static inline uint8_t *bytes_data(const struct bytes *bytes)
{
	return bytes->memory + bytes->start;
}

/* Makes room for count more bytes, contiguous with the content: where they go, or NULL without memory. */
uint8_t *bytes_reserve(struct bytes *bytes, size_t count);

/* 0 or -ENOMEM, and then nothing was added. */
int bytes_append(struct bytes *bytes, const void *data, size_t count);
int bytes_prepend(struct bytes *bytes, const void *data, size_t count);

/* Takes the first count bytes off; count is at most length. */
void bytes_consume(struct bytes *bytes, size_t count);

void bytes_free(struct bytes *bytes);

#endif
