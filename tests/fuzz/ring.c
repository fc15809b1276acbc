/* SPDX-License-Identifier: Apache-2.0 */
/* The split ring alone: guest RAM, rings anywhere in it, and every call that a device makes. */
#include "tests/fuzz/fuzz.h"
#include "virtio/queue.h"

#include <linux/virtio_ring.h>

struct ring {
	struct gmem gmem;
	struct virtq q;
	struct virtq_chain chain;
	uint16_t held[VIRTQ_SIZE_MAX];
	unsigned held_count;
	bool last_fetched; /* nothing was fetched nor pushed since */
};

static void start(struct ring *r, struct input *in)
{
	uint8_t kind = in8(in);
	virtq_stop(&r->q);
	r->held_count = 0;
	r->last_fetched = false;
	r->q.state = (struct virtq_state){.desc = 0, .avail = 0x1000, .used = 0x2000, .size = 16, .ready = 1};
	if (kind & 1) {
		r->q.state.size = in16(in);
		r->q.state.desc = in16(in);
		r->q.state.avail = kind & 2 ? RAM_HIGH_AT + in16(in) : in16(in);
		r->q.state.used = kind & 2 ? in64(in) : in16(in);
	}
	if (kind & 4) /* as a snapshot would have it */
		r->q.state.avail_next = r->q.state.used_next = in16(in);
	virtq_start(&r->q, &r->gmem, VIRTQ_SIZE_MAX, kind & 8 ? 0 : ~0ull);
}

static void check(const struct ring *r)
{
	const struct virtq_chain *c = &r->chain;
	uint64_t readable = 0, writable = 0;
	MUST(c->readable + c->writable <= r->q.state.size && c->head < r->q.state.size);
	for (unsigned i = 0; i < c->readable + c->writable; i++) {
		touch(c->iov[i].iov_base, c->iov[i].iov_len);
		*(i < c->readable ? &readable : &writable) += c->iov[i].iov_len;
	}
	MUST(readable == c->readable_bytes && writable == c->writable_bytes);
	for (unsigned i = 0; i < r->held_count; i++)
		MUST(r->held[i] != c->head);
}

static void fetch(struct ring *r)
{
	if (virtq_fetch(&r->q, &r->chain) <= 0)
		return;
	check(r);
	MUST(r->held_count < r->q.state.size);
	r->held[r->held_count++] = r->chain.head;
	r->last_fetched = true;
}

static void push(struct ring *r, struct input *in)
{
	if (r->held_count == 0)
		return;
	unsigned which = in8(in) % r->held_count;
	virtq_push(&r->q, r->held[which], in32(in));
	r->held[which] = r->held[--r->held_count];
	r->last_fetched = false;
}

static void unfetch(struct ring *r)
{
	if (!r->last_fetched || !r->q.running)
		return;
	virtq_unfetch(&r->q, r->held[--r->held_count]);
	r->last_fetched = false;
}

static void write_ram(struct ring *r, struct input *in, uint64_t base)
{
	uint8_t bytes[64];
	uint64_t addr = base + in16(in);
	size_t len = in8(in) % sizeof(bytes) + 1;
	in_bytes(in, bytes, len);
	void *to = gmem_ptr(&r->gmem, gpa(addr), len);
	if (to)
		guest_store(to, bytes, len);
}

/* A descriptor where the plain rings have it. */
static void describe(struct ring *r, struct input *in)
{
	struct vring_desc desc = {0};
	unsigned index = in8(in) % 16;
	desc.flags = in8(in) & 7;
	desc.next = in8(in) % 17;
	desc.addr = (desc.flags & VRING_DESC_F_INDIRECT ? 16u : 1u) * in16(in);
	desc.len = desc.flags & VRING_DESC_F_INDIRECT ? 16u * (in8(in) % 32) : in16(in);
	guest_store(gmem_ptr(&r->gmem, gpa(16 * index), 16), &desc, sizeof(desc));
}

static void make_available(struct ring *r, struct input *in)
{
	uint16_t *avail = gmem_ptr(&r->gmem, gpa(0x1000), 64);
	avail[2 + avail[1] % 16] = in8(in) % 17;
	avail[1]++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct ring *r = calloc(1, sizeof(*r));
	MUST(r);
	ram_create(&r->gmem);
	start(r, &in);
	for (unsigned i = 0; i < 1000 && in.left > 0; i++) {
		switch (in8(&in) % 16) {
		case 0: write_ram(r, &in, 0); break;
		case 1: write_ram(r, &in, RAM_HIGH_AT); break;
		case 2: start(r, &in); break;
		case 3: push(r, &in); break;
		case 4: unfetch(r); break;
		case 5: virtq_publish(&r->q); break;
		case 6:
			virtq_notify_off(&r->q);
			if (virtq_awaits_several(&r->q))
				virtq_show(&r->q);
			break;
		case 7: virtq_notify_on(&r->q); break;
		case 8:
		case 9: describe(r, &in); break;
		case 10:
		case 11: make_available(r, &in); break;
		default: fetch(r); break;
		}
	}
	ram_destroy(&r->gmem);
	free(r);
	return 0;
}
