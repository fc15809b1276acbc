/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that is a script: it writes its memory, accesses registers of any width, kicks, offers chains that are right
 * or nearly so, and lets the device's loop run. Each target adds acts of its own device.
 *
 * Rings lie at fixed places (RING(queue)), buffers anywhere behind them: the memory is small, so that they overlap.
 */
#ifndef WISP_FUZZ_DEVICE_H
#define WISP_FUZZ_DEVICE_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/test_loop.h"
#include "virtio/mmio.h"

#define RING_SIZE 16u
#define RING(queue) (0x400u * (queue))
#define AVAIL(queue) (RING(queue) + 16 * RING_SIZE)
#define USED(queue) (AVAIL(queue) + 0x80)
#define BUFFERS 0x2000u
#define ACTS_MAX 300u

struct machine {
	struct gmem gmem;
	struct log log;
	unsigned log_lines;
	struct virtio_env env;
	struct virtio_dev *dev;
	struct virtio_mmio mmio;
	uint16_t avail[VIRTIO_QUEUES_MAX], next_desc[VIRTIO_QUEUES_MAX];
};

/* One act of the target's own. */
typedef void act_fn(struct machine *m, struct input *in);

static void count_line(void *context, enum log_level level, const char *line)
{
	(void)level;
	(void)line;
	((struct machine *)context)->log_lines++;
}

/* One loop for all inputs: a ring of the kernel's is dear to make. Whatever is in flight ends with its device. */
static struct loop *the_loop(void)
{
	static struct loop *loop;
	struct err err = {0};
	if (!loop)
		MUST(open_loop(&loop, 64, &err));
	return loop;
}

static void machine_open(struct machine *m)
{
	memset(m, 0, sizeof(*m));
	ram_create(&m->gmem);
	m->log = (struct log){count_line, m};
	m->env = (struct virtio_env){&m->gmem, the_loop(), &m->log};
}

static void machine_step(struct machine *m, unsigned rounds)
{
	while (rounds-- > 0)
		loop_step(m->env.loop, 0);
}

static void store(struct machine *m, uint64_t addr, const void *from, size_t len)
{
	void *to = gmem_ptr(&m->gmem, gpa(addr), len);
	if (to)
		guest_store(to, from, len);
}

static void reg(struct machine *m, uint64_t offset, uint32_t value)
{
	virtio_mmio_write(&m->mmio, offset, &value, sizeof(value));
}

/* As a driver does it: features, queues, DRIVER_OK. */
static void set_up(struct machine *m, uint8_t without_features)
{
	static const uint8_t zeros[0x400];
	reg(m, VIRTIO_MMIO_STATUS, 0);
	reg(m, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	uint64_t features = m->dev->features;
	if (without_features & 1)
		features &= ~(1ull << VIRTIO_RING_F_EVENT_IDX);
	if (without_features & 2)
		features &= ~(1ull << VIRTIO_RING_F_INDIRECT_DESC);
	if (without_features & 4)
		features &= ~0xffffffull; /* the device's own */
	for (unsigned i = 0; i < 2; i++) {
		reg(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		reg(m, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * i));
	}
	reg(m, VIRTIO_MMIO_STATUS, 0xb);
	for (unsigned q = 0; q < m->dev->queue_count; q++) {
		store(m, RING(q), zeros, sizeof(zeros));
		m->avail[q] = m->next_desc[q] = 0;
		reg(m, VIRTIO_MMIO_QUEUE_SEL, q);
		reg(m, VIRTIO_MMIO_QUEUE_NUM, RING_SIZE);
		reg(m, VIRTIO_MMIO_QUEUE_DESC_LOW, RING(q));
		reg(m, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL(q));
		reg(m, VIRTIO_MMIO_QUEUE_USED_LOW, USED(q));
		reg(m, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	reg(m, VIRTIO_MMIO_STATUS, 0xf);
}

static void offer(struct machine *m, unsigned q, uint16_t head)
{
	store(m, AVAIL(q) + 4 + 2 * (m->avail[q] % RING_SIZE), &head, sizeof(head));
	m->avail[q]++;
	store(m, AVAIL(q) + 2, &m->avail[q], sizeof(m->avail[q]));
}

struct part {
	uint64_t addr;
	uint32_t len;
	bool writable;
};

/* A whole chain, through the queue's descriptors in turn. They are taken again whether they are free or not. */
static void offer_chain(struct machine *m, unsigned q, const struct part *parts, unsigned count)
{
	uint16_t head = m->next_desc[q] % RING_SIZE;
	for (unsigned i = 0; i < count; i++) {
		struct vring_desc desc = {.addr = parts[i].addr, .len = parts[i].len};
		uint16_t index = m->next_desc[q]++ % RING_SIZE;
		desc.flags = (uint16_t)((parts[i].writable ? VRING_DESC_F_WRITE : 0) |
		                        (i + 1 < count ? VRING_DESC_F_NEXT : 0));
		desc.next = m->next_desc[q] % RING_SIZE;
		store(m, RING(q) + 16ull * index, &desc, sizeof(desc));
	}
	offer(m, q, head);
}

/* Parts in any order, of any kind. */
static void act_chain(struct machine *m, struct input *in)
{
	struct part parts[8];
	unsigned q = in8(in) % m->dev->queue_count, count = in8(in) % 8 + 1;
	for (unsigned i = 0; i < count; i++) {
		uint8_t kind = in8(in);
		parts[i].addr = BUFFERS + 16u * (in16(in) % 0xe00) + (kind & 4 ? RAM_HIGH_AT - BUFFERS : 0);
		parts[i].len = kind & 2 ? in16(in) : in8(in);
		parts[i].writable = kind & 1;
	}
	offer_chain(m, q, parts, count);
}

/* A table of descriptors that are the script's own. */
static void act_indirect(struct machine *m, struct input *in)
{
	uint8_t table[256];
	unsigned q = in8(in) % m->dev->queue_count;
	uint32_t len = in8(in);
	uint64_t addr = BUFFERS + 16u * in8(in);
	in_bytes(in, table, len);
	store(m, addr, table, len);
	struct vring_desc desc = {.addr = addr, .len = len, .flags = VRING_DESC_F_INDIRECT};
	uint16_t index = m->next_desc[q]++ % RING_SIZE;
	store(m, RING(q) + 16ull * index, &desc, sizeof(desc));
	offer(m, q, index);
}

static void act_write(struct machine *m, struct input *in, uint64_t base)
{
	uint8_t bytes[64];
	uint64_t addr = base + in16(in);
	size_t len = in8(in) % 64 + 1u;
	in_bytes(in, bytes, len);
	store(m, addr, bytes, len);
}

static void act_access(struct machine *m, struct input *in)
{
	uint8_t bytes[8];
	uint64_t offset = in16(in) % 0x1100;
	unsigned len = in8(in) % 8 + 1u;
	in_bytes(in, bytes, sizeof(bytes));
	virtio_mmio_write(&m->mmio, offset, bytes, len);
	virtio_mmio_read(&m->mmio, offset, bytes, len);
}

static void act(struct machine *m, struct input *in, act_fn *own)
{
	unsigned queues = m->dev->queue_count;
	uint8_t what = in8(in);
	if (what >= 16) {
		own(m, in);
		return;
	}
	switch (what) {
	case 0: act_write(m, in, 0); break;
	case 1: act_write(m, in, RAM_HIGH_AT); break;
	case 2: {
		uint64_t offset = in8(in) * 4u;
		reg(m, offset, in32(in));
		break;
	}
	case 3: act_access(m, in); break;
	case 4: reg(m, VIRTIO_MMIO_QUEUE_NOTIFY, in8(in) % (queues + 1)); break;
	case 5: set_up(m, in8(in)); break;
	case 6: act_chain(m, in); break;
	case 7: act_indirect(m, in); break;
	case 8: {
		unsigned q = in8(in) % queues;
		offer(m, q, in16(in));
		break;
	}
	case 9: reg(m, VIRTIO_MMIO_STATUS, 0); break;
	case 10: m->avail[in8(in) % queues] = in16(in); break;
	default: machine_step(m, 1 + what % 3); break;
	}
}

/* The act of a target that has none of its own: a round of the loop. */
static inline void act_step(struct machine *m, struct input *in)
{
	(void)in;
	machine_step(m, 1);
}

static void machine_act(struct machine *m, struct input *in, act_fn *own)
{
	for (unsigned i = 0; i < ACTS_MAX && in->left > 0; i++)
		act(m, in, own);
	for (unsigned q = 0; q < m->dev->queue_count; q++)
		reg(m, VIRTIO_MMIO_QUEUE_NOTIFY, q);
	machine_step(m, 4);
	/* However often the rules were broken, the log has one line of it, and one of a network that is gone. */
	MUST(m->log_lines <= (m->dev->type->id == VIRTIO_ID_NET ? 2 : 1));
}

/* The whole script over m->dev, which is destroyed at its end. */
static inline void machine_run(struct machine *m, struct input *in, act_fn *own)
{
	virtio_mmio_init(&m->mmio, m->dev);
	if (in8(in) % 8 != 0)
		set_up(m, 0);
	machine_act(m, in, own);
	virtio_destroy(m->dev);
	virtio_mmio_destroy(&m->mmio);
	ram_destroy(&m->gmem);
}

#endif
