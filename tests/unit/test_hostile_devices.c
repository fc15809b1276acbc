/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest gains by repeating its mistakes: nothing. Each wrong request gives its descriptors back, so a queue of
 * eight lives through thousands; and what streams keep for slow hosts has a bound over all of them.
 */
#include "tests/unit/guest_net.h"

#include <linux/virtio_blk.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "virtio/blk.h"
#include "virtio/console.h"
#include "vmm/monitor/logfile.h"

#define ROUNDS 2000u
#define QUEUE_SIZE 8u

static void drop(void *context, const void *data, size_t len)
{
	(void)context;
	(void)data;
	(void)len;
}

/* Offers the same chain ROUNDS times; each has to come back, with `used` bytes written. */
static void repeat(struct driver *d, unsigned queue, const struct buf *bufs, unsigned out, unsigned in, uint32_t used)
{
	uint16_t head;
	uint32_t len;
	for (unsigned i = 0; i < ROUNDS; i++) {
		REQUIRE(ring_add(d, queue, bufs, out, in) >= 0);
		ring_kick(d, queue);
		REQUIRE(ring_wait(d, queue, &head, &len));
		CHECK_EQ(len, used);
	}
	CHECK_EQ(d->ring[queue].free_count, QUEUE_SIZE);
	CHECK(!drv_failed(d));
}

static void block_errors(void)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t bytes;
		bool in;
		uint8_t status;
	} wrong[] = {
	        {VIRTIO_BLK_T_IN, 1000000, 512, true, VIRTIO_BLK_S_IOERR},
	        {VIRTIO_BLK_T_OUT, UINT64_MAX, 512, false, VIRTIO_BLK_S_IOERR},
	        {VIRTIO_BLK_T_OUT, 0, 511, false, VIRTIO_BLK_S_IOERR},
	        {VIRTIO_BLK_T_GET_ID, 0, 19, true, VIRTIO_BLK_S_IOERR},
	        {VIRTIO_BLK_T_DISCARD, 0, 15, false, VIRTIO_BLK_S_IOERR},
	        {VIRTIO_BLK_T_WRITE_ZEROES, 0, 1024, false, VIRTIO_BLK_S_IOERR},
	        {12345, 0, 512, false, VIRTIO_BLK_S_UNSUPP},
	};
	static struct guest g;
	static struct driver d;
	struct virtio_dev *dev;
	REQUIRE(guest_open(&g));
	int fd = memfd_create("disk", MFD_CLOEXEC);
	REQUIRE(ftruncate(fd, 65536) == 0);
	REQUIRE(blk_create(&dev, &g.env, &(struct blk_options){.fd = fd}, NULL) == 0);
	drv_open(&d, &g, dev);
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, QUEUE_SIZE));
	uint64_t at = guest_alloc(&g, 4096, 4096);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct virtio_blk_outhdr header = {.type = wrong[i].type, .sector = wrong[i].sector};
		memcpy(guest_at(&g, at, sizeof(header)), &header, sizeof(header));
		struct buf bufs[] = {{at, 16}, {at + 512, wrong[i].bytes}, {at + 16, 1}};
		/* Nothing before the status was written: it is not counted then. */
		repeat(&d, 0, bufs, wrong[i].in ? 1 : 2, wrong[i].in ? 2 : 1, wrong[i].in ? 0 : 1);
		CHECK_EQ(*(uint8_t *)guest_at(&g, at + 16, 1), wrong[i].status);
	}
	drv_close(&d);
	guest_close(&g);
}

static void console_errors(void)
{
	static struct guest g;
	static struct driver d;
	struct virtio_dev *dev;
	REQUIRE(guest_open(&g));
	REQUIRE(console_create(&dev, &g.env, &(struct console_options){.output = drop}, NULL) == 0);
	drv_open(&d, &g, dev);
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, QUEUE_SIZE));
	struct buf buf = {guest_alloc(&g, 4096, 4096), 4096};
	repeat(&d, 1, &buf, 0, 1, 0); /* to be written, where something is to be printed */
	drv_close(&d);
	guest_close(&g);
}

static void socket_errors(void)
{
	static struct net t;
	static struct packet p;
	REQUIRE(net_create(&t));
	REQUIRE(drv_start(&t.d, RING_FEATURES_ALL, QUEUE_SIZE));
	give_rx(&t, 0);
	ring_kick(&t.d, RX);
	struct stream s = {.guest_port = 4, .host_port = 99};
	struct virtio_vsock_hdr hdr = header_of(&s, VIRTIO_VSOCK_OP_RW, 0xffffffff);
	for (unsigned i = 0; i < ROUNDS; i++) {
		hdr.op = (uint16_t)(i % 9);
		REQUIRE(send_raw(&t, &hdr, "x", 1, i % HEADER));
		if (hdr.op != VIRTIO_VSOCK_OP_RST)
			REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	}
	CHECK_EQ(t.d.ring[TX].free_count, QUEUE_SIZE);
	CHECK(!drv_failed(&t.d));
	net_close(&t);
}

/* Sends what the credit allows to a host that reads nothing. Whether no stream was reset meanwhile. */
static bool fill_credit(struct net *t, struct stream *s)
{
	static uint8_t data[60000];
	static struct packet p;
	bool open = true;
	uint32_t room;
	while (open && (room = s->peer_alloc - (s->sent - s->peer_fwd)) > 0) {
		CHECK(send_data(t, s, data, room < sizeof(data) ? room : sizeof(data)));
		loop_step(t->g.loop, 0);
		while (take(t, &p)) {
			open &= p.hdr.op != VIRTIO_VSOCK_OP_RST;
			s->peer_fwd = p.hdr.fwd_cnt;
		}
	}
	return open;
}

/* The guest opens as many streams as the proxy serves. None is reset, and the host's clients have their share. */
static void buffered_bytes(void)
{
	enum { OPENED = 512, AMPLE = 128, SMALL = 4 << 10, CLIENTS = 200, SHARE = 64 };
	static struct net t;
	static struct packet p;
	static int fds[CLIENTS];
	static struct stream opened[OPENED], s[CLIENTS];
	struct rlimit files = {1024, 1024};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint64_t kept = 0;
	unsigned reset = 0;
	setrlimit(RLIMIT_NOFILE, &files);
	REQUIRE(net_open(&t));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s_600", t.path);
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(bind(server, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(server, OPENED) == 0);
	for (unsigned i = 0; i < OPENED; i++) {
		opened[i] = (struct stream){.guest_port = 2000 + i, .host_port = 600};
		CHECK(send_op(&t, &opened[i], VIRTIO_VSOCK_OP_REQUEST, 0));
		REQUIRE(expect(&t, &p, VIRTIO_VSOCK_OP_RESPONSE));
		REQUIRE(p.hdr.buf_alloc == (i < AMPLE ? HOST_BUFFER : SMALL));
		opened[i].peer_alloc = p.hdr.buf_alloc;
		REQUIRE(fill_credit(&t, &opened[i]));
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		fds[i] = open_stream(&t, &s[i], 1000 + i);
		REQUIRE(fds[i] >= 0);
		CHECK_EQ(s[i].peer_alloc, HOST_BUFFER);
		bool open = fill_credit(&t, &s[i]);
		CHECK(open || i >= SHARE);
		reset += !open;
		kept += open ? s[i].sent : 0;
	}
	printf("# %u of %u clients reset, %llu MiB taken of the others\n", reset, CLIENTS,
	        (unsigned long long)kept >> 20);
	CHECK(reset > 0 && reset < CLIENTS / 2);
	CHECK(kept <= (64ull << 20) + CLIENTS * (256ull << 10)); /* the device's, and what the sockets took */
	CHECK(!drv_failed(&t.d));
	for (unsigned i = 0; i < CLIENTS; i++)
		close(fds[i]);
	close(server);
	unlink(address.sun_path);
	guest_settle(&t.g, 5);
	net_close(&t);
}

#define LOG_LIMIT (1u << 20)
#define FLOOD_BYTES (256ull << 20)
#define ROUND_BYTES 65536u

struct flood {
	struct logfile log;
	uint64_t total;
};

static void to_log(void *context, const void *data, size_t len)
{
	struct flood *f = context;
	f->total += len;
	logfile_write(&f->log, data, len);
}

static long resident_kib(void)
{
	long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");
	if (file && fscanf(file, "%*d %ld", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/*
 * A guest that prints without end, by chains that name the same MiB 128 times, into a log as the monitor has it. It
 * costs no memory, two files of the limit, and of each round of the loop a share: a stream of the socket device that
 * goes through the same loop never waits more than a few rounds.
 */
static void console_flood(void)
{
	static struct net t;
	static struct driver d;
	static struct packet p;
	struct flood f = {0};
	struct stream s;
	struct virtio_dev *dev;
	struct stat st;
	char dir[] = "/tmp/wisp-test-XXXXXX", path[64], old[64], byte;
	uint16_t head;
	uint32_t len;
	REQUIRE(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(old, sizeof(old), "%s/log.1", dir);
	logfile_init(&f.log, AT_FDCWD, path, LOG_LIMIT);
	REQUIRE(logfile_create(&f.log, NULL) == 0);
	REQUIRE(net_open(&t));
	REQUIRE(console_create(&dev, &t.g.env, &(struct console_options){.output = to_log, .context = &f}, NULL) == 0);
	drv_open(&d, &t.g, dev);
	REQUIRE(drv_start(&d, RING_FEATURES_ALL, 128));
	struct buf bufs[128];
	uint64_t text = guest_alloc(&t.g, 1u << 20, 4096);
	memset(guest_at(&t.g, text, 1u << 20), 'y', 1u << 20);
	for (unsigned i = 0; i < 128; i++)
		bufs[i] = (struct buf){text, 1u << 20};
	int fd = open_stream(&t, &s, 7);
	REQUIRE(fd >= 0);

	size_t heap = 0;
	long resident = 0;
	unsigned rounds = 0, waited = 0, longest = 0, echoes = 0;
	uint64_t before = 0;
	say_line(fd, "x");
	while (f.total < FLOOD_BYTES && !test_failed) {
		while (ring_used(&d, 1, &head, &len))
			;
		if (d.ring[1].free_count == 128) {
			REQUIRE(ring_add(&d, 1, bufs, 128, 0) >= 0);
			ring_kick(&d, 1);
		}
		loop_step(t.g.loop, 100);
		CHECK(f.total - before <= 2 * ROUND_BYTES); /* that of a new kick, and that of the round */
		before = f.total;
		waited++;
		while (ring_used(&t.d, TX, &head, &len))
			;
		while (take(&t, &p)) { /* and back, and again */
			s.fwd_cnt += p.hdr.op == VIRTIO_VSOCK_OP_RW;
			struct virtio_vsock_hdr hdr = header_of(&s, VIRTIO_VSOCK_OP_RW, 1);
			if (p.hdr.op == VIRTIO_VSOCK_OP_RW)
				CHECK(post_raw(&t, &hdr, "x", 1, 0));
		}
		if (recv(fd, &byte, 1, MSG_DONTWAIT) == 1) {
			longest = waited > longest ? waited : longest;
			waited = 0;
			echoes++;
			say_line(fd, "x");
		}
		if (++rounds == 64) {              /* everything has been used once */
			resident = resident_kib(); /* first: what stdio keeps is counted */
			heap = mallinfo2().uordblks;
		}
	}
	printf("# %llu MiB in %u rounds, %u echoes beside, the longest in %u rounds\n",
	        (unsigned long long)f.total >> 20, rounds, echoes, longest);
	CHECK_EQ(mallinfo2().uordblks, heap);
	CHECK(resident_kib() <= resident + (long)(FLOOD_BYTES / 64 / 1024)); /* QEMU's emulation takes some, too */
	CHECK(echoes > 100 && longest <= 16 && waited <= 16);
	CHECK(stat(path, &st) == 0 && st.st_size <= LOG_LIMIT);
	CHECK(stat(old, &st) == 0 && st.st_size <= LOG_LIMIT);
	drv_close(&d);
	close(fd);
	net_close(&t);
	logfile_close(&f.log);
	unlink(path);
	unlink(old);
	rmdir(dir);
}

TEST_MAIN("hostile_devices", {"block_errors", block_errors}, {"console_errors", console_errors},
        {"socket_errors", socket_errors}, {"buffered_bytes", buffered_bytes}, {"console_flood", console_flood})
