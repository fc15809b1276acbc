/* SPDX-License-Identifier: Apache-2.0 */
/* The console: what is printed, emergency writes, and a guest that floods it. */
#include "tests/unit/guest_driver.h"

#include <linux/virtio_console.h>

#include "virtio/console.h"

enum { RX, TX };

struct term {
	struct guest g;
	struct driver d;
	char out[1 << 20];
	size_t out_len, calls, largest;
	size_t total;
};

static void output(void *context, const void *data, size_t len)
{
	struct term *t = context;
	t->calls++;
	t->total += len;
	t->largest = len > t->largest ? len : t->largest;
	if (len > sizeof(t->out) - t->out_len)
		len = sizeof(t->out) - t->out_len;
	memcpy(t->out + t->out_len, data, len);
	t->out_len += len;
}

static bool term_create(struct term *t)
{
	struct virtio_dev *dev;
	struct err err = {0};
	memset(t, 0, sizeof(*t));
	if (!guest_open(&t->g))
		return false;
	struct console_options opt = {.output = output, .context = t};
	if (console_create(&dev, &t->g.env, &opt, &err) < 0)
		return false;
	drv_open(&t->d, &t->g, dev);
	return true;
}

#define FEATURES (RING_FEATURES_ALL | 1ull << VIRTIO_CONSOLE_F_EMERG_WRITE)

static void term_close(struct term *t)
{
	drv_close(&t->d);
	guest_close(&t->g);
}

static struct term term;

static void test_output(void)
{
	struct term *t = &term;
	uint16_t head;
	uint32_t len;
	REQUIRE(term_create(t) && drv_start(&t->d, FEATURES, 16));
	uint64_t text = guest_alloc(&t->g, 64, 1);
	memcpy(guest_at(&t->g, text, 64), "Linux version 6.1", 17);
	struct buf bufs[] = {{text, 5}, {text + 5, 0}, {text + 5, 12}};
	CHECK(ring_add(&t->d, TX, bufs, 3, 0) >= 0);
	CHECK(ring_add_indirect(&t->d, TX, bufs, 1, 0) >= 0);
	ring_kick(&t->d, TX);
	for (unsigned i = 0; i < 2; i++) {
		REQUIRE(ring_wait(&t->d, TX, &head, &len));
		CHECK_EQ(len, 0); /* nothing was written */
	}
	CHECK(t->out_len == 22 && memcmp(t->out, "Linux version 6.1Linux", 22) == 0);
	CHECK(t->d.dev->from_guest.bytes == 22 && t->d.dev->from_guest.operations == 2);
	term_close(t);
}

/* Buffers of the receive queue stay with the device, whatever they look like: nothing is typed. */
static void test_no_input(void)
{
	struct term *t = &term;
	uint16_t head;
	uint32_t len;
	REQUIRE(term_create(t) && drv_start(&t->d, FEATURES, 16));
	CHECK_EQ(reg_read(&t->d, VIRTIO_MMIO_CONFIG), 0);     /* no size */
	CHECK_EQ(reg_read(&t->d, VIRTIO_MMIO_CONFIG + 4), 1); /* one port */
	uint64_t mem = guest_alloc(&t->g, 64, 1);
	CHECK(ring_add(&t->d, RX, &(struct buf){mem, 64}, 0, 1) >= 0);
	CHECK(ring_add(&t->d, RX, &(struct buf){UINT64_MAX, 64}, 1, 0) >= 0);
	ring_kick(&t->d, RX);
	guest_settle(&t->g, 5);
	CHECK(!ring_used(&t->d, RX, &head, &len));
	CHECK(!drv_failed(&t->d));
	term_close(t);
}

/* On a device that nobody set up, and in every state after. */
static void test_emergency(void)
{
	struct term *t = &term;
	REQUIRE(term_create(t));
	reg_write(&t->d, VIRTIO_MMIO_CONFIG + 8, 0x11223300 | 'p');
	uint8_t byte = 'a';
	virtio_mmio_write(&t->d.mmio, VIRTIO_MMIO_CONFIG + 8, &byte, 1);
	CHECK_EQ(reg_read(&t->d, VIRTIO_MMIO_CONFIG + 8), 0);
	reg_write(&t->d, VIRTIO_MMIO_CONFIG, 'x'); /* not for writing */
	REQUIRE(drv_start(&t->d, FEATURES, 16));
	reg_write(&t->d, VIRTIO_MMIO_CONFIG + 8, 'n');
	drv_reset(&t->d);
	reg_write(&t->d, VIRTIO_MMIO_CONFIG + 8, 'i');
	CHECK(t->out_len == 4 && memcmp(t->out, "pani", 4) == 0);
	CHECK_EQ(reg_read(&t->d, VIRTIO_MMIO_CONFIG), 0);
	term_close(t);
}

/* A chain that names the same 30 MiB 128 times: 3.7 GiB to print. The loop stays responsive, and a reset ends it. */
static void test_flood(void)
{
	struct term *t = &term;
	struct buf bufs[128];
	uint16_t head;
	uint32_t len;
	REQUIRE(term_create(t) && drv_start(&t->d, FEATURES, 128));
	for (unsigned i = 0; i < 128; i++)
		bufs[i] = (struct buf){0, 30 << 20};
	CHECK(ring_add(&t->d, TX, bufs, 128, 0) >= 0);
	ring_kick(&t->d, TX);
	loop_step(t->g.loop, 100);
	size_t before = t->total;
	for (unsigned i = 0; i < 50; i++) {
		loop_step(t->g.loop, 0);
		CHECK(t->total - before <= 65536); /* the share of a round */
		before = t->total;
	}
	CHECK(t->total > 65536 && t->largest <= 4096);
	CHECK(!ring_used(&t->d, TX, &head, &len));
	drv_reset(&t->d);
	before = t->total;
	guest_settle(&t->g, 5);
	CHECK_EQ(t->total, before);

	/* 200 KiB in one chain: several rounds, and every byte once */
	REQUIRE(drv_start(&t->d, FEATURES, 128));
	uint64_t text = guest_alloc(&t->g, 200 << 10, 1);
	uint8_t *mem = guest_at(&t->g, text, 200 << 10);
	for (unsigned i = 0; i < 200 << 10; i++)
		mem[i] = (uint8_t)(i * 7 + i / 256);
	t->out_len = t->total = 0;
	CHECK(ring_add(&t->d, TX, (struct buf[]){{text, 1001}, {text + 1001, (200 << 10) - 1001}}, 2, 0) >= 0);
	CHECK(ring_add(&t->d, TX, &(struct buf){text, 3}, 1, 0) >= 0);
	ring_kick(&t->d, TX);
	REQUIRE(ring_wait(&t->d, TX, &head, &len));
	REQUIRE(ring_wait(&t->d, TX, &head, &len));
	CHECK_EQ(t->total, (200 << 10) + 3);
	CHECK(memcmp(t->out, mem, 200 << 10) == 0);
	term_close(t);
}

TEST_MAIN("virtio_console", {"output", test_output}, {"no_input", test_no_input}, {"emergency", test_emergency},
        {"flood", test_flood})
