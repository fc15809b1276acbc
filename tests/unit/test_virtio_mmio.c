/* SPDX-License-Identifier: Apache-2.0 */
/* The registers, with a device that echoes: whatever a driver does to them, and from several vCPUs at once. */
#include "tests/unit/guest_driver.h"
#include "vmm/shared/container_of.h"

#include <pthread.h>

#define QUEUES 2
#define CONFIG_BYTES 12

/* Copies each chain's readable bytes to its writable ones. */
struct echo {
	struct virtio_dev dev;
	unsigned kicks, activations, resets;
	bool slow_reset; /* its end comes two rounds later */
	struct loop_op nop;
	uint8_t config[CONFIG_BYTES];
	struct ring *flood; /* the driver offers each head again, as soon as it is completed */
	unsigned flood_left;
};

static void echo_activate(struct virtio_dev *dev)
{
	((struct echo *)dev)->activations++;
}

static void echo_kick(struct virtio_dev *dev, unsigned queue)
{
	struct virtq_chain chain;
	uint8_t bytes[4096];
	struct echo *echo = (struct echo *)dev;
	echo->kicks++;
	do {
		while (virtio_fetch(dev, queue, &chain)) {
			size_t n = guest_load_iov(bytes, chain.iov, chain.readable, 0, sizeof(bytes));
			n = guest_store_iov(chain.iov + chain.readable, chain.writable, 0, bytes, n);
			virtio_complete(dev, queue, chain.head, (uint32_t)n);
			if (echo->flood_left > 0) {
				echo->flood_left--;
				ring_offer(echo->flood, chain.head);
			}
		}
	} while (virtio_more(dev, queue));
}

static void nop_done(struct loop_op *op, int res, uint32_t flags)
{
	(void)res;
	(void)flags;
	struct echo *echo = container_of(op, struct echo, nop);
	virtio_reset_done(&echo->dev);
}

static void echo_reset(struct virtio_dev *dev)
{
	struct echo *echo = (struct echo *)dev;
	echo->resets++;
	if (!echo->slow_reset) {
		virtio_reset_done(dev);
		return;
	}
	static const struct __kernel_timespec delay = {.tv_nsec = 100000};
	struct io_uring_sqe *sqe = loop_sqe(dev->env.loop);
	io_uring_prep_timeout(sqe, (struct __kernel_timespec *)(uintptr_t)&delay, 0, 0);
	echo->nop.done = nop_done;
	loop_start(dev->env.loop, sqe, &echo->nop);
}

static void echo_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	memcpy(data, ((struct echo *)dev)->config + offset, len);
}

static void echo_config_write(struct virtio_dev *dev, uint32_t offset, const void *data, unsigned len)
{
	memcpy(((struct echo *)dev)->config + offset, data, len);
}

static void echo_destroy(struct virtio_dev *dev)
{
	free(dev);
}

static const struct virtio_type echo_type = {
        .name = "echo",
        .id = 77,
        .queue_size_max = 64,
        .config_size = CONFIG_BYTES,
        .activate = echo_activate,
        .kick = echo_kick,
        .reset = echo_reset,
        .config_read = echo_config_read,
        .config_write = echo_config_write,
        .destroy = echo_destroy,
};

static struct echo *echo_open(struct guest *g, struct driver *d)
{
	struct err err = {0};
	if (!guest_open(g))
		return NULL;
	struct echo *echo = calloc(1, sizeof(*echo));
	for (unsigned i = 0; i < CONFIG_BYTES; i++)
		echo->config[i] = (uint8_t)(0xa0 + i);
	if (virtio_init(&echo->dev, &echo_type, &g->env, QUEUES, 1ull << 3, &err) < 0)
		return NULL;
	drv_open(d, g, &echo->dev);
	return echo;
}

static void echo_close(struct guest *g, struct driver *d)
{
	drv_close(d);
	guest_close(g);
}

/* One message through a queue. */
static bool echoes(struct driver *d, unsigned queue, const char *text)
{
	uint64_t out = guest_alloc(d->g, 64, 8), in = guest_alloc(d->g, 64, 8);
	uint16_t head;
	uint32_t len, size = (uint32_t)strlen(text);
	struct buf bufs[] = {{out, size}, {in, 64}};
	memcpy(guest_at(d->g, out, size), text, size);
	if (ring_add(d, queue, bufs, 1, 1) < 0)
		return false;
	ring_kick(d, queue);
	return ring_wait(d, queue, &head, &len) && len == size && memcmp(guest_at(d->g, in, size), text, size) == 0;
}

static void test_registers(void)
{
	struct guest g;
	struct driver d;
	REQUIRE(echo_open(&g, &d));
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_VERSION), 2);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_DEVICE_ID), 77);
	CHECK(reg_read(&d, VIRTIO_MMIO_VENDOR_ID) != 0);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_STATUS), 0);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffff);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_SHM_LEN_HIGH), 0xffffffff);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_SHM_BASE_LOW), 0xffffffff);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_SHM_BASE_HIGH), 0xffffffff);
	for (unsigned sel = 0; sel < 4; sel++) {
		static const uint32_t words[] = {1u << 3 | 1u << 28 | 1u << 29, 1, 0, 0};
		reg_write(&d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, sel);
		CHECK_EQ(reg_read(&d, VIRTIO_MMIO_DEVICE_FEATURES), words[sel]);
	}
	static const uint32_t selectors[] = {0, 1, 2, 3, 255, 0x80000000, 0xffffffff};
	for (unsigned i = 0; i < sizeof(selectors) / sizeof(selectors[0]); i++) {
		reg_write(&d, VIRTIO_MMIO_QUEUE_SEL, selectors[i]);
		CHECK_EQ(reg_read(&d, VIRTIO_MMIO_QUEUE_NUM_MAX), selectors[i] < QUEUES ? 64 : 0);
		reg_write(&d, VIRTIO_MMIO_QUEUE_NUM, 8);
		reg_write64(&d, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x1000);
		reg_write(&d, VIRTIO_MMIO_QUEUE_READY, 1);
		CHECK_EQ(reg_read(&d, VIRTIO_MMIO_QUEUE_READY), selectors[i] < QUEUES);
		reg_write(&d, VIRTIO_MMIO_QUEUE_NOTIFY, selectors[i]);
	}
	guest_settle(&g, 5); /* kicks of an inactive device */
	CHECK_EQ(((struct echo *)d.dev)->kicks, 0);
	echo_close(&g, &d);
}

/* Every offset in every width: nothing happens but what is defined, and what is read is filled in. */
static void test_widths(void)
{
	struct guest g;
	struct driver d;
	REQUIRE(echo_open(&g, &d));
	for (uint64_t offset = 0; offset < VIRTIO_MMIO_CONFIG; offset++) {
		for (unsigned len = 1; len <= 8; len++) {
			uint8_t data[8];
			memset(data, 0x5a, sizeof(data));
			if (len == 4 && offset % 4 == 0)
				continue;
			virtio_mmio_write(&d.mmio, offset, data, len);
			virtio_mmio_read(&d.mmio, offset, data, len);
			for (unsigned i = 0; i < len; i++)
				CHECK_EQ(data[i], 0);
		}
	}
	CHECK_EQ(drv_status(&d), 0);

	static const uint64_t far[] = {VIRTIO_MMIO_CONFIG + CONFIG_BYTES - 1, VIRTIO_MMIO_CONFIG + CONFIG_BYTES, 0xfff,
	        0x1000, 1ull << 32, UINT64_MAX - 7, UINT64_MAX};
	for (unsigned i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
		for (unsigned len = 2; len <= 8; len++) {
			uint8_t data[8];
			memset(data, 0x5a, sizeof(data));
			virtio_mmio_write(&d.mmio, far[i], data, len);
			virtio_mmio_read(&d.mmio, far[i], data, len);
			for (unsigned k = 0; k < len; k++)
				CHECK_EQ(data[k], 0);
		}
	}
	for (uint32_t offset = 0; offset < CONFIG_BYTES; offset++) {
		uint8_t byte;
		virtio_mmio_read(&d.mmio, VIRTIO_MMIO_CONFIG + offset, &byte, 1);
		CHECK_EQ(byte, 0xa0 + offset);
	}
	uint16_t half = 0x1234;
	virtio_mmio_write(&d.mmio, VIRTIO_MMIO_CONFIG + 10, &half, 2);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_CONFIG + 8), 0x1234a9a8);
	uint64_t whole;
	virtio_mmio_read(&d.mmio, VIRTIO_MMIO_CONFIG + 4, &whole, 8);
	CHECK_EQ(whole, 0x1234a9a8a7a6a5a4);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_CONFIG_GENERATION), 0);
	virtio_config_changed(d.dev);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_CONFIG_GENERATION), 1);
	CHECK_EQ(drv_interrupts(&d), 0); /* nobody listens yet */
	echo_close(&g, &d);
}

static void test_negotiation(void)
{
	static const struct {
		uint64_t features;
		bool ok;
	} cases[] = {
	        {1ull << 32, true}, {1ull << 32 | 1 << 3, true}, {1ull << 32 | 1 << 28 | 1 << 29 | 1 << 3, true},
	        {1 << 3, false},                                                    /* without VERSION_1 */
	        {0, false}, {1ull << 32 | 1 << 4, false},                           /* not offered */
	        {1ull << 32 | 1ull << 63, false}, {1ull << 32 | 1ull << 34, false}, /* RING_PACKED */
	};
	struct guest g;
	struct driver d;
	struct echo *echo = echo_open(&g, &d);
	REQUIRE(echo);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		drv_reset(&d);
		drv_add_status(&d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
		reg_write(&d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
		reg_write(&d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)cases[i].features);
		reg_write(&d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
		reg_write(&d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(cases[i].features >> 32));
		drv_add_status(&d, VIRTIO_CONFIG_S_FEATURES_OK);
		CHECK_EQ(!!(drv_status(&d) & VIRTIO_CONFIG_S_FEATURES_OK), cases[i].ok);
		reg_write(&d, VIRTIO_MMIO_DRIVER_FEATURES, 0); /* too late */
		if (cases[i].ok)
			CHECK_EQ(d.dev->negotiated, (long long)cases[i].features);
		drv_ok(&d);
		CHECK_EQ(!!(drv_status(&d) & VIRTIO_CONFIG_S_DRIVER_OK), cases[i].ok);
	}
	drv_reset(&d); /* bits beyond 64 */
	drv_add_status(&d, 3);
	reg_write(&d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	reg_write(&d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	reg_write(&d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
	reg_write(&d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	drv_add_status(&d, VIRTIO_CONFIG_S_FEATURES_OK);
	CHECK(!(drv_status(&d) & VIRTIO_CONFIG_S_FEATURES_OK));

	drv_reset(&d);
	drv_ok(&d); /* first of all */
	CHECK_EQ(drv_status(&d), 0);
	reg_write(&d, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_NEEDS_RESET | 0xffffff00); /* not the driver's to set */
	CHECK_EQ(drv_status(&d), 0);
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, 8));
	reg_write(&d, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE); /* bits do not go away one by one */
	CHECK_EQ(drv_status(&d), 15);
	unsigned before = echo->activations;
	drv_ok(&d); /* once more */
	CHECK_EQ(echo->activations, before);
	CHECK(echoes(&d, 1, "hello"));
	drv_add_status(&d, VIRTIO_CONFIG_S_FAILED);
	CHECK_EQ(drv_status(&d), 15 | VIRTIO_CONFIG_S_FAILED);
	echo_close(&g, &d);
}

static void test_interrupt(void)
{
	struct guest g;
	struct driver d;
	REQUIRE(echo_open(&g, &d));
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, 8));
	guest_settle(&g, 5);
	CHECK_EQ(drv_interrupts(&d), 0);
	CHECK(echoes(&d, 0, "one"));
	CHECK_EQ(drv_interrupts(&d), 1);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	virtio_config_changed(d.dev);
	CHECK_EQ(drv_interrupts(&d), 1);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
	reg_write(&d, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING | 0xf0);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	drv_reset(&d);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	echo_close(&g, &d);
}

/* The queue's registers once the device runs: nothing that is written there counts. */
static void test_frozen(void)
{
	struct guest g;
	struct driver d;
	REQUIRE(echo_open(&g, &d));
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, 8));
	struct ring saved = d.ring[0];
	for (unsigned i = 0; i < 2; i++) {
		static const uint16_t sizes[] = {0, 64};
		d.ring[0].size = sizes[i];
		d.ring[0].desc_addr = d.ring[0].avail_addr = d.ring[0].used_addr = i ? UINT64_MAX : 0;
		drv_queue_addresses(&d, 0);
		reg_write(&d, VIRTIO_MMIO_QUEUE_READY, 1);
		d.ring[0] = saved;
		CHECK(echoes(&d, 0, "still"));
		saved = d.ring[0];
	}
	CHECK_EQ(d.dev->queue[0].vq.state.size, 8);

	/* ready, but not running: frozen as well, until it is not ready */
	drv_reset(&d);
	REQUIRE(drv_negotiate(&d, RING_FEATURES_ALL));
	drv_queue(&d, 0, 8);
	reg_write(&d, VIRTIO_MMIO_QUEUE_NUM, 16);
	CHECK_EQ(d.dev->queue[0].vq.state.size, 8);
	reg_write(&d, VIRTIO_MMIO_QUEUE_READY, 0);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_QUEUE_READY), 0);
	drv_queue(&d, 0, 16);
	drv_ok(&d); /* queue 1 is not ready: it is left alone */
	CHECK(echoes(&d, 0, "half a device"));
	reg_write(&d, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	guest_settle(&g, 5);
	CHECK(!drv_failed(&d));

	/* a queue that is stopped while it runs: nothing touches its memory from then on */
	reg_write(&d, VIRTIO_MMIO_QUEUE_SEL, 0);
	reg_write(&d, VIRTIO_MMIO_QUEUE_READY, 0);
	CHECK_EQ(reg_read(&d, VIRTIO_MMIO_QUEUE_READY), 0);
	CHECK(drv_failed(&d));
	CHECK_EQ(g.log_lines, 1);
	struct buf buf = {guest_alloc(&g, 8, 8), 8};
	CHECK(ring_add(&d, 0, &buf, 0, 1) >= 0);
	reg_write(&d, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	guest_settle(&g, 5);
	uint16_t head;
	uint32_t len;
	CHECK(!ring_used(&d, 0, &head, &len));
	drv_reset(&d);
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, 8));
	CHECK(echoes(&d, 1, "again"));
	echo_close(&g, &d);
}

/* Rings that cannot be: the device needs a reset, says so once, and lives again after it. */
static void test_bad_rings(void)
{
	struct guest g;
	struct driver d;
	REQUIRE(echo_open(&g, &d));
	for (unsigned i = 0; i < 6; i++) {
		drv_reset(&d);
		REQUIRE(drv_negotiate(&d, RING_FEATURES_ALL));
		drv_queue(&d, 0, 8);
		drv_queue(&d, 1, 8);
		reg_write(&d, VIRTIO_MMIO_QUEUE_SEL, 1);
		reg_write(&d, VIRTIO_MMIO_QUEUE_READY, 0);
		switch (i) {
		case 0: reg_write(&d, VIRTIO_MMIO_QUEUE_NUM, 0); break;
		case 1: reg_write(&d, VIRTIO_MMIO_QUEUE_NUM, 12); break;
		case 2: reg_write(&d, VIRTIO_MMIO_QUEUE_NUM, 128); break;     /* more than QueueNumMax */
		case 3: reg_write(&d, VIRTIO_MMIO_QUEUE_NUM, 0x10008); break; /* 8, if it were cut off */
		case 4: reg_write64(&d, VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH, GUEST_HOLE); break;
		case 5:
			reg_write64(&d, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH, UINT64_MAX << 4);
			break;
		}
		reg_write(&d, VIRTIO_MMIO_QUEUE_READY, 1);
		drv_interrupts(&d);
		drv_ok(&d);
		CHECK(drv_failed(&d));
		CHECK_EQ(drv_interrupts(&d), 1);
		CHECK_EQ(reg_read(&d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG); /* section 2.1.2 */
		drv_ok(&d);
		CHECK(drv_failed(&d));
	}
	CHECK_EQ(g.log_lines, 1); /* once, however often */
	CHECK(strstr(g.last_line, "echo") != NULL);
	drv_reset(&d);
	CHECK_EQ(drv_status(&d), 0);
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, 64));
	CHECK(echoes(&d, 0, "fine"));
	echo_close(&g, &d);
}

/* Buffers made available before DRIVER_OK: used after it, without a kick, and not before. */
static void test_early_buffers(void)
{
	struct guest g;
	struct driver d;
	uint16_t head;
	uint32_t len;
	REQUIRE(echo_open(&g, &d));
	REQUIRE(drv_negotiate(&d, RING_FEATURES_ALL));
	drv_queue(&d, 0, 8);
	struct buf bufs[] = {{guest_alloc(&g, 8, 8), 8}, {guest_alloc(&g, 8, 8), 8}};
	CHECK(ring_add(&d, 0, bufs, 1, 1) >= 0);
	reg_write(&d, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	guest_settle(&g, 5);
	CHECK(!ring_used(&d, 0, &head, &len));
	drv_ok(&d);
	CHECK(ring_wait(&d, 0, &head, &len));
	echo_close(&g, &d);
}

/* Kicks are listened for from a queue's first start on, once, however often the driver starts it. */
static void test_listening(void)
{
	struct guest g;
	struct driver d;
	uint16_t head;
	uint32_t len;
	REQUIRE(echo_open(&g, &d));
	for (unsigned start = 0; start < 20; start++) {
		bool second = start >= 10;
		CHECK_EQ(d.dev->queue[0].armed, start > 0);
		CHECK_EQ(d.dev->queue[1].armed, start > 10);
		REQUIRE(drv_negotiate(&d, RING_FEATURES_ALL));
		drv_queue(&d, 0, 8);
		if (second)
			drv_queue(&d, 1, 8);
		drv_ok(&d);
		CHECK(d.dev->queue[0].armed);
		CHECK_EQ(d.dev->queue[1].armed, second);
		guest_settle(&g, 1);
		struct buf bufs[] = {{guest_alloc(&g, 8, 8), 8}, {guest_alloc(&g, 8, 8), 8}};
		CHECK(ring_add(&d, second, bufs, 1, 1) >= 0);
		ring_kick(&d, second);
		CHECK(ring_wait(&d, second, &head, &len));
		drv_reset(&d);
	}
	echo_close(&g, &d);
}

/* A driver that adds as fast as the device takes: a kick ends, and the rest comes with the next round. */
static void test_budget(void)
{
	enum { SIZE = 16, TOTAL = 1000 };
	struct guest g;
	struct driver d;
	struct echo *echo = echo_open(&g, &d);
	REQUIRE(echo);
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, SIZE));
	struct buf bufs[] = {{guest_alloc(&g, 8, 8), 8}, {guest_alloc(&g, 8, 8), 8}};
	CHECK(ring_add(&d, 0, bufs, 1, 1) >= 0);
	echo->flood = &d.ring[0];
	echo->flood_left = TOTAL - 1;
	unsigned before = echo->kicks;
	ring_kick(&d, 0);
	loop_step(g.loop, 100);
	CHECK_EQ(echo->kicks, before + 2); /* one, and one more at the end of the round */
	CHECK_EQ(echo->flood_left, TOTAL - 1 - 2 * SIZE);
	guest_settle(&g, 5);
	CHECK_EQ(echo->flood_left, 0);
	CHECK_EQ(d.ring[0].used[1], TOTAL);
	CHECK_EQ(echo->kicks, before + (TOTAL + SIZE - 1) / SIZE);
	CHECK(!drv_failed(&d));
	echo_close(&g, &d);
}

struct machine {
	struct guest g;
	struct driver d;
	struct echo *echo;
	pthread_barrier_t ready;
	bool stop;
};

static void *loop_thread(void *arg)
{
	struct machine *m = arg;
	m->echo = echo_open(&m->g, &m->d);
	if (m->echo)
		m->echo->slow_reset = true;
	pthread_barrier_wait(&m->ready);
	if (m->echo) {
		loop_run(m->g.loop);
		pthread_barrier_wait(&m->ready); /* loop_stop has returned: it may not find the loop gone */
		drv_close(&m->d);
		guest_close(&m->g);
	}
	return NULL;
}

/* A vCPU that looks at everything, and kicks, while another one starts and resets the device. */
static void *watch(void *arg)
{
	struct machine *m = arg;
	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		for (uint32_t offset = 0; offset < VIRTIO_MMIO_CONFIG; offset += 4)
			reg_read(&m->d, offset);
		reg_write(&m->d, VIRTIO_MMIO_INTERRUPT_ACK, 3);
		reg_write(&m->d, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		reg_write(&m->d, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
		reg_write(&m->d, VIRTIO_MMIO_QUEUE_NUM, 4); /* of a device that runs, mostly */
	}
	return NULL;
}

static void test_threads(void)
{
	static struct machine m;
	pthread_t loop, watcher;
	memset(&m, 0, sizeof(m));
	pthread_barrier_init(&m.ready, NULL, 2);
	REQUIRE(pthread_create(&loop, NULL, loop_thread, &m) == 0);
	pthread_barrier_wait(&m.ready);
	REQUIRE(m.echo);
	REQUIRE(pthread_create(&watcher, NULL, watch, &m) == 0);
	unsigned echoed = 0;
	for (unsigned round = 0; round < 100; round++) {
		m.g.heap = 0x10000; /* all of it anew */
		bool ok = drv_negotiate(&m.d, RING_FEATURES_ALL);
		CHECK(ok);
		drv_queue(&m.d, 0, 8);
		drv_ok(&m.d);
		struct buf bufs[] = {{guest_alloc(&m.g, 8, 8), 8}, {guest_alloc(&m.g, 8, 8), 8}};
		uint16_t head;
		uint32_t len;
		for (unsigned i = 0; i < 20 && m.d.ring[0].size == 8; i++) {
			if (ring_add(&m.d, 0, bufs, 1, 1) < 0)
				break;
			ring_kick(&m.d, 0);
			for (unsigned tries = 0; tries < 10000 && !ring_used(&m.d, 0, &head, &len); tries++)
				sched_yield();
			echoed++;
		}
		drv_reset(&m.d);
		CHECK_EQ(drv_status(&m.d), 0);
		uint16_t idx = __atomic_load_n(&m.d.ring[0].used[1], __ATOMIC_SEQ_CST);
		reg_write(&m.d, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		CHECK_EQ(__atomic_load_n(&m.d.ring[0].used[1], __ATOMIC_SEQ_CST), idx);
	}
	CHECK(echoed > 1000);
	__atomic_store_n(&m.stop, true, __ATOMIC_RELAXED);
	pthread_join(watcher, NULL);
	REQUIRE(drv_negotiate(&m.d, RING_FEATURES_ALL));
	drv_queue(&m.d, 0, 8);
	drv_ok(&m.d); /* it still runs when the machine ends */
	loop_stop(m.g.loop);
	pthread_barrier_wait(&m.ready);
	pthread_join(loop, NULL);
	pthread_barrier_destroy(&m.ready);
}

TEST_MAIN("virtio_mmio", {"registers", test_registers}, {"widths", test_widths}, {"negotiation", test_negotiation},
        {"interrupt", test_interrupt}, {"frozen", test_frozen}, {"bad_rings", test_bad_rings},
        {"early_buffers", test_early_buffers}, {"listening", test_listening}, {"budget", test_budget},
        {"threads", test_threads})
