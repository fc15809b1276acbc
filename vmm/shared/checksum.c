/* SPDX-License-Identifier: Apache-2.0 */
/* The names are those of the specification, "xxHash fast digest algorithm", section XXH64. */
#include "vmm/shared/checksum.h"

#include <endian.h>
#include <string.h>

#define PRIME1 0x9e3779b185ebca87ull
#define PRIME2 0xc2b2ae3d27d4eb4full
#define PRIME3 0x165667b19e3779f9ull
#define PRIME4 0x85ebca77c2b2ae63ull
#define PRIME5 0x27d4eb2f165667c5ull

static uint64_t read64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

static uint32_t read32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t rotate(uint64_t value, unsigned bits)
{
	return value << bits | value >> (64 - bits);
}

static uint64_t round64(uint64_t acc, uint64_t lane)
{
	return rotate(acc + lane * PRIME2, 31) * PRIME1;
}

static uint64_t merge(uint64_t acc, uint64_t lane)
{
	return (acc ^ round64(0, lane)) * PRIME1 + PRIME4;
}

/* Four accumulators over stripes of 32 bytes, which do not wait for each other. */
static uint64_t take_stripes(const uint8_t **at, size_t *left, uint64_t seed)
{
	uint64_t a = seed + PRIME1 + PRIME2, b = seed + PRIME2, c = seed, d = seed - PRIME1;
	const uint8_t *p = *at;
	for (size_t n = *left / 32; n > 0; n--, p += 32) {
		a = round64(a, read64(p));
		b = round64(b, read64(p + 8));
		c = round64(c, read64(p + 16));
		d = round64(d, read64(p + 24));
	}
	*left -= (size_t)(p - *at);
	*at = p;
	uint64_t acc = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
	return merge(merge(merge(merge(acc, a), b), c), d);
}

uint64_t checksum(const void *data, size_t size, uint64_t seed)
{
	const uint8_t *at = data;
	size_t left = size;
	uint64_t acc = size >= 32 ? take_stripes(&at, &left, seed) : seed + PRIME5;
	acc += size;
	for (; left >= 8; at += 8, left -= 8)
		acc = rotate(acc ^ round64(0, read64(at)), 27) * PRIME1 + PRIME4;
	if (left >= 4) {
		acc = rotate(acc ^ read32(at) * PRIME1, 23) * PRIME2 + PRIME3;
		at += 4;
		left -= 4;
	}
	for (; left > 0; at++, left--)
		acc = rotate(acc ^ *at * PRIME5, 11) * PRIME1;
	acc = (acc ^ acc >> 33) * PRIME2;
	acc = (acc ^ acc >> 29) * PRIME3;
	return acc ^ acc >> 32;
}
