/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets, by a clock that a case sets. */
#include "tests/unit/test.h"
#include "virtio/bucket.h"

#define SECOND 1000000000ull

static void unlimited_never_waits(void)
{
	struct bucket b = {0};
	bucket_take(&b, 5, UINT64_MAX);
	CHECK_EQ(bucket_wait_ns(&b, 5), 0);
	CHECK_EQ(b.paid_ns, 0);
}

/* A hundred a second: ten at once, then one every ten milliseconds. */
static void a_burst_then_the_rate(void)
{
	struct bucket b = {.rate = 100};
	uint64_t now = 77 * SECOND;
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(bucket_wait_ns(&b, now), 0);
		bucket_take(&b, now, 1);
	}
	CHECK_EQ(bucket_wait_ns(&b, now), 1);
	for (int i = 0; i < 1000; i++) {
		uint64_t wait = bucket_wait_ns(&b, now);
		CHECK(wait > 0 && bucket_wait_ns(&b, now + wait - 1) > 0);
		now += wait;
		CHECK_EQ(bucket_wait_ns(&b, now), 0);
		bucket_take(&b, now, 1);
	}
	CHECK(now > 77 * SECOND + 9900000000 && now < 77 * SECOND + 10010000000);
}

/* One larger than the bucket passes, and is paid for afterwards. Rest earns no more than a burst. */
static void a_debt_is_paid(void)
{
	struct bucket b = {.rate = 1000};
	uint64_t now = SECOND;
	bucket_take(&b, now, 5000);
	CHECK_EQ(bucket_wait_ns(&b, now), 5 * SECOND - BUCKET_BURST_NS + 1);
	CHECK(bucket_wait_ns(&b, now + 4 * SECOND) > 0);
	CHECK_EQ(bucket_wait_ns(&b, now + 5 * SECOND), 0);
	now += 3600 * SECOND;
	bucket_take(&b, now, 100);
	CHECK_EQ(bucket_wait_ns(&b, now), 1);
}

static void large_numbers_saturate(void)
{
	struct bucket slow = {.rate = 1}, fast = {.rate = UINT64_MAX};
	bucket_take(&slow, SECOND, UINT64_MAX);
	bucket_take(&slow, SECOND, UINT64_MAX);
	CHECK(bucket_wait_ns(&slow, SECOND) > 100ull * 365 * 86400 * SECOND);
	bucket_take(&fast, SECOND, UINT64_MAX / 100);
	CHECK_EQ(bucket_wait_ns(&fast, SECOND), 0);
	bucket_take(&fast, SECOND, UINT64_MAX);
	CHECK(bucket_wait_ns(&fast, SECOND) > 0 && bucket_wait_ns(&fast, SECOND) < 2 * SECOND);
}

TEST_MAIN("bucket", {"unlimited_never_waits", unlimited_never_waits}, {"a_burst_then_the_rate", a_burst_then_the_rate},
        {"a_debt_is_paid", a_debt_is_paid}, {"large_numbers_saturate", large_numbers_saturate})
