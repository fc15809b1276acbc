/* SPDX-License-Identifier: Apache-2.0 */
/* The split ring alone: what it accepts, what breaks it, and when each side tells the other. */
#include "tests/unit/guest_driver.h"

#include "virtio/queue.h"

#define EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ull << VIRTIO_RING_F_INDIRECT_DESC)

/* A queue of 8 or more with its three areas laid out by hand. */
struct bench {
	struct gmem gmem;
	struct virtq q;
	struct vring_desc *desc;
	uint16_t *avail, *used;
	uint16_t size;
	struct virtq_chain chain;
};

enum { DESC_AT = 0x1000, AVAIL_AT = 0x3000, USED_AT = 0x4000, TABLE_AT = 0x6000, DATA_AT = 0x10000 };

static bool bench_open(struct bench *b, uint16_t size, uint64_t features)
{
	struct err err = {0};
	memset(b, 0, sizeof(*b));
	if (gmem_create(&b->gmem, GUEST_RAM, GUEST_HOLE, GUEST_HIGH, &err) < 0)
		return false;
	b->size = size;
	b->desc = gmem_ptr(&b->gmem, gpa(DESC_AT), 16ull * size);
	b->avail = gmem_ptr(&b->gmem, gpa(AVAIL_AT), 6 + 2ull * size);
	b->used = gmem_ptr(&b->gmem, gpa(USED_AT), 6 + 8ull * size);
	b->q.state =
	        (struct virtq_state){.desc = DESC_AT, .avail = AVAIL_AT, .used = USED_AT, .size = size, .ready = 1};
	return virtq_start(&b->q, &b->gmem, 128, features) == 0;
}

static void bench_close(struct bench *b)
{
	virtq_stop(&b->q);
	gmem_destroy(&b->gmem);
}

static void set_desc(struct bench *b, unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	b->desc[i] = (struct vring_desc){addr, len, flags, next};
}

static struct vring_desc *table(struct bench *b)
{
	return gmem_ptr(&b->gmem, gpa(TABLE_AT), 4096);
}

static void offer(struct bench *b, uint16_t head)
{
	b->avail[2 + b->avail[1] % b->size] = head;
	b->avail[1]++;
}

static void test_start(void)
{
	static const struct {
		uint16_t size;
		uint64_t desc, avail, used;
		bool ok;
	} cases[] = {
	        {8, DESC_AT, AVAIL_AT, USED_AT, true},
	        {1, DESC_AT, AVAIL_AT, USED_AT, true},
	        {128, DESC_AT, AVAIL_AT, USED_AT, true},
	        {0, DESC_AT, AVAIL_AT, USED_AT, false},
	        {6, DESC_AT, AVAIL_AT, USED_AT, false},
	        {256, DESC_AT, AVAIL_AT, USED_AT, false},
	        {0x8000, DESC_AT, AVAIL_AT, USED_AT, false},
	        {8, DESC_AT + 8, AVAIL_AT, USED_AT, false},
	        {8, DESC_AT, AVAIL_AT + 1, USED_AT, false},
	        {8, DESC_AT, AVAIL_AT, USED_AT + 2, false},
	        {8, GUEST_HOLE, AVAIL_AT, USED_AT, false},      /* where devices are */
	        {8, GUEST_HOLE - 16, AVAIL_AT, USED_AT, false}, /* partly RAM */
	        {8, DESC_AT, GUEST_HOLE - 20, USED_AT, false},  /* all but the event field */
	        {8, DESC_AT, GUEST_HOLE - 22, USED_AT, true},   /* to the last byte */
	        {8, DESC_AT, AVAIL_AT, GUEST_HOLE - 68, false},
	        {8, DESC_AT, AVAIL_AT, GUEST_HIGH + GUEST_RAM - GUEST_HOLE - 64, false},
	        {8, UINT64_MAX - 15, AVAIL_AT, USED_AT, false},
	        {8, DESC_AT, UINT64_MAX - 1, USED_AT, false},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bench b;
		struct virtq q = {.state = {.desc = cases[i].desc, .avail = cases[i].avail, .used = cases[i].used}};
		REQUIRE(bench_open(&b, 8, 0));
		q.state.size = cases[i].size;
		int ret = virtq_start(&q, &b.gmem, 128, 0);
		CHECK_EQ(ret, cases[i].ok ? 0 : -EPROTO);
		CHECK_EQ(q.running, cases[i].ok);
		CHECK(cases[i].ok || q.broken);
		bench_close(&b);
	}
}

static void test_chains(void)
{
	struct bench b;
	REQUIRE(bench_open(&b, 8, INDIRECT));
	CHECK_EQ(virtq_fetch(&b.q, &b.chain), 0);
	set_desc(&b, 0, DATA_AT, 10, VRING_DESC_F_NEXT, 3);
	set_desc(&b, 3, DATA_AT + 100, 0, VRING_DESC_F_NEXT, 2); /* empty: as if it were not there */
	set_desc(&b, 2, DATA_AT + 200, 20, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
	set_desc(&b, 1, GUEST_HIGH, 30, VRING_DESC_F_WRITE, 7);
	offer(&b, 0);
	REQUIRE(virtq_fetch(&b.q, &b.chain) == 1);
	CHECK_EQ(b.chain.head, 0);
	CHECK_EQ(b.chain.readable, 1);
	CHECK_EQ(b.chain.writable, 2);
	CHECK_EQ(b.chain.readable_bytes, 10);
	CHECK_EQ(b.chain.writable_bytes, 50);
	CHECK(b.chain.iov[0].iov_base == gmem_ptr(&b.gmem, gpa(DATA_AT), 10) && b.chain.iov[0].iov_len == 10);
	CHECK(b.chain.iov[2].iov_base == gmem_ptr(&b.gmem, gpa(GUEST_HIGH), 30) && b.chain.iov[2].iov_len == 30);

	/* ordinary descriptors, then a table; the WRITE flag of the one that refers to it means nothing (2.7.5.3.2) */
	set_desc(&b, 4, DATA_AT, 1, VRING_DESC_F_NEXT, 5);
	set_desc(&b, 5, TABLE_AT, 48, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
	table(&b)[0] = (struct vring_desc){DATA_AT, 2, VRING_DESC_F_NEXT, 2};
	table(&b)[2] = (struct vring_desc){DATA_AT, 3, VRING_DESC_F_WRITE, 0};
	offer(&b, 4);
	REQUIRE(virtq_fetch(&b.q, &b.chain) == 1);
	CHECK_EQ(b.chain.head, 4);
	CHECK_EQ(b.chain.readable, 2);
	CHECK_EQ(b.chain.writable, 1);
	CHECK_EQ(b.chain.readable_bytes, 3);
	CHECK_EQ(b.chain.writable_bytes, 3);
	CHECK_EQ(b.q.held, 2);
	CHECK_EQ(virtq_fetch(&b.q, &b.chain), 0);

	/* completed in another order than fetched */
	virtq_push(&b.q, 4, 3);
	CHECK_EQ(b.used[1], 0); /* not shown yet */
	virtq_push(&b.q, 0, 50);
	virtq_publish(&b.q);
	CHECK_EQ(b.used[1], 2);
	const uint32_t *elem = (const uint32_t *)&b.used[2];
	CHECK(elem[0] == 4 && elem[1] == 3 && elem[2] == 0 && elem[3] == 50);
	bench_close(&b);
}

/* The longest chain: as long as the queue, through a table as well. */
static void test_longest(void)
{
	for (unsigned indirect = 0; indirect < 2; indirect++) {
		for (unsigned length = 127; length <= 129; length++) {
			struct bench b;
			REQUIRE(bench_open(&b, 128, INDIRECT));
			struct vring_desc *list = indirect ? table(&b) : b.desc;
			for (unsigned i = 0; i < (indirect ? 130u : 128u); i++)
				list[i] = (struct vring_desc){DATA_AT + i, 1, VRING_DESC_F_NEXT, (uint16_t)(i + 1)};
			if (length <= 128 || indirect)
				list[length - 1].flags = 0;
			else
				list[127].next = 0; /* a loop */
			if (indirect)
				set_desc(&b, 0, TABLE_AT, 130 * 16, VRING_DESC_F_INDIRECT, 0);
			offer(&b, 0);
			int ret = virtq_fetch(&b.q, &b.chain);
			CHECK_EQ(ret, length <= 128 ? 1 : -EPROTO);
			if (ret == 1)
				CHECK(b.chain.readable == length && b.chain.readable_bytes == length);
			bench_close(&b);
		}
	}
}

static void break_head(struct bench *b)
{
	offer(b, 8);
}
static void break_next(struct bench *b)
{
	set_desc(b, 0, DATA_AT, 1, VRING_DESC_F_NEXT, 8);
	offer(b, 0);
}
static void break_loop(struct bench *b)
{
	set_desc(b, 0, DATA_AT, 1, VRING_DESC_F_NEXT, 1);
	set_desc(b, 1, DATA_AT, 1, VRING_DESC_F_NEXT, 0);
	offer(b, 0);
}
static void break_empty_loop(struct bench *b)
{
	set_desc(b, 0, DATA_AT, 0, VRING_DESC_F_NEXT, 0);
	offer(b, 0);
}
static void break_address(struct bench *b)
{
	set_desc(b, 0, GUEST_HOLE, 1, 0, 0);
	offer(b, 0);
}
static void break_end(struct bench *b)
{
	set_desc(b, 0, GUEST_HOLE - 10, 11, 0, 0);
	offer(b, 0);
}
static void break_wrap(struct bench *b)
{
	set_desc(b, 0, UINT64_MAX - 5, 10, 0, 0);
	offer(b, 0);
}
static void break_order(struct bench *b)
{
	set_desc(b, 0, DATA_AT, 1, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
	set_desc(b, 1, DATA_AT, 1, 0, 0);
	offer(b, 0);
}
static void break_ahead(struct bench *b)
{
	b->avail[1] = 9;
}
static void break_twice(struct bench *b)
{
	offer(b, 0);
	offer(b, 0);
}
static void break_nested(struct bench *b)
{
	set_desc(b, 0, TABLE_AT, 16, VRING_DESC_F_INDIRECT, 0);
	table(b)[0] = (struct vring_desc){TABLE_AT + 64, 16, VRING_DESC_F_INDIRECT, 0};
	offer(b, 0);
}
static void break_table_next(struct bench *b)
{
	set_desc(b, 0, TABLE_AT, 32, VRING_DESC_F_INDIRECT, 0);
	table(b)[0] = (struct vring_desc){DATA_AT, 1, VRING_DESC_F_NEXT, 2};
	offer(b, 0);
}
static void break_table_size(struct bench *b)
{
	set_desc(b, 0, TABLE_AT, 24, VRING_DESC_F_INDIRECT, 0);
	offer(b, 0);
}
static void break_table_empty(struct bench *b)
{
	set_desc(b, 0, TABLE_AT, 0, VRING_DESC_F_INDIRECT, 0);
	offer(b, 0);
}
static void break_table_address(struct bench *b)
{
	set_desc(b, 0, GUEST_HOLE - 16, 32, VRING_DESC_F_INDIRECT, 0);
	offer(b, 0);
}
static void break_table_and_next(struct bench *b)
{
	set_desc(b, 0, TABLE_AT, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	offer(b, 0);
}
static void break_bytes(struct bench *b)
{
	for (unsigned i = 0; i < 8; i++) /* 8 times 24 MiB is fine; this wants more than RAM is long, in one */
		set_desc(b, i, 0x1000, 0xffffffff, i < 7 ? VRING_DESC_F_NEXT : 0, (uint16_t)(i + 1));
	offer(b, 0);
}

static void test_broken(void)
{
	static void (*const breaks[])(struct bench *) = {break_head, break_next, break_loop, break_empty_loop,
	        break_address, break_end, break_wrap, break_order, break_ahead, break_twice, break_nested,
	        break_table_next, break_table_size, break_table_empty, break_table_address, break_table_and_next,
	        break_bytes};
	for (unsigned i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++) {
		struct bench b;
		REQUIRE(bench_open(&b, 8, INDIRECT));
		set_desc(&b, 0, DATA_AT, 1, 0, 0);
		breaks[i](&b);
		int ret = virtq_fetch(&b.q, &b.chain);
		CHECK_EQ(ret, breaks[i] == break_twice ? 1 : -EPROTO); /* there, the first of the two is fine */
		if (ret == 1)
			ret = virtq_fetch(&b.q, &b.chain);
		CHECK_EQ(ret, -EPROTO);
		if (ret != -EPROTO)
			printf("# case %u\n", i);
		CHECK(b.q.broken && !b.q.running);
		/* and nothing is served or written any more */
		CHECK_EQ(virtq_fetch(&b.q, &b.chain), -EPROTO);
		virtq_push(&b.q, 0, 0);
		CHECK(!virtq_publish(&b.q) && !virtq_notify_on(&b.q));
		CHECK_EQ(b.used[1], 0);
		bench_close(&b);
	}

	struct bench b; /* a table that was not negotiated */
	REQUIRE(bench_open(&b, 8, 0));
	set_desc(&b, 0, TABLE_AT, 16, VRING_DESC_F_INDIRECT, 0);
	offer(&b, 0);
	CHECK_EQ(virtq_fetch(&b.q, &b.chain), -EPROTO);
	bench_close(&b);
}

/* A chain of 4 GiB in all: the sum would not fit 32 bits. Buffers may overlap, so RAM need not be that large. */
static void test_total(void)
{
	struct bench b;
	REQUIRE(bench_open(&b, 128, 0));
	uint32_t each = 31u << 20; /* of the 32 MiB below the hole */
	for (unsigned i = 0; i < 128; i++)
		set_desc(&b, i, 0x1000, each, VRING_DESC_F_NEXT, (uint16_t)(i + 1));
	b.desc[127].flags = 0; /* 3968 MiB */
	offer(&b, 0);
	CHECK_EQ(virtq_fetch(&b.q, &b.chain), 1);
	CHECK_EQ(b.chain.readable_bytes, 128 * each);
	virtq_push(&b.q, 0, 0);
	for (unsigned i = 0; i < 128; i++)
		b.desc[i].len = 33554432 - 0x1000; /* 128 of them: half a MiB less than 4 GiB */
	b.desc[5].len = 33554432 - 0x1000;
	offer(&b, 0);
	CHECK_EQ(virtq_fetch(&b.q, &b.chain), 1);
	virtq_push(&b.q, 0, 0);
	for (unsigned i = 0; i < 128; i++) {
		b.desc[i].addr = 0;
		b.desc[i].len = 33554432; /* 4 GiB */
	}
	offer(&b, 0);
	CHECK_EQ(virtq_fetch(&b.q, &b.chain), -EPROTO);
	bench_close(&b);
}

static void test_unfetch(void)
{
	struct bench b;
	REQUIRE(bench_open(&b, 8, 0));
	for (uint16_t i = 0; i < 3; i++) {
		set_desc(&b, i, DATA_AT, 1, 0, 0);
		offer(&b, i);
	}
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 3; i++) {
			CHECK_EQ(virtq_fetch(&b.q, &b.chain), 1);
			CHECK_EQ(b.chain.head, i);
		}
		for (uint16_t i = 3; i-- > 0;)
			virtq_unfetch(&b.q, i);
		CHECK_EQ(b.q.held, 0);
	}
	bench_close(&b);
}

/* Three times around 2^16, with and without EVENT_IDX; a state that is kept and put back on the way. */
static void test_wrap(void)
{
	for (unsigned mode = 0; mode < 2; mode++) {
		struct bench b;
		REQUIRE(bench_open(&b, 8, mode ? EVENT_IDX : 0));
		uint32_t interrupts = 0;
		for (uint32_t i = 0; i < 200000; i++) {
			set_desc(&b, i % 8, DATA_AT, 1 + i % 100, 0, 0);
			offer(&b, (uint16_t)(i % 8));
			if (virtq_fetch(&b.q, &b.chain) != 1 || b.chain.readable_bytes != 1 + i % 100) {
				CHECK(false);
				break;
			}
			virtq_push(&b.q, b.chain.head, i);
			if (mode)
				b.avail[2 + 8] =
				        (uint16_t)(i % 3 == 0 ? i : i - 5); /* used_event: this one, or long past */
			interrupts += virtq_publish(&b.q);
			const uint32_t *elem = (const uint32_t *)&b.used[2 + 4 * (i % 8)];
			if (b.used[1] != (uint16_t)(i + 1) || elem[0] != i % 8 || elem[1] != i) {
				CHECK(false);
				break;
			}
			if (i % 50000 == 49999) {
				struct virtq_state state = b.q.state;
				virtq_stop(&b.q);
				b.q.state = state;
				REQUIRE(virtq_start(&b.q, &b.gmem, 128, mode ? EVENT_IDX : 0) == 0);
			}
		}
		CHECK_EQ(interrupts, mode ? 66667 : 200000);
		bench_close(&b);
	}
}

/* Who asked for an interrupt gets one, also when several completions are shown at once; who did not, does not. */
static void test_interrupts(void)
{
	static const struct {
		uint16_t event;
		bool wanted;
	} cases[] = {{0, true}, {1, true}, {2, true}, {3, false}, {0xffff, false}, {100, false}};
	for (unsigned i = 0; i < 6; i++) {
		struct bench b;
		REQUIRE(bench_open(&b, 8, EVENT_IDX));
		for (uint16_t k = 0; k < 3; k++) {
			set_desc(&b, k, DATA_AT, 1, 0, 0);
			offer(&b, k);
			CHECK_EQ(virtq_fetch(&b.q, &b.chain), 1);
			virtq_push(&b.q, k, 0);
		}
		b.avail[0] = VRING_AVAIL_F_NO_INTERRUPT; /* to be ignored: section 2.7.7.2 */
		b.avail[2 + 8] = cases[i].event;
		CHECK_EQ(virtq_publish(&b.q), cases[i].wanted);
		CHECK(!virtq_publish(&b.q)); /* nothing new */
		bench_close(&b);
	}
	struct bench b;
	REQUIRE(bench_open(&b, 8, 0));
	set_desc(&b, 0, DATA_AT, 1, 0, 0);
	for (unsigned i = 0; i < 2; i++) {
		offer(&b, 0);
		CHECK_EQ(virtq_fetch(&b.q, &b.chain), 1);
		virtq_push(&b.q, 0, 0);
		b.avail[0] = i ? VRING_AVAIL_F_NO_INTERRUPT : 0;
		b.avail[2 + 8] = 77; /* to be ignored */
		CHECK_EQ(virtq_publish(&b.q), i == 0);
	}
	bench_close(&b);
}

/* Completes a chain, which the driver sees at once. */
static void complete_one(struct bench *b)
{
	set_desc(b, 0, DATA_AT, 1, 0, 0);
	offer(b, 0);
	CHECK_EQ(virtq_fetch(&b->q, &b->chain), 1);
	virtq_push(&b->q, 0, 0);
	virtq_show(&b->q);
	CHECK_EQ(b->used[1], b->q.state.used_next);
}

/* A driver that has seen completions by itself is not interrupted for them. */
static void test_shown(void)
{
	struct bench b;
	REQUIRE(bench_open(&b, 8, EVENT_IDX));
	complete_one(&b);
	complete_one(&b);
	b.avail[2 + 8] = 2;
	CHECK(!virtq_publish(&b.q));
	complete_one(&b);
	complete_one(&b);
	CHECK(virtq_publish(&b.q));
	CHECK(!virtq_publish(&b.q));
	/* It puts its interrupt off when it wants it for none of the next completions. */
	static const uint16_t events[] = {0, 4, 6, 7, 100, 0x8003, 0x8004, 0xffff};
	for (unsigned i = 0; i < 8; i++) {
		b.avail[2 + 8] = events[i];
		CHECK_EQ(virtq_awaits_several(&b.q), i >= 3 && i <= 5);
	}
	bench_close(&b);
	REQUIRE(bench_open(&b, 8, 0));
	b.avail[2 + 8] = 5;
	CHECK(!virtq_awaits_several(&b.q));
	complete_one(&b);
	CHECK(virtq_publish(&b.q));
	bench_close(&b);
}

static void test_notifications(void)
{
	struct bench b;
	REQUIRE(bench_open(&b, 8, 0));
	virtq_notify_off(&b.q);
	CHECK_EQ(b.used[0], VRING_USED_F_NO_NOTIFY);
	CHECK(!virtq_notify_on(&b.q));
	CHECK_EQ(b.used[0], 0);
	set_desc(&b, 0, DATA_AT, 1, 0, 0);
	offer(&b, 0);
	CHECK(virtq_notify_on(&b.q)); /* came before: no notification will tell of it */
	bench_close(&b);

	REQUIRE(bench_open(&b, 8, EVENT_IDX));
	set_desc(&b, 0, DATA_AT, 1, 0, 0);
	offer(&b, 0);
	virtq_notify_off(&b.q);
	CHECK_EQ(b.used[0], 0); /* always, with EVENT_IDX: section 2.7.10.2 */
	CHECK_EQ(virtq_fetch(&b.q, &b.chain), 1);
	CHECK(!virtq_notify_on(&b.q));
	CHECK_EQ(b.used[2 + 4 * 8], 1); /* avail_event */
	bench_close(&b);
}

static void test_copies(void)
{
	uint8_t a[40], c[40], seen[64];
	for (unsigned i = 0; i < 40; i++) {
		a[i] = (uint8_t)i;
		c[i] = (uint8_t)(100 + i);
	}
	struct iovec iov[] = {{a + 1, 3}, {c, 0}, {c + 3, 30}};
	for (size_t offset = 0; offset <= 34; offset++) {
		for (size_t len = 0; len <= 40; len++) {
			size_t n = guest_load_iov(seen, iov, 3, offset, len);
			size_t rest = offset < 33 ? 33 - offset : 0;
			CHECK_EQ(n, len < rest ? len : rest);
			for (size_t i = 0; i < n; i++)
				CHECK_EQ(seen[i], offset + i < 3 ? 1 + offset + i : 100 + offset + i);
			CHECK_EQ(guest_store_iov(iov, 3, offset, seen, n), n);
		}
	}
	for (unsigned i = 0; i < 40; i++)
		CHECK(a[i] == i && c[i] == 100 + i);
	CHECK_EQ(iov_advance(iov, 3, 0), 0);
	CHECK_EQ(iov_advance(iov, 3, 2), 0);
	CHECK(iov[0].iov_base == a + 3 && iov[0].iov_len == 1);
	CHECK_EQ(iov_advance(iov, 3, 5), 2);
	CHECK(iov[2].iov_base == c + 7 && iov[2].iov_len == 26);
	CHECK_EQ(iov_advance(iov + 2, 1, 26), 1);
}

TEST_MAIN("virtio_queue", {"start", test_start}, {"chains", test_chains}, {"longest", test_longest},
        {"broken", test_broken}, {"total", test_total}, {"unfetch", test_unfetch}, {"wrap", test_wrap},
        {"interrupts", test_interrupts}, {"notifications", test_notifications}, {"copies", test_copies},
        {"shown", test_shown})
