/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One split virtqueue (virtio 1.2, section 2.7), seen from the device.
 *
 * The guest may write to the rings at any moment, even while they are read here. So each field is loaded once, into a
 * local, and only the local is checked and used. State that the device alone decides (its position in both rings, the
 * heads it holds) is kept here and never read back from guest memory. A ring that breaks the rules makes the queue
 * `broken`: later calls fail or do nothing until the driver resets the device.
 *
 * Threads: one at a time; in wisp the loop's, from activation to the end of a reset.
 */
#ifndef WISP_VIRTIO_QUEUE_H
#define WISP_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/monitor/gmem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "virtio is little-endian, and this code does not convert");

/* Descriptors of a queue. A chain is never longer than its queue, so this also bounds the buffers of a chain. */
#define VIRTQ_SIZE_MAX 128

/* The state of a queue outside guest memory. Addresses are the guest's. */
struct virtq_state {
	uint64_t desc;
	uint64_t avail;
	uint64_t used;
	uint16_t size; /* descriptors */
	uint16_t ready;
	uint16_t avail_next; /* the next entry of the available ring to fetch; counts on, modulo 2^16 */
	uint16_t used_next;  /* the next entry of the used ring to write; likewise */
};

/* A fetched chain: its buffers, readable ones first, each checked to be inside RAM. Empty buffers are left out. */
struct virtq_chain {
	uint16_t head;
	uint16_t readable; /* buffers the device reads: iov[0 .. readable) */
	uint16_t writable; /* buffers the device writes: iov[readable .. readable + writable) */
	uint32_t readable_bytes;
	uint32_t writable_bytes;
	struct iovec iov[VIRTQ_SIZE_MAX];
};

struct vring_desc;
struct vring_used_elem;

struct virtq {
	struct virtq_state state;
	const struct gmem *gmem;
	const char *broken; /* NULL, or the rule that the driver broke */
	bool running;       /* started, and neither stopped nor broken */
	bool event_idx;
	bool indirect;
	uint16_t avail_seen; /* the driver's avail.idx as last loaded */
	uint16_t published;  /* used.idx as the driver sees it */
	uint16_t decided;    /* up to which completions it is decided whether to interrupt */
	uint16_t held;       /* heads fetched but not pushed */
	uint64_t held_heads[VIRTQ_SIZE_MAX / 64];
	const struct vring_desc *desc;
	const uint16_t *avail_flags, *avail_idx, *avail_ring, *used_event;
	uint16_t *used_flags, *used_idx, *avail_event;
	struct vring_used_elem *used_ring;
};

/*
 * Starts to serve the rings that q->state describes, after checking that the size is a power of two up to `size_max`
 * and that the three areas are aligned and inside RAM. `features` are the negotiated ones. The indexes continue from
 * q->state (zeros after a reset). 0, or -EPROTO with q->broken set.
 */
int virtq_start(struct virtq *q, const struct gmem *gmem, uint16_t size_max, uint64_t features);

/* Forgets the rings, the held chains and all state. Chains fetched before must not be pushed. */
void virtq_stop(struct virtq *q);

/* Fetches the next available chain: 1 with `chain` filled in and its head held, 0 if there is none, -EPROTO if broken.
 */
int virtq_fetch(struct virtq *q, struct virtq_chain *chain);

/* Returns the chain fetched last, unused; the next fetch finds it again. No fetch or push may come in between. */
void virtq_unfetch(struct virtq *q, uint16_t head);

/*
 * Completes a held chain, of which `written` bytes were written, from its first writable byte on. The driver sees it
 * after virtq_publish. Chains complete in any order. Does nothing if the queue is broken or stopped.
 */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);

/* Shows the driver all pushed chains, and leaves the interrupt for a later virtq_publish. */
void virtq_show(struct virtq *q);

/* Shows the driver all pushed chains. Returns whether it wants an interrupt for any since the last call. */
bool virtq_publish(struct virtq *q);

/* Whether the driver wants no interrupt before several more completions. Linux does so with several chains under way.
 */
bool virtq_awaits_several(const struct virtq *q);

/*
 * Whether the driver notifies of new chains. virtq_notify_off is a hint. virtq_notify_on returns true if chains arrived
 * in the meantime, for which no notification may come: fetch again. The usual loop is { off; fetch until 0; } while
 * (on).
 */
void virtq_notify_off(struct virtq *q);
bool virtq_notify_on(struct virtq *q);

/*
 * For a device that waits for the driver to add to a queue, and does not fetch what is there: asks for a notification
 * of the first chain after `since`, a value of q->avail_seen. Returns whether there is one already.
 */
bool virtq_watch(struct virtq *q, uint16_t since);

/*
 * Copies between guest and host memory, accessing each byte exactly once, so that what is checked is what is used. Also
 * hides from ThreadSanitizer what are races by design. The ranges must not overlap.
 */
void guest_load(void *to, const void *from_guest, size_t len);
void guest_store(void *to_guest, const void *from, size_t len);

/*
 * The same for the buffers `iov[0 .. count)` taken together, from byte `offset` on. Returns the number of bytes copied,
 * which is less than `len` only if the buffers end before.
 */
size_t guest_load_iov(void *to, const struct iovec *iov, unsigned count, size_t offset, size_t len);
size_t guest_store_iov(const struct iovec *iov, unsigned count, size_t offset, const void *from, size_t len);

/* Removes `bytes` (at most all) from the front of the buffers, in place. Returns how many buffers are used up. */
unsigned iov_advance(struct iovec *iov, unsigned count, size_t bytes);

#endif
