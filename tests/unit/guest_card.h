/* SPDX-License-Identifier: Apache-2.0 */
/* A network card: the device, a driver, and the other end of its descriptor. */
#ifndef WISP_TEST_GUEST_CARD_H
#define WISP_TEST_GUEST_CARD_H

#include <arpa/inet.h>
#include <sys/socket.h>

#include "tests/unit/guest_driver.h"

#include <linux/if_ether.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include "virtio/net.h"
#include "virtio/net_port.h"
#include "virtio/state.h"

enum { RX, TX };

#define HEADER NET_HEADER
#define MRG (1ull << VIRTIO_NET_F_MRG_RXBUF)
#define BASIC (RING_FEATURES_ALL | 1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_STATUS | 1ull << VIRTIO_NET_F_MTU)
#define CHECKSUMS (1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM)
#define SEGMENTS                                                                                             \
	(1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_TSO4 | \
	        1ull << VIRTIO_NET_F_GUEST_TSO6)
#define BUFFER 2048u
#define FRAME 1514u

static const uint8_t mac[6] = {2, 0x5e, 1, 2, 3, 4};

struct card {
	struct guest g;
	struct driver d;
	int peer;                    /* the other end of the descriptor; -1: a tap device's is the kernel */
	int peers[NET_PAIRS_MAX];    /* with several pairs of queues: that of each; the first one is `peer` */
	uint64_t area;               /* where frames to be sent are put */
	uint64_t rx[VIRTQ_SIZE_MAX]; /* the buffer behind each head */
};

/* Takes over the descriptor. */
static inline bool card_create(struct card *c, const struct net_options *options, int peer)
{
	struct virtio_dev *dev;
	struct err err = {0};
	memset(c, 0, sizeof(*c));
	c->peer = peer;
	if (!guest_open(&c->g))
		return false;
	if (net_create(&dev, &c->g.env, options, &err) < 0) {
		printf("# %s\n", err.text);
		return false;
	}
	drv_open(&c->d, &c->g, dev);
	c->area = guest_alloc(&c->g, 256u << 10, 4096);
	return true;
}

/* With three pairs of queues */
static inline bool card_open_several(struct card *c, uint64_t features)
{
	struct net_options options = {.pairs = NET_PAIRS_MAX, .mtu = 1500};
	int peers[NET_PAIRS_MAX];
	for (unsigned i = 0; i < NET_PAIRS_MAX; i++) {
		int pair[2];
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
			return false;
		options.fd[i] = pair[0];
		peers[i] = pair[1];
	}
	memcpy(options.mac, mac, sizeof(mac));
	if (!card_create(c, &options, peers[0]))
		return false;
	memcpy(c->peers, peers, sizeof(peers));
	return drv_start(&c->d, features, 64);
}

static inline bool card_open(struct card *c, bool stream, uint64_t features)
{
	int pair[2];
	if (socketpair(AF_UNIX, (stream ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	struct net_options options = {.fd = {pair[0]}, .stream = stream, .mtu = 1500};
	memcpy(options.mac, mac, sizeof(mac));
	return card_create(c, &options, pair[1]) && drv_start(&c->d, features, 64);
}

static inline void card_close(struct card *c)
{
	drv_close(&c->d);
	guest_close(&c->g);
	if (c->peer >= 0)
		close(c->peer);
	for (unsigned i = 1; i < NET_PAIRS_MAX; i++) {
		if (c->peers[i] > 0)
			close(c->peers[i]);
	}
}

static inline void give(struct card *c, unsigned count, uint32_t size)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = guest_alloc(&c->g, size, 16);
		int head = ring_add(&c->d, RX, &(struct buf){at, size}, 0, 1);
		if (head >= 0)
			c->rx[head] = at;
	}
	ring_kick(&c->d, RX);
}

static inline void fill(uint8_t *to, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(i * 5 + i / 253 + seed);
}

/* Sends a frame of `len` bytes from the guest, in three buffers; the header is split too. */
static inline bool send_frame(struct card *c, unsigned slot, uint32_t len, unsigned seed)
{
	uint64_t at = c->area + slot * 70000ull % (128u << 10);
	uint8_t *bytes = guest_at(&c->g, at, HEADER + len);
	memset(bytes, 0, HEADER);
	fill(bytes + HEADER, len, seed);
	struct buf bufs[] = {{at, 5}, {at + 5, HEADER - 5 + len / 2}, {at + HEADER + len / 2, len - len / 2}};
	bool added = ring_add(&c->d, TX, bufs, 3, 0) >= 0;
	ring_kick(&c->d, TX);
	return added;
}

/* One frame from the rings, over all its buffers: its length with the header, 0 if none comes. */
static inline uint32_t take_frame(struct card *c, uint8_t *to, unsigned *buffers)
{
	uint16_t head, count;
	uint32_t len, total;
	if (!ring_wait(&c->d, RX, &head, &len))
		return 0;
	memcpy(to, guest_at(&c->g, c->rx[head], len), len);
	memcpy(&count, to + offsetof(struct virtio_net_hdr_v1, num_buffers), sizeof(count));
	*buffers = count;
	for (total = len; count > 1; count--, total += len) {
		if (!ring_used(&c->d, RX, &head, &len))
			return 0;
		memcpy(to + total, guest_at(&c->g, c->rx[head], len), len);
	}
	return total;
}

static inline bool is_frame(const uint8_t *frame, uint32_t len, unsigned seed)
{
	static uint8_t wanted[1 << 17];
	fill(wanted, len, seed);
	return memcmp(frame, wanted, len) == 0;
}

/* From the host's side, as a tap device or passt sends it. */
static inline void put(struct card *c, bool stream, uint32_t len, unsigned seed)
{
	static uint8_t bytes[1 << 17];
	uint32_t lead = stream ? 4 : HEADER, length = htonl(len);
	memset(bytes, 0xee, lead);
	if (stream)
		memcpy(bytes, &length, 4);
	fill(bytes + lead, len, seed);
	CHECK_EQ(send(c->peer, bytes, lead + len, 0), lead + len);
}

static inline bool read_whole(struct card *c, void *to, size_t len)
{
	long long end = now_ms() + 2000;
	for (size_t got = 0; got < len;) {
		ssize_t n = recv(c->peer, (uint8_t *)to + got, len - got, MSG_DONTWAIT);
		if (n > 0)
			got += (size_t)n;
		else if (n == 0 || now_ms() > end)
			return false;
		else
			loop_step(c->g.loop, 5);
	}
	return true;
}

/* On the host's side: whether the next frame is this one. */
static inline bool comes_out(struct card *c, bool stream, uint32_t len, unsigned seed)
{
	static uint8_t bytes[1 << 17];
	uint32_t lead = stream ? 4 : HEADER, length;
	if (stream) {
		if (!read_whole(c, bytes, 4))
			return false;
		memcpy(&length, bytes, 4);
		return ntohl(length) == len && read_whole(c, bytes + 4, len) && is_frame(bytes + 4, len, seed);
	}
	ssize_t n;
	for (long long end = now_ms() + 2000; (n = recv(c->peer, bytes, sizeof(bytes), MSG_DONTWAIT)) < 0;) {
		if (now_ms() > end)
			return false;
		loop_step(c->g.loop, 5);
	}
	return n == (ssize_t)(lead + len) && is_frame(bytes + lead, len, seed);
}

/* For a device that is restored: its guest's memory and driver are those of the card that was saved. */
static inline void copy_rings(struct card *to, const struct card *from)
{
	for (unsigned i = 0; i < from->g.gmem.count; i++)
		memcpy(to->g.gmem.region[i].host, from->g.gmem.region[i].host, from->g.gmem.region[i].size);
	to->g.heap = from->g.heap;
	to->d.features = from->d.features;
	memcpy(to->rx, from->rx, sizeof(to->rx));
	for (unsigned q = 0; q < from->d.dev->queue_count; q++) {
		struct ring *r = &to->d.ring[q];
		*r = from->d.ring[q];
		r->desc = guest_at(&to->g, r->desc_addr, 16ull * r->size);
		r->avail = guest_at(&to->g, r->avail_addr, 6 + 2ull * r->size);
		r->used = guest_at(&to->g, r->used_addr, 6 + 8ull * r->size);
	}
}

static inline struct virtio_net_config read_config(struct card *c)
{
	struct virtio_net_config config = {0};
	virtio_mmio_read(&c->d.mmio, VIRTIO_MMIO_CONFIG, &config, 8);
	virtio_mmio_read(&c->d.mmio, VIRTIO_MMIO_CONFIG + 8, (uint8_t *)&config + 8, 4);
	return config;
}

static inline bool link_is_up(struct card *c)
{
	return read_config(c).status & VIRTIO_NET_S_LINK_UP;
}

#endif
