/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's output: the last OUTRING_MAX bytes that its program wrote, in the order the agent read them.
 *
 * A byte is known by its position, the count of bytes before it since the session began; readers keep a position and
 * nothing else. Which stream a byte came from is kept as runs: positions at which the stream changes. What a program
 * writes to one stream is one run however many reads it took, so the ring holds OUTRING_MAX bytes of it; a program
 * that changes streams every few bytes is held to OUTRING_RUNS_MAX runs and so retains less.
 */
#ifndef WISP_AGENT_OUTRING_H
#define WISP_AGENT_OUTRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define OUTRING_MAX (256u * 1024)
#define OUTRING_MIN 4096u /* the first allocation: most programs write less */
#define OUTRING_RUNS_MAX 8192u

struct outring {
	uint8_t *memory;
	uint32_t capacity; /* a power of two */
	uint32_t limit;    /* capacity may grow to this; lowered when memory is short */
	uint64_t head;     /* position of the next byte */
	uint64_t tail;     /* position of the oldest byte retained */
	uint64_t *runs;    /* a ring: position << 1 | stream */
	uint32_t runs_capacity;
	uint32_t runs_first;
	uint32_t runs_count;
};

#define OUTRING_NO_FLOOR UINT64_MAX

/* 0 or -ENOMEM. */
int outring_init(struct outring *ring);
void outring_free(struct outring *ring);

/* How many bytes outring_read() may ask for without losing the one at `floor` (OUTRING_NO_FLOOR: none to keep). */
uint32_t outring_room(const struct outring *ring, uint64_t floor, unsigned int stream);

/*
 * Reads once from fd, at most `room` bytes (more than 0, from outring_room()), as output of `stream` (0 or 1).
 * The count read, 0 at the end of file, or -errno; -ENOBUFS: memory is short, the ring stays as small as it is now, ask
 * for the room again. *asked tells how much the read could have returned, which is less
 * than room while the ring still grows.
 */
ssize_t outring_read(struct outring *ring, int fd, unsigned int stream, uint32_t room, uint32_t *asked);

/* The bytes of one stream that begin at position (tail <= position < head): how many, and which stream. */
uint32_t outring_run(const struct outring *ring, uint64_t position, unsigned int *stream);

/* Points iov at `count` retained bytes from position on; returns how many of the two were needed. */
int outring_slices(const struct outring *ring, uint64_t position, uint32_t count, struct iovec iov[2]);

#endif
