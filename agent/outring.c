/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/outring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUNS_MIN 8u

/*
 * One read takes at most this. More than a pipe holds by default, so that a read which empties the pipe is a short
 * one and says so without a second read.
 */
#define READ_MAX (128u * 1024)

int outring_init(struct outring *ring)
{
	*ring = (struct outring){.capacity = OUTRING_MIN, .limit = OUTRING_MAX, .runs_capacity = RUNS_MIN};
	ring->memory = malloc(OUTRING_MIN);
	ring->runs = malloc(RUNS_MIN * sizeof(*ring->runs));
	if (ring->memory && ring->runs)
		return 0;
	outring_free(ring);
	return -ENOMEM;
}

void outring_free(struct outring *ring)
{
	free(ring->memory);
	free(ring->runs);
	ring->memory = NULL;
	ring->runs = NULL;
	ring->capacity = ring->limit = 0;
	ring->runs_capacity = ring->runs_count = ring->runs_first = 0;
	ring->tail = ring->head;
}

static uint64_t run_at(const struct outring *ring, uint32_t index)
{
	return ring->runs[(ring->runs_first + index) & (ring->runs_capacity - 1)];
}

static uint64_t run_end(const struct outring *ring, uint32_t index)
{
	return index + 1 < ring->runs_count ? run_at(ring, index + 1) >> 1 : ring->head;
}

/* Would a byte of this stream need a run that there is no room for? */
static bool runs_full(const struct outring *ring, unsigned int stream)
{
	return ring->runs_count == OUTRING_RUNS_MAX && (run_at(ring, ring->runs_count - 1) & 1) != stream;
}

uint32_t outring_room(const struct outring *ring, uint64_t floor, unsigned int stream)
{
	uint32_t room = ring->limit;
	if (floor != OUTRING_NO_FLOOR) {
		if (runs_full(ring, stream) && floor < run_end(ring, 0))
			return 0;
		room -= (uint32_t)(ring->head - floor);
	}
	return room < READ_MAX ? room : READ_MAX;
}

static bool grow_bytes(struct outring *ring)
{
	uint32_t capacity = ring->capacity * 4 < ring->limit ? ring->capacity * 4 : ring->limit;
	uint8_t *memory = malloc(capacity);
	if (!memory) {
		ring->limit = ring->capacity;
		return false;
	}
	struct iovec iov[2];
	uint64_t position = ring->tail;
	int count = outring_slices(ring, position, (uint32_t)(ring->head - ring->tail), iov);
	for (int i = 0; i < count; i++) {
		/* The new ring is larger and a power of two: a slice wraps in it once at most. */
		uint32_t at = (uint32_t)position & (capacity - 1);
		uint32_t first = iov[i].iov_len < capacity - at ? (uint32_t)iov[i].iov_len : capacity - at;
		memcpy(memory + at, iov[i].iov_base, first);
		memcpy(memory, (uint8_t *)iov[i].iov_base + first, iov[i].iov_len - first);
		position += iov[i].iov_len;
	}
	free(ring->memory);
	ring->memory = memory;
	ring->capacity = capacity;
	return true;
}

/* Makes room for one more run; without memory the oldest is given up by the caller. */
static bool grow_runs(struct outring *ring)
{
	if (ring->runs_capacity >= OUTRING_RUNS_MAX)
		return false;
	uint32_t capacity = ring->runs_capacity * 4 < OUTRING_RUNS_MAX ? ring->runs_capacity * 4 : OUTRING_RUNS_MAX;
	uint64_t *runs = malloc(capacity * sizeof(*runs));
	if (!runs)
		return false;
	for (uint32_t i = 0; i < ring->runs_count; i++)
		runs[i] = run_at(ring, i);
	free(ring->runs);
	ring->runs = runs;
	ring->runs_capacity = capacity;
	ring->runs_first = 0;
	return true;
}

static void drop_until(struct outring *ring, uint64_t position)
{
	ring->tail = position;
	while (ring->runs_count > 1 && run_end(ring, 0) <= position) {
		ring->runs_first = (ring->runs_first + 1) & (ring->runs_capacity - 1);
		ring->runs_count--;
	}
}

static void account(struct outring *ring, unsigned int stream, uint32_t count)
{
	if (!ring->runs_count || (run_at(ring, ring->runs_count - 1) & 1) != stream) {
		if (ring->runs_count == ring->runs_capacity && !grow_runs(ring))
			drop_until(ring, run_end(ring, 0));
		uint32_t index = (ring->runs_first + ring->runs_count++) & (ring->runs_capacity - 1);
		ring->runs[index] = ring->head << 1 | stream;
	}
	ring->head += count;
	if (ring->head - ring->tail > ring->capacity)
		drop_until(ring, ring->head - ring->capacity);
}

ssize_t outring_read(struct outring *ring, int fd, unsigned int stream, uint32_t room, uint32_t *asked)
{
	uint32_t space = ring->capacity - (uint32_t)(ring->head - ring->tail);
	if (space == 0 && ring->capacity < ring->limit) {
		if (!grow_bytes(ring))
			return -ENOBUFS;
		space = ring->capacity - (uint32_t)(ring->head - ring->tail);
	}
	/* Nothing is lost while the ring can still grow; a full one loses exactly what the read overwrites. */
	if (ring->capacity < ring->limit && room > space)
		room = space;
	*asked = room;

	uint32_t at = (uint32_t)ring->head & (ring->capacity - 1);
	struct iovec iov[2] = {{ring->memory + at, room}, {ring->memory, 0}};
	if (room > ring->capacity - at) {
		iov[0].iov_len = ring->capacity - at;
		iov[1].iov_len = room - iov[0].iov_len;
	}
	ssize_t count = iov[1].iov_len ? readv(fd, iov, 2) : read(fd, iov[0].iov_base, room);
	if (count < 0)
		return -errno;
	if (count > 0)
		account(ring, stream, (uint32_t)count);
	return count;
}

uint32_t outring_run(const struct outring *ring, uint64_t position, unsigned int *stream)
{
	/* The last run that begins at or before position. */
	uint32_t low = 0, high = ring->runs_count;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (run_at(ring, middle) >> 1 <= position)
			low = middle;
		else
			high = middle;
	}
	*stream = run_at(ring, low) & 1;
	return (uint32_t)(run_end(ring, low) - position);
}

int outring_slices(const struct outring *ring, uint64_t position, uint32_t count, struct iovec iov[2])
{
	if (!count)
		return 0;
	uint32_t at = (uint32_t)position & (ring->capacity - 1);
	iov[0] = (struct iovec){ring->memory + at, count};
	if (count <= ring->capacity - at)
		return 1;
	iov[0].iov_len = ring->capacity - at;
	iov[1] = (struct iovec){ring->memory, count - iov[0].iov_len};
	return 2;
}
