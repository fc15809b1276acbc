/* SPDX-License-Identifier: Apache-2.0 */
/* The network device with several pairs of queues, and the commands by which its driver says how many it uses. */
#include "tests/unit/guest_card.h"

#include "virtio/state.h"

static struct card card, other;

#define SEVERAL (1ull << VIRTIO_NET_F_CTRL_VQ | 1ull << VIRTIO_NET_F_MQ)
#define CONTROL (2 * NET_PAIRS_MAX)
#define NO_ANSWER 0xee

/* A command to the control queue: the answer, or NO_ANSWER. */
static uint8_t command(struct card *c, unsigned queue, const void *bytes, uint32_t len, uint32_t room)
{
	uint64_t at = guest_alloc(&c->g, 64, 16);
	uint8_t *mem = guest_at(&c->g, at, 64);
	struct buf bufs[] = {{at, 2}, {at + 2, len - 2}, {at + 32, room}};
	uint16_t head;
	uint32_t written;
	memcpy(mem, bytes, len);
	mem[32] = NO_ANSWER;
	CHECK(ring_add(&c->d, queue, bufs, 2, room > 0) >= 0);
	ring_kick(&c->d, queue);
	if (ring_wait(&c->d, queue, &head, &written))
		CHECK_EQ(written, 1);
	return mem[32];
}

static uint8_t use_pairs(struct card *c, unsigned pairs)
{
	const uint8_t bytes[] = {
	        VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, (uint8_t)pairs, (uint8_t)(pairs >> 8)};
	return command(c, CONTROL, bytes, sizeof(bytes), 1);
}

/* Whether a frame from the host arrives by this pair. */
static bool receives(struct card *c, unsigned pair, uint32_t len)
{
	uint64_t at = guest_alloc(&c->g, BUFFER, 16);
	uint16_t head;
	uint32_t got = 0;
	c->peer = c->peers[pair];
	put(c, false, len, pair);
	CHECK(ring_add(&c->d, 2 * pair + RX, &(struct buf){at, BUFFER}, 0, 1) >= 0);
	ring_kick(&c->d, 2 * pair + RX);
	guest_settle(&c->g, 10);
	c->peer = c->peers[0];
	return ring_used(&c->d, 2 * pair + RX, &head, &got) && got == HEADER + len &&
	       is_frame(guest_at(&c->g, at + HEADER, len), len, pair);
}

static bool sends(struct card *c, unsigned pair, uint32_t len)
{
	uint8_t *bytes = guest_at(&c->g, c->area, HEADER + len);
	memset(bytes, 0, HEADER);
	fill(bytes + HEADER, len, pair);
	CHECK(ring_add(&c->d, 2 * pair + TX, &(struct buf){c->area, HEADER + len}, 1, 0) >= 0);
	ring_kick(&c->d, 2 * pair + TX);
	c->peer = c->peers[pair];
	bool came = comes_out(c, false, len, pair);
	c->peer = c->peers[0];
	return came;
}

static void test_pairs(void)
{
	struct card *c = &card;
	struct virtio_net_config config = {0};
	REQUIRE(card_open_several(c, BASIC | MRG | SEVERAL));
	virtio_mmio_read(&c->d.mmio, VIRTIO_MMIO_CONFIG + 8, &config.max_virtqueue_pairs, 2);
	CHECK_EQ(config.max_virtqueue_pairs, NET_PAIRS_MAX);
	CHECK_EQ(drv_queues(&c->d), 2 * NET_PAIRS_MAX + 1);
	/* Section 5.1.6.5.6: until the driver says so, it uses the first pair alone. */
	CHECK(receives(c, 0, 100));
	CHECK(!receives(c, 1, 101));
	CHECK_EQ(use_pairs(c, 2), VIRTIO_NET_OK);
	CHECK(!receives(c, 2, 102));
	uint16_t head;
	uint32_t len;
	CHECK(ring_used(&c->d, 2 + RX, &head, &len) && len == HEADER + 101); /* the frame that has waited */
	for (unsigned i = 0; i < 2; i++)
		CHECK(receives(c, i, 200 + i) && sends(c, i, 300 + i));
	CHECK_EQ(use_pairs(c, 3), VIRTIO_NET_OK);
	CHECK(ring_wait(&c->d, 4 + RX, &head, &len) && len == HEADER + 102);
	CHECK(receives(c, 2, 400) && sends(c, 2, 401));
	CHECK_EQ(use_pairs(c, 1), VIRTIO_NET_OK);
	CHECK(!receives(c, 1, 500) && !receives(c, 2, 501) && receives(c, 0, 502));
	/* A reset, too, leaves the first pair. */
	CHECK_EQ(use_pairs(c, 3), VIRTIO_NET_OK);
	drv_reset(&c->d);
	REQUIRE(drv_start(&c->d, BASIC | MRG | SEVERAL, 64));
	CHECK(!receives(c, 1, 600) && receives(c, 0, 601));
	CHECK(!drv_failed(&c->d));
	card_close(c);
}

static void test_commands(void)
{
	static const struct {
		uint8_t bytes[6];
		uint32_t len;
	} refused[] = {{{4, 0, 0, 0}, 4}, {{4, 0, 4, 0}, 4}, {{4, 0, 1, 1}, 4}, {{4, 0, 255, 255}, 4},
	        {{4, 1, 1, 0}, 4}, {{3, 0, 1, 0}, 4}, {{0, 0, 1}, 3}, {{4, 0, 1}, 3}, {{255, 255}, 2}};
	struct card *c = &card;
	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		REQUIRE(card_open_several(c, BASIC | SEVERAL));
		CHECK_EQ(command(c, CONTROL, refused[i].bytes, refused[i].len, 1), VIRTIO_NET_ERR);
		CHECK(!receives(c, 1, 101) && receives(c, 0, 100));
		CHECK(!drv_failed(&c->d));
		card_close(c);
	}
	/* What follows a whole command is not looked at, nor room that it does not need. */
	REQUIRE(card_open_several(c, BASIC | SEVERAL));
	CHECK_EQ(command(c, CONTROL, "\4\0\2\0\7\7", 6, 20), VIRTIO_NET_OK);
	CHECK(receives(c, 1, 100));
	/* Nobody could learn the answer. */
	CHECK_EQ(command(c, CONTROL, "\4\0\1\0", 4, 0), NO_ANSWER);
	CHECK(drv_failed(&c->d));
	CHECK_EQ(c->g.log_lines, 1);
	card_close(c);
	/* Without MQ, the control queue is the third one, and the command is not known. */
	REQUIRE(card_open_several(c, BASIC | 1ull << VIRTIO_NET_F_CTRL_VQ));
	CHECK_EQ(drv_queues(&c->d), 3);
	CHECK_EQ(command(c, 2, "\4\0\2\0", 4, 1), VIRTIO_NET_ERR);
	CHECK(receives(c, 0, 100) && sends(c, 0, 100));
	card_close(c);
	/* Without a control queue, that of this number does nothing. */
	REQUIRE(card_open_several(c, BASIC));
	uint64_t at = guest_alloc(&c->g, BUFFER, 16);
	CHECK(ring_add(&c->d, 2, &(struct buf){at, BUFFER}, 0, 1) >= 0);
	ring_kick(&c->d, 2);
	CHECK(receives(c, 0, 100));
	CHECK(!drv_failed(&c->d));
	card_close(c);
	/* A card with one pair has neither. */
	REQUIRE(card_open(c, false, ~0ull));
	CHECK_EQ(c->d.features & SEVERAL, 0);
	card_close(c);
}

/* A device that its driver has not set up, to be restored. */
static bool open_copy(struct card *c, struct net_options *options)
{
	int pair[2], peers[NET_PAIRS_MAX];
	for (unsigned i = 0; i < NET_PAIRS_MAX; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
			return false;
		options->fd[i] = pair[0];
		peers[i] = pair[1];
	}
	options->mtu = 1500;
	if (!card_create(c, options, peers[0]))
		return false;
	memcpy(c->peers, peers, sizeof(peers));
	return true;
}

static void test_pairs_state(void)
{
	struct card *c = &card, *copy = &other;
	struct virtio_state state;
	struct err err = {0};
	uint16_t head;
	uint32_t len;
	REQUIRE(card_open_several(c, BASIC | SEVERAL));
	CHECK_EQ(use_pairs(c, 2), VIRTIO_NET_OK);
	uint64_t at = guest_alloc(&c->g, BUFFER, 16);
	CHECK(ring_add(&c->d, 2 + RX, &(struct buf){at, BUFFER}, 0, 1) >= 0); /* which the device holds */
	ring_kick(&c->d, 2 + RX);
	guest_settle(&c->g, 5);
	virtio_save(&c->d.mmio, &state);
	CHECK_EQ(state.own[1], 1);
	CHECK_EQ(state.queue[2 + RX].avail_next, 0);

	REQUIRE(open_copy(copy, &(struct net_options){.pairs = NET_PAIRS_MAX}));
	copy_rings(copy, c);
	CHECK_EQ(virtio_restore(&copy->d.mmio, &state, &err), 0);
	virtio_resume(copy->d.dev);
	copy->peer = copy->peers[1];
	put(copy, false, 99, 7);
	CHECK(ring_wait(&copy->d, 2 + RX, &head, &len) && len == HEADER + 99);
	copy->peer = copy->peers[0];
	CHECK(!receives(copy, 2, 98) && receives(copy, 0, 97));
	CHECK_EQ(use_pairs(copy, 3), VIRTIO_NET_OK);
	card_close(copy);

	for (unsigned i = 0; i < 4; i++) {
		struct virtio_state bad = state;
		unsigned pairs = NET_PAIRS_MAX;
		const char *why = "more queues than it has";
		if (i == 0) {
			bad.own[1] = NET_PAIRS_MAX;
		} else if (i == 1) {
			bad.own[1] = UINT64_MAX;
		} else if (i == 2) {
			bad.driver_features = bad.negotiated &= ~(1ull << VIRTIO_NET_F_MQ);
			why = "its driver does not have";
		} else {
			pairs = 2;
			why = "another number of queues";
		}
		struct net_options options = {.pairs = pairs};
		REQUIRE(open_copy(copy, &options));
		copy_rings(copy, c);
		CHECK_EQ(virtio_restore(&copy->d.mmio, &bad, &err), -EINVAL);
		if (!strstr(err.text, why))
			printf("# %s\n", err.text);
		CHECK(strstr(err.text, why));
		if (pairs < NET_PAIRS_MAX)
			close(options.fd[2]);
		card_close(copy);
		err = (struct err){0};
	}
	card_close(c);
}

TEST_MAIN("virtio_net_pairs", {"pairs", test_pairs}, {"commands", test_commands}, {"state", test_pairs_state})
