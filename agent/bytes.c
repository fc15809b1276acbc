/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 256u /* first allocation */
#define KEEP 1024u /* what an empty queue may keep */

uint8_t *bytes_reserve(struct bytes *bytes, size_t count)
{
	size_t needed = bytes->length + count;
	if (needed < count)
		return NULL;
	if (bytes->start && bytes->capacity - bytes->start < needed) {
		memmove(bytes->memory, bytes_data(bytes), bytes->length);
		bytes->start = 0;
	}
	if (bytes->capacity < needed) {
		size_t capacity = bytes->capacity ? bytes->capacity * 2 : SMALL;
		if (capacity < needed)
			capacity = needed;
		uint8_t *memory = realloc(bytes->memory, capacity);
		if (!memory)
			return NULL;
		bytes->memory = memory;
		bytes->capacity = capacity;
	}
	return bytes_data(bytes) + bytes->length;
}

int bytes_append(struct bytes *bytes, const void *data, size_t count)
{
	uint8_t *room = bytes_reserve(bytes, count);
	if (!room)
		return -ENOMEM;
	memcpy(room, data, count);
	bytes->length += count;
	return 0;
}

int bytes_prepend(struct bytes *bytes, const void *data, size_t count)
{
	if (!bytes_reserve(bytes, count))
		return -ENOMEM;
	memmove(bytes_data(bytes) + count, bytes_data(bytes), bytes->length);
	memcpy(bytes_data(bytes), data, count);
	bytes->length += count;
	return 0;
}

void bytes_consume(struct bytes *bytes, size_t count)
{
	bytes->start += count;
	bytes->length -= count;
	if (bytes->length)
		return;
	bytes->start = 0;
	if (bytes->capacity > KEEP)
		bytes_free(bytes);
}

void bytes_free(struct bytes *bytes)
{
	free(bytes->memory);
	*bytes = (struct bytes){0};
}
