/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One split virtqueue (virtio 1.2, section 2.7), seen from the device.
 *
 * Everything in the rings is written by the guest, at any moment, also while it is read here. So: each field is loaded
 * once, into a local; the local is checked; only the local is used. What the device alone decides (where it is in both
 * rings, which heads it holds) is kept here and never read back from guest memory. A ring that breaks the rules makes
 * the queue `broken`: every later call is refused or does nothing, until the driver resets the device.
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

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "virtio is little-endian, and this code is as well");

/* Descriptors a queue. A chain is never longer than its queue, so this bounds the buffers of a chain too. */
#define VIRTQ_SIZE_MAX 128

/* All that a queue is, but for the guest's memory: what a snapshot keeps. Addresses are the guest's, in bytes. */
struct virtq_state {
	uint64_t desc;
	uint64_t avail;
	uint64_t used;
	uint16_t size; /* descriptors */
	uint16_t ready;
	uint16_t avail_next; /* the entry of the available ring to fetch next; counts on, modulo 2^16 */
	uint16_t used_next;  /* the entry of the used ring to write next; likewise */
};

/* A fetched chain: its buffers, those to read first, checked to be whole inside RAM. Empty buffers are left out. */
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
	uint16_t held;       /* heads fetched and not pushed */
	uint64_t held_heads[VIRTQ_SIZE_MAX / 64];
	const struct vring_desc *desc;
	const uint16_t *avail_flags, *avail_idx, *avail_ring, *used_event;
	uint16_t *used_flags, *used_idx, *avail_event;
	struct vring_used_elem *used_ring;
};

/*
 * Begins to serve the rings that q->state describes. Checks that they may be served at all: the size is a power of two
 * up to `size_max`, the three areas are aligned and whole inside RAM. `features` are the negotiated ones. The indexes
 * go on from q->state (zeros after a reset). 0, or -EPROTO with q->broken set.
 */
int virtq_start(struct virtq *q, const struct gmem *gmem, uint16_t size_max, uint64_t features);

/* Forgets the rings, the chains held and all state. Nothing that was fetched may be pushed any more. */
void virtq_stop(struct virtq *q);

/* The next available chain: 1 with `chain` filled in and its head held, 0 when there is none, -EPROTO when broken. */
int virtq_fetch(struct virtq *q, struct virtq_chain *chain);

/* Gives back the chain fetched last, unused; the next fetch finds it again. No fetch or push may lie in between. */
void virtq_unfetch(struct virtq *q, uint16_t head);

/*
 * Completes a held chain: `written` bytes, counted from its first writable one, were written. The driver sees nothing
 * before virtq_publish. Chains complete in any order. A broken or stopped queue ignores it.
 */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);

/* Shows the driver all that was pushed. True when it asked for an interrupt for any of it. */
bool virtq_publish(struct virtq *q);

/*
 * Whether the driver shall notify of new chains. Off is a hint. On returns true when chains came meanwhile, of which
 * no notification may ever tell: fetch again then. The usual round is { off; fetch until 0; } while (on).
 */
void virtq_notify_off(struct virtq *q);
bool virtq_notify_on(struct virtq *q);

/*
 * Copies between guest memory and the host's own, each byte touched exactly once, so that what was checked is what is
 * used. Also keeps ThreadSanitizer out of what are races by design. The ranges do not overlap.
 */
void guest_load(void *to, const void *from_guest, size_t len);
void guest_store(void *to_guest, const void *from, size_t len);

/*
 * The same over the buffers `iov[0 .. count)`, from byte `offset` of them all. Bytes copied: less than `len` only where
 * the buffers end.
 */
size_t guest_load_iov(void *to, const struct iovec *iov, unsigned count, size_t offset, size_t len);
size_t guest_store_iov(const struct iovec *iov, unsigned count, size_t offset, const void *from, size_t len);

/* Drops `bytes` (at most all) from the front of the buffers, in place. Returns how many buffers are used up. */
unsigned iov_advance(struct iovec *iov, unsigned count, size_t bytes);

#endif
