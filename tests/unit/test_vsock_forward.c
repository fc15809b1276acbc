/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarded connections of the socket device: TCP clients of the host on one side, a guest played by hand on the other.
 */
#include "tests/unit/guest_net.h"

#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define TARGET 8080u
#define BOTH_ENDS (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
	        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
}

static int tcp_listener(uint16_t *port)
{
	struct sockaddr_in address = loopback(0);
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	CHECK_EQ(listen(fd, 4096), 0);
	CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

static int tcp_client(uint16_t port)
{
	struct sockaddr_in address = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

struct forwarding {
	struct net net;
	uint16_t port; /* of the host */
	int id;
};

static bool open_forwarding(struct forwarding *f)
{
	struct err err = {0};
	if (!net_open(&f->net))
		return false;
	f->id = vsock_forward(f->net.d.dev, tcp_listener(&f->port), TARGET, &err);
	CHECK(f->id > 0);
	return f->id > 0;
}

/* The guest accepts a request that has come. */
static bool answer(struct net *t, struct stream *s)
{
	struct packet p;
	if (!expect(t, &p, VIRTIO_VSOCK_OP_REQUEST))
		return false;
	*s = (struct stream){.guest_port = p.hdr.dst_port, .host_port = p.hdr.src_port, .peer_alloc = p.hdr.buf_alloc};
	CHECK_EQ(p.hdr.dst_port, FORWARD_PORT);
	CHECK(p.hdr.src_port >= VSOCK_FORWARD_PORTS);
	CHECK_EQ(p.hdr.src_port & 0xffff, TARGET);
	return send_op(t, s, VIRTIO_VSOCK_OP_RESPONSE, 0);
}

static int open_forwarded(struct forwarding *f, struct stream *s)
{
	int fd = tcp_client(f->port);
	return fd >= 0 && answer(&f->net, s) ? fd : -1;
}

static bool is_reset(struct net *t, int fd)
{
	char byte;
	return client_read(t, fd, &byte, 1) < 0 && errno == ECONNRESET;
}

/* Bytes both ways with no line before them, and both directions end on their own. */
static void test_half_close(void)
{
	struct forwarding f;
	struct stream s;
	struct packet p;
	char text[16] = "";
	REQUIRE(open_forwarding(&f));
	int fd = open_forwarded(&f, &s);
	REQUIRE(fd >= 0);
	say_line(fd, "question");
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_RW));
	CHECK_EQ(p.hdr.len, 8);
	CHECK(memcmp(p.data, "question", 8) == 0);
	shutdown(fd, SHUT_WR);
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	CHECK_EQ(p.hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	CHECK(send_data(&f.net, &s, "answer", 6));
	CHECK_EQ(client_read(&f.net, fd, text, sizeof(text)), 6);
	CHECK_STR(text, "answer");
	CHECK(send_op(&f.net, &s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND));
	CHECK(client_closed(&f.net, fd));
	CHECK(send_op(&f.net, &s, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH_ENDS));
	close(fd);
	net_close(&f.net);
}

/* The guest's half ends first; what the client still sends arrives. */
static void test_guest_ends_first(void)
{
	struct forwarding f;
	struct stream s;
	struct packet p;
	REQUIRE(open_forwarding(&f));
	int fd = open_forwarded(&f, &s);
	REQUIRE(fd >= 0);
	CHECK(send_op(&f.net, &s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND));
	CHECK(client_closed(&f.net, fd));
	say_line(fd, "more");
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_RW));
	CHECK_EQ(p.hdr.len, 4);
	CHECK(send_op(&f.net, &s, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH_ENDS));
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_RST));
	close(fd);
	net_close(&f.net);
}

/* A stream that was not ended does not look as if it were. */
static void test_broken_off(void)
{
	static const struct {
		unsigned op, flags;
	} ends[] = {{VIRTIO_VSOCK_OP_SHUTDOWN, BOTH_ENDS}, {VIRTIO_VSOCK_OP_RST, 0}};
	for (unsigned i = 0; i < 2; i++) {
		struct forwarding f;
		struct stream s;
		char text[8];
		REQUIRE(open_forwarding(&f));
		int fd = open_forwarded(&f, &s);
		REQUIRE(fd >= 0);
		CHECK(send_data(&f.net, &s, "part", 4));
		CHECK_EQ(client_read(&f.net, fd, text, sizeof(text)), 4);
		CHECK(send_op(&f.net, &s, ends[i].op, ends[i].flags));
		CHECK(is_reset(&f.net, fd));
		close(fd);
		struct packet p;
		if (ends[i].op == VIRTIO_VSOCK_OP_SHUTDOWN)
			REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_RST));

		/* refused */
		fd = tcp_client(f.port);
		REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_REQUEST));
		s.host_port = p.hdr.src_port;
		CHECK(send_op(&f.net, &s, VIRTIO_VSOCK_OP_RST, 0));
		CHECK(is_reset(&f.net, fd));
		close(fd);

		/* the device's end */
		fd = open_forwarded(&f, &s);
		REQUIRE(fd >= 0);
		net_close(&f.net);
		char byte;
		CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET);
		close(fd);
	}
}

/* Clients that break off, and that left when the guest still sends, are a reset for the guest, and no end. */
static void test_client_breaks_off(void)
{
	static const struct linger hard = {.l_onoff = 1};
	struct forwarding f;
	struct stream s;
	struct packet p;
	REQUIRE(open_forwarding(&f));
	int fd = open_forwarded(&f, &s);
	REQUIRE(fd >= 0);
	say_line(fd, "part");
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_RW));
	CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	close(fd);
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_RST));

	/* It has ended its stream and closed; what the guest sends then finds nobody. */
	fd = open_forwarded(&f, &s);
	REQUIRE(fd >= 0);
	say_line(fd, "whole");
	close(fd);
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_RW));
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
	CHECK_EQ(p.hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	CHECK(send_data(&f.net, &s, "answer", 6));
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_RST));
	net_close(&f.net);
}

/* The same through a Unix socket, whose clients cannot reset. */
static void test_unix(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct net t;
	struct stream s;
	struct packet p;
	struct err err = {0};
	char text[8] = "";
	REQUIRE(net_open(&t));
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/wisp-test-forward-%d", getpid());
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 8) == 0);
	CHECK(vsock_forward(t.d.dev, listener, TARGET, &err) > 0);
	for (unsigned leaves = 0; leaves < 2; leaves++) {
		int fd = client_connect(address.sun_path);
		REQUIRE(fd >= 0 && answer(&t, &s));
		say_line(fd, "whole");
		if (leaves)
			close(fd);
		else
			shutdown(fd, SHUT_WR);
		REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RW));
		REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
		CHECK_EQ(p.hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
		CHECK(send_data(&t, &s, "answer", 6));
		if (leaves) {
			REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
			continue;
		}
		CHECK_EQ(client_read(&t, fd, text, sizeof(text)), 6);
		CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND));
		CHECK(client_closed(&t, fd));
		CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH_ENDS));
		REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_SHUTDOWN));
		REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
		close(fd);
	}
	unlink(address.sun_path);
	net_close(&t);
}

/* Two clients of one port, and one of the Unix socket, are told apart. */
static void test_ports_differ(void)
{
	struct forwarding f;
	struct stream first, second, line;
	REQUIRE(open_forwarding(&f));
	int a = open_forwarded(&f, &first), b = open_forwarded(&f, &second), c = open_stream(&f.net, &line, 1024);
	REQUIRE(a >= 0 && b >= 0 && c >= 0);
	CHECK(first.host_port != second.host_port);
	CHECK(line.host_port < VSOCK_FORWARD_PORTS);
	close(a);
	close(b);
	close(c);
	net_close(&f.net);
}

static void count(void *context, uint32_t id, int fd, uint16_t to)
{
	unsigned *sum = context;
	CHECK(fd >= 0);
	CHECK_EQ(to, TARGET);
	*sum += id;
}

static void test_listeners(void)
{
	struct forwarding f;
	struct stream s;
	struct packet p;
	struct err err = {0};
	unsigned sum = 0;
	REQUIRE(open_forwarding(&f));
	struct virtio_dev *dev = f.net.d.dev;
	int fd = open_forwarded(&f, &s);
	REQUIRE(fd >= 0);
	vsock_each_forward(dev, count, &sum);
	CHECK_EQ(sum, (unsigned)f.id);
	CHECK_EQ(vsock_unforward(dev, (uint32_t)f.id + 1), -ENOENT);
	CHECK_EQ(vsock_unforward(dev, (uint32_t)f.id), 0);
	CHECK_EQ(vsock_unforward(dev, (uint32_t)f.id), -ENOENT);
	CHECK_EQ(tcp_client(f.port), -1);
	say_line(fd, "still"); /* what was accepted goes on */
	REQUIRE(expect(&f.net, &p, VIRTIO_VSOCK_OP_RW));
	close(fd);

	int pair[2];
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	CHECK_EQ(vsock_forward(dev, pair[0], TARGET, &err), -EINVAL);
	err.errnum = 0;
	CHECK_EQ(vsock_forward(dev, open("/dev/null", O_RDONLY | O_CLOEXEC), TARGET, &err), -EINVAL);
	char byte;
	CHECK_EQ(recv(pair[1], &byte, 1, MSG_DONTWAIT), 0); /* it was closed */
	close(pair[1]);
	for (unsigned i = 0; i < VSOCK_LISTENERS_MAX; i++)
		CHECK(vsock_forward(dev, tcp_listener(&f.port), TARGET, &err) > 0);
	err.errnum = 0;
	CHECK_EQ(vsock_forward(dev, tcp_listener(&f.port), TARGET, &err), -ENOSPC);
	net_close(&f.net);
}

/* A guest that sends more than its credit, which is small when there are many. */
static void test_credit(void)
{
	enum { AMPLE = 128, SMALL = 16 << 10 };
	struct forwarding f;
	struct stream s[AMPLE + 1];
	struct packet p;
	int fd[AMPLE + 1];
	REQUIRE(open_forwarding(&f));
	for (unsigned i = 0; i <= AMPLE; i++) {
		fd[i] = open_forwarded(&f, &s[i]);
		REQUIRE(fd[i] >= 0);
		CHECK_EQ(s[i].peer_alloc, i < AMPLE ? HOST_BUFFER : SMALL);
	}
	static uint8_t block[SMALL];
	unsigned resets = 0;
	/* The client reads nothing: its socket takes some MiB, then the device keeps what the credit allows. */
	for (unsigned i = 0; i < 4096 && !resets; i++) {
		CHECK(send_data(&f.net, &s[AMPLE], block, sizeof(block)));
		while (take(&f.net, &p))
			resets += p.hdr.op == VIRTIO_VSOCK_OP_RST && p.hdr.src_port == s[AMPLE].host_port;
		if (!resets)
			loop_step(f.net.g.loop, 0);
	}
	CHECK_EQ(resets, 1);
	for (unsigned i = 0; i <= AMPLE; i++)
		close(fd[i]);
	net_close(&f.net);
}

/* As many as there may be: the next client waits, others get in, and the end of one lets it in. */
static void test_full(void)
{
	static int fd[VSOCK_FORWARDS_MAX];
	static struct stream s[VSOCK_FORWARDS_MAX];
	struct rlimit files = {3 * VSOCK_FORWARDS_MAX, 3 * VSOCK_FORWARDS_MAX}, before;
	struct forwarding f;
	struct stream late, line;
	struct packet p;
	getrlimit(RLIMIT_NOFILE, &before);
	files.rlim_max = before.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0) {
		printf("# this host allows too few descriptors\n");
		return;
	}
	REQUIRE(open_forwarding(&f));
	for (unsigned i = 0; i < VSOCK_FORWARDS_MAX; i++) {
		fd[i] = open_forwarded(&f, &s[i]);
		REQUIRE(fd[i] >= 0);
	}
	int next = tcp_client(f.port);
	REQUIRE(next >= 0);
	int other = open_stream(&f.net, &line, 5000);
	CHECK(other >= 0);
	CHECK(!take(&f.net, &p)); /* no request of the one that waits */
	CHECK(send_op(&f.net, &s[7], VIRTIO_VSOCK_OP_RST, 0));
	CHECK(is_reset(&f.net, fd[7]));
	CHECK(answer(&f.net, &late));
	for (unsigned i = 0; i < VSOCK_FORWARDS_MAX; i++)
		close(fd[i]);
	close(next);
	close(other);
	net_close(&f.net);
	setrlimit(RLIMIT_NOFILE, &before);
}

/* Where descriptors are few, clients of ports leave half of them to others. */
static void test_few_descriptors(void)
{
	enum { FILES = 128, OTHERS = 8 };
	struct rlimit before, files;
	struct forwarding f;
	struct stream s[FILES], lines[OTHERS];
	struct packet p;
	struct err err = {0};
	int others[OTHERS];
	REQUIRE(net_create_with(&f.net, FILES) && net_start(&f.net, RX_BUFFERS));
	f.id = vsock_forward(f.net.d.dev, tcp_listener(&f.port), TARGET, &err);
	REQUIRE(f.id > 0);
	fflush(stdout);
	pid_t clients = fork(); /* which have descriptors of their own */
	if (clients == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (unsigned i = 0; i < FILES; i++)
			tcp_client(f.port);
		pause();
	}
	getrlimit(RLIMIT_NOFILE, &before);
	files = (struct rlimit){FILES, before.rlim_max};
	REQUIRE(setrlimit(RLIMIT_NOFILE, &files) == 0);
	for (unsigned i = 0; i < FILES / 2; i++)
		CHECK(answer(&f.net, &s[i]));
	guest_settle(&f.net.g, 20);
	CHECK(!take(&f.net, &p)); /* no request of the others */
	for (unsigned i = 0; i < OTHERS; i++)
		CHECK((others[i] = open_stream(&f.net, &lines[i], 5000 + i)) >= 0);
	CHECK(send_op(&f.net, &s[7], VIRTIO_VSOCK_OP_RST, 0));
	CHECK(answer(&f.net, &s[7]));
	for (unsigned i = 0; i < OTHERS; i++)
		close(others[i]);
	kill(clients, SIGKILL);
	waitpid(clients, NULL, 0);
	net_close(&f.net);
	setrlimit(RLIMIT_NOFILE, &before);
}

TEST_MAIN("vsock_forward", {"half_close", test_half_close}, {"guest_ends_first", test_guest_ends_first},
        {"broken_off", test_broken_off}, {"client_breaks_off", test_client_breaks_off}, {"unix", test_unix},
        {"ports_differ", test_ports_differ}, {"listeners", test_listeners}, {"credit", test_credit},
        {"full", test_full}, {"few_descriptors", test_few_descriptors})
