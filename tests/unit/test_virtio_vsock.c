/* SPDX-License-Identifier: Apache-2.0 */
/* The socket device between a driver in this process and real Unix sockets. */
#include "tests/unit/guest_net.h"
#include "virtio/limit.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* The device's calls, with a look in between: what a client on another processor would see, or do. */
static void (*after_shutdown)(void), (*after_readv)(ssize_t);
static int looked_at;

int shutdown(int fd, int how)
{
	int ret = (int)syscall(SYS_shutdown, fd, how);
	if (after_shutdown)
		after_shutdown();
	return ret;
}

ssize_t readv(int fd, const struct iovec *iov, int count)
{
	ssize_t n = syscall(SYS_readv, fd, iov, count);
	if (after_readv)
		after_readv(n);
	return n;
}

/* What one read of a socket takes at most: 8 receive buffers without their headers. */
#define BATCH_BYTES (8 * (RX_BYTES - HEADER))

static void test_identity(void)
{
	struct net t;
	struct stat st;
	REQUIRE(net_open(&t));
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_DEVICE_ID), 19);
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG), CID);
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG + 4), 0);
	CHECK(!(t.d.dev->features & 1ull << VIRTIO_VSOCK_F_SEQPACKET));
	CHECK(stat(t.path, &st) == 0 && (st.st_mode & 0777) == 0600);

	struct virtio_dev *dev;
	struct err err = {0};
	REQUIRE(vsock_create(&dev, &t.g.env, &(struct vsock_options){.cid = CID, .socket_path = t.path}, &err) == 0);
	CHECK_EQ(vsock_listen(dev, &err), -EADDRINUSE);
	virtio_destroy(dev);
	CHECK(access(t.path, F_OK) == 0); /* and the other's socket is left alone */
	char path[] = "/tmp/wisp-test-vsock-x";
	for (unsigned cid = 0; cid < 3; cid++) {
		err.errnum = 0;
		CHECK_EQ(vsock_create(&dev, &t.g.env, &(struct vsock_options){.cid = cid, .socket_path = path}, &err),
		        -EINVAL);
	}
	net_close(&t);
}

/* One MiB each way at once, through a guest that takes 64 KiB ahead and a host that reads when it likes. */
static void both_ways(struct net *t, struct stream *s, int fd)
{
	enum { TOTAL = 1 << 20, PIECE = 20000 };
	static uint8_t block[PIECE];
	size_t client_sent = 0, guest_got = 0, client_got = 0;
	struct packet p;
	long long end = now_ms() + 10000;
	while (now_ms() < end && (guest_got < TOTAL || client_got < TOTAL)) {
		if (client_sent < TOTAL) {
			size_t len = TOTAL - client_sent < PIECE ? TOTAL - client_sent : PIECE;
			fill(block, client_sent, len);
			ssize_t n = send(fd, block, len, MSG_DONTWAIT | MSG_NOSIGNAL);
			client_sent += n > 0 ? (size_t)n : 0;
		}
		uint32_t room = s->peer_alloc - (s->sent - s->peer_fwd);
		if (s->sent < TOTAL && room > 0) {
			uint32_t len = TOTAL - s->sent < PIECE ? TOTAL - s->sent : PIECE;
			len = len < room ? len : room;
			fill(block, s->sent, len);
			CHECK(send_data(t, s, block, len));
		}
		while (take(t, &p)) {
			s->peer_alloc = p.hdr.buf_alloc;
			s->peer_fwd = p.hdr.fwd_cnt;
			if (p.hdr.op != VIRTIO_VSOCK_OP_RW)
				continue;
			REQUIRE(follows(p.data, &guest_got, p.hdr.len));
			CHECK(guest_got - s->fwd_cnt <= GUEST_BUFFER); /* never more than its credit */
			if (guest_got - s->fwd_cnt > GUEST_BUFFER / 2) {
				s->fwd_cnt = (uint32_t)guest_got;
				CHECK(send_op(t, s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0));
			}
		}
		ssize_t n = recv(fd, block, sizeof(block), MSG_DONTWAIT);
		if (n > 0)
			REQUIRE(follows(block, &client_got, (size_t)n));
		loop_step(t->g.loop, 0);
	}
	CHECK_EQ(guest_got, TOTAL);
	CHECK_EQ(client_got, TOTAL);
	CHECK_EQ(t->d.dev->to_guest.bytes, TOTAL);
	CHECK_EQ(t->d.dev->from_guest.bytes, TOTAL);
	CHECK(t->d.dev->to_guest.operations > 0 && t->d.dev->from_guest.operations >= TOTAL / PIECE);
}

static void test_both_ways(void)
{
	/* The last has a rate: 2 MiB at 8 MiB a second, of which a tenth is free. */
	for (unsigned split = 0; split < 4; split++) {
		struct net t;
		struct stream s;
		static const unsigned splits[] = {0, 10, HEADER, 0};
		REQUIRE(net_create(&t));
		uint64_t began = loop_now_ns();
		virtio_set_rate(t.d.dev, split == 3 ? 8u << 20 : 0, 0);
		t.rx_split = splits[split];
		REQUIRE(net_start(&t, split == 0 ? RX_BUFFERS : 50));
		int fd = open_stream(&t, &s, 5000);
		REQUIRE(fd >= 0);
		both_ways(&t, &s, fd);
		CHECK(split < 3 || loop_now_ns() - began >= 100000000);
		close(fd);
		net_close(&t);
	}
}

/* The host ends its direction; the guest still sends; then the guest is done as well. */
static void test_half_close_by_host(void)
{
	struct net t;
	struct stream s;
	struct packet p;
	char text[16] = "";
	REQUIRE(net_open(&t));
	int fd = open_stream(&t, &s, 7);
	REQUIRE(fd >= 0);
	say_line(fd, "last");
	shutdown(fd, SHUT_WR);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RW));
	CHECK_EQ(p.hdr.len, 4);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	CHECK_EQ(p.hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	CHECK(send_data(&t, &s, "answer", 6));
	CHECK_EQ(client_read(&t, fd, text, sizeof(text)), 6);
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND));
	CHECK(client_closed(&t, fd));
	/* nothing more can come from either side: the guest may forget it all */
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	CHECK_EQ(p.hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_RST, 0));
	guest_settle(&t.g, 10);
	CHECK(!take(&t, &p)); /* no answer to a reset */
	close(fd);
	net_close(&t);
}

static void test_half_close_by_guest(void)
{
	struct net t;
	struct stream s;
	struct packet p;
	char text[16];
	REQUIRE(net_open(&t));
	int fd = open_stream(&t, &s, 7);
	REQUIRE(fd >= 0);
	CHECK(send_data(&t, &s, "bye", 3));
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND));
	CHECK_EQ(client_read(&t, fd, text, sizeof(text)), 3);
	CHECK(client_closed(&t, fd));
	say_line(fd, "still here"); /* this direction lives */
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RW));
	CHECK(p.hdr.len == 10 && memcmp(p.data, "still here", 10) == 0);
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	close(fd);

	fd = open_stream(&t, &s, 8); /* the guest stops to read: the client's writes fail */
	REQUIRE(fd >= 0);
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_RCV));
	CHECK(send(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	CHECK(send_data(&t, &s, "more", 4));
	CHECK_EQ(client_read(&t, fd, text, sizeof(text)), 4);
	close(fd);
	net_close(&t);
}

/* The client goes altogether: the guest hears it, also when it was not sending. */
static void test_client_leaves(void)
{
	struct net t;
	struct stream s;
	struct packet p;
	REQUIRE(net_open(&t));
	int fd = open_stream(&t, &s, 7);
	REQUIRE(fd >= 0);
	close(fd);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	CHECK_EQ(p.hdr.flags, 3);
	CHECK(send_data(&t, &s, "nobody hears", 12)); /* no SIGPIPE, nothing breaks */
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_RST, 0));

	fd = open_stream(&t, &s, 8); /* first one direction, later the rest */
	REQUIRE(fd >= 0);
	shutdown(fd, SHUT_WR);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	CHECK_EQ(p.hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	guest_settle(&t.g, 10);
	close(fd);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	CHECK_EQ(p.hdr.flags, 3);
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_RST, 0));

	fd = open_stream(&t, &s, 9); /* and while data for it is on its way: a write to a socket without a peer */
	REQUIRE(fd >= 0);
	struct virtio_vsock_hdr hdr = header_of(&s, VIRTIO_VSOCK_OP_RW, 4);
	uint16_t head;
	uint32_t len;
	CHECK(post_raw(&t, &hdr, "late", 4, 0));
	close(fd);
	REQUIRE(ring_wait(&t.d, TX, &head, &len));
	unsigned flags = 0;
	while (flags != 3 && expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN))
		flags = p.hdr.flags;
	net_close(&t);
}

/* Who sees the end of a stream finds it ended both ways. */
static void send_after_end(void)
{
	struct pollfd p = {.fd = looked_at, .events = POLLRDHUP};
	if (poll(&p, 1, 0) > 0 && p.revents & POLLRDHUP)
		CHECK(send(looked_at, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
}

static void leave_after_data(ssize_t n)
{
	if (n > 0 && looked_at >= 0) {
		close(looked_at);
		looked_at = -1;
	}
}

/* The end of both ways is one event to the other side, as the close of a socket is: there is no moment of half of it.
 */
static void test_ends_at_once(void)
{
	struct net t;
	struct stream s;
	struct packet p;
	char text[16];
	REQUIRE(net_open(&t));
	int fd = open_stream(&t, &s, 7);
	REQUIRE(fd >= 0);
	CHECK(send_data(&t, &s, "A", 1));
	looked_at = fd;
	after_shutdown = send_after_end;
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV));
	after_shutdown = NULL;
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	CHECK_EQ(client_read(&t, fd, text, sizeof(text)), 1);
	CHECK(client_closed(&t, fd));
	close(fd);

	/* A client that leaves between the reading of its last bytes and of its end: its socket is read on, because
	 * the bytes filled the room that there was for them. */
	looked_at = open_stream(&t, &s, 8);
	REQUIRE(looked_at >= 0);
	int bytes = BATCH_BYTES;
	uint8_t block[BATCH_BYTES];
	fill(block, 0, sizeof(block));
	CHECK_EQ(send(looked_at, block, sizeof(block), MSG_NOSIGNAL), bytes);
	after_readv = leave_after_data;
	while (bytes > 0) {
		REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RW));
		bytes -= (int)p.hdr.len;
	}
	after_readv = NULL;
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	CHECK_EQ(p.hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_RST, 0));
	net_close(&t);
}

static void test_refused(void)
{
	struct net t;
	struct packet p;
	struct stream s = {.guest_port = 9};
	REQUIRE(net_open(&t));
	int fd = client_connect(t.path);
	say_line(fd, "CONNECT 9\n");
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_REQUEST));
	s.host_port = p.hdr.src_port;
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_RST, 0));
	CHECK(client_closed(&t, fd));
	close(fd);

	static const char *const bad[] = {"CONNECT \n", "CONNECT x\n", "CONNECT 4294967296\n", "connect 1\n",
	        "CONNECT 1 \n", "CONNECT -1\n", "\n", "CONNECT 1111111111111111111111111111", "CONNECT 99999999999\n"};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fd = client_connect(t.path);
		say_line(fd, bad[i]);
		/* A reset if it said more than was read. */
		CHECK(client_closed(&t, fd) || errno == ECONNRESET);
		close(fd);
	}
	CHECK(!take(&t, &p));
	net_close(&t);
}

/* Clients that leave before the newline, before the answer, and one whose line comes byte by byte with a payload. */
static void test_early(void)
{
	struct net t;
	struct stream s = {.guest_port = 77};
	struct packet p;
	REQUIRE(net_open(&t));
	for (unsigned i = 0; i < 5; i++) {
		int fd = client_connect(t.path);
		if (i > 0)
			CHECK_EQ(send(fd, "CONNECT 77", i * 2, MSG_NOSIGNAL), i * 2);
		if (i % 2)
			loop_step(t.g.loop, 1);
		close(fd);
	}
	guest_settle(&t.g, 10);
	CHECK(!take(&t, &p));

	int fd = client_connect(t.path);
	say_line(fd, "CONNECT 77\n");
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_REQUEST));
	s.host_port = p.hdr.src_port;
	close(fd);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_RESPONSE, 0)); /* it crossed our reset */
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));

	fd = client_connect(t.path);
	for (const char *c = "CONNECT 77"; *c; c++) {
		CHECK_EQ(send(fd, c, 1, MSG_NOSIGNAL), 1);
		guest_settle(&t.g, 1);
	}
	say_line(fd, "\nearly payload");
	shutdown(fd, SHUT_WR);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_REQUEST));
	s.host_port = p.hdr.src_port;
	guest_settle(&t.g, 5);
	CHECK(!take(&t, &p)); /* no data before the guest accepted */
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_RESPONSE, 0));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RW));
	CHECK(p.hdr.len == 13 && memcmp(p.data, "early payload", 13) == 0);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	close(fd);
	net_close(&t);
}

/* A client that is there before the driver waits for it. Over a reset of the driver its connection is closed. */
static void test_before_driver(void)
{
	struct net t;
	struct stream s = {.guest_port = 5};
	struct packet p;
	REQUIRE(net_create(&t));
	int waiting = client_connect(t.path), half = client_connect(t.path);
	say_line(waiting, "CONNECT 5\n");
	say_line(half, "CONN");
	guest_settle(&t.g, 10);
	REQUIRE(net_start(&t, RX_BUFFERS));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_REQUEST));
	s.host_port = p.hdr.src_port;
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_RESPONSE, 0));
	char line[32];
	CHECK(client_read(&t, waiting, line, sizeof(line)) > 3);
	drv_reset(&t.d);
	CHECK(client_closed(&t, waiting));
	say_line(half, "ECT 5\n");
	int third = client_connect(t.path);
	say_line(third, "CONNECT 6\n");
	guest_settle(&t.g, 5);
	drv_start(&t.d, 0, 128); /* and a reset before it was announced leaves it alone */
	drv_reset(&t.d);
	REQUIRE(net_start(&t, RX_BUFFERS));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_REQUEST));
	CHECK_EQ(p.hdr.dst_port, 5);
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_REQUEST));
	CHECK_EQ(p.hdr.dst_port, 6);
	close(waiting);
	close(half);
	close(third);
	net_close(&t);
}

static int listen_on(const char *base, uint32_t port)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", base, port);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void test_from_guest(void)
{
	struct net t;
	struct packet p;
	char path[80];
	struct stream s = {.guest_port = 1024, .host_port = 600};
	REQUIRE(net_open(&t));
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_REQUEST, 0)); /* nobody there */
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	CHECK(p.hdr.src_port == 600 && p.hdr.dst_port == 1024);
	int server = listen_on(t.path, 600);
	REQUIRE(server >= 0);
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_REQUEST, 0));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RESPONSE));
	CHECK(p.hdr.src_port == 600 && p.hdr.dst_port == 1024);
	s.peer_alloc = p.hdr.buf_alloc;
	CHECK_EQ(s.peer_alloc, HOST_BUFFER);
	int fd = accept(server, NULL, NULL);
	REQUIRE(fd >= 0);
	both_ways(&t, &s, fd);
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_SHUTDOWN, 3));
	REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	CHECK(client_closed(&t, fd));
	close(fd);
	close(server);
	snprintf(path, sizeof(path), "%s_600", t.path);
	unlink(path);
	net_close(&t);
}

static void test_bad_packets(void)
{
	struct net t;
	struct packet p;
	struct stream s = {.guest_port = 4, .host_port = 99};
	REQUIRE(net_open(&t));
	static const unsigned ops[] = {VIRTIO_VSOCK_OP_RW, VIRTIO_VSOCK_OP_RESPONSE, VIRTIO_VSOCK_OP_SHUTDOWN,
	        VIRTIO_VSOCK_OP_CREDIT_REQUEST, VIRTIO_VSOCK_OP_INVALID, 77};
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) { /* of no connection */
		CHECK(send_op(&t, &s, ops[i], 0));
		REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
		CHECK(p.hdr.src_port == 99 && p.hdr.dst_port == 4);
	}
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_RST, 0)); /* no reset for a reset */
	struct virtio_vsock_hdr hdr = header_of(&s, VIRTIO_VSOCK_OP_REQUEST, 0);
	hdr.src_cid = CID + 1; /* somebody else's address */
	CHECK(send_raw(&t, &hdr, NULL, 0, 0));
	guest_settle(&t.g, 5);
	CHECK(!take(&t, &p));
	hdr.src_cid = CID;
	hdr.dst_cid = 9;
	CHECK(send_raw(&t, &hdr, NULL, 0, 0));
	REQUIRE(take_wait(&t, &p));
	CHECK(p.hdr.op == VIRTIO_VSOCK_OP_RST && p.hdr.src_cid == 9);
	hdr.dst_cid = 2;
	hdr.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	CHECK(send_raw(&t, &hdr, NULL, 0, 0));
	REQUIRE(take_wait(&t, &p));
	CHECK(p.hdr.op == VIRTIO_VSOCK_OP_RST && p.hdr.type == VIRTIO_VSOCK_TYPE_SEQPACKET);

	/* on an open connection: an operation that is none; a length beyond the buffer; data after the end */
	for (unsigned i = 0; i < 4; i++) {
		int fd = open_stream(&t, &s, 50 + i);
		REQUIRE(fd >= 0);
		hdr = header_of(&s,
		        i == 0   ? VIRTIO_VSOCK_OP_INVALID
		        : i == 1 ? VIRTIO_VSOCK_OP_REQUEST
		                 : VIRTIO_VSOCK_OP_RW,
		        8);
		hdr.len = i == 2 ? 9 : 8;
		if (i == 3)
			CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND));
		CHECK(send_raw(&t, &hdr, "12345678", 8, 0));
		REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
		CHECK(client_closed(&t, fd));
		close(fd);
	}
	CHECK(!drv_failed(&t.d));
	struct buf half = {t.tx_area, HEADER - 1};
	CHECK(ring_add(&t.d, TX, &half, 1, 0) >= 0);
	ring_kick(&t.d, TX);
	guest_settle(&t.g, 10);
	CHECK(drv_failed(&t.d));
	net_close(&t);
}

/* Drains what both rings show, and the interrupts for it. */
static unsigned interrupts_so_far(struct net *t)
{
	struct packet p;
	uint16_t head;
	uint32_t len;
	while (take(t, &p))
		;
	while (ring_used(&t->d, TX, &head, &len))
		;
	return drv_interrupts(&t->d);
}

static struct net *streaming;
static unsigned reads, seen_early;

static void look_between_reads(ssize_t n)
{
	(void)n;
	uint16_t used = __atomic_load_n(&streaming->d.ring[RX].used[1], __ATOMIC_SEQ_CST);
	if (++reads == 2)
		seen_early = (uint16_t)(used - streaming->d.ring[RX].used_seen);
}

/* A stream's first packets are shown while the next ones are read; two interrupts are for all of them. */
static void test_shown_early(void)
{
	enum { BYTES = 5 * BATCH_BYTES };
	struct net t;
	struct stream s;
	static uint8_t block[BYTES];
	REQUIRE(net_open(&t));
	int fd = open_stream(&t, &s, 7), much = 1 << 20;
	REQUIRE(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &much, sizeof(much));
	s.alloc = 1u << 30;
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0));
	guest_settle(&t.g, 20);
	interrupts_so_far(&t);
	CHECK_EQ(send(fd, block, BYTES, MSG_NOSIGNAL), BYTES);
	streaming = &t;
	reads = seen_early = 0;
	after_readv = look_between_reads;
	while (reads < 2)
		loop_step(t.g.loop, 20);
	after_readv = NULL;
	guest_settle(&t.g, 20);
	CHECK_EQ(seen_early, 8);
	CHECK_EQ(interrupts_so_far(&t), 1); /* the driver asked for no other: it has not looked */
	close(fd);
	net_close(&t);
}

/* No descriptor for one more client: it waits, and is served when there is one. */
static void test_no_descriptors(void)
{
	struct net t;
	struct packet p;
	struct rlimit limit, none;
	REQUIRE(net_open(&t));
	int fd = client_connect(t.path);
	say_line(fd, "CONNECT 12\n");
	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	none.rlim_cur = (rlim_t)fd; /* the lowest free one is above */
	setrlimit(RLIMIT_NOFILE, &none);
	guest_settle(&t.g, 10);
	struct stream s = {.guest_port = 4, .host_port = 600};
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_REQUEST, 0));
	CHECK(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	setrlimit(RLIMIT_NOFILE, &limit);
	CHECK(expect(&t, &p, VIRTIO_VSOCK_OP_REQUEST));
	close(fd);
	net_close(&t);
}

TEST_MAIN("virtio_vsock", {"identity", test_identity}, {"both_ways", test_both_ways},
        {"half_close_by_host", test_half_close_by_host}, {"half_close_by_guest", test_half_close_by_guest},
        {"client_leaves", test_client_leaves}, {"ends_at_once", test_ends_at_once}, {"refused", test_refused},
        {"early", test_early}, {"before_driver", test_before_driver}, {"from_guest", test_from_guest},
        {"bad_packets", test_bad_packets}, {"shown_early", test_shown_early}, {"no_descriptors", test_no_descriptors})
