/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers that break every rule at once. One kind writes random descriptors, in and out of order, from a fixed seed;
 * the other has a thread that rewrites rings, tables and buffers while the device reads them. What is shown: the
 * monitor lives, the sanitizers find nothing, and the device works for an honest driver after a reset.
 *
 * The device's side reads with guest_load and atomics; the writer here uses atomics. So ThreadSanitizer sees whether
 * the device ever looks at shared memory in any other way.
 */
#include "tests/unit/guest_driver.h"

#include <arpa/inet.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_vsock.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "virtio/blk.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/vsock.h"

#define DISK_BYTES (1u << 20)
#define ROUNDS 2000u
#define AREA (1u << 20) /* rings, tables and buffers are in the guest's first MiB */

enum kind { BLK, CONSOLE, VSOCK, BALLOON, NET_TAP, NET_STREAM, KINDS };

struct victim {
	struct guest g;
	struct driver d;
	enum kind kind;
	char path[64];
	int peer; /* of a network device; a tap device has several queues */
	int others[NET_PAIRS_MAX - 1];
	uint64_t random;
	uint64_t heap; /* where a new start lays out its rings */
	unsigned failures;
	bool threaded; /* a writer may break the rings before the device's first look at them */
	bool stop;
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t rnd(struct victim *v)
{
	return next_random(&v->random);
}

static void drop_output(void *context, const void *data, size_t len)
{
	(void)context;
	(void)data;
	(void)len;
}

static bool is_net(const struct victim *v)
{
	return v->kind == NET_TAP || v->kind == NET_STREAM;
}

static bool victim_open(struct victim *v, enum kind kind)
{
	struct virtio_dev *dev = NULL;
	struct err err = {0};
	memset(v, 0, sizeof(*v));
	v->kind = kind;
	v->random = 88172645463325252ull + kind;
	if (!guest_open(&v->g))
		return false;
	if (kind == BLK) {
		int fd = memfd_create("disk", MFD_CLOEXEC);
		if (ftruncate(fd, DISK_BYTES) < 0)
			return false;
		blk_create(&dev, &v->g.env, &(struct blk_options){.fd = fd, .queues = 4}, &err);
	} else if (kind == CONSOLE) {
		console_create(&dev, &v->g.env, &(struct console_options){.output = drop_output}, &err);
	} else if (kind == BALLOON) {
		balloon_create(&dev, &v->g.env, &err);
	} else if (is_net(v)) {
		struct net_options options = {
		        .pairs = kind == NET_TAP ? NET_PAIRS_MAX : 1, .stream = kind == NET_STREAM, .mtu = 1500};
		for (unsigned i = 0; i < options.pairs; i++) {
			int pair[2];
			if (socketpair(AF_UNIX, (kind == NET_STREAM ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0,
			            pair) < 0)
				return false;
			options.fd[i] = pair[0];
			*(i == 0 ? &v->peer : &v->others[i - 1]) = pair[1];
		}
		net_create(&dev, &v->g.env, &options, &err);
	} else {
		snprintf(v->path, sizeof(v->path), "/tmp/wisp-test-hostile-%d", getpid());
		vsock_create(&dev, &v->g.env, &(struct vsock_options){.cid = 3, .socket_path = v->path}, &err);
		if (dev && vsock_listen(dev, &err) < 0)
			printf("# %s\n", err.text);
	}
	if (!dev) {
		printf("# %s\n", err.text);
		return false;
	}
	drv_open(&v->d, &v->g, dev);
	v->heap = v->g.heap;
	return true;
}

static void victim_close(struct victim *v)
{
	drv_close(&v->d);
	guest_close(&v->g);
	if (is_net(v))
		close(v->peer);
	for (unsigned i = 0; i < NET_PAIRS_MAX - 1 && v->kind == NET_TAP; i++)
		close(v->others[i]);
}

static bool victim_start(struct victim *v)
{
	v->g.heap = v->heap;
	return drv_start(&v->d, ~0ull, 32);
}

/* A number that is often just beside a limit. */
static uint64_t odd_address(struct victim *v)
{
	switch (rnd(v) % 12) {
	case 0: return GUEST_HOLE - rnd(v) % 64;
	case 1: return GUEST_HIGH - 8 + rnd(v) % 16;
	case 2: return GUEST_HIGH + GUEST_RAM - GUEST_HOLE - rnd(v) % 64;
	case 3: return UINT64_MAX - rnd(v) % 64;
	case 4: return rnd(v);
	default: return rnd(v) % AREA;
	}
}

static uint32_t odd_length(struct victim *v)
{
	switch (rnd(v) % 10) {
	case 0: return 0;
	case 1: return (uint32_t)rnd(v);
	case 2: return UINT32_MAX;
	case 3: return (uint32_t)(rnd(v) % AREA);
	default: return (uint32_t)(rnd(v) % 600);
	}
}

static void odd_table(struct victim *v, struct vring_desc *table, unsigned size, bool nested)
{
	for (unsigned i = 0; i < size; i++) {
		struct vring_desc desc = {.addr = odd_address(v), .len = odd_length(v)};
		desc.flags = (uint16_t)(rnd(v) % 4);
		if (rnd(v) % 16 == 0)
			desc.flags = (uint16_t)rnd(v);
		if (!nested)
			desc.flags &= (uint16_t)~VRING_DESC_F_INDIRECT;
		if (nested && rnd(v) % 4 == 0) {
			desc = (struct vring_desc){
			        rnd(v) % AREA & ~15ull, 16 * (uint32_t)(1 + rnd(v) % 8), VRING_DESC_F_INDIRECT, 0};
			odd_table(v, guest_at(&v->g, desc.addr, desc.len), desc.len / 16, rnd(v) % 8 == 0);
		}
		desc.next = (uint16_t)(i + 1 + (rnd(v) % 16 == 0 ? rnd(v) % size : 0));
		guest_store(&table[i], &desc, sizeof(desc));
	}
}

/* A header that has a chance to be understood. */
static void odd_header(struct victim *v, uint64_t addr)
{
	if (v->kind == BLK) {
		static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 99};
		struct virtio_blk_outhdr hdr = {.type = types[rnd(v) % 7], .sector = rnd(v) % (DISK_BYTES / 512 + 8)};
		guest_store(guest_at(&v->g, addr, sizeof(hdr)), &hdr, sizeof(hdr));
	} else if (v->kind == VSOCK) {
		struct virtio_vsock_hdr hdr = {.src_cid = 3,
		        .dst_cid = 2,
		        .src_port = (uint32_t)(rnd(v) % 4),
		        .dst_port = (uint32_t)(rnd(v) % 4 + (rnd(v) % 2 ? 1u << 30 : 0)),
		        .len = odd_length(v),
		        .type = 1,
		        .op = (uint16_t)(rnd(v) % 9),
		        .flags = (uint32_t)(rnd(v) % 4),
		        .buf_alloc = odd_length(v),
		        .fwd_cnt = odd_length(v)};
		guest_store(guest_at(&v->g, addr, sizeof(hdr)), &hdr, sizeof(hdr));
	}
}

/* A few chains that are nearly right: a header, and buffers. */
static void nearly_right(struct victim *v, unsigned queue)
{
	for (unsigned i = 0; i < 6; i++) {
		uint64_t at = 0x40000 + rnd(v) % 64 * 0x1000;
		odd_header(v, at);
		unsigned out = (unsigned)(rnd(v) % 3), in = (unsigned)(rnd(v) % 3);
		struct buf bufs[4] = {{at, v->kind == VSOCK ? 44 : 16}};
		for (unsigned k = 1; k < 4; k++)
			bufs[k] = (struct buf){
			        0x80000 + rnd(v) % 64 * 0x1000, 512 * (uint32_t)(rnd(v) % 5) + (uint32_t)(rnd(v) % 2)};
		if (rnd(v) % 64 != 0) { /* and mostly in the direction that the device expects */
			if (is_net(v)) {
				out = queue == 1 ? 1 + (unsigned)(rnd(v) % 3) : 0;
				in = queue == 1 ? 0 : 1 + (unsigned)(rnd(v) % 3);
			} else if (v->kind == VSOCK && queue != 1) {
				out = 0;
				in = 1;
				bufs[0].len = 45 + (uint32_t)(rnd(v) % 4000);
			} else {
				out = out > 0 ? out : 1;
				in = v->kind == BLK ? 1 : 0;
			}
		}
		if (rnd(v) % 2 && v->kind != VSOCK && !is_net(v))
			bufs[out + in > 0 ? out + in - 1 : 0].len = 1;
		ring_add(&v->d, queue, bufs, out, in);
	}
}

static void recover(struct victim *v)
{
	if (drv_failed(&v->d)) {
		v->failures++;
		drv_reset(&v->d);
		CHECK_EQ(drv_status(&v->d), 0);
		CHECK(victim_start(v) || v->threaded);
	}
}

static void attack(struct victim *v)
{
	for (unsigned q = 0; q < v->d.dev->queue_count; q++) {
		struct ring *r = &v->d.ring[q];
		switch (rnd(v) % 32) {
		case 0: odd_table(v, r->desc, r->size, true); break;
		case 1: r->avail_idx = (uint16_t)rnd(v); break;
		case 2: odd_header(v, rnd(v) % AREA); break;
		default: nearly_right(v, q); break;
		}
		for (unsigned i = rnd(v) % 8 ? 0 : (unsigned)(rnd(v) % 4); i > 0; i--)
			ring_offer(r, (uint16_t)(rnd(v) % (rnd(v) % 16 ? r->size : 65536)));
		reg_write(&v->d, VIRTIO_MMIO_QUEUE_NOTIFY, q);
	}
	if (rnd(v) % 16 == 0)
		drv_reset(&v->d);
	if (rnd(v) % 8 == 0) { /* any register, any value */
		uint32_t value = (uint32_t)rnd(v);
		virtio_mmio_write(&v->d.mmio, rnd(v) % 0x120, &value, 1 + (unsigned)(rnd(v) % 4));
	}
	if (is_net(v)) {
		static uint8_t frame[1600];
		uint32_t len = v->kind == NET_STREAM ? 1 + (uint32_t)(rnd(v) % 1500) : 12 + (uint32_t)(rnd(v) % 1500);
		uint32_t length = htonl(len);
		memcpy(frame, &length, sizeof(length));
		(void)!send(v->peer, frame, (v->kind == NET_STREAM ? 4 : 0) + len, MSG_DONTWAIT | MSG_NOSIGNAL);
		while (rnd(v) % 8 != 0 && recv(v->peer, frame, sizeof(frame), MSG_DONTWAIT) > 0)
			;
	}
	if (v->kind == VSOCK && rnd(v) % 4 == 0) {
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		snprintf(address.sun_path, sizeof(address.sun_path), "%s", v->path);
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			(void)!send(fd, "CONNECT 2\nabc", 13, MSG_NOSIGNAL);
		loop_step(v->g.loop, 0);
		close(fd);
	}
}

/* Writes over the area, as a vCPU does: rings, tables, headers and data alike. */
static void *scribble(void *arg)
{
	struct victim *v = arg;
	uint64_t random = 1234567;
	uint8_t *mem = guest_at(&v->g, 0x10000, AREA - 0x10000);
	while (!__atomic_load_n(&v->stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 64; i++) {
			uint64_t at = next_random(&random) % (i % 4 ? 0x3000 : AREA - 0x10000) & ~7ull;
			uint64_t value = next_random(&random);
			if (i % 2)
				value &= 0x0003000300030003ull; /* flags, indexes, small numbers */
			__atomic_store_n((uint64_t *)(void *)(mem + at), value, __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

/* An honest driver after all that. */
static void check_alive(struct victim *v)
{
	drv_reset(&v->d);
	REQUIRE(victim_start(v));
	uint64_t at = 0x40000;
	uint16_t head;
	uint32_t len;
	memset(guest_at(&v->g, at, 4096), 0, 4096);
	if (v->kind == BLK) {
		for (unsigned q = 0; q < 4; q++) {
			struct buf bufs[] = {{at, 16}, {at + 512, 512}, {at + 16, 1}};
			*(uint8_t *)guest_at(&v->g, at + 16, 1) = 0xee;
			REQUIRE(ring_add(&v->d, q, bufs, 1, 2) >= 0);
			ring_kick(&v->d, q);
			REQUIRE(ring_wait(&v->d, q, &head, &len));
			CHECK_EQ(*(uint8_t *)guest_at(&v->g, at + 16, 1), 0);
			CHECK_EQ(len, 513);
		}
	} else if (v->kind == CONSOLE) {
		REQUIRE(ring_add(&v->d, 1, &(struct buf){at, 100}, 1, 0) >= 0);
		ring_kick(&v->d, 1);
		REQUIRE(ring_wait(&v->d, 1, &head, &len));
	} else if (v->kind == BALLOON) {
		*(uint8_t *)guest_at(&v->g, at, 1) = 0xee;
		REQUIRE(ring_add(&v->d, 2, &(struct buf){at, 4096}, 0, 1) >= 0);
		ring_kick(&v->d, 2);
		REQUIRE(ring_wait(&v->d, 2, &head, &len));
		CHECK_EQ(*(uint8_t *)guest_at(&v->g, at, 1), 0);
	} else if (is_net(v)) {
		static uint8_t rest[1 << 16];
		while (recv(v->peer, rest, sizeof(rest), MSG_DONTWAIT) > 0)
			;
		REQUIRE(ring_add(&v->d, 1, &(struct buf){at, 100}, 1, 0) >= 0);
		ring_kick(&v->d, 1);
		REQUIRE(ring_wait(&v->d, 1, &head, &len));
	} else {
		struct virtio_vsock_hdr hdr = {.src_cid = 3, .dst_cid = 2, .type = 1, .op = VIRTIO_VSOCK_OP_RW};
		memcpy(guest_at(&v->g, at, sizeof(hdr)), &hdr, sizeof(hdr));
		REQUIRE(ring_add(&v->d, 1, &(struct buf){at, 44}, 1, 0) >= 0);
		ring_kick(&v->d, 1);
		REQUIRE(ring_wait(&v->d, 1, &head, &len));
	}
	CHECK(!drv_failed(&v->d));
}

static void attack_all(bool threaded)
{
	for (enum kind kind = 0; kind < KINDS; kind++) {
		static struct victim v;
		pthread_t writer;
		REQUIRE(victim_open(&v, kind));
		REQUIRE(victim_start(&v));
		v.threaded = threaded;
		if (threaded)
			REQUIRE(pthread_create(&writer, NULL, scribble, &v) == 0);
		for (unsigned round = 0; round < ROUNDS; round++) {
			attack(&v);
			for (unsigned i = 0; i < 3; i++)
				loop_step(v.g.loop, 0);
			recover(&v);
			if (!(drv_status(&v.d) & VIRTIO_CONFIG_S_DRIVER_OK)) {
				drv_reset(&v.d);
				CHECK(victim_start(&v) || threaded);
			}
		}
		if (threaded) {
			__atomic_store_n(&v.stop, true, __ATOMIC_RELAXED);
			pthread_join(writer, NULL);
		}
		printf("# %s: %u resets after failures, %u log lines\n", v.d.dev->type->name, v.failures,
		        v.g.log_lines);
		/* The console has one queue that anything can be wrong with, the others more. */
		CHECK(v.failures > (kind == CONSOLE ? ROUNDS / 100 : ROUNDS / 20));
		CHECK_EQ(v.g.log_lines, 1);
		check_alive(&v);
		victim_close(&v);
	}
}

static void test_random(void)
{
	attack_all(false);
}

static void test_rewritten(void)
{
	attack_all(true);
}

TEST_MAIN("virtio_hostile", {"random", test_random}, {"rewritten", test_rewritten})
