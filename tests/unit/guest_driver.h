/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of a virtio device, in the test's own process: guest RAM, a loop, and a driver that reaches the device
 * through its registers only. It follows the rules unless a test tells it not to; tests also write into its rings.
 */
#ifndef WISP_TEST_GUEST_DRIVER_H
#define WISP_TEST_GUEST_DRIVER_H

#include <assert.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "tests/unit/test_loop.h"
#include "virtio/device.h"
#include "virtio/mmio.h"
#include "vmm/monitor/gmem.h"

#define GUEST_RAM (64ull << 20)
#define GUEST_HOLE (32ull << 20) /* a gap, and the rest from GUEST_HIGH on */
#define GUEST_HIGH (4ull << 30)
#define RING_FEATURES_ALL \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << VIRTIO_RING_F_INDIRECT_DESC)

struct guest {
	struct gmem gmem;
	struct loop *loop;
	struct log log;
	struct virtio_env env;
	uint64_t heap; /* the next free guest address */
	unsigned log_lines;
	char last_line[512];
};

static inline void guest_log(void *context, enum log_level level, const char *line)
{
	struct guest *g = context;
	(void)level;
	g->log_lines++;
	snprintf(g->last_line, sizeof(g->last_line), "%s", line);
}

static inline bool guest_open(struct guest *g)
{
	struct err err = {0};
	memset(g, 0, sizeof(*g));
	if (gmem_create(&g->gmem, GUEST_RAM, GUEST_HOLE, GUEST_HIGH, &err) < 0 || !open_loop(&g->loop, 64, &err)) {
		printf("# %s\n", err.text);
		test_failed = true;
		return false;
	}
	g->log = (struct log){guest_log, g};
	g->env = (struct virtio_env){&g->gmem, g->loop, &g->log};
	g->heap = 0x10000;
	return true;
}

static inline void guest_close(struct guest *g)
{
	loop_destroy(g->loop);
	gmem_destroy(&g->gmem);
}

static inline uint64_t guest_alloc(struct guest *g, uint64_t size, uint64_t align)
{
	uint64_t addr = (g->heap + align - 1) & ~(align - 1);
	g->heap = addr + size;
	assert(g->heap <= GUEST_HOLE);
	return addr;
}

static inline void *guest_at(struct guest *g, uint64_t addr, uint64_t len)
{
	void *p = gmem_ptr(&g->gmem, gpa(addr), len);
	assert(p);
	return p;
}

static inline long long now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

/* Rounds of the loop until nothing comes for `quiet_ms`. */
static inline void guest_settle(struct guest *g, int quiet_ms)
{
	long long before;
	do
		before = now_ms();
	while (loop_step(g->loop, quiet_ms) > 0 || now_ms() - before < quiet_ms); /* else a task waited, not the loop */
}

struct buf {
	uint64_t addr;
	uint32_t len;
};

struct ring {
	uint16_t size;
	uint64_t desc_addr, avail_addr, used_addr;
	struct vring_desc *desc;
	uint16_t *avail; /* flags, idx, ring, used_event */
	uint16_t *used;  /* flags, idx, elements, avail_event */
	uint16_t free[VIRTQ_SIZE_MAX];
	uint16_t chain_len[VIRTQ_SIZE_MAX];
	uint16_t chain[VIRTQ_SIZE_MAX][VIRTQ_SIZE_MAX]; /* the descriptors of a head, to free them */
	unsigned free_count;
	uint16_t avail_idx, used_seen, kicked_at;
	unsigned kicks, suppressed;
};

struct driver {
	struct guest *g;
	struct virtio_dev *dev;
	struct virtio_mmio mmio;
	uint64_t features;
	struct ring ring[VIRTIO_QUEUES_MAX];
};

static inline uint32_t reg_read(struct driver *d, uint32_t offset)
{
	uint32_t value;
	virtio_mmio_read(&d->mmio, offset, &value, sizeof(value));
	return value;
}

static inline void reg_write(struct driver *d, uint32_t offset, uint32_t value)
{
	virtio_mmio_write(&d->mmio, offset, &value, sizeof(value));
}

static inline void reg_write64(struct driver *d, uint32_t low, uint32_t high, uint64_t value)
{
	reg_write(d, low, (uint32_t)value);
	reg_write(d, high, (uint32_t)(value >> 32));
}

static inline uint32_t drv_status(struct driver *d)
{
	return reg_read(d, VIRTIO_MMIO_STATUS);
}

static inline void drv_add_status(struct driver *d, uint32_t bits)
{
	reg_write(d, VIRTIO_MMIO_STATUS, drv_status(d) | bits);
}

static inline void drv_open(struct driver *d, struct guest *g, struct virtio_dev *dev)
{
	memset(d, 0, sizeof(*d));
	d->g = g;
	d->dev = dev;
	virtio_mmio_init(&d->mmio, dev);
}

/* Ends the driver and its device. */
static inline void drv_close(struct driver *d)
{
	virtio_destroy(d->dev);
	virtio_mmio_destroy(&d->mmio);
}

static inline void drv_reset(struct driver *d)
{
	reg_write(d, VIRTIO_MMIO_STATUS, 0);
}

/* Up to FEATURES_OK, with what is offered of `wanted`. Whether the device accepted. */
static inline bool drv_negotiate(struct driver *d, uint64_t wanted)
{
	uint64_t offered;
	drv_add_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	drv_add_status(d, VIRTIO_CONFIG_S_DRIVER);
	reg_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	offered = (uint64_t)reg_read(d, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	reg_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	offered |= reg_read(d, VIRTIO_MMIO_DEVICE_FEATURES);
	d->features = offered & wanted;
	reg_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	reg_write(d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)d->features);
	reg_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	reg_write(d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(d->features >> 32));
	drv_add_status(d, VIRTIO_CONFIG_S_FEATURES_OK);
	return drv_status(d) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static inline void drv_queue_addresses(struct driver *d, unsigned queue)
{
	struct ring *r = &d->ring[queue];
	reg_write(d, VIRTIO_MMIO_QUEUE_SEL, queue);
	reg_write(d, VIRTIO_MMIO_QUEUE_NUM, r->size);
	reg_write64(d, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH, r->desc_addr);
	reg_write64(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, r->avail_addr);
	reg_write64(d, VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH, r->used_addr);
}

/* Fresh, zeroed rings for a queue; told to the device, and ready. */
static inline void drv_queue(struct driver *d, unsigned queue, uint16_t size)
{
	struct ring *r = &d->ring[queue];
	memset(r, 0, sizeof(*r));
	r->size = size;
	r->desc_addr = guest_alloc(d->g, 16ull * size, 16);
	r->avail_addr = guest_alloc(d->g, 6 + 2ull * size, 2);
	r->used_addr = guest_alloc(d->g, 6 + 8ull * size, 4);
	r->desc = guest_at(d->g, r->desc_addr, 16ull * size);
	r->avail = guest_at(d->g, r->avail_addr, 6 + 2ull * size);
	r->used = guest_at(d->g, r->used_addr, 6 + 8ull * size);
	static const uint8_t zeros[16 * VIRTQ_SIZE_MAX];
	guest_store(r->desc, zeros, 16ull * size);
	guest_store(r->avail, zeros, 6 + 2ull * size);
	guest_store(r->used, zeros, 6 + 8ull * size);
	for (uint16_t i = 0; i < size; i++)
		r->free[i] = (uint16_t)(size - 1 - i);
	r->free_count = size;
	drv_queue_addresses(d, queue);
	reg_write(d, VIRTIO_MMIO_QUEUE_READY, 1);
}

/* How many queues there are, as the device tells: leaves the last one selected. */
static inline unsigned drv_queues(struct driver *d)
{
	unsigned count = 0;
	do
		reg_write(d, VIRTIO_MMIO_QUEUE_SEL, count);
	while (reg_read(d, VIRTIO_MMIO_QUEUE_NUM_MAX) != 0 && ++count < VIRTIO_QUEUES_MAX);
	return count;
}

static inline void drv_ok(struct driver *d)
{
	drv_add_status(d, VIRTIO_CONFIG_S_DRIVER_OK);
}

/* All of it: negotiation, every queue of `size`, DRIVER_OK. */
static inline bool drv_start(struct driver *d, uint64_t wanted, uint16_t size)
{
	if (!drv_negotiate(d, wanted | 1ull << VIRTIO_F_VERSION_1))
		return false;
	for (unsigned i = 0, count = drv_queues(d); i < count; i++)
		drv_queue(d, i, size);
	drv_ok(d);
	return (drv_status(d) & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) == VIRTIO_CONFIG_S_DRIVER_OK;
}

static inline bool drv_failed(struct driver *d)
{
	return drv_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* Interrupts raised since the last call. */
static inline unsigned drv_interrupts(struct driver *d)
{
	uint64_t count = 0;
	return read(d->dev->irq_fd, &count, sizeof(count)) == sizeof(count) ? (unsigned)count : 0;
}

/* Puts `head` into the available ring, without a check of anything. */
static inline void ring_offer(struct ring *r, uint16_t head)
{
	__atomic_store_n(&r->avail[2 + r->avail_idx % r->size], head, __ATOMIC_RELAXED);
	r->avail_idx++;
	__atomic_store_n(&r->avail[1], r->avail_idx, __ATOMIC_SEQ_CST);
}

static inline void fill_desc(struct vring_desc *to, const struct buf *buf, bool writable, bool last, uint16_t next)
{
	struct vring_desc desc = {.addr = buf->addr, .len = buf->len, .next = last ? 0 : next};
	desc.flags = (uint16_t)((writable ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
	guest_store(to, &desc, sizeof(desc));
}

/* Adds a chain: `out` buffers for the device to read, then `in` to write. Its head, or -1 when the ring is full. */
static inline int ring_add(struct driver *d, unsigned queue, const struct buf *bufs, unsigned out, unsigned in)
{
	struct ring *r = &d->ring[queue];
	unsigned count = out + in;
	if (r->free_count < count || count == 0)
		return -1;
	uint16_t head = r->free[r->free_count - 1];
	for (unsigned i = 0; i < count; i++) {
		uint16_t index = r->free[--r->free_count];
		r->chain[head][i] = index;
		fill_desc(&r->desc[index], &bufs[i], i >= out, i + 1 == count,
		        i + 1 < count ? r->free[r->free_count - 1] : 0);
	}
	r->chain_len[head] = (uint16_t)count;
	ring_offer(r, head);
	return head;
}

/* The same through an indirect table, which this allocates. */
static inline int ring_add_indirect(struct driver *d, unsigned queue, const struct buf *bufs, unsigned out, unsigned in)
{
	struct ring *r = &d->ring[queue];
	unsigned count = out + in;
	if (r->free_count == 0)
		return -1;
	uint64_t addr = guest_alloc(d->g, 16ull * count, 16);
	struct vring_desc *table = guest_at(d->g, addr, 16ull * count);
	for (unsigned i = 0; i < count; i++)
		fill_desc(&table[i], &bufs[i], i >= out, i + 1 == count, (uint16_t)(i + 1));
	uint16_t head = r->free[--r->free_count];
	guest_store(&r->desc[head], &(struct vring_desc){addr, 16 * count, VRING_DESC_F_INDIRECT, 0}, 16);
	r->chain[head][0] = head;
	r->chain_len[head] = 1;
	ring_offer(r, head);
	return head;
}

/* Notifies if the device wants it. */
static inline void ring_kick(struct driver *d, unsigned queue)
{
	struct ring *r = &d->ring[queue];
	bool wanted;
	if (d->features >> VIRTIO_RING_F_EVENT_IDX & 1) {
		uint16_t event = __atomic_load_n(&r->used[2 + 4 * r->size], __ATOMIC_SEQ_CST);
		wanted = vring_need_event(event, r->avail_idx, r->kicked_at);
	} else {
		wanted = !(__atomic_load_n(&r->used[0], __ATOMIC_SEQ_CST) & VRING_USED_F_NO_NOTIFY);
	}
	r->kicked_at = r->avail_idx;
	if (wanted) {
		r->kicks++;
		reg_write(d, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
	} else {
		r->suppressed++;
	}
}

/* Takes one used element. False when there is none. */
static inline bool ring_used(struct driver *d, unsigned queue, uint16_t *head, uint32_t *len)
{
	struct ring *r = &d->ring[queue];
	if (__atomic_load_n(&r->used[1], __ATOMIC_SEQ_CST) == r->used_seen)
		return false;
	struct vring_used_elem elem;
	guest_load(&elem, &r->used[2 + 4 * (r->used_seen % r->size)], sizeof(elem));
	r->used_seen++;
	/* used_event: an interrupt for the next one */
	__atomic_store_n(&r->avail[2 + r->size], r->used_seen, __ATOMIC_SEQ_CST);
	if (elem.id < r->size) {
		for (unsigned i = r->chain_len[elem.id]; i-- > 0;)
			r->free[r->free_count++] = r->chain[elem.id][i];
		r->chain_len[elem.id] = 0;
	}
	*head = (uint16_t)elem.id;
	*len = elem.len;
	return true;
}

/* Steps the loop until a used element is there; false after two seconds. */
static inline bool ring_wait(struct driver *d, unsigned queue, uint16_t *head, uint32_t *len)
{
	long long end = now_ms() + 2000;
	while (!ring_used(d, queue, head, len)) {
		if (now_ms() > end)
			return false;
		loop_step(d->g->loop, 20);
	}
	return true;
}

#endif
