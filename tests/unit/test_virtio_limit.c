/* SPDX-License-Identifier: Apache-2.0 */
/* Devices with a rate: nothing is lost or refused, it takes at least as long as the rate says, and no queue starves. */
#include "tests/unit/guest_card.h"
#include "tests/unit/guest_disk.h"

#include "virtio/console.h"
#include "virtio/limit.h"

static void a_disk_waits(void)
{
	struct disk t;
	/* Ten are free. */
	for (int bytes = 0; bytes < 2; bytes++) {
		REQUIRE(disk_open(&t, &(struct blk_options){0}));
		virtio_set_rate(t.d.dev, bytes ? 512 * 100 : 0, bytes ? 0 : 100);
		uint64_t data = guest_alloc(&t.g, 512, 512), began = loop_now_ns();
		for (int i = 0; i < 30; i++) {
			CHECK_EQ(request(&t, i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, 1, &(struct buf){data, 512}, 1,
			                 NULL),
			        VIRTIO_BLK_S_OK);
		}
		CHECK(loop_now_ns() - began >= 190000000);
		CHECK(t.d.dev->to_guest.operations == 15 && t.d.dev->from_guest.operations == 15);
		disk_close(&t);
	}
}

/* What waits at a reset is forgotten with its queue, and the timer disturbs nobody. */
static void a_reset_while_it_waits(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	virtio_set_rate(t.d.dev, 0, 1);
	uint64_t data = guest_alloc(&t.g, 512, 512);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, 1, &(struct buf){data, 512}, 1, NULL), VIRTIO_BLK_S_OK);
	struct buf bufs[] = {{t.header, 16}, {data, 512}, {t.status, 1}};
	set_header(&t, VIRTIO_BLK_T_OUT, 1);
	CHECK(ring_add(&t.d, 0, bufs, 2, 1) >= 0);
	ring_kick(&t.d, 0);
	for (int i = 0; i < 100 && !t.d.dev->limit.armed; i++)
		loop_step(t.g.loop, 10);
	CHECK(t.d.dev->limit.armed);
	drv_reset(&t.d);
	CHECK(t.d.dev->limit.armed);
	disk_close(&t);
}

/* A request of one queue does not wait until the other has nothing left. */
static void a_disk_shares(void)
{
	struct disk t;
	uint16_t head;
	uint32_t len;
	for (unsigned busy = 0; busy < 2; busy++) {
		unsigned requests = 0;
		REQUIRE(disk_open(&t, &(struct blk_options){.queues = 2}));
		virtio_set_rate(t.d.dev, 0, 100);
		struct buf bufs[] = {{t.header, 16}, {guest_alloc(&t.g, 512, 512), 512}, {t.status, 1}};
		set_header(&t, VIRTIO_BLK_T_IN, 1);
		while (ring_add(&t.d, busy, bufs, 1, 2) >= 0)
			requests++;
		ring_kick(&t.d, busy);
		CHECK(ring_wait(&t.d, busy, &head, &len));
		CHECK(ring_add(&t.d, 1 - busy, bufs, 1, 2) >= 0);
		ring_kick(&t.d, 1 - busy);
		CHECK(ring_wait(&t.d, 1 - busy, &head, &len));
		CHECK(t.d.ring[busy].used[1] < requests);
		disk_close(&t);
	}
}

/* A guest whose card receives more than its rate can still send. */
static void a_card_shares(void)
{
	enum { FLOOD = 60 };
	static struct card c;
	REQUIRE(card_open(&c, false, BASIC));
	virtio_set_rate(c.d.dev, 0, 100);
	give(&c, FLOOD, BUFFER);
	for (unsigned i = 0; i < FLOOD; i++)
		put(&c, false, 60, i);
	guest_settle(&c.g, 5);
	CHECK(send_frame(&c, 0, 77, 3));
	CHECK(comes_out(&c, false, 77, 3));
	CHECK(c.d.ring[RX].used[1] < FLOOD);
	card_close(&c);
}

static char printed[1 << 16];
static size_t length;

static void output(void *context, const void *data, size_t len)
{
	(void)context;
	memcpy(printed + length, data, len);
	length += len;
}

static void a_console_waits(void)
{
	struct guest g;
	struct driver d;
	struct virtio_dev *dev;
	struct console_options options = {.output = output};
	uint16_t head;
	uint32_t len;
	REQUIRE(guest_open(&g) && console_create(&dev, &g.env, &options, NULL) == 0);
	drv_open(&d, &g, dev);
	virtio_set_rate(dev, 100000, 0);
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, 16));
	uint64_t text = guest_alloc(&g, 40000, 1), began = loop_now_ns();
	uint8_t *at = guest_at(&g, text, 40000);
	for (unsigned i = 0; i < 40000; i++)
		at[i] = (uint8_t)(i * 7);
	/* One chain of many pieces, and one after it. */
	CHECK(ring_add(&d, 1, &(struct buf){text, 39000}, 1, 0) >= 0);
	CHECK(ring_add(&d, 1, &(struct buf){text + 39000, 1000}, 1, 0) >= 0);
	ring_kick(&d, 1);
	CHECK(ring_wait(&d, 1, &head, &len) && ring_wait(&d, 1, &head, &len));
	CHECK(loop_now_ns() - began >= 230000000); /* 10,000 bytes are free, and the last piece is a debt */
	CHECK(length == 40000 && memcmp(printed, at, length) == 0);
	drv_close(&d);
	guest_close(&g);
}

TEST_MAIN("virtio_limit", {"a_disk_waits", a_disk_waits}, {"a_reset_while_it_waits", a_reset_while_it_waits},
        {"a_disk_shares", a_disk_shares}, {"a_card_shares", a_card_shares}, {"a_console_waits", a_console_waits})
