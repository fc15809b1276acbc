/* SPDX-License-Identifier: Apache-2.0 */
/* The socket device between a driver in this process and real Unix sockets. */
#include "tests/unit/guest_net.h"

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
}

static void test_both_ways(void)
{
	for (unsigned split = 0; split < 3; split++) {
		struct net t;
		struct stream s;
		static const unsigned splits[] = {0, 10, HEADER};
		REQUIRE(net_create(&t));
		t.rx_split = splits[split];
		REQUIRE(net_start(&t, split == 0 ? RX_BUFFERS : 50));
		int fd = open_stream(&t, &s, 5000);
		REQUIRE(fd >= 0);
		both_ways(&t, &s, fd);
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
		CHECK(client_closed(&t, fd));
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

	/* Not before there is something to say. */
	REQUIRE(ring_wait(&t.d, TX, &head, &len)); /* the response */
	drv_interrupts(&t.d);
	REQUIRE(post_raw(&t, &hdr, NULL, 0, 0) && wait_taken(&t));
	CHECK(!ring_used(&t.d, TX, &head, &len));
	CHECK_EQ(drv_interrupts(&t.d), 0);
	CHECK_EQ(send(fd, "x", 1, MSG_NOSIGNAL), 1);
	CHECK(expect(&t, &p, VIRTIO_VSOCK_OP_RW));
	CHECK(ring_used(&t.d, TX, &head, &len));
	CHECK(drv_interrupts(&t.d) >= 1);

	/* At once when a quarter of the queue waits. */
	unsigned quarter = t.d.ring[TX].size / 4, back = 0;
	for (unsigned i = 0; i < quarter; i++)
		REQUIRE(post_raw(&t, &hdr, NULL, 0, 0));
	REQUIRE(wait_taken(&t));
	while (ring_used(&t.d, TX, &head, &len))
		back++;
	CHECK_EQ(back, quarter);

	/* After a while in any case. */
	REQUIRE(post_raw(&t, &hdr, NULL, 0, 0));
	CHECK(ring_wait(&t.d, TX, &head, &len));

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

static void test_transport_reset(void)
{
	struct net t;
	struct stream s;
	REQUIRE(net_open(&t));
	uint64_t event = guest_alloc(&t.g, 8, 4);
	CHECK(ring_add(&t.d, EVENT, &(struct buf){event, 4}, 0, 1) >= 0);
	memset(guest_at(&t.g, event, 4), 0xff, 4);
	int fd = open_stream(&t, &s, 7);
	REQUIRE(fd >= 0);
	vsock_transport_reset(t.d.dev);
	uint16_t head;
	uint32_t len;
	REQUIRE(ring_wait(&t.d, EVENT, &head, &len));
	CHECK_EQ(len, 4);
	CHECK_EQ(*(uint32_t *)guest_at(&t.g, event, 4), VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	CHECK(client_closed(&t, fd));
	close(fd);
	net_close(&t);
}

TEST_MAIN("virtio_vsock", {"identity", test_identity}, {"both_ways", test_both_ways},
        {"half_close_by_host", test_half_close_by_host}, {"half_close_by_guest", test_half_close_by_guest},
        {"client_leaves", test_client_leaves}, {"ends_at_once", test_ends_at_once}, {"refused", test_refused},
        {"early", test_early}, {"before_driver", test_before_driver}, {"from_guest", test_from_guest},
        {"slow_host", test_slow_host}, {"no_credit", test_no_credit}, {"bad_packets", test_bad_packets},
        {"shown_early", test_shown_early}, {"starved", test_starved}, {"many", test_many}, {"fair", test_fair},
        {"no_descriptors", test_no_descriptors}, {"quiet_completions", test_quiet_completions},
        {"transport_reset", test_transport_reset})
