/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput: linked with libFuzzer it searches,
 * linked with replay.c it runs the inputs named on its command line. Its input is a script, read by the functions
 * below; where it ends, zeros follow.
 */
#ifndef WISP_FUZZ_H
#define WISP_FUZZ_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/monitor/gmem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Holds in every build: a fuzz target's checks are its purpose. */
#define MUST(cond)               \
	do {                     \
		if (!(cond))     \
			abort(); \
	} while (0)

struct input {
	const uint8_t *at;
	size_t left;
};

static inline void in_bytes(struct input *in, void *to, size_t len)
{
	size_t n = len < in->left ? len : in->left;
	memset(to, 0, len);
	memcpy(to, in->at, n);
	in->at += n;
	in->left -= n;
}

static inline uint8_t in8(struct input *in)
{
	uint8_t value;
	in_bytes(in, &value, sizeof(value));
	return value;
}

static inline uint16_t in16(struct input *in)
{
	uint16_t value;
	in_bytes(in, &value, sizeof(value));
	return value;
}

static inline uint32_t in32(struct input *in)
{
	uint32_t value;
	in_bytes(in, &value, sizeof(value));
	return value;
}

static inline uint64_t in64(struct input *in)
{
	uint64_t value;
	in_bytes(in, &value, sizeof(value));
	return value;
}

/* A piece of what is left, in place. */
static inline const uint8_t *in_piece(struct input *in, size_t len, size_t *got)
{
	const uint8_t *piece = in->at;
	*got = len < in->left ? len : in->left;
	in->at += *got;
	in->left -= *got;
	return piece;
}

/* Guest RAM from the heap and no larger than needed: AddressSanitizer knows where it ends. */
#define RAM_LOW 0x10000u
#define RAM_HIGH 0x4000u
#define RAM_HIGH_AT (4ull << 30)

static inline void ram_create(struct gmem *gmem)
{
	*gmem = (struct gmem){.count = 2};
	gmem->region[0] = (struct gmem_region){0, RAM_LOW, calloc(1, RAM_LOW)};
	gmem->region[1] = (struct gmem_region){RAM_HIGH_AT, RAM_HIGH, calloc(1, RAM_HIGH)};
	MUST(gmem->region[0].host && gmem->region[1].host);
}

static inline void ram_destroy(struct gmem *gmem)
{
	free(gmem->region[0].host);
	free(gmem->region[1].host);
}

/* Everything in the buffers can be read, and is RAM to the sanitizer too. */
static inline uint8_t touch(const void *from, size_t len)
{
	const volatile uint8_t *p = from;
	return len ? (uint8_t)(p[0] + p[len / 2] + p[len - 1]) : 0;
}

#endif
