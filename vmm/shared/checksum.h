/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH64, a checksum that finds damage at the speed of memory. It is no protection against somebody who changes data on
 * purpose: they can change the checksum too.
 */
#ifndef WISP_CHECKSUM_H
#define WISP_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* For data in several pieces, `seed` is the checksum of the piece before; for the first one it is 0. */
uint64_t checksum(const void *data, size_t size, uint64_t seed);

#endif
