/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers of the socket device that stop in the middle: clients without a line, guests without an answer, and streams
 * that are cut on either side at any moment. What arrives is intact; what does not end well ends in a reset.
 */
#include "tests/unit/guest_net.h"

#define PATIENCE_MS 30u
#define STREAMS 8u
#define CHUNK_MAX 60000u

#ifdef __SANITIZE_ADDRESS__
#define BYTES_WANTED 20000000ull
#else
#define BYTES_WANTED 100000000ull
#endif

static bool open_impatient(struct net *t)
{
	struct virtio_dev *dev;
	struct err err = {0};
	memset(t, 0, sizeof(*t));
	if (!guest_open(&t->g))
		return false;
	snprintf(t->path, sizeof(t->path), "/tmp/wisp-test-impatient-%d", getpid());
	struct vsock_options opt = {.cid = CID, .socket_path = t->path, .patience_ms = PATIENCE_MS};
	if (vsock_create(&dev, &t->g.env, &opt, &err) < 0 || vsock_listen(dev, &err) < 0)
		return false;
	drv_open(&t->d, &t->g, dev);
	t->rx_area = guest_alloc(&t->g, RX_BUFFERS * RX_BYTES, 4096);
	t->tx_area = guest_alloc(&t->g, 128 << 10, 4096);
	return net_start(t, RX_BUFFERS);
}

/* A client that never ends its line is let go; one that has a stream is not, however quiet it is. */
static void test_silent_client(void)
{
	static struct net t;
	static struct packet p;
	struct stream s;
	char byte;
	REQUIRE(open_impatient(&t));
	int quiet = open_stream(&t, &s, 77);
	int silent = client_connect(t.path), half = client_connect(t.path);
	say_line(half, "CONNECT 7");
	long long began = now_ms();
	CHECK(client_closed(&t, silent));
	CHECK(client_closed(&t, half));
	CHECK(now_ms() - began >= PATIENCE_MS - 5);
	guest_settle(&t.g, 3 * PATIENCE_MS);
	CHECK(!take(&t, &p));
	CHECK_EQ(recv(quiet, &byte, 1, MSG_DONTWAIT), -1);
	CHECK_EQ(errno, EAGAIN);
	close(silent);
	close(half);
	close(quiet);
	net_close(&t);
}

/* A guest that does not answer the shutdown of both ways is told that it is over, and the table's entry is free. */
static void test_unanswered_shutdown(void)
{
	static struct net t;
	static struct packet p;
	struct stream s;
	REQUIRE(open_impatient(&t));
	close(open_stream(&t, &s, 77));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	CHECK_EQ(p.hdr.flags, 3);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	CHECK_EQ(p.hdr.dst_port, 77);
	/* Nobody knows it any more: what the guest still says is answered by a reset. */
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0));
	CHECK(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	net_close(&t);
}

/* --- streams that are cut --- */

enum end { ALIVE, CLIENT_GONE, GUEST_RESET, GUEST_ENDED, CLIENT_ENDED };

struct cut {
	struct stream s;
	int fd;
	enum end end;
	uint32_t told;                      /* fwd_cnt as last said */
	size_t base;                        /* where its pattern begins: no two streams have the same bytes */
	size_t guest_sent, client_got;      /* positions in the patterns: guest to client, */
	size_t client_sent, guest_got;      /* and client to guest */
	bool reset, client_eof, guest_told; /* what ended it as the other side sees it */
};

struct cuts {
	struct net t;
	struct cut cut[STREAMS];
	uint64_t random;
	uint64_t intact;
	uint32_t port;
	unsigned ends[CLIENT_ENDED + 1];
};

static uint64_t rnd(struct cuts *c, uint64_t below)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random % below;
}

static bool begin(struct cuts *c, struct cut *cut);

static struct cut *cut_of(struct cuts *c, const struct packet *p)
{
	for (unsigned i = 0; i < STREAMS; i++) {
		if (c->cut[i].s.guest_port == p->hdr.dst_port && c->cut[i].s.host_port == p->hdr.src_port)
			return &c->cut[i];
	}
	return NULL;
}

static void take_data(struct cuts *c, struct cut *cut, const struct packet *p)
{
	size_t at = cut->base + cut->guest_got;
	CHECK(follows(p->data, &at, p->hdr.len));
	cut->guest_got += p->hdr.len;
	cut->s.fwd_cnt += p->hdr.len;
	c->intact += p->hdr.len;
	CHECK(cut->guest_got <= cut->client_sent);
	if (cut->s.fwd_cnt - cut->told > GUEST_BUFFER / 2 && cut->end != GUEST_RESET && cut->end != GUEST_ENDED) {
		cut->told = cut->s.fwd_cnt;
		send_op(&c->t, &cut->s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	}
}

/* As a guest's kernel does it, but for what it has already forgotten. */
static void take_all(struct cuts *c)
{
	static struct packet p;
	while (take(&c->t, &p)) {
		struct cut *cut = cut_of(c, &p);
		if (!cut || cut->end == GUEST_RESET)
			continue; /* it was on its way */
		cut->s.peer_alloc = p.hdr.buf_alloc;
		cut->s.peer_fwd = p.hdr.fwd_cnt;
		switch (p.hdr.op) {
		case VIRTIO_VSOCK_OP_RW: take_data(c, cut, &p); break;
		case VIRTIO_VSOCK_OP_RST: cut->reset = true; break;
		case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
			cut->told = cut->s.fwd_cnt;
			send_op(&c->t, &cut->s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
			break;
		case VIRTIO_VSOCK_OP_SHUTDOWN:
			cut->guest_told |= p.hdr.flags & VIRTIO_VSOCK_SHUTDOWN_SEND;
			if (p.hdr.flags == 3 && cut->end != GUEST_ENDED)
				send_op(&c->t, &cut->s, VIRTIO_VSOCK_OP_RST, 0), cut->reset = true;
			break;
		default: break;
		}
	}
}

static void client_takes(struct cuts *c, struct cut *cut)
{
	static uint8_t bytes[65536];
	ssize_t n = -1;
	while (cut->fd >= 0 && (n = recv(cut->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
		size_t at = cut->base + cut->client_got;
		CHECK(follows(bytes, &at, (size_t)n));
		cut->client_got += (size_t)n;
		c->intact += (size_t)n;
		CHECK(cut->client_got <= cut->guest_sent);
	}
	if (cut->fd >= 0 && n == 0)
		cut->client_eof = true;
}

static void guest_sends(struct cuts *c, struct cut *cut)
{
	static uint8_t bytes[CHUNK_MAX];
	uint32_t room = cut->s.peer_alloc - (cut->s.sent - cut->s.peer_fwd), len = 1 + (uint32_t)rnd(c, CHUNK_MAX);
	if (cut->reset || len > room)
		return;
	fill(bytes, cut->base + cut->guest_sent, len);
	cut->guest_sent += len;
	CHECK(send_data(&c->t, &cut->s, bytes, len));
}

static void client_sends(struct cuts *c, struct cut *cut)
{
	static uint8_t bytes[CHUNK_MAX];
	size_t len = 1 + rnd(c, CHUNK_MAX);
	fill(bytes, cut->base + cut->client_sent, len);
	ssize_t n = send(cut->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		cut->client_sent += (size_t)n;
}

static void kill_stream(struct cuts *c, struct cut *cut)
{
	cut->end = CLIENT_GONE + rnd(c, CLIENT_ENDED);
	switch (cut->end) {
	case CLIENT_GONE:
		close(cut->fd);
		cut->fd = -1;
		break;
	case GUEST_RESET: send_op(&c->t, &cut->s, VIRTIO_VSOCK_OP_RST, 0); break;
	case GUEST_ENDED: send_op(&c->t, &cut->s, VIRTIO_VSOCK_OP_SHUTDOWN, 3); break;
	default: shutdown(cut->fd, SHUT_WR); break;
	}
	c->ends[cut->end]++;
}

/* Whether both sides know; those that ended in order have got everything. */
static bool is_over(struct cut *cut)
{
	switch (cut->end) {
	case CLIENT_GONE: return cut->reset;
	case GUEST_RESET: return cut->client_eof;
	case GUEST_ENDED: return cut->reset && cut->client_eof;
	case CLIENT_ENDED: return cut->guest_told || cut->reset;
	default: return cut->reset;
	}
}

static void settle(struct cuts *c, struct cut *cut)
{
	long long end = now_ms() + 5000;
	while (!is_over(cut) && now_ms() < end) {
		client_takes(c, cut);
		take_all(c);
		loop_step(c->t.g.loop, 1);
	}
	CHECK(is_over(cut));
	if (cut->end == GUEST_ENDED)
		CHECK_EQ(cut->client_got, cut->guest_sent);
	if (cut->end == GUEST_RESET) /* what it had sent before goes its way all the same */
		CHECK_EQ(cut->client_got, cut->guest_sent);
	if (cut->end == CLIENT_ENDED) {
		CHECK(!cut->reset);
		CHECK_EQ(cut->guest_got, cut->client_sent);
		send_op(&c->t, &cut->s, VIRTIO_VSOCK_OP_RST, 0);
	}
	if (cut->fd >= 0)
		close(cut->fd);
}

static void work(struct cuts *c)
{
	struct cut *cut = &c->cut[rnd(c, STREAMS)];
	switch (rnd(c, 4)) {
	case 0: guest_sends(c, cut); break;
	case 1: client_sends(c, cut); break;
	case 2: client_takes(c, cut); break;
	default: take_all(c); break;
	}
	loop_step(c->t.g.loop, 0);
	if (rnd(c, 25) == 0) {
		kill_stream(c, cut);
		settle(c, cut);
		CHECK(begin(c, cut));
	}
}

/* The other streams go on meanwhile, so the request is waited for by hand. */
static bool begin(struct cuts *c, struct cut *cut)
{
	static struct packet p;
	char line[32];
	long long end = now_ms() + 2000;
	*cut = (struct cut){.base = (size_t)++c->port * 1000003};
	cut->s.guest_port = c->port;
	cut->fd = client_connect(c->t.path);
	snprintf(line, sizeof(line), "CONNECT %u\n", c->port);
	say_line(cut->fd, line);
	for (;;) {
		if (now_ms() > end)
			return false;
		if (!take(&c->t, &p)) {
			loop_step(c->t.g.loop, 1);
			continue;
		}
		struct cut *other = cut_of(c, &p);
		if (p.hdr.op == VIRTIO_VSOCK_OP_REQUEST)
			break;
		if (other && p.hdr.op == VIRTIO_VSOCK_OP_RW)
			take_data(c, other, &p);
		if (other && p.hdr.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST)
			send_op(&c->t, &other->s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
		if (other) {
			other->s.peer_alloc = p.hdr.buf_alloc;
			other->s.peer_fwd = p.hdr.fwd_cnt;
		}
	}
	cut->s.host_port = p.hdr.src_port;
	cut->s.peer_alloc = p.hdr.buf_alloc;
	send_op(&c->t, &cut->s, VIRTIO_VSOCK_OP_RESPONSE, 0);
	int len = snprintf(line, sizeof(line), "OK %u\n", cut->s.host_port);
	char answer[32] = "";
	for (int got = 0; got < len;) { /* and not a byte of the stream */
		ssize_t n = client_read(&c->t, cut->fd, answer + got, (size_t)(len - got));
		if (n <= 0)
			return false;
		got += (int)n;
	}
	return strcmp(answer, line) == 0;
}

static void test_random_kills(void)
{
	static struct cuts c;
	c.random = 88172645463325252ull;
	c.port = 100;
	REQUIRE(net_open(&c.t));
	for (unsigned i = 0; i < STREAMS; i++)
		REQUIRE(begin(&c, &c.cut[i]));
	while (c.intact < BYTES_WANTED && !test_failed)
		work(&c);
	printf("# %llu bytes intact; clients that left %u, guests that reset %u, ends in order %u and %u\n",
	        (unsigned long long)c.intact, c.ends[CLIENT_GONE], c.ends[GUEST_RESET], c.ends[GUEST_ENDED],
	        c.ends[CLIENT_ENDED]);
	for (unsigned i = 0; i < STREAMS; i++) {
		if (c.cut[i].fd >= 0)
			close(c.cut[i].fd);
	}
	net_close(&c.t);
}

TEST_MAIN("hostile_vsock", {"silent_client", test_silent_client}, {"unanswered_shutdown", test_unanswered_shutdown},
        {"random_kills", test_random_kills})
