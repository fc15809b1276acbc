/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon: reported memory goes, all else stays; and drivers that report what they should not. */
#include "tests/unit/guest_driver.h"

#include <linux/virtio_balloon.h>
#include <sys/mman.h>

#include "virtio/balloon.h"

enum { INFLATE, DEFLATE, REPORTING, UNUSED, REPORTING_OF_THE_SPECIFICATION };

#define FEATURES (RING_FEATURES_ALL | 1ull << VIRTIO_BALLOON_F_REPORTING)
#define MIB (1u << 20)
#define BLOCK (4 * MIB)

struct host {
	struct guest g;
	struct driver d;
};

static bool host_create(struct host *t)
{
	struct virtio_dev *dev;
	struct err err = {0};
	memset(t, 0, sizeof(*t));
	if (!guest_open(&t->g) || balloon_create(&dev, &t->g.env, &err) < 0)
		return false;
	drv_open(&t->d, &t->g, dev);
	return true;
}

static void host_close(struct host *t)
{
	drv_close(&t->d);
	guest_close(&t->g);
}

static struct host host;

static bool is_all(const struct host *t, uint64_t addr, size_t len, uint8_t value)
{
	const uint8_t *at = guest_at((struct guest *)(uintptr_t)&t->g, addr, len);
	return at[0] == value && memcmp(at, at + 1, len - 1) == 0;
}

static uint64_t filled(struct host *t, size_t len)
{
	uint64_t at = guest_alloc(&t->g, len, BLOCK);
	memset(guest_at(&t->g, at, len), 0x5a, len);
	return at;
}

static bool answered(struct host *t, unsigned queue)
{
	uint16_t head;
	uint32_t len = 1;
	ring_kick(&t->d, queue);
	return ring_wait(&t->d, queue, &head, &len) && len == 0;
}

static unsigned resident_pages(struct host *t, uint64_t addr, size_t len)
{
	static unsigned char resident[BLOCK / 4096];
	unsigned pages = 0;
	CHECK_EQ(mincore(guest_at(&t->g, addr, len), len, resident), 0);
	for (size_t i = 0; i < len / 4096; i++)
		pages += resident[i] & 1;
	return pages;
}

/* As Linux numbers the queue, and as the specification does. */
static void test_reported(void)
{
	struct host *t = &host;
	for (unsigned queue = REPORTING; queue <= REPORTING_OF_THE_SPECIFICATION; queue += 2) {
		REQUIRE(host_create(t) && drv_start(&t->d, FEATURES, 32));
		uint64_t at = filled(t, 3 * BLOCK);
		CHECK_EQ(resident_pages(t, at, BLOCK), BLOCK / 4096);
		struct buf bufs[] = {{at, BLOCK}, {at + 2 * BLOCK, BLOCK / 2}};
		REQUIRE(ring_add(&t->d, queue, bufs, 0, 2) >= 0);
		CHECK(answered(t, queue));
		CHECK_EQ(resident_pages(t, at, BLOCK), 0);
		CHECK_EQ(resident_pages(t, at + 2 * BLOCK, BLOCK / 2), 0);
		CHECK(is_all(t, at, BLOCK, 0) && is_all(t, at + BLOCK, BLOCK, 0x5a));
		CHECK(is_all(t, at + 2 * BLOCK, BLOCK / 2, 0) && is_all(t, at + 5 * BLOCK / 2, BLOCK / 2, 0x5a));
		/* The guest uses it again. */
		memset(guest_at(&t->g, at, BLOCK), 1, BLOCK);
		CHECK(is_all(t, at, BLOCK, 1));
		host_close(t);
	}
}

/* Parts of pages stay, and so does what the driver offers for reading. */
static void test_odd_reports(void)
{
	struct host *t = &host;
	REQUIRE(host_create(t) && drv_start(&t->d, FEATURES, 32));
	uint64_t at = filled(t, BLOCK);
	struct buf odd[] = {{at + 5 * 4096, 4096}, {at + 1, 4096}, {at + 2 * 4096, 4095}, {at + 3 * 4096 - 1, 4098}};
	REQUIRE(ring_add_indirect(&t->d, REPORTING, odd, 1, 3) >= 0);
	CHECK(answered(t, REPORTING));
	CHECK(is_all(t, at, 3 * 4096, 0x5a));
	CHECK(is_all(t, at + 3 * 4096, 4096, 0)); /* the only whole one */
	CHECK(is_all(t, at + 4 * 4096, BLOCK - 4 * 4096, 0x5a));
	CHECK(!drv_failed(&t->d));
	host_close(t);
}

static void test_outside_memory(void)
{
	static const struct buf outside[] = {{GUEST_HOLE, 4096}, {GUEST_HOLE - 4096, 8192}, {GUEST_HIGH - 4096, 8192},
	        {UINT64_MAX - 4095, 4096}, {0, UINT32_MAX}, {GUEST_HIGH + GUEST_RAM - GUEST_HOLE - 4096, 8192}};
	struct host *t = &host;
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		REQUIRE(host_create(t) && drv_start(&t->d, FEATURES, 32));
		uint64_t at = filled(t, BLOCK);
		struct buf bufs[] = {{at, 4096}, outside[i]};
		REQUIRE(ring_add(&t->d, REPORTING, bufs, 0, 2) >= 0);
		ring_kick(&t->d, REPORTING);
		guest_settle(&t->g, 0);
		CHECK(drv_failed(&t->d));
		CHECK_EQ(t->g.log_lines, 1);
		CHECK(is_all(t, at, BLOCK, 0x5a)); /* a chain that is wrong does nothing */
		host_close(t);
	}
}

/* A driver that did not choose the feature has no such queue. */
static void test_not_negotiated(void)
{
	struct host *t = &host;
	REQUIRE(host_create(t) && drv_start(&t->d, RING_FEATURES_ALL, 32));
	uint64_t at = filled(t, BLOCK);
	uint16_t head;
	uint32_t len;
	REQUIRE(ring_add(&t->d, REPORTING, &(struct buf){at, BLOCK}, 0, 1) >= 0);
	ring_kick(&t->d, REPORTING);
	guest_settle(&t->g, 0);
	CHECK(!ring_used(&t->d, REPORTING, &head, &len));
	CHECK(is_all(t, at, BLOCK, 0x5a));
	host_close(t);
}

/* The host wants no pages. A driver that inflates its balloon nevertheless goes on, and loses nothing. */
static void test_inflated(void)
{
	struct host *t = &host;
	REQUIRE(host_create(t) && drv_start(&t->d, FEATURES, 32));
	uint64_t at = filled(t, BLOCK), list = guest_alloc(&t->g, 4096, 4096);
	uint32_t config[2] = {1, 1}, *pages = guest_at(&t->g, list, 4096);
	for (uint32_t i = 0; i < 256; i++)
		pages[i] = (uint32_t)(at / 4096 + i);
	for (unsigned queue = INFLATE; queue <= DEFLATE; queue++) {
		REQUIRE(ring_add(&t->d, queue, &(struct buf){list, 1024}, 1, 0) >= 0);
		CHECK(answered(t, queue));
	}
	CHECK(is_all(t, at, BLOCK, 0x5a));
	reg_write(&t->d, VIRTIO_MMIO_CONFIG + 4, 256); /* actual */
	for (unsigned i = 0; i < 2; i++)
		config[i] = reg_read(&t->d, VIRTIO_MMIO_CONFIG + 4 * i);
	CHECK(config[0] == 0 && config[1] == 0);
	host_close(t);
}

/* A large report takes a round of the loop for itself; the next one is served in the next round. */
static void test_rounds(void)
{
	struct host *t = &host;
	uint16_t head;
	uint32_t len;
	REQUIRE(host_create(t) && drv_start(&t->d, FEATURES, 32));
	/* All memory, but for that of the rings. */
	struct buf all[] = {{BLOCK, GUEST_HOLE - BLOCK}, {GUEST_HIGH, GUEST_RAM - GUEST_HOLE}, {GUEST_HIGH, BLOCK}};
	for (unsigned i = 0; i < 3; i++)
		REQUIRE(ring_add(&t->d, REPORTING, all, 0, 3) >= 0);
	unsigned done = 0, rounds = 0;
	uint64_t one = 1;
	CHECK(write(t->d.dev->queue[REPORTING].kick_fd, &one, sizeof(one)) == sizeof(one));
	while (done < 3 && rounds < 100) {
		loop_step(t->g.loop, 20);
		unsigned in_round = 0;
		while (ring_used(&t->d, REPORTING, &head, &len))
			in_round++;
		/* The late kick at the end of the first round is one of its own. */
		CHECK(in_round <= 2);
		done += in_round;
		rounds++;
	}
	CHECK_EQ(done, 3);
	CHECK(rounds > 1);
	host_close(t);
}

TEST_MAIN("virtio_balloon", {"reported", test_reported}, {"odd_reports", test_odd_reports},
        {"outside_memory", test_outside_memory}, {"not_negotiated", test_not_negotiated}, {"inflated", test_inflated},
        {"rounds", test_rounds})
