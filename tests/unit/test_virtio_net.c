/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device with a driver on one side and the host's descriptor on the other. A socket that keeps the bounds
 * of messages stands for a tap device.
 */
#include "tests/unit/guest_card.h"

#include <sys/syscall.h>

#include "virtio/state.h"

static struct card card, other;

/* What the driver of `watched` finds while the device sends: completions, and whether an interrupt has been raised. */
static struct card *watched;
static uint16_t found;
static bool interrupted;

ssize_t writev(int fd, const struct iovec *iov, int count)
{
	if (watched) {
		found = __atomic_load_n(&watched->d.ring[TX].used[1], __ATOMIC_SEQ_CST);
		interrupted = drv_interrupts(&watched->d) > 0 || interrupted;
	}
	return syscall(SYS_writev, fd, iov, count);
}

static void test_identity(void)
{
	struct card *c = &card;
	REQUIRE(card_open(c, false, ~0ull));
	struct virtio_net_config config = read_config(c);
	CHECK_EQ(reg_read(&c->d, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_NET);
	CHECK(memcmp(config.mac, mac, sizeof(mac)) == 0);
	CHECK_EQ(config.mtu, 1500);
	CHECK_EQ(config.status, VIRTIO_NET_S_LINK_UP);
	CHECK_EQ(drv_queues(&c->d), 2);
	/* A port that completes no checksums must not be promised to. */
	CHECK_EQ(c->d.features & (CHECKSUMS | SEGMENTS), 0);
	card_close(c);
	struct net_options options = {.fd = {-1}, .offload = true, .mtu = 9000};
	REQUIRE(card_create(c, &options, -1) && drv_start(&c->d, ~0ull, 64));
	CHECK_EQ(c->d.features & (CHECKSUMS | SEGMENTS), CHECKSUMS | SEGMENTS);
	CHECK_EQ(read_config(c).status, 0);
	CHECK_EQ(read_config(c).mtu, 9000);
	card_close(c);
}

static void test_both_ways(void)
{
	static const uint32_t lengths[] = {14, 60, 61, 1500, FRAME};
	static uint8_t frame[1 << 17];
	struct card *c = &card;
	for (unsigned kind = 0; kind < 4; kind++) {
		bool stream = kind & 1;
		unsigned buffers;
		REQUIRE(card_open(c, stream, BASIC | (kind & 2 ? MRG : 0)));
		give(c, 32, BUFFER);
		for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			CHECK(send_frame(c, 0, lengths[i], i));
			CHECK(comes_out(c, stream, lengths[i], i));
			put(c, stream, lengths[i], i + 7);
			CHECK_EQ(take_frame(c, frame, &buffers), HEADER + lengths[i]);
			CHECK_EQ(buffers, 1);
			CHECK(is_frame(frame + HEADER, lengths[i], i + 7));
		}
		CHECK_EQ(c->d.dev->to_guest.operations, 5);
		CHECK_EQ(c->d.dev->to_guest.bytes, c->d.dev->from_guest.bytes);
		CHECK(!drv_failed(&c->d));
		card_close(c);
	}
}

/* A frame over several buffers; those that it leaves are the next one's. */
static void test_spread(void)
{
	static uint8_t frame[1 << 17];
	struct card *c = &card;
	unsigned buffers;
	for (unsigned stream = 0; stream < 2; stream++) {
		REQUIRE(card_open(c, stream, BASIC | MRG));
		give(c, 40, 100);
		put(c, stream, FRAME, 1);
		CHECK_EQ(take_frame(c, frame, &buffers), HEADER + FRAME);
		CHECK_EQ(buffers, (HEADER + FRAME + 99) / 100);
		CHECK(is_frame(frame + HEADER, FRAME, 1));
		put(c, stream, 88, 2); /* fills its buffer exactly */
		CHECK_EQ(take_frame(c, frame, &buffers), 100);
		CHECK_EQ(buffers, 1);
		put(c, stream, 89, 3);
		CHECK_EQ(take_frame(c, frame, &buffers), 101);
		CHECK_EQ(buffers, 2);
		CHECK(is_frame(frame + HEADER, 89, 3));
		card_close(c);
	}
}

/* Frames wait for the guest's buffers, and are not lost. */
static void test_no_buffers(void)
{
	static uint8_t frame[1 << 17];
	struct card *c = &card;
	unsigned buffers;
	for (unsigned kind = 0; kind < 4; kind++) {
		bool stream = kind & 1;
		REQUIRE(card_open(c, stream, BASIC | (kind & 2 ? MRG : 0)));
		for (unsigned i = 0; i < 5; i++)
			put(c, stream, 200 + i, i);
		guest_settle(&c->g, 10);
		for (unsigned i = 0; i < 5; i++) {
			give(c, 1, BUFFER);
			CHECK_EQ(take_frame(c, frame, &buffers), HEADER + 200 + i);
			CHECK(is_frame(frame + HEADER, 200 + i, i));
		}
		card_close(c);
	}
}

/* A driver may give more room than fits in 32 bits. */
static void test_much_room(void)
{
	static uint8_t frame[1 << 17];
	struct card *c = &card;
	struct buf pieces[128];
	unsigned buffers;
	for (unsigned i = 0; i < 128; i++)
		pieces[i] = (struct buf){0, GUEST_HOLE - i / 127}; /* UINT32_MAX in all: the most of a chain */
	for (unsigned stream = 0; stream < 2; stream++) {
		REQUIRE(card_open(c, stream, BASIC | MRG));
		drv_reset(&c->d);
		REQUIRE(drv_start(&c->d, BASIC | MRG, 128));
		give(c, 1, HEADER);
		int head = ring_add_indirect(&c->d, RX, pieces, 0, 128);
		REQUIRE(head >= 0);
		c->rx[head] = 0;
		ring_kick(&c->d, RX);
		put(c, stream, 60, 5);
		CHECK_EQ(take_frame(c, frame, &buffers), HEADER + 60);
		CHECK_EQ(buffers, 2);
		CHECK(is_frame(frame + HEADER, 60, 5));
		card_close(c);
	}
}

/* One that the guest has no room for is lost, and the next arrives. */
static void test_too_long(void)
{
	static uint8_t frame[1 << 17];
	struct card *c = &card;
	unsigned buffers;
	for (unsigned kind = 0; kind < 4; kind++) {
		bool stream = kind & 1;
		REQUIRE(card_open(c, stream, BASIC | (kind & 2 ? MRG : 0)));
		give(c, 1, BUFFER);
		put(c, stream, BUFFER - HEADER + 1, 1);
		put(c, stream, BUFFER - HEADER, 2);
		CHECK_EQ(take_frame(c, frame, &buffers), BUFFER);
		CHECK(is_frame(frame + HEADER, BUFFER - HEADER, 2));
		CHECK(link_is_up(c));
		card_close(c);
	}
}

/* --- completions of small frames --- */

/* Adds frames of one buffer, tells the device once, and asks for an interrupt after `later` more completions. */
static void send_small(struct card *c, unsigned count, uint16_t later)
{
	struct ring *r = &c->d.ring[TX];
	for (unsigned i = 0; i < count; i++)
		CHECK(ring_add(&c->d, TX, &(struct buf){c->area + 128ull * i, HEADER + 60}, 1, 0) >= 0);
	__atomic_store_n(&r->avail[2 + r->size], (uint16_t)(r->used_seen + later), __ATOMIC_SEQ_CST);
	ring_kick(&c->d, TX);
}

/* Up to the end of the round in which the device has taken all, and no further: no time passes for it. */
static void step_until_taken(struct card *c)
{
	for (long long end = now_ms() + 2000; now_ms() < end;) {
		if (c->d.dev->queue[TX].vq.state.avail_next == c->d.ring[TX].avail_idx)
			return;
		loop_step(c->g.loop, 20);
	}
	CHECK(false);
}

static void test_quiet(void)
{
	static uint8_t frame[1 << 17];
	struct card *c = &card;
	uint16_t head;
	uint32_t len;
	unsigned buffers;
	REQUIRE(card_open(c, false, BASIC));
	give(c, 4, BUFFER);
	guest_settle(&c->g, 5);
	drv_interrupts(&c->d);

	/* The driver finds it at once; its interrupt waits for the answer. */
	send_small(c, 1, 0);
	step_until_taken(c);
	CHECK_EQ(c->d.ring[TX].used[1], 1);
	CHECK_EQ(drv_interrupts(&c->d), 0);
	put(c, false, 60, 1);
	CHECK_EQ(take_frame(c, frame, &buffers), HEADER + 60);
	CHECK(drv_interrupts(&c->d) >= 1);
	CHECK(ring_used(&c->d, TX, &head, &len));

	/* A driver with five under way wants to hear of the fourth, and may wait for it. */
	send_small(c, 5, 3);
	step_until_taken(c);
	CHECK_EQ(drv_interrupts(&c->d), 1);
	while (ring_used(&c->d, TX, &head, &len))
		;
	/* The same if they are taken one by one. */
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(drv_interrupts(&c->d), 0);
		send_small(c, 1, 3);
		step_until_taken(c);
	}
	CHECK_EQ(drv_interrupts(&c->d), 1);
	while (ring_used(&c->d, TX, &head, &len))
		;
	/* And a single one is quiet again. */
	guest_settle(&c->g, 2 * VIRTIO_QUIET_MS);
	send_small(c, 1, 0);
	step_until_taken(c);
	CHECK_EQ(drv_interrupts(&c->d), 0);
	for (long long end = now_ms() + 2000; drv_interrupts(&c->d) == 0;) {
		REQUIRE(now_ms() < end);
		loop_step(c->g.loop, 20);
	}
	card_close(c);
}

/* A driver that waits goes on while the device still sends. */
static void test_shown_early(void)
{
	struct card *c = &card;
	REQUIRE(card_open(c, false, BASIC));
	guest_settle(&c->g, 5);
	drv_interrupts(&c->d);
	watched = c;
	send_small(c, 2 * NET_BATCH + 1, NET_BATCH);
	step_until_taken(c);
	watched = NULL;
	CHECK_EQ(found, 2 * NET_BATCH);
	CHECK(interrupted);
	card_close(c);
}

/* --- streams --- */

/* Bytes come one at a time, and several frames at once. */
static void test_in_pieces(void)
{
	static uint8_t frame[1 << 17];
	uint8_t bytes[4 + 60];
	struct card *c = &card;
	unsigned buffers;
	uint32_t length = htonl(60);
	REQUIRE(card_open(c, true, BASIC | MRG));
	give(c, 32, BUFFER);
	memcpy(bytes, &length, 4);
	fill(bytes + 4, 60, 9);
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		CHECK_EQ(send(c->peer, bytes + i, 1, 0), 1);
		guest_settle(&c->g, 0);
	}
	CHECK_EQ(take_frame(c, frame, &buffers), HEADER + 60);
	CHECK(is_frame(frame + HEADER, 60, 9));
	for (unsigned i = 0; i < 20; i++)
		put(c, true, 60 + i, i);
	for (unsigned i = 0; i < 20; i++) {
		CHECK_EQ(take_frame(c, frame, &buffers), HEADER + 60 + i);
		CHECK(is_frame(frame + HEADER, 60 + i, i));
	}
	card_close(c);
}

/* More than the buffer holds, of the largest frames: their ends fall everywhere. */
static void test_large_frames(void)
{
	static uint8_t frame[1 << 17];
	int pair[2], room = 1 << 20;
	struct card *c = &card;
	unsigned buffers;
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	REQUIRE(card_create(c, &(struct net_options){.fd = {pair[0]}, .stream = true, .mtu = NET_MTU_MAX}, pair[1]));
	REQUIRE(drv_start(&c->d, BASIC | MRG, 128));
	uint64_t heap = c->g.heap;
	for (unsigned i = 0; i < 40; i++) {
		uint32_t len = i % 3 == 2 ? 60 + i : NET_FRAME_MAX - i * 100;
		if (c->d.ring[RX].free_count > 64) {
			c->g.heap = heap + (i % 2) * (1u << 20); /* the buffers of the last but one time are used */
			give(c, c->d.ring[RX].free_count, 4096);
		}
		put(c, true, len, i);
		CHECK_EQ(take_frame(c, frame, &buffers), HEADER + len);
		CHECK(is_frame(frame + HEADER, len, i));
	}
	card_close(c);
}

/* A peer that reads nothing: the queue waits, and every frame arrives in order when it reads on. */
static void test_slow_peer(void)
{
	struct card *c = &card;
	uint16_t head;
	uint32_t len;
	unsigned sent = 0, seen = 0;
	REQUIRE(card_open(c, true, BASIC));
	for (unsigned round = 0; round < 200 && c->d.ring[TX].free_count >= 3; round++) {
		while (c->d.ring[TX].free_count >= 3 && send_frame(c, 0, FRAME, 5))
			sent++;
		guest_settle(&c->g, 0);
		while (ring_used(&c->d, TX, &head, &len))
			;
	}
	REQUIRE(c->d.ring[TX].free_count < 3); /* the socket is full, and so is the queue */
	CHECK(!drv_failed(&c->d));
	for (; seen < sent; seen++) {
		if (!comes_out(c, true, FRAME, 5))
			break;
	}
	CHECK_EQ(seen, sent);
	CHECK(sent > 100);
	card_close(c);
}

/* The guest is reset while a part of a frame is sent. The peer finds the next frame all the same. */
static void test_reset_in_frame(void)
{
	static uint8_t bytes[1 << 17];
	struct card *c = &card;
	uint32_t length, frames = 0;
	bool last = false;
	REQUIRE(card_open(c, true, BASIC));
	for (unsigned i = 0; i < 21 && send_frame(c, 0, 60001, 3); i++)
		guest_settle(&c->g, 0);
	drv_reset(&c->d);
	CHECK_EQ(drv_status(&c->d), 0);
	/* Nothing of the guest's is used any more. */
	memset(guest_at(&c->g, c->area, 256u << 10), 0xdd, 256u << 10);
	REQUIRE(drv_start(&c->d, BASIC, 64));
	CHECK(send_frame(c, 1, 77, 8));
	while (!last && read_whole(c, &length, 4)) {
		length = ntohl(length);
		REQUIRE(length == 60001 || length == 77);
		REQUIRE(read_whole(c, bytes, length));
		last = length == 77;
		frames += !last;
		CHECK(memchr(bytes, 0xdd, 1) == NULL);
	}
	CHECK(last && is_frame(bytes, 77, 8));
	CHECK(frames > 0);
	card_close(c);
}

/* Sends a frame of 60 bytes, for this address. Returns the type that the peer finds. */
static unsigned type_of(struct card *c, bool stream, const char *to)
{
	uint8_t bytes[4 + HEADER + 60], *frame = guest_at(&c->g, c->area, HEADER + 60);
	bool v6 = strchr(to, ':');
	uint32_t lead = stream ? 4 : HEADER;
	memset(frame, 0x11, HEADER + 60);
	memset(frame, 0, HEADER);
	memcpy(frame + HEADER + 12, v6 ? "\x86\xdd" : "\x08\x00", 2);
	inet_pton(v6 ? AF_INET6 : AF_INET, to, frame + HEADER + 14 + (v6 ? 24 : 16));
	struct buf bufs[] = {{c->area, HEADER + 31}, {c->area + HEADER + 31, 29}};
	CHECK(ring_add(&c->d, TX, bufs, 2, 0) >= 0);
	ring_kick(&c->d, TX);
	CHECK(read_whole(c, bytes, lead + 60));
	CHECK(memcmp(bytes + lead + 14, frame + HEADER + 14, 46) == 0);
	return bytes[lead + 12] * 256u + bytes[lead + 13];
}

/* passt would connect there, in the host's network. A tap device's packets are what the host's kernel makes of them. */
static void test_no_loopback(void)
{
	static const struct {
		const char *to;
		bool passes;
	} packet[] = {{"10.0.0.1", true}, {"127.0.0.1", false}, {"127.255.255.255", false}, {"128.0.0.1", true},
	        {"0.0.0.0", false}, {"0.0.0.1", false}, {"255.255.255.255", true}, {"::1", false}, {"::", false},
	        {"::ffff:127.0.0.1", false}, {"::ffff:10.0.0.1", false}, {"::127.0.0.1", false},
	        {"64:ff9b::7f00:1", true}, {"2001:db8::1", true}, {"ff02::1", true}};
	struct card *c = &card;
	for (unsigned stream = 0; stream < 2; stream++) {
		REQUIRE(card_open(c, stream, BASIC));
		for (unsigned i = 0; i < sizeof(packet) / sizeof(packet[0]); i++) {
			unsigned type = strchr(packet[i].to, ':') ? 0x86dd : 0x0800;
			CHECK_EQ(type_of(c, stream, packet[i].to), packet[i].passes || !stream ? type : 0xffff);
		}
		card_close(c);
	}
}

/* --- the end of the port --- */

static void check_down(struct card *c)
{
	uint16_t head;
	uint32_t len;
	guest_settle(&c->g, 10);
	CHECK(!link_is_up(c));
	CHECK(reg_read(&c->d, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	CHECK_EQ(c->g.log_lines, 1);
	/* The device goes on: what is sent is lost, and its memory comes back. */
	for (unsigned i = 0; i < 100; i++) {
		CHECK(send_frame(c, 0, FRAME, 1));
		CHECK(ring_wait(&c->d, TX, &head, &len));
	}
	CHECK(!drv_failed(&c->d));
}

static void test_peer_gone(void)
{
	struct card *c = &card;
	REQUIRE(card_open(c, true, BASIC | MRG));
	give(c, 4, BUFFER);
	guest_settle(&c->g, 5);
	CHECK(link_is_up(c));
	close(c->peer);
	c->peer = -1;
	check_down(c);
	card_close(c);
	/* By a frame that is being sent. */
	REQUIRE(card_open(c, true, BASIC | MRG));
	close(c->peer);
	c->peer = -1;
	CHECK(send_frame(c, 0, FRAME, 1));
	check_down(c);
	card_close(c);
}

static void test_bad_lengths(void)
{
	static const uint32_t bad[] = {0, NET_FRAME_MAX + 1, 0x80000000, UINT32_MAX};
	struct card *c = &card;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint32_t length = htonl(bad[i]);
		REQUIRE(card_open(c, true, BASIC | MRG));
		give(c, 4, BUFFER);
		CHECK_EQ(send(c->peer, &length, 4, 0), 4);
		check_down(c);
		card_close(c);
	}
}

/* --- drivers that break rules --- */

static void test_broken_driver(void)
{
	struct card *c = &card;
	for (unsigned i = 0; i < 4; i++) {
		REQUIRE(card_open(c, i & 1, BASIC | MRG));
		uint64_t at = guest_alloc(&c->g, 4096, 16);
		struct buf buf[] = {{at, i < 2 ? HEADER - 1 : 100}, {at + 200, 100}};
		/* A frame and a buffer that have no whole header; a buffer of which a part is to be read. */
		if (i == 0)
			CHECK(ring_add(&c->d, TX, buf, 1, 0) >= 0);
		else if (i == 1)
			CHECK(ring_add(&c->d, RX, buf, 0, 1) >= 0);
		else
			CHECK(ring_add(&c->d, RX, buf, 1, 1) >= 0);
		ring_kick(&c->d, i == 0 ? TX : RX);
		guest_settle(&c->g, 5);
		CHECK(drv_failed(&c->d));
		CHECK_EQ(c->g.log_lines, 1);
		drv_reset(&c->d);
		CHECK(drv_start(&c->d, BASIC | MRG, 64));
		CHECK(send_frame(c, 0, 60, 4) && comes_out(c, i & 1, 60, 4));
		card_close(c);
	}
}

/* Frames that no network carries are completed, and not sent. */
static void test_odd_frames(void)
{
	struct card *c = &card;
	uint16_t head;
	uint32_t len;
	for (unsigned stream = 0; stream < 2; stream++) {
		REQUIRE(card_open(c, stream, BASIC));
		for (unsigned i = 0; i < 1000; i++) {
			struct buf bufs[] = {{c->area, HEADER}, {c->area + 16, NET_FRAME_MAX + 1}};
			REQUIRE(ring_add(&c->d, TX, bufs, 1 + i % 2, 0) >= 0);
			ring_kick(&c->d, TX);
			REQUIRE(ring_wait(&c->d, TX, &head, &len));
			CHECK_EQ(len, 0);
		}
		CHECK(send_frame(c, 0, 60, 4) && comes_out(c, stream, 60, 4));
		CHECK(!drv_failed(&c->d) && link_is_up(c));
		card_close(c);
	}
}

/* --- snapshots --- */

/* What the device holds is in the copy again: receive buffers, and frames that a peer has not taken. */
static void test_state(void)
{
	static uint8_t frame[1 << 17];
	struct card *c = &card, *copy = &other;
	struct virtio_state state;
	struct err err = {0};
	unsigned sent = 0, buffers;
	int pair[2];
	REQUIRE(card_open(c, true, BASIC | MRG));
	give(c, 20, 100);
	for (unsigned i = 0; i < 21 && send_frame(c, 0, 60001, 3); i++, sent++)
		guest_settle(&c->g, 0);
	guest_settle(&c->g, 5);
	CHECK(!virtio_busy(c->d.dev));
	virtio_save(&c->d.mmio, &state);
	CHECK_EQ(state.queue[RX].avail_next, 0);
	CHECK(state.queue[TX].avail_next < c->d.ring[TX].avail_idx);

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	REQUIRE(card_create(copy, &(struct net_options){.fd = {pair[0]}, .stream = true, .mtu = 9999}, pair[1]));
	copy_rings(copy, c);
	REQUIRE(virtio_restore(&copy->d.mmio, &state, &err) == 0);
	virtio_resume(copy->d.dev);
	CHECK(memcmp(read_config(copy).mac, mac, sizeof(mac)) == 0);
	CHECK_EQ(read_config(copy).mtu, 1500);
	for (unsigned i = state.queue[TX].avail_next; i < sent; i++)
		CHECK(comes_out(copy, true, 60001, 3));
	put(copy, true, 1400, 6);
	CHECK_EQ(take_frame(copy, frame, &buffers), HEADER + 1400);
	CHECK(is_frame(frame + HEADER, 1400, 6));
	card_close(copy);

	/* The device that was saved goes on in the middle of its frame. */
	for (unsigned i = 0; i < sent; i++)
		CHECK(comes_out(c, true, 60001, 3));
	put(c, true, 1400, 7);
	CHECK_EQ(take_frame(c, frame, &buffers), HEADER + 1400);

	/* A copy without a port has its link down. */
	REQUIRE(card_create(copy, &(struct net_options){.fd = {-1}, .offload = true, .mtu = 1500}, -1));
	copy_rings(copy, c);
	virtio_save(&c->d.mmio, &state);
	REQUIRE(virtio_restore(&copy->d.mmio, &state, &err) == 0);
	virtio_resume(copy->d.dev);
	CHECK(!link_is_up(copy));
	CHECK(reg_read(&copy->d, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG); /* which its driver learns */
	card_close(copy);

	state.own[0] = 0; /* an MTU of 0 */
	REQUIRE(card_create(copy, &(struct net_options){.fd = {-1}, .offload = true, .mtu = 1500}, -1));
	copy_rings(copy, c);
	CHECK_EQ(virtio_restore(&copy->d.mmio, &state, &err), -EINVAL);
	CHECK(strstr(err.text, "MTU"));
	card_close(copy);
	card_close(c);
}

TEST_MAIN("virtio_net", {"identity", test_identity}, {"both_ways", test_both_ways}, {"spread", test_spread},
        {"no_buffers", test_no_buffers}, {"too_long", test_too_long}, {"much_room", test_much_room},
        {"in_pieces", test_in_pieces}, {"large_frames", test_large_frames}, {"slow_peer", test_slow_peer},
        {"reset_in_frame", test_reset_in_frame}, {"no_loopback", test_no_loopback}, {"peer_gone", test_peer_gone},
        {"bad_lengths", test_bad_lengths}, {"broken_driver", test_broken_driver}, {"odd_frames", test_odd_frames},
        {"state", test_state}, {"quiet", test_quiet}, {"shown_early", test_shown_early})
