/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/queue.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

/* With five chains under way, Linux wants no interrupt before the fourth of them is complete. */
#define SEVERAL 3

/* Guest memory at any alignment. */
typedef uint64_t guest_u64 __attribute__((aligned(1), may_alias));

/*
 * Volatile, so that the compiler neither loads twice, once for a check and once for the use, nor calls memcpy, which
 * ThreadSanitizer instruments.
 */
__attribute__((no_sanitize("thread"))) void guest_load(void *to, const void *from_guest, size_t len)
{
	const volatile uint8_t *from = from_guest;
	uint8_t *out = to;
	for (; len >= 8; len -= 8, from += 8, out += 8)
		*(guest_u64 *)out = *(const volatile guest_u64 *)from;
	for (; len > 0; len--)
		*out++ = *from++;
}

__attribute__((no_sanitize("thread"))) void guest_store(void *to_guest, const void *from, size_t len)
{
	volatile uint8_t *to = to_guest;
	const uint8_t *in = from;
	for (; len >= 8; len -= 8, to += 8, in += 8)
		*(volatile guest_u64 *)to = *(const guest_u64 *)in;
	for (; len > 0; len--)
		*to++ = *in++;
}

size_t guest_load_iov(void *to, const struct iovec *iov, unsigned count, size_t offset, size_t len)
{
	size_t copied = 0;
	for (unsigned i = 0; i < count && copied < len; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		size_t part = iov[i].iov_len - offset;
		if (part > len - copied)
			part = len - copied;
		guest_load((uint8_t *)to + copied, (const uint8_t *)iov[i].iov_base + offset, part);
		copied += part;
		offset = 0;
	}
	return copied;
}

size_t guest_store_iov(const struct iovec *iov, unsigned count, size_t offset, const void *from, size_t len)
{
	size_t copied = 0;
	for (unsigned i = 0; i < count && copied < len; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		size_t part = iov[i].iov_len - offset;
		if (part > len - copied)
			part = len - copied;
		guest_store((uint8_t *)iov[i].iov_base + offset, (const uint8_t *)from + copied, part);
		copied += part;
		offset = 0;
	}
	return copied;
}

unsigned iov_advance(struct iovec *iov, unsigned count, size_t bytes)
{
	unsigned used_up = 0;
	while (used_up < count && bytes >= iov[used_up].iov_len)
		bytes -= iov[used_up++].iov_len;
	if (used_up < count) {
		iov[used_up].iov_base = (uint8_t *)iov[used_up].iov_base + bytes;
		iov[used_up].iov_len -= bytes;
	}
	return used_up;
}

/* For `why`, a literal. Returns -EPROTO. */
static int break_queue(struct virtq *q, const char *why)
{
	if (!q->broken)
		q->broken = why;
	q->running = false;
	return -EPROTO;
}

/* One area of the ring: its address must be a multiple of `align`, and `len` bytes from there must be RAM. */
static void *ring_area(const struct virtq *q, uint64_t addr, uint64_t align, uint64_t len)
{
	return addr % align == 0 ? gmem_ptr(q->gmem, gpa(addr), len) : NULL;
}

int virtq_start(struct virtq *q, const struct gmem *gmem, uint16_t size_max, uint64_t features)
{
	unsigned size = q->state.size;
	assert(size_max <= VIRTQ_SIZE_MAX);
	if (size == 0 || size > size_max || (size & (size - 1)) != 0)
		return break_queue(q, "the queue size is not a power of two up to the maximum");
	q->gmem = gmem;

	/* Alignments: section 2.7. The two event fields are part of the rings even if they are not used. */
	const struct vring_desc *desc = ring_area(q, q->state.desc, 16, 16 * (uint64_t)size);
	uint16_t *avail = ring_area(q, q->state.avail, 2, 6 + 2 * (uint64_t)size);
	uint16_t *used = ring_area(q, q->state.used, 4, 6 + 8 * (uint64_t)size);
	if (!desc || !avail || !used)
		return break_queue(q, "a ring is misaligned or not in RAM");
	q->desc = desc;
	q->avail_flags = avail;
	q->avail_idx = avail + 1;
	q->avail_ring = avail + 2;
	q->used_event = avail + 2 + size;
	q->used_flags = used;
	q->used_idx = used + 1;
	q->used_ring = (struct vring_used_elem *)(used + 2);
	q->avail_event = used + 2 + 4 * size;

	q->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	q->indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	q->avail_seen = q->state.avail_next;
	q->published = q->decided = q->state.used_next;
	q->held = 0;
	memset(q->held_heads, 0, sizeof(q->held_heads));
	q->broken = NULL;
	q->running = true;
	__atomic_store_n(q->used_flags, 0, __ATOMIC_RELAXED);
	return 0;
}

void virtq_stop(struct virtq *q)
{
	memset(q, 0, sizeof(*q));
}

static int add_buffer(struct virtq *q, struct virtq_chain *chain, const struct vring_desc *desc)
{
	if (desc->len == 0)
		return 0; /* nothing to transfer: its address is never used */
	if (desc->len > UINT32_MAX - chain->readable_bytes - chain->writable_bytes)
		return break_queue(q, "a chain of 4 GiB or more"); /* section 2.7.5.2, and sums stay 32 bits */
	void *host = gmem_ptr(q->gmem, gpa(desc->addr), desc->len);
	if (!host)
		return break_queue(q, "a buffer outside RAM");
	chain->iov[chain->readable + chain->writable] = (struct iovec){host, desc->len};
	if (desc->flags & VRING_DESC_F_WRITE) {
		chain->writable++;
		chain->writable_bytes += desc->len;
	} else if (chain->writable > 0) {
		return break_queue(q, "a readable buffer after a writable one"); /* section 2.7.4.2 */
	} else {
		chain->readable++;
		chain->readable_bytes += desc->len;
	}
	return 0;
}

/*
 * Follows a chain from descriptor `index` of `table`. The size of the queue bounds its length (section 2.7.5.3.1),
 * indirect or not, so the walk ends even if the chain is a loop. On success, *indirect is the descriptor of the
 * indirect table that the chain ended in; its length is zero if there is none.
 */
static int walk(struct virtq *q, struct virtq_chain *chain, const struct vring_desc *table, uint32_t entries,
        uint32_t index, unsigned *length, struct vring_desc *indirect)
{
	indirect->len = 0;
	for (;;) {
		struct vring_desc desc;
		if (index >= entries)
			return break_queue(q, "a descriptor index outside its table");
		if (++*length > q->state.size)
			return break_queue(q, "a chain longer than its queue");
		guest_load(&desc, &table[index], sizeof(desc));
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			if (!q->indirect)
				return break_queue(q, "an indirect descriptor, which was not negotiated");
			if (desc.flags & VRING_DESC_F_NEXT)
				return break_queue(q, "an indirect descriptor with a next one"); /* 2.7.5.3.1 */
			if (desc.len == 0 || desc.len % sizeof(desc) != 0)
				return break_queue(q, "an indirect table of no whole descriptors");
			*indirect = desc;
			--*length; /* it holds no buffer */
			return 0;
		}
		if (add_buffer(q, chain, &desc) < 0)
			return -EPROTO;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
		index = desc.next;
	}
}

static int walk_chain(struct virtq *q, struct virtq_chain *chain)
{
	struct vring_desc indirect, nested;
	unsigned length = 0;
	if (walk(q, chain, q->desc, q->state.size, chain->head, &length, &indirect) < 0)
		return -EPROTO;
	if (indirect.len == 0)
		return 0;
	const struct vring_desc *table = gmem_ptr(q->gmem, gpa(indirect.addr), indirect.len);
	if (!table)
		return break_queue(q, "an indirect table outside RAM");
	if (walk(q, chain, table, indirect.len / sizeof(*table), 0, &length, &nested) < 0)
		return -EPROTO;
	return nested.len == 0 ? 0 : break_queue(q, "an indirect table inside another");
}

static bool is_held(const struct virtq *q, uint16_t head)
{
	return q->held_heads[head / 64] >> head % 64 & 1;
}

int virtq_fetch(struct virtq *q, struct virtq_chain *chain)
{
	if (!q->running)
		return q->broken ? -EPROTO : 0;
	uint16_t next = q->state.avail_next;
	if (next == q->avail_seen) {
		/* Acquire: pairs with the driver's barrier (2.7.13.3) between its writes and its store of idx. */
		uint16_t idx = __atomic_load_n(q->avail_idx, __ATOMIC_ACQUIRE);
		if (idx == next)
			return 0;
		if ((uint16_t)(idx - next) > q->state.size)
			return break_queue(q, "the available index is further ahead than the queue is long");
		q->avail_seen = idx;
	}
	uint16_t head = __atomic_load_n(&q->avail_ring[next & (q->state.size - 1)], __ATOMIC_RELAXED);
	if (head >= q->state.size)
		return break_queue(q, "a head outside the queue");
	if (is_held(q, head))
		return break_queue(q, "a head that is in use already");
	chain->head = head;
	chain->readable = chain->writable = 0;
	chain->readable_bytes = chain->writable_bytes = 0;
	if (walk_chain(q, chain) < 0)
		return -EPROTO;
	q->held_heads[head / 64] |= 1ull << head % 64;
	q->held++;
	q->state.avail_next++;
	return 1;
}

void virtq_unfetch(struct virtq *q, uint16_t head)
{
	if (!q->running)
		return;
	assert(is_held(q, head));
	q->held_heads[head / 64] &= ~(1ull << head % 64);
	q->held--;
	q->state.avail_next--;
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written)
{
	if (!q->running)
		return;
	assert(is_held(q, head));
	q->held_heads[head / 64] &= ~(1ull << head % 64);
	q->held--;
	struct vring_used_elem *elem = &q->used_ring[q->state.used_next++ & (q->state.size - 1)];
	__atomic_store_n(&elem->id, head, __ATOMIC_RELAXED);
	__atomic_store_n(&elem->len, written, __ATOMIC_RELAXED);
}

void virtq_show(struct virtq *q)
{
	if (!q->running || q->published == q->state.used_next)
		return;
	q->published = q->state.used_next;
	/*
	 * This store and the load of the driver's wish in virtq_publish are sequentially consistent, so that the store
	 * comes first. The driver stores its wish, then loads idx again, with a full barrier in between (2.7.7.1, and
	 * the loop of 2.7.14). So one of the two sees the other's store, and no completion lacks its interrupt. (A
	 * store and a load instead of a fence, because ThreadSanitizer does not support fences.) The store also
	 * releases the entries and buffers before it.
	 */
	__atomic_store_n(q->used_idx, q->published, __ATOMIC_SEQ_CST);
}

bool virtq_publish(struct virtq *q)
{
	virtq_show(q);
	uint16_t old = q->decided, new = q->published;
	if (!q->running || old == new)
		return false;
	q->decided = new;
	if (!q->event_idx)
		return !(__atomic_load_n(q->avail_flags, __ATOMIC_SEQ_CST) & VRING_AVAIL_F_NO_INTERRUPT);
	uint16_t event = __atomic_load_n(q->used_event, __ATOMIC_SEQ_CST);
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old); /* event is one of old .. new - 1 */
}

bool virtq_awaits_several(const struct virtq *q)
{
	if (!q->running || !q->event_idx)
		return false;
	return (int16_t)(__atomic_load_n(q->used_event, __ATOMIC_RELAXED) - q->published) >= SEVERAL;
}

void virtq_notify_off(struct virtq *q)
{
	/* With EVENT_IDX nothing needs to be done: the event stays where it was, which is behind (section 2.7.10). */
	if (q->running && !q->event_idx)
		__atomic_store_n(q->used_flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

/* Asks for a notification of the chain after `idx`. Returns whether it has come. */
static bool ask(struct virtq *q, uint16_t idx)
{
	/*
	 * Both sequentially consistent, as in virtq_publish. Pairs with the driver's full barrier between its store of
	 * avail.idx and its load of avail_event or flags (2.7.13.4.1): either the driver sees that it must notify, or
	 * its chain is seen here.
	 */
	if (q->event_idx)
		__atomic_store_n(q->avail_event, idx, __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(q->used_flags, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(q->avail_idx, __ATOMIC_SEQ_CST) != idx;
}

bool virtq_notify_on(struct virtq *q)
{
	return q->running && ask(q, q->state.avail_next);
}

bool virtq_watch(struct virtq *q, uint16_t since)
{
	return q->running && ask(q, since);
}
