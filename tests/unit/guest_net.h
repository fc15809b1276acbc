/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver of the socket device, and clients of its Unix socket: packets in, packets out, bytes on either side. The
 * guest's kernel is played by hand: a test decides on every packet.
 */
#ifndef WISP_TEST_GUEST_NET_H
#define WISP_TEST_GUEST_NET_H

#include <linux/virtio_vsock.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/guest_driver.h"
#include "virtio/vsock.h"

enum { RX, TX, EVENT };
#define CID 42u
#define FORWARD_PORT 1024u
#define HEADER sizeof(struct virtio_vsock_hdr)
#define RX_BUFFERS 64u
#define RX_BYTES 4096u
#define GUEST_BUFFER 65536u /* the credit this driver gives */
#define HOST_BUFFER (256u << 10)

struct net {
	struct guest g;
	struct driver d;
	char path[64];
	uint64_t rx_area;               /* RX_BUFFERS of RX_BYTES */
	uint64_t tx_area;               /* a header, and data */
	uint16_t rx_of[VIRTQ_SIZE_MAX]; /* the buffer of a head */
	unsigned rx_split;              /* so many bytes of each buffer are in a descriptor of their own */
};

/* The packet last received. */
struct packet {
	struct virtio_vsock_hdr hdr;
	uint8_t data[RX_BYTES];
};

static inline void give_rx(struct net *t, unsigned buffer)
{
	uint64_t addr = t->rx_area + buffer * RX_BYTES;
	struct buf bufs[] = {{addr, t->rx_split}, {addr + t->rx_split, RX_BYTES - t->rx_split}};
	int head = t->rx_split ? ring_add(&t->d, RX, bufs, 0, 2) : ring_add(&t->d, RX, bufs + 1, 0, 1);
	if (head >= 0)
		t->rx_of[head] = (uint16_t)buffer;
}

/* In a process that may have so many descriptors; 0: enough. */
static inline bool net_create_with(struct net *t, uint32_t files)
{
	static unsigned counter;
	struct virtio_dev *dev;
	struct err err = {0};
	t->rx_split = 0;
	if (!guest_open(&t->g))
		return false;
	snprintf(t->path, sizeof(t->path), "/tmp/wisp-test-vsock-%d-%u", getpid(), counter++);
	unlink(t->path); /* of a former process of this number, which was killed */
	struct vsock_options opt = {.cid = CID, .socket_path = t->path, .forward_port = FORWARD_PORT, .files = files};
	if (vsock_create(&dev, &t->g.env, &opt, &err) < 0 || vsock_listen(dev, &err) < 0) {
		printf("# %s\n", err.text);
		test_failed = true;
		return false;
	}
	drv_open(&t->d, &t->g, dev);
	t->rx_area = guest_alloc(&t->g, RX_BUFFERS * RX_BYTES, 4096);
	t->tx_area = guest_alloc(&t->g, 128 << 10, 4096);
	return true;
}

static inline bool net_create(struct net *t)
{
	return net_create_with(t, 0);
}

static inline bool net_start(struct net *t, unsigned rx_buffers)
{
	if (!drv_start(&t->d, RING_FEATURES_ALL, 128))
		return false;
	for (unsigned i = 0; i < rx_buffers; i++)
		give_rx(t, i);
	ring_kick(&t->d, RX);
	return true;
}

static inline bool net_open(struct net *t)
{
	return net_create(t) && net_start(t, RX_BUFFERS);
}

static inline void net_close(struct net *t)
{
	drv_close(&t->d);
	guest_close(&t->g);
	CHECK(access(t->path, F_OK) < 0); /* the device removed its socket */
}

/* Takes a packet if one is there, and gives its buffer back. */
static inline bool take(struct net *t, struct packet *p)
{
	uint16_t head;
	uint32_t len;
	if (!ring_used(&t->d, RX, &head, &len))
		return false;
	const uint8_t *mem = guest_at(&t->g, t->rx_area + t->rx_of[head] * RX_BYTES, RX_BYTES);
	memcpy(p, mem, len < sizeof(*p) ? len : sizeof(*p));
	CHECK(len >= HEADER);
	CHECK_EQ(len - HEADER, p->hdr.op == VIRTIO_VSOCK_OP_RW ? p->hdr.len : 0);
	give_rx(t, t->rx_of[head]);
	ring_kick(&t->d, RX);
	return true;
}

static inline bool take_wait(struct net *t, struct packet *p)
{
	long long end = now_ms() + 2000;
	while (!take(t, p)) {
		if (now_ms() > end)
			return false;
		loop_step(t->g.loop, 20);
	}
	return true;
}

/* The next packet has to be this operation. */
static inline bool expect(struct net *t, struct packet *p, unsigned op)
{
	bool ok = take_wait(t, p);
	CHECK(ok);
	if (!ok)
		return false;
	CHECK_EQ(p->hdr.op, op);
	CHECK_EQ(p->hdr.src_cid, 2);
	CHECK_EQ(p->hdr.dst_cid, CID);
	CHECK_EQ(p->hdr.type, VIRTIO_VSOCK_TYPE_STREAM);
	return p->hdr.op == op;
}

struct stream {
	uint32_t guest_port, host_port;
	uint32_t fwd_cnt; /* what this driver took */
	uint32_t sent;    /* what it sent; and what it knows of the device's side */
	uint32_t peer_alloc, peer_fwd;
	uint32_t alloc; /* the credit it gives; 0: GUEST_BUFFER */
};

static inline struct virtio_vsock_hdr header_of(const struct stream *s, unsigned op, uint32_t len)
{
	return (struct virtio_vsock_hdr){.src_cid = CID,
	        .dst_cid = 2,
	        .src_port = s->guest_port,
	        .dst_port = s->host_port,
	        .len = len,
	        .type = VIRTIO_VSOCK_TYPE_STREAM,
	        .op = (uint16_t)op,
	        .buf_alloc = s->alloc ? s->alloc : GUEST_BUFFER,
	        .fwd_cnt = s->fwd_cnt};
}

/* Puts header and data into the tx queue; `split` bytes in the first descriptor (0: all in one). */
static inline bool post_raw(
        struct net *t, const struct virtio_vsock_hdr *hdr, const void *data, uint32_t len, uint32_t split)
{
	uint8_t *mem = guest_at(&t->g, t->tx_area, HEADER + len);
	memcpy(mem, hdr, HEADER);
	if (len > 0)
		memcpy(mem + HEADER, data, len);
	uint32_t total = (uint32_t)HEADER + len;
	struct buf bufs[] = {{t->tx_area, split ? split : total}, {t->tx_area + split, total - split}};
	if (ring_add(&t->d, TX, bufs, split ? 2 : 1, 0) < 0)
		return false;
	ring_kick(&t->d, TX);
	return true;
}

/* Waits until the device took what was posted: it gives the buffers back at its leisure. */
static inline bool wait_taken(struct net *t)
{
	long long end = now_ms() + 2000;
	while (t->d.dev->queue[TX].vq.state.avail_next != t->d.ring[TX].avail_idx) {
		if (now_ms() > end)
			return false;
		loop_step(t->g.loop, 20);
	}
	return true;
}

/* The same, until the device took it. */
static inline bool send_raw(
        struct net *t, const struct virtio_vsock_hdr *hdr, const void *data, uint32_t len, uint32_t split)
{
	uint16_t head;
	uint32_t used;
	bool ok = post_raw(t, hdr, data, len, split) && wait_taken(t);
	while (ok && ring_used(&t->d, TX, &head, &used))
		;
	return ok;
}

static inline bool send_op(struct net *t, const struct stream *s, unsigned op, uint32_t flags)
{
	struct virtio_vsock_hdr hdr = header_of(s, op, 0);
	hdr.flags = flags;
	return send_raw(t, &hdr, NULL, 0, 0);
}

static inline bool send_data(struct net *t, struct stream *s, const void *data, uint32_t len)
{
	struct virtio_vsock_hdr hdr = header_of(s, VIRTIO_VSOCK_OP_RW, len);
	s->sent += len;
	return send_raw(t, &hdr, data, len, len % 3 == 0 ? 20 : (uint32_t)(len % 3 == 1 ? HEADER : 0));
}

static inline int client_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static inline void say_line(int fd, const char *line)
{
	CHECK_EQ(send(fd, line, strlen(line), MSG_NOSIGNAL), (long)strlen(line));
}

/* Reads what the client has got, stepping the loop until there is something or the end. -1: nothing came. */
static inline ssize_t client_read(struct net *t, int fd, void *to, size_t len)
{
	long long end = now_ms() + 2000;
	for (;;) {
		ssize_t n = recv(fd, to, len, MSG_DONTWAIT);
		if (n >= 0)
			return n;
		if (now_ms() > end || errno != EAGAIN)
			return -1;
		loop_step(t->g.loop, 20);
	}
}

static inline bool client_closed(struct net *t, int fd)
{
	char byte;
	return client_read(t, fd, &byte, 1) == 0;
}

/* A client that asked for `port` and was accepted. */
static inline int open_stream(struct net *t, struct stream *s, uint32_t port)
{
	struct packet p;
	char line[32], expected[32];
	int fd = client_connect(t->path);
	*s = (struct stream){.guest_port = port};
	snprintf(line, sizeof(line), "CONNECT %u\n", port);
	say_line(fd, line);
	if (!expect(t, &p, VIRTIO_VSOCK_OP_REQUEST))
		return -1;
	CHECK_EQ(p.hdr.dst_port, port);
	s->host_port = p.hdr.src_port;
	s->peer_alloc = p.hdr.buf_alloc;
	CHECK(send_op(t, s, VIRTIO_VSOCK_OP_RESPONSE, 0));
	int len = snprintf(expected, sizeof(expected), "OK %u\n", s->host_port);
	memset(line, 0, sizeof(line));
	CHECK_EQ(client_read(t, fd, line, sizeof(line) - 1), len);
	CHECK_STR(line, expected);
	return fd;
}

static inline void fill(uint8_t *to, size_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)((from + i) * 31 + (from + i) / 509);
}

/* Counts what follows the pattern; the position goes on. */
static inline bool follows(const uint8_t *data, size_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++, ++*at) {
		if (data[i] != (uint8_t)(*at * 31 + *at / 509))
			return false;
	}
	return true;
}

#endif
