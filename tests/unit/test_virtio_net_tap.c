/* SPDX-License-Identifier: Apache-2.0 */
/* The network device on a tap device: the kernel's own network stack is at the other end. */
#include "tests/unit/guest_card.h"

#include <linux/if_ether.h>

#include "tests/unit/tap.h"

static struct card card;

static void put_ethernet(uint8_t *frame, const uint8_t *to, uint16_t protocol)
{
	protocol = htons(protocol);
	memcpy(frame, to, 6);
	memcpy(frame + 6, mac, 6);
	memcpy(frame + 12, &protocol, 2);
}

static void post_bytes(struct card *c, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame, uint32_t len)
{
	uint8_t *at = guest_at(&c->g, c->area, HEADER + len);
	memcpy(at, hdr, HEADER);
	memcpy(at + HEADER, frame, len);
	CHECK(ring_add(&c->d, TX, &(struct buf){c->area, HEADER + len}, 1, 0) >= 0);
	ring_kick(&c->d, TX);
}

/* The next frame of this protocol; others (IPv6's first words) are skipped. */
static bool await_protocol(struct card *c, uint16_t protocol, uint8_t *frame)
{
	unsigned buffers;
	while (take_frame(c, frame, &buffers) > 0) {
		if (frame[HEADER + 12] << 8 == (protocol & 0xff00) && frame[HEADER + 13] == (protocol & 0xff))
			return true;
	}
	return false;
}

static void send_arp(struct card *c)
{
	uint8_t request[42] = {0};
	put_ethernet(request, (const uint8_t *)"\xff\xff\xff\xff\xff\xff", ETH_P_ARP);
	memcpy(request + 14, "\0\1\x08\0\6\4\0\1", 8);
	memcpy(request + 22, mac, 6);
	memcpy(request + 28, "\x0a\x09\0\2", 4);
	memcpy(request + 38, "\x0a\x09\0\1", 4);
	post_bytes(c, &(struct virtio_net_hdr_v1){0}, request, sizeof(request));
}

static const uint8_t *ask_arp(struct card *c, uint8_t *frame)
{
	send_arp(c);
	return await_protocol(c, ETH_P_ARP, frame) ? frame + HEADER + 22 : NULL;
}

static uint16_t sum16(const uint8_t *at, size_t len, uint32_t sum)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)(at[i] << 8 | at[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* A UDP datagram whose checksum is the host's to complete: its receiver gets it only if the host did. */
static void send_unsummed(struct card *c, const uint8_t *to, uint16_t port)
{
	uint8_t f[14 + 20 + 8 + 6] = {0};
	struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
	put_ethernet(f, to, ETH_P_IP);
	memcpy(f + 14, "\x45\0\0\x22\0\0\0\0\x40\x11\0\0\x0a\x09\0\2\x0a\x09\0\1", 20);
	uint16_t sum = (uint16_t)~sum16(f + 14, 20, 0);
	f[24] = (uint8_t)(sum >> 8);
	f[25] = (uint8_t)sum;
	memcpy(f + 34, "\x10\0\0\0\0\x0e\0\0hello!", 14);
	f[36] = (uint8_t)(port >> 8);
	f[37] = (uint8_t)port;
	sum = sum16(f + 26, 8, 17 + 14); /* of the pseudo header */
	f[40] = (uint8_t)(sum >> 8);
	f[41] = (uint8_t)sum;
	post_bytes(c, &hdr, f, sizeof(f));
}

static void talk_to_kernel(int fd)
{
	static uint8_t frame[1 << 17];
	struct card *c = &card;
	char got[16] = "";
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct net_options options = {.fd = {fd}, .offload = true, .mtu = 1500};
	memcpy(options.mac, mac, sizeof(mac));
	REQUIRE(bind(udp, (struct sockaddr *)&address, size) == 0);
	REQUIRE(getsockname(udp, (struct sockaddr *)&address, &size) == 0);
	REQUIRE(card_create(c, &options, -1) && drv_start(&c->d, ~0ull, 128));
	CHECK_EQ(c->d.features & (CHECKSUMS | SEGMENTS), CHECKSUMS | SEGMENTS);
	give(c, 100, BUFFER);
	const uint8_t *host = ask_arp(c, frame);
	REQUIRE(host != NULL);
	uint8_t to[6];
	memcpy(to, host, 6);
	send_unsummed(c, to, ntohs(address.sin_port));
	for (long long end = now_ms() + 2000; recv(udp, got, sizeof(got), MSG_DONTWAIT) < 0 && now_ms() < end;)
		loop_step(c->g.loop, 5);
	CHECK_STR(got, "hello!");
	/* And what the host's kernel refuses harms nobody. */
	post_bytes(c, &(struct virtio_net_hdr_v1){.gso_type = 0xee, .hdr_len = 0xffff, .flags = 0xff}, to, 6);
	post_bytes(c, &(struct virtio_net_hdr_v1){.flags = 1, .csum_start = 0xfff0, .csum_offset = 0xfff0}, to, 6);
	CHECK(ask_arp(c, frame) != NULL);
	CHECK(link_is_up(c) && !drv_failed(&c->d));
	CHECK_EQ(c->g.log_lines, 0);
	close(udp);
	card_close(c);
}

/* --- several queues --- */

#define PAIRS 2u
#define FLOWS 20u /* four times as many fit the buffers */
#define PAUSE_MS 100

static unsigned changes; /* of which queues the host's kernel uses, as it was told */

int __real_ioctl(int fd, unsigned long request, void *data);
int __wrap_ioctl(int fd, unsigned long request, void *data);
int __wrap_ioctl(int fd, unsigned long request, void *data)
{
	changes += request == TUNSETQUEUE;
	return __real_ioctl(fd, request, data);
}

/* How many datagrams of the host have come by this pair, of which the buffers are given back. */
static unsigned count_udp(struct card *c, unsigned pair)
{
	unsigned queue = 2 * pair + RX, count = 0;
	uint16_t head;
	uint32_t len;
	while (ring_used(&c->d, queue, &head, &len)) {
		const uint8_t *frame = guest_at(&c->g, c->rx[head] + pair * VIRTQ_SIZE_MAX * BUFFER, BUFFER);
		count += frame[HEADER + 12] == 0x08 && frame[HEADER + 23] == IPPROTO_UDP;
	}
	return count;
}

/* Datagrams from many ports of the host to the guest, which the kernel spreads over the queues. */
static void send_flows(unsigned got[PAIRS], struct card *c)
{
	struct sockaddr_in guest = {.sin_family = AF_INET, .sin_port = htons(7)};
	inet_pton(AF_INET, "10.9.0.2", &guest.sin_addr);
	got[0] = got[1] = 0;
	for (unsigned i = 0; i < FLOWS; i++) {
		int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		CHECK_EQ(sendto(udp, "hello", 5, 0, (struct sockaddr *)&guest, sizeof(guest)), 5);
		close(udp);
	}
	for (long long end = now_ms() + 2000; got[0] + got[1] < FLOWS && now_ms() < end;) {
		loop_step(c->g.loop, 5);
		got[0] += count_udp(c, 0);
		got[1] += count_udp(c, 1);
	}
}

/* Adds a command to the control queue, without a kick. Returns where its answer will be. */
static const uint8_t *add_command(struct card *c, uint8_t pairs)
{
	uint64_t at = guest_alloc(&c->g, 16, 16);
	uint8_t *bytes = guest_at(&c->g, at, 16);
	memcpy(bytes, (const uint8_t[]){VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, pairs, 0, 0xee}, 5);
	CHECK(ring_add(&c->d, 2 * PAIRS, (struct buf[]){{at, 4}, {at + 4, 1}}, 1, 1) >= 0);
	return bytes + 4;
}

static bool is_obeyed(struct card *c, const uint8_t *answer)
{
	uint16_t head;
	uint32_t len;
	return ring_wait(&c->d, 2 * PAIRS, &head, &len) && *answer == VIRTIO_NET_OK;
}

static bool use_pairs(struct card *c, uint8_t pairs)
{
	const uint8_t *answer = add_command(c, pairs);
	ring_kick(&c->d, 2 * PAIRS);
	return is_obeyed(c, answer);
}

/* Buffers for both pairs: those of the second one are at the same distance from the first one's. */
static void give_both(struct card *c)
{
	uint64_t at = guest_alloc(&c->g, PAIRS * VIRTQ_SIZE_MAX * BUFFER, 16);
	for (unsigned i = 0; i < VIRTQ_SIZE_MAX; i++) {
		for (unsigned pair = 0; pair < PAIRS; pair++) {
			uint64_t buffer = at + (pair * VIRTQ_SIZE_MAX + i) * BUFFER;
			int head = ring_add(&c->d, 2 * pair + RX, &(struct buf){buffer, BUFFER}, 0, 1);
			CHECK(head >= 0);
			if (pair == 0 && head >= 0)
				c->rx[head] = buffer;
		}
	}
	ring_kick(&c->d, RX);
	ring_kick(&c->d, 2 + RX);
}

static bool open_queues(struct card *c, int fd)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE, .ifr_name = "tap0"};
	struct net_options options = {
	        .pairs = PAIRS, .fd = {fd, open("/dev/net/tun", O_RDWR | O_CLOEXEC)}, .offload = true, .mtu = 1500};
	memcpy(options.mac, mac, sizeof(mac));
	if (ioctl(options.fd[1], TUNSETIFF, &request) < 0 || !card_create(c, &options, -1) ||
	        !drv_start(&c->d, ~0ull, VIRTQ_SIZE_MAX))
		return false;
	give_both(c);
	return true;
}

/* What the driver wants is done: it may wait for the end of a pause. */
static void end_pause(struct card *c)
{
	guest_settle(&c->g, PAUSE_MS + 20);
}

static void talk_over_queues(int fd)
{
	struct card *c = &card;
	unsigned got[PAIRS];
	REQUIRE(open_queues(c, fd));
	CHECK_EQ(drv_queues(&c->d), 2 * PAIRS + 1);
	/* The host learns the guest's MAC. */
	send_arp(c);
	guest_settle(&c->g, 10);

	/* All by the first pair, until the driver uses the second one; and so again. */
	send_flows(got, c);
	CHECK(got[0] == FLOWS && got[1] == 0);
	CHECK(use_pairs(c, 2));
	end_pause(c);
	send_flows(got, c);
	CHECK_EQ(got[0] + got[1], FLOWS);
	CHECK(got[0] > 0 && got[1] > 0);
	/* The host's kernel hears of the last command alone: it would drop what waits for a queue that it detaches. */
	const uint8_t *answers[] = {add_command(c, 1), add_command(c, 2)};
	ring_kick(&c->d, 2 * PAIRS);
	send_flows(got, c);
	CHECK_EQ(got[0] + got[1], FLOWS);
	CHECK(got[1] > 0);
	CHECK(is_obeyed(c, answers[0]) && is_obeyed(c, answers[1]));
	CHECK(use_pairs(c, 1));
	end_pause(c);
	send_flows(got, c);
	CHECK(got[0] == FLOWS && got[1] == 0);
	CHECK(link_is_up(c) && !drv_failed(&c->d));
	card_close(c);
}

/* A driver that changes its mind all the time, by commands and by resets, has its last wish. */
static void change_often(int fd)
{
	enum { COMMANDS = 1000, RESETS = 50 };
	struct card *c = &card;
	unsigned got[PAIRS];
	long long begun = now_ms();
	REQUIRE(open_queues(c, fd));
	for (unsigned i = 0; i < COMMANDS; i++)
		REQUIRE(use_pairs(c, i % 2 ? 2 : 1));
	send_arp(c);
	end_pause(c);
	send_flows(got, c);
	CHECK_EQ(got[0] + got[1], FLOWS);
	CHECK(got[1] > 0);
	for (unsigned i = 0; i < RESETS; i++) {
		REQUIRE(use_pairs(c, 2));
		drv_reset(&c->d);
		REQUIRE(drv_start(&c->d, ~0ull, VIRTQ_SIZE_MAX));
	}
	end_pause(c);
	give_both(c);
	send_flows(got, c);
	CHECK(got[0] == FLOWS && got[1] == 0);
	printf("# %u changes in %lld ms\n", changes, now_ms() - begun);
	CHECK(changes > 2 && changes <= 2 + (now_ms() - begun) / PAUSE_MS);
	CHECK(use_pairs(c, 2)); /* and ends in the middle of it */
	CHECK(link_is_up(c) && !drv_failed(&c->d));
	card_close(c);
}

static int make_tap(short flags)
{
	int size = HEADER, fd = tap_make((short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags), "10.9.0.1");
	return fd >= 0 && ioctl(fd, TUNSETVNETHDRSZ, &size) == 0 ? fd : -1;
}

static void test_kernel(void)
{
	tap_in_child(make_tap, 0, talk_to_kernel, TAP_MISSING);
}

static void test_queues(void)
{
	tap_in_child(make_tap, IFF_MULTI_QUEUE, talk_over_queues, TAP_MISSING);
}

static void test_changes(void)
{
	tap_in_child(make_tap, IFF_MULTI_QUEUE, change_often, TAP_MISSING);
}

TEST_MAIN("virtio_net_tap", {"kernel", test_kernel}, {"queues", test_queues}, {"changes", test_changes})
