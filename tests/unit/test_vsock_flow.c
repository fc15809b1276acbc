/* SPDX-License-Identifier: Apache-2.0 */
/* What flows through the socket device, and who waits: credit, turns, queues without buffers, completions. */
#include "tests/unit/guest_net.h"

#include <sys/resource.h>

/* A host that does not read: the guest may send so much ahead, and not a byte more; others are not held up. */
static void test_slow_host(void)
{
	struct net t;
	struct stream slow, other;
	struct packet p;
	static uint8_t block[32768];
	char text[16];
	REQUIRE(net_open(&t));
	int fd = open_stream(&t, &slow, 1), fd2 = open_stream(&t, &other, 2);
	REQUIRE(fd >= 0 && fd2 >= 0);
	size_t stalled = 0;
	for (unsigned i = 0; i < 100; i++) {
		while (take(&t, &p))
			slow.peer_fwd = p.hdr.src_port == slow.host_port ? p.hdr.fwd_cnt : slow.peer_fwd;
		uint32_t room = HOST_BUFFER - (slow.sent - slow.peer_fwd);
		if (room < sizeof(block)) {
			stalled = slow.sent;
			break;
		}
		fill(block, slow.sent, sizeof(block));
		CHECK(send_data(&t, &slow, block, sizeof(block)));
	}
	CHECK(stalled >= HOST_BUFFER && stalled < HOST_BUFFER * 4); /* the device's buffer, and what the socket holds */
	CHECK(send_data(&t, &other, "through", 7));
	CHECK_EQ(client_read(&t, fd2, text, sizeof(text)), 7);

	/* Bytes that come when the socket has room again, but older ones still wait: they wait behind these. */
	size_t got = 0;
	uint16_t head;
	uint32_t used;
	fill(block, slow.sent, 100);
	struct virtio_vsock_hdr hdr = header_of(&slow, VIRTIO_VSOCK_OP_RW, 100);
	CHECK(post_raw(&t, &hdr, block, 100, 0));
	ssize_t early = recv(fd, block, sizeof(block), MSG_DONTWAIT);
	REQUIRE(early > 0 && follows(block, &got, (size_t)early));
	REQUIRE(ring_wait(&t.d, TX, &head, &used));
	stalled = slow.sent += 100;

	bool told = false; /* as the host reads, the guest hears of room */
	while (got < stalled) {
		ssize_t n = client_read(&t, fd, block, sizeof(block));
		REQUIRE(n > 0 && follows(block, &got, (size_t)n));
		loop_step(t.g.loop, 0);
		while (take(&t, &p))
			told |= p.hdr.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE && p.hdr.fwd_cnt > slow.peer_fwd;
	}
	CHECK(told);
	CHECK(send_op(&t, &slow, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_CREDIT_UPDATE));
	CHECK_EQ(p.hdr.fwd_cnt, slow.sent);

	/* A guest that closes at once loses nothing of what it sent. */
	fill(block, 0, sizeof(block));
	for (unsigned i = 0; i < 12; i++)
		CHECK(send_data(&t, &slow, block, sizeof(block)));
	CHECK(send_op(&t, &slow, VIRTIO_VSOCK_OP_SHUTDOWN, 3));
	do
		REQUIRE(take_wait(&t, &p));
	while (p.hdr.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	CHECK_EQ(p.hdr.op, VIRTIO_VSOCK_OP_RST);
	ssize_t n;
	got = 0;
	while ((n = client_read(&t, fd, block, sizeof(block))) > 0)
		got += (size_t)n;
	CHECK_EQ(n, 0);
	CHECK_EQ(got, 12 * sizeof(block));

	/* More than its credit: reset. */
	for (unsigned i = 0; i < 40; i++)
		CHECK(send_data(&t, &other, block, sizeof(block)));
	bool reset = false;
	while (take(&t, &p))
		reset |= p.hdr.op == VIRTIO_VSOCK_OP_RST;
	CHECK(reset);
	close(fd);
	close(fd2);
	net_close(&t);
}

/* A guest that gives no credit gets no byte, is asked once, and gets all later. */
static void test_no_credit(void)
{
	struct net t;
	struct packet p;
	struct stream s = {.guest_port = 3};
	REQUIRE(net_open(&t));
	int fd = client_connect(t.path);
	say_line(fd, "CONNECT 3\nhello");
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_REQUEST));
	s.host_port = p.hdr.src_port;
	struct virtio_vsock_hdr hdr = header_of(&s, VIRTIO_VSOCK_OP_RESPONSE, 0);
	hdr.buf_alloc = 0;
	CHECK(send_raw(&t, &hdr, NULL, 0, 0));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_CREDIT_REQUEST));
	hdr.op = VIRTIO_VSOCK_OP_CREDIT_UPDATE; /* still none */
	CHECK(send_raw(&t, &hdr, NULL, 0, 0));
	hdr.fwd_cnt = 1000; /* more than was ever sent */
	hdr.buf_alloc = 500;
	CHECK(send_raw(&t, &hdr, NULL, 0, 0));
	say_line(fd, " world");
	guest_settle(&t.g, 10);
	CHECK(!take(&t, &p)); /* and it is not asked again and again */
	hdr.fwd_cnt = 0;
	hdr.buf_alloc = 4;
	CHECK(send_raw(&t, &hdr, NULL, 0, 0));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RW));
	CHECK(p.hdr.len == 4 && memcmp(p.data, "hell", 4) == 0);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_CREDIT_REQUEST));
	hdr.fwd_cnt = 4;
	hdr.buf_alloc = 100;
	CHECK(send_raw(&t, &hdr, NULL, 0, 0));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RW));
	CHECK(p.hdr.len == 7 && memcmp(p.data, "o world", 7) == 0);
	close(fd);
	net_close(&t);
}

/* No rx buffers, and more resets to send than the device keeps: the tx queue waits, and goes on later. */
static void test_starved(void)
{
	enum { PACKETS = 120 };
	struct net t;
	struct packet p;
	REQUIRE(net_create(&t) && net_start(&t, 0));
	uint64_t area = guest_alloc(&t.g, PACKETS * HEADER, 8);
	for (uint32_t i = 0; i < PACKETS; i++) {
		struct stream s = {.guest_port = i, .host_port = 1};
		struct virtio_vsock_hdr hdr = header_of(&s, VIRTIO_VSOCK_OP_RW, 0);
		memcpy(guest_at(&t.g, area + i * HEADER, HEADER), &hdr, HEADER);
		REQUIRE(ring_add(&t.d, TX, &(struct buf){area + i * HEADER, HEADER}, 1, 0) >= 0);
	}
	ring_kick(&t.d, TX);
	int fd = client_connect(t.path);
	say_line(fd, "CONNECT 5\n");
	guest_settle(&t.g, 10);
	uint16_t head;
	uint32_t len;
	unsigned done = 0;
	while (ring_used(&t.d, TX, &head, &len))
		done++;
	CHECK_EQ(done, 64);
	for (unsigned i = 0; i < 32; i++)
		give_rx(&t, i);
	ring_kick(&t.d, RX);
	for (uint32_t i = 0; i < PACKETS; i++) { /* all of them, in order */
		REQUIRE(take_wait(&t, &p));
		if (p.hdr.op == VIRTIO_VSOCK_OP_REQUEST)
			REQUIRE(take_wait(&t, &p));
		CHECK_EQ(p.hdr.op, VIRTIO_VSOCK_OP_RST);
		CHECK_EQ(p.hdr.dst_port, i);
	}
	guest_settle(&t.g, 5);
	while (ring_used(&t.d, TX, &head, &len))
		done++;
	CHECK_EQ(done, PACKETS);
	close(fd);
	net_close(&t);
}

/* --- thousands at once --- */

enum { MANY = 2000, LOUD = 0, DEAF = 1, QUIET = 2 };

struct many {
	struct net t;
	struct rlimit limit; /* as it was */
	int fd[MANY];
	struct stream s[MANY]; /* of guest port i */
};

static bool many_allowed(struct many *m)
{
	getrlimit(RLIMIT_NOFILE, &m->limit);
	struct rlimit more = m->limit;
	more.rlim_cur = more.rlim_max < 8192 ? more.rlim_max : 8192;
	setrlimit(RLIMIT_NOFILE, &more);
	return more.rlim_cur >= 2 * MANY + 64; /* both ends are here */
}

/* All of them ask before the first is answered. */
static void many_open(struct many *m)
{
	struct packet p;
	char line[32];
	for (unsigned i = 0; i < MANY; i++) {
		m->fd[i] = client_connect(m->t.path);
		for (unsigned tries = 0; m->fd[i] < 0 && tries < 100; tries++) { /* the backlog is full */
			loop_step(m->t.g.loop, 1);
			m->fd[i] = client_connect(m->t.path);
		}
		REQUIRE(m->fd[i] >= 0);
		snprintf(line, sizeof(line), "CONNECT %u\n", i);
		say_line(m->fd[i], line);
	}
	for (unsigned i = 0; i < MANY; i++) {
		REQUIRE(expect(&m->t, &p, VIRTIO_VSOCK_OP_REQUEST));
		REQUIRE(p.hdr.dst_port < MANY && m->s[p.hdr.dst_port].host_port == 0);
		m->s[p.hdr.dst_port] = (struct stream){
		        .guest_port = p.hdr.dst_port, .host_port = p.hdr.src_port, .peer_alloc = p.hdr.buf_alloc};
	}
	for (unsigned i = 0; i < MANY; i++)
		CHECK(send_op(&m->t, &m->s[i], VIRTIO_VSOCK_OP_RESPONSE, 0));
	for (unsigned i = 0; i < MANY; i++)
		CHECK(client_read(&m->t, m->fd[i], line, sizeof(line)) > 0);
}

/*
 * Two thousand streams, of which one never ends and one has a client that never reads, and the guest sent it all that
 * it may. Everybody else is heard, both ways, about as soon as if those were not there.
 */
static void test_many(void)
{
	static struct many m;
	static uint8_t block[32768];
	struct packet p;
	memset(&m, 0, sizeof(m));
	if (!many_allowed(&m))
		SKIP("not enough file descriptors");
	REQUIRE(net_open(&m.t));
	many_open(&m);
	REQUIRE(!test_failed);

	struct stream *deaf = &m.s[DEAF];
	while (deaf->peer_alloc - (deaf->sent - deaf->peer_fwd) >= sizeof(block)) {
		CHECK(send_data(&m.t, deaf, block, sizeof(block)));
		while (take(&m.t, &p))
			deaf->peer_fwd = p.hdr.fwd_cnt;
	}
	int much = 1 << 20;
	setsockopt(m.fd[LOUD], SOL_SOCKET, SO_SNDBUF, &much, sizeof(much));
	m.s[LOUD].alloc = 1u << 30;
	CHECK(send_op(&m.t, &m.s[LOUD], VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0));

	unsigned loud = 0, heard = 0;
	while (heard < MANY - QUIET) {
		while (send(m.fd[LOUD], block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			;
		REQUIRE(expect(&m.t, &p, VIRTIO_VSOCK_OP_RW));
		if (p.hdr.dst_port == LOUD) {
			loud++;
			for (unsigned i = QUIET; loud == RX_BUFFERS && i < MANY; i++) /* it is in full flow */
				CHECK_EQ(send(m.fd[i], &i, sizeof(i), MSG_NOSIGNAL), sizeof(i));
			continue;
		}
		unsigned value;
		memcpy(&value, p.data, sizeof(value));
		CHECK(p.hdr.len == sizeof(value) && value == p.hdr.dst_port && value >= QUIET);
		CHECK_EQ(m.s[value].fwd_cnt, 0); /* once each */
		m.s[value].fwd_cnt = p.hdr.len;
		heard++;
	}
	printf("# %u streams were heard beside %u packets of the one that does not end\n", heard, loud);
	CHECK(loud >= RX_BUFFERS && loud < MANY); /* its turns are of 8 packets, and as many as anybody's */

	for (unsigned i = QUIET; i < MANY; i++) {
		unsigned value = 0;
		CHECK(send_data(&m.t, &m.s[i], &i, sizeof(i)));
		while (take(&m.t, &p))
			;
		CHECK_EQ(recv(m.fd[i], &value, sizeof(value), MSG_DONTWAIT), sizeof(value));
		CHECK_EQ(value, i);
	}
	CHECK(!drv_failed(&m.t.d));
	for (unsigned i = 0; i < MANY; i++)
		close(m.fd[i]);
	net_close(&m.t);
	setrlimit(RLIMIT_NOFILE, &m.limit);
}

/* Everybody has its turn: a stream without end, and with all the credit it wants, does not hold up another. */
static void test_fair(void)
{
	struct net t;
	struct stream loud, quiet;
	struct packet p;
	static uint8_t block[65536];
	REQUIRE(net_open(&t));
	int fd = open_stream(&t, &loud, 1), fd2 = open_stream(&t, &quiet, 2);
	REQUIRE(fd >= 0 && fd2 >= 0);
	int much = 1 << 20; /* more than all receive buffers together, so that it never runs dry */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &much, sizeof(much));
	loud.alloc = 1u << 30;
	CHECK(send_op(&t, &loud, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0));
	unsigned packets = 0;
	for (bool said = false; packets < 1000; packets++) {
		while (send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			;
		if (packets == 100 && !said) {
			say_line(fd2, "me too");
			said = true;
		}
		REQUIRE(take_wait(&t, &p));
		CHECK_EQ(p.hdr.op, VIRTIO_VSOCK_OP_RW);
		if (p.hdr.dst_port == 2)
			break;
	}
	/* It waits for what was in the ring already, and for what was put there before its bytes were noticed. */
	CHECK(packets >= 100 && packets < 100 + 2 * RX_BUFFERS + 16);
	close(fd);
	close(fd2);
	net_close(&t);
}

/* Buffers of packets that were sent come back without an interrupt of their own. */
static void test_quiet_completions(void)
{
	struct net t;
	struct stream s;
	struct packet p;
	uint16_t head;
	uint32_t len;
	REQUIRE(net_open(&t));
	int fd = open_stream(&t, &s, 5);
	REQUIRE(fd >= 0);
	struct virtio_vsock_hdr hdr = header_of(&s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);

	/* Shown at once, with no interrupt before there is something to say. */
	guest_settle(&t.g, 2 * VIRTIO_QUIET_MS); /* the response was quiet, too */
	drv_interrupts(&t.d);
	REQUIRE(post_raw(&t, &hdr, NULL, 0, 0) && wait_taken(&t));
	CHECK_EQ(t.d.ring[TX].used[1], (uint16_t)(t.d.ring[TX].used_seen + 1));
	CHECK_EQ(drv_interrupts(&t.d), 0);
	CHECK_EQ(send(fd, "x", 1, MSG_NOSIGNAL), 1);
	CHECK(expect(&t, &p, VIRTIO_VSOCK_OP_RW));
	CHECK(ring_used(&t.d, TX, &head, &len));
	CHECK(drv_interrupts(&t.d) >= 1);

	/* At the end of the round when a quarter of the queue waits. */
	unsigned quarter = t.d.ring[TX].size / 4, back = 0;
	for (unsigned i = 0; i < quarter; i++)
		REQUIRE(post_raw(&t, &hdr, NULL, 0, 0));
	REQUIRE(wait_taken(&t));
	CHECK(drv_interrupts(&t.d) >= 1);
	while (ring_used(&t.d, TX, &head, &len))
		back++;
	CHECK_EQ(back, quarter);

	/* After a while in any case. */
	REQUIRE(post_raw(&t, &hdr, NULL, 0, 0));
	for (long long end = now_ms() + 2000; drv_interrupts(&t.d) == 0;) {
		REQUIRE(now_ms() < end);
		loop_step(t.g.loop, 20);
	}
	CHECK(ring_used(&t.d, TX, &head, &len));

	/* What waits when the device is reset is forgotten with all the rest. */
	REQUIRE(post_raw(&t, &hdr, NULL, 0, 0) && wait_taken(&t));
	drv_reset(&t.d);
	REQUIRE(net_start(&t, RX_BUFFERS));
	REQUIRE(post_raw(&t, &hdr, NULL, 0, 0));
	CHECK(ring_wait(&t.d, TX, &head, &len));
	CHECK(!ring_used(&t.d, TX, &head, &len));
	close(fd);
	net_close(&t);
}

TEST_MAIN("vsock_flow", {"slow_host", test_slow_host}, {"no_credit", test_no_credit}, {"starved", test_starved},
        {"many", test_many}, {"fair", test_fair}, {"quiet_completions", test_quiet_completions})
