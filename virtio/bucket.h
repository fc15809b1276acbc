/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token bucket: a rate, with bursts of a tenth of a second. Who finds a token may take as many as it needs: what is
 * missing then is a debt, which later users wait for. So no request is too large for its bucket.
 *
 * The bucket is one number, the time at which its debt is paid (the theoretical arrival time of GCRA).
 */
#ifndef WISP_VIRTIO_BUCKET_H
#define WISP_VIRTIO_BUCKET_H

#include <stdint.h>

#define BUCKET_BURST_NS 100000000u

struct bucket {
	uint64_t rate; /* tokens a second; 0: unlimited */
	uint64_t paid_ns;
};

/* Takes `tokens` at the time `now_ns` of a clock that does not go back. */
static inline void bucket_take(struct bucket *b, uint64_t now_ns, uint64_t tokens)
{
	if (b->rate == 0)
		return;
	/* Saturates at some centuries. */
	unsigned __int128 cost_ns = (unsigned __int128)tokens * 1000000000u / b->rate;
	uint64_t from_ns = b->paid_ns > now_ns ? b->paid_ns : now_ns;
	b->paid_ns = cost_ns > INT64_MAX - from_ns % INT64_MAX ? INT64_MAX : from_ns + (uint64_t)cost_ns;
}

/* How long to wait, from `now_ns` on, until there is a token: 0 if there is one. */
static inline uint64_t bucket_wait_ns(const struct bucket *b, uint64_t now_ns)
{
	uint64_t from_ns = now_ns + BUCKET_BURST_NS;
	return b->rate == 0 || b->paid_ns < from_ns ? 0 : b->paid_ns - from_ns + 1;
}

#endif
