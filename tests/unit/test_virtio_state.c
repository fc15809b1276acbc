/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that are saved, and restored over a copy of the guest's memory. */
#include "tests/unit/guest_disk.h"
#include "tests/unit/guest_net.h"
#include <linux/virtio_balloon.h>

#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/state.h"

/* The driver of a copy: the guest's memory and what the driver knows of its rings. */
static void copy_driver(struct driver *to, const struct driver *from)
{
	struct gmem *memory = &to->g->gmem;
	for (unsigned i = 0; i < memory->count; i++)
		memcpy(memory->region[i].host, from->g->gmem.region[i].host, memory->region[i].size);
	to->g->heap = from->g->heap;
	to->features = from->features;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		struct ring *r = &to->ring[i];
		*r = from->ring[i];
		if (r->size == 0)
			continue;
		r->desc = guest_at(to->g, r->desc_addr, 16ull * r->size);
		r->avail = guest_at(to->g, r->avail_addr, 6 + 2ull * r->size);
		r->used = guest_at(to->g, r->used_addr, 6 + 8ull * r->size);
	}
}

static void save(struct driver *d, struct virtio_state *state)
{
	while (virtio_busy(d->dev) && loop_step(d->g->loop, -1) >= 0)
		;
	virtio_save(&d->mmio, state);
}

static bool restore(struct driver *d, const struct virtio_state *state)
{
	struct err err = {0};
	int ret = virtio_restore(&d->mmio, state, &err);
	if (ret < 0)
		printf("# %s\n", err.text);
	else
		virtio_resume(d->dev);
	return ret == 0;
}

/* How many used elements there are, none of them twice. */
static unsigned take_used(struct driver *d, unsigned queue)
{
	bool seen[VIRTQ_SIZE_MAX] = {false};
	uint16_t head;
	uint32_t len;
	unsigned count = 0;
	while (ring_used(d, queue, &head, &len)) {
		CHECK(head < VIRTQ_SIZE_MAX && !seen[head]);
		seen[head % VIRTQ_SIZE_MAX] = true;
		count++;
	}
	return count;
}

/* --- disks --- */

static bool open_copy_of_disk(struct disk *t, struct disk *from, const struct blk_options *like)
{
	struct blk_options opt = *like;
	struct virtio_dev *dev;
	struct err err = {0};
	if (!guest_open(&t->g))
		return false;
	opt.fd = dup(from->fd);
	t->fd = dup(from->fd);
	if (blk_create(&dev, &t->g.env, &opt, &err) < 0)
		return false;
	drv_open(&t->d, &t->g, dev);
	copy_driver(&t->d, &from->d);
	t->header = from->header;
	t->status = from->status;
	return true;
}

static void offer_reads(struct disk *t, unsigned queue, unsigned count, uint64_t area)
{
	set_header(t, VIRTIO_BLK_T_IN, 0);
	for (unsigned i = 0; i < count; i++) {
		struct buf bufs[] = {{t->header, 16}, {area, 4096}, {t->status, 1}};
		CHECK(ring_add(&t->d, queue, bufs, 1, 2) >= 0);
	}
}

/* Of every queue, requests that were kicked and maybe in flight, and others that no kick announced. */
static void test_disk(void)
{
	struct blk_options opt = {.queues = 4};
	struct virtio_state state;
	struct disk t, copy;
	REQUIRE(disk_open(&t, &opt));
	uint64_t area = guest_alloc(&t.g, 4096, 4096);
	for (unsigned q = 0; q < 4; q++) {
		offer_reads(&t, q, 20, area);
		ring_kick(&t.d, q);
	}
	while (!virtio_busy(t.d.dev))
		loop_step(t.g.loop, 20);
	for (unsigned q = 0; q < 4; q++)
		offer_reads(&t, q, 5, area);
	save(&t.d, &state);
	CHECK(!virtio_busy(t.d.dev));

	REQUIRE(open_copy_of_disk(&copy, &t, &opt));
	REQUIRE(restore(&copy.d, &state));
	guest_settle(&copy.g, 20);
	for (unsigned q = 0; q < 4; q++) {
		CHECK_EQ(take_used(&copy.d, q), 25);
		CHECK_EQ(copy.d.ring[q].used[1], 25);
	}
	CHECK(drv_interrupts(&copy.d) > 0);
	round_trip(&copy, 8);
	disk_close(&copy);

	/* The disk that was saved goes on. */
	for (unsigned q = 0; q < 4; q++)
		ring_kick(&t.d, q);
	guest_settle(&t.g, 20);
	for (unsigned q = 0; q < 4; q++)
		CHECK_EQ(take_used(&t.d, q), 25);
	round_trip(&t, 8);
	disk_close(&t);
}

/* One attempt with a changed state on a fresh device. */
static void refuse(struct disk *from, const struct virtio_state *state, const char *why)
{
	struct disk copy;
	struct err err = {0};
	REQUIRE(open_copy_of_disk(&copy, from, &(struct blk_options){.queues = 2}));
	CHECK_EQ(virtio_restore(&copy.d.mmio, state, &err), -EINVAL);
	CHECK(strstr(err.text, why));
	if (!strstr(err.text, why))
		printf("# %s\n", err.text);
	disk_close(&copy);
}

static void test_refused(void)
{
	struct virtio_state good, bad;
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){.queues = 2}));
	save(&t.d, &good);
	bad = good, bad.id++;
	refuse(&t, &bad, "the blk device of the snapshot: it is a device of another type");
	bad = good, bad.queue_count = 1;
	refuse(&t, &bad, "another number of queues");
	bad = good, bad.driver_features |= 1ull << 62, bad.negotiated |= 1ull << 62;
	refuse(&t, &bad, "does not offer");
	bad = good, bad.negotiated &= ~(1ull << VIRTIO_BLK_F_FLUSH);
	refuse(&t, &bad, "not those that its driver chose");
	bad = good, bad.negotiated = 0;
	refuse(&t, &bad, "not those that its driver chose");
	bad = good, bad.driver_features &= ~(1ull << VIRTIO_F_VERSION_1), bad.negotiated = bad.driver_features;
	refuse(&t, &bad, "not one of virtio 1");
	bad = good, bad.driver_features &= ~(1ull << VIRTIO_BLK_F_MQ), bad.negotiated = bad.driver_features;
	refuse(&t, &bad, "a queue is ready that its driver does not have");
	bad = good, bad.queue[1].ready = 2;
	refuse(&t, &bad, "a queue is ready that its driver does not have");
	bad = good, bad.status |= 0x20;
	refuse(&t, &bad, "unknown bits");
	bad = good, bad.interrupt_status = 4;
	refuse(&t, &bad, "unknown bits");
	bad = good, bad.active = 2;
	refuse(&t, &bad, "unknown bits");
	bad = good, bad.active = 0;
	refuse(&t, &bad, "contradicts itself");
	bad = good, bad.started = 0;
	refuse(&t, &bad, "contradicts itself");
	bad = good, bad.status &= ~(uint32_t)VIRTIO_CONFIG_S_FEATURES_OK;
	refuse(&t, &bad, "contradicts itself");
	bad = good, bad.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	refuse(&t, &bad, "contradicts itself");
	bad = good, bad.queue[1].size = 100;
	refuse(&t, &bad, "not a power of two");
	bad = good, bad.queue[0].used = GUEST_HOLE - 4;
	refuse(&t, &bad, "not in RAM");
	bad = good, bad.own[0] += 512;
	refuse(&t, &bad, "the disk has 1048576 bytes, and had 1049088 when the snapshot was made");
	disk_close(&t);
}

/* Wherever the driver is, it is there again. */
static void test_every_status(void)
{
	static const char *const stages[] = {"new", "half negotiated", "half a queue", "running",
	        "acknowledged failure", "broken", "stopped", "reset"};
	for (unsigned stage = 0; stage < sizeof(stages) / sizeof(stages[0]); stage++) {
		struct blk_options opt = {.queues = 2};
		struct virtio_state first, second;
		struct disk t = {.fd = disk_file()}, copy;
		struct virtio_dev *dev;
		struct err err = {0};
		REQUIRE(guest_open(&t.g) && ftruncate(t.fd, DISK_BYTES) == 0);
		opt.fd = dup(t.fd);
		REQUIRE(blk_create(&dev, &t.g.env, &opt, &err) == 0);
		drv_open(&t.d, &t.g, dev);
		if (stage == 1) {
			drv_add_status(&t.d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
			reg_write(&t.d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
			reg_write(&t.d, VIRTIO_MMIO_DRIVER_FEATURES, 0xffff);
		}
		if (stage == 2) {
			CHECK(drv_negotiate(&t.d, BLK_FEATURES));
			drv_queue(&t.d, 0, 64);
			reg_write(&t.d, VIRTIO_MMIO_QUEUE_SEL, 1);
			reg_write(&t.d, VIRTIO_MMIO_QUEUE_NUM, 99);
			reg_write(&t.d, VIRTIO_MMIO_QUEUE_DESC_HIGH, 77);
		}
		if (stage >= 3)
			CHECK(drv_start(&t.d, BLK_FEATURES, 64));
		if (stage == 4)
			drv_add_status(&t.d, VIRTIO_CONFIG_S_FAILED);
		if (stage == 5) {
			ring_offer(&t.d.ring[1], 1000);
			reg_write(&t.d, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
			guest_settle(&t.g, 5);
			CHECK(drv_failed(&t.d));
		}
		if (stage == 6)
			reg_write(&t.d, VIRTIO_MMIO_QUEUE_READY, 0);
		if (stage == 7)
			drv_reset(&t.d);
		save(&t.d, &first);
		REQUIRE(open_copy_of_disk(&copy, &t, &opt));
		CHECK(restore(&copy.d, &first));
		guest_settle(&copy.g, 5);
		save(&copy.d, &second);
		if (memcmp(&first, &second, sizeof(first)) != 0) {
			printf("# %s: the states differ\n", stages[stage]);
			test_failed = true;
		}
		CHECK_EQ(drv_status(&t.d), drv_status(&copy.d));
		CHECK_EQ(drv_interrupts(&copy.d) > 0, first.interrupt_status != 0);
		drv_reset(&copy.d);
		copy.header = guest_alloc(&copy.g, 16, 16);
		copy.status = guest_alloc(&copy.g, 1, 1);
		CHECK(drv_start(&copy.d, BLK_FEATURES, 64));
		round_trip(&copy, 8);
		disk_close(&copy);
		disk_close(&t);
	}
}

/* --- the console --- */

struct printed {
	size_t at;
	bool ok;
};

static void print(void *context, const void *data, size_t len)
{
	struct printed *p = context;
	p->ok &= follows(data, &p->at, len);
}

static bool open_console(struct guest *g, struct driver *d, struct printed *p)
{
	struct virtio_dev *dev;
	struct err err = {0};
	*p = (struct printed){.ok = true};
	if (!guest_open(g) ||
	        console_create(&dev, &g->env, &(struct console_options){.output = print, .context = p}, &err) < 0)
		return false;
	drv_open(d, g, dev);
	return true;
}

/* A chain that takes many rounds is saved in the middle of one, and printed once in all. */
static void test_console(void)
{
	struct guest g, copy_g;
	struct driver d, copy;
	struct printed p, copy_p;
	struct virtio_state state;
	uint32_t len = 1u << 20, used;
	uint16_t head;
	REQUIRE(open_console(&g, &d, &p) && drv_start(&d, RING_FEATURES_ALL, 64));
	uint64_t area = guest_alloc(&g, 2 * len, 4096);
	fill(guest_at(&g, area, 2 * len), 0, 2 * len);
	CHECK(ring_add(&d, 1, (struct buf[]){{area, len}}, 1, 0) >= 0);
	CHECK(ring_add(&d, 1, (struct buf[]){{area + len, len}}, 1, 0) >= 0);
	ring_kick(&d, 1);
	while (p.at < 100000)
		loop_step(g.loop, 20);
	CHECK(p.at < len);
	CHECK(!virtio_busy(d.dev)); /* output does not hold up a snapshot */
	save(&d, &state);

	REQUIRE(open_console(&copy_g, &copy, &copy_p));
	copy_driver(&copy, &d);
	copy_p.at = p.at;
	REQUIRE(restore(&copy, &state));
	for (unsigned i = 0; i < 2; i++)
		CHECK(ring_wait(&copy, 1, &head, &used) && ring_wait(&d, 1, &head, &used));
	CHECK(p.ok && copy_p.ok);
	CHECK_EQ(copy_p.at, 2 * len);
	CHECK_EQ(p.at, 2 * len);
	CHECK_EQ(take_used(&copy, 1) + take_used(&d, 1), 0);
	drv_close(&copy);
	drv_close(&d);
	guest_close(&copy_g);
	guest_close(&g);
}

/* --- the balloon --- */

static bool open_balloon(struct guest *g, struct driver *d)
{
	struct virtio_dev *dev;
	struct err err = {0};
	if (!guest_open(g) || balloon_create(&dev, &g->env, &err) < 0)
		return false;
	drv_open(d, g, dev);
	return true;
}

/* Memory that was reported before the snapshot and not yet taken is taken by both machines. */
static void test_balloon(void)
{
	struct guest g, copy_g;
	struct driver d, copy;
	struct virtio_state state;
	uint16_t head;
	uint32_t used;
	REQUIRE(open_balloon(&g, &d) && drv_start(&d, RING_FEATURES_ALL | 1ull << VIRTIO_BALLOON_F_REPORTING, 64));
	uint64_t area = guest_alloc(&g, 1u << 20, 4096);
	memset(guest_at(&g, area, 1u << 20), 0x5a, 1u << 20);
	CHECK(ring_add(&d, 2, (struct buf[]){{area, 1u << 20}}, 0, 1) >= 0);
	save(&d, &state);
	REQUIRE(open_balloon(&copy_g, &copy));
	copy_driver(&copy, &d);
	REQUIRE(restore(&copy, &state));
	CHECK(ring_wait(&copy, 2, &head, &used));
	CHECK_EQ(*(uint8_t *)guest_at(&copy_g, area, 1), 0);
	CHECK_EQ(*(uint8_t *)guest_at(&g, area, 1), 0x5a);
	ring_kick(&d, 2);
	CHECK(ring_wait(&d, 2, &head, &used));
	CHECK_EQ(*(uint8_t *)guest_at(&g, area, 1), 0);
	drv_close(&copy);
	drv_close(&d);
	guest_close(&copy_g);
	guest_close(&g);
}

/* --- the socket device --- */

static uint64_t give_events(struct net *t)
{
	uint64_t area = guest_alloc(&t->g, 8 * 16, 16);
	for (unsigned i = 0; i < 8; i++)
		CHECK(ring_add(&t->d, EVENT, (struct buf[]){{area + 16 * i, 4}}, 0, 1) >= 0);
	ring_kick(&t->d, EVENT);
	return area;
}

static bool copy_net(struct net *copy, const struct net *t, const struct virtio_state *state)
{
	if (!net_create(copy))
		return false;
	copy_driver(&copy->d, &t->d);
	copy->rx_area = t->rx_area;
	copy->tx_area = t->tx_area;
	memcpy(copy->rx_of, t->rx_of, sizeof(copy->rx_of));
	return restore(&copy->d, state);
}

/* Takes the event, as a driver does: it handles it, then returns the buffer and kicks. */
static void take_event(struct net *t, uint64_t area)
{
	uint16_t head;
	uint32_t len;
	REQUIRE(ring_wait(&t->d, EVENT, &head, &len));
	CHECK_EQ(len, 4);
	struct vring_desc desc;
	guest_load(&desc, &t->d.ring[EVENT].desc[head], sizeof(desc));
	CHECK(desc.addr >= area && desc.addr < area + 8 * 16);
	CHECK_EQ(*(uint32_t *)guest_at(&t->g, desc.addr, 4), VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	CHECK(!ring_used(&t->d, EVENT, &head, &len)); /* only one */
}

static void return_event(struct net *t, uint64_t area)
{
	unsigned kicks = t->d.ring[EVENT].kicks;
	CHECK(ring_add(&t->d, EVENT, (struct buf[]){{area, 4}}, 0, 1) >= 0);
	ring_kick(&t->d, EVENT);
	CHECK_EQ(t->d.ring[EVENT].kicks, kicks + 1); /* the device asked for it */
}

static void test_socket_event(void)
{
	struct net t, copy;
	struct stream old, new;
	struct packet p;
	struct virtio_state state;
	REQUIRE(net_open(&t));
	uint64_t area = give_events(&t);
	int fd = open_stream(&t, &old, 77);
	CHECK(fd >= 0);
	save(&t.d, &state);
	REQUIRE(copy_net(&copy, &t, &state));

	/* A client is there at once, and waits. */
	int client = client_connect(copy.path);
	say_line(client, "CONNECT 77\n");
	guest_settle(&copy.g, 20);
	CHECK(!take(&copy, &p));
	take_event(&copy, area);

	/* Packets of old connections, and new connections of the guest that its driver is about to reset, are refused.
	 */
	CHECK(send_data(&copy, &old, "old", 3));
	CHECK(expect(&copy, &p, VIRTIO_VSOCK_OP_RST));
	CHECK_EQ(p.hdr.dst_port, 77);
	CHECK_EQ(p.hdr.src_port, old.host_port);
	new = (struct stream){.guest_port = 2000, .host_port = 1024};
	CHECK(send_op(&copy, &new, VIRTIO_VSOCK_OP_REQUEST, 0));
	CHECK(expect(&copy, &p, VIRTIO_VSOCK_OP_RST));
	CHECK(!take(&copy, &p));

	return_event(&copy, area);
	CHECK(expect(&copy, &p, VIRTIO_VSOCK_OP_REQUEST));
	CHECK_EQ(p.hdr.dst_port, 77);
	CHECK_EQ(p.hdr.src_port, old.host_port + 1);
	close(client);
	guest_settle(&copy.g, 5);
	net_close(&copy);

	/* The connection of the device that was saved lives. */
	CHECK(send_data(&t, &old, "still", 5));
	char got[8] = "";
	CHECK_EQ(client_read(&t, fd, got, sizeof(got)), 5);
	CHECK_STR(got, "still");
	close(fd);
	net_close(&t);
}

/* Without a buffer for the event, and without EVENT_IDX: it comes with the first buffer. */
static void test_late_buffer(void)
{
	struct net t, copy;
	struct packet p;
	struct virtio_state state;
	REQUIRE(net_create(&t));
	REQUIRE(drv_start(&t.d, 1ull << VIRTIO_F_VERSION_1, 128));
	give_rx(&t, 0);
	save(&t.d, &state);
	REQUIRE(copy_net(&copy, &t, &state));
	int client = client_connect(copy.path);
	say_line(client, "CONNECT 77\n");
	guest_settle(&copy.g, 20);
	CHECK(!take(&copy, &p));
	uint64_t area = give_events(&copy);
	take_event(&copy, area);
	guest_settle(&copy.g, 20);
	CHECK(!take(&copy, &p));
	return_event(&copy, area);
	CHECK(expect(&copy, &p, VIRTIO_VSOCK_OP_REQUEST));
	close(client);
	net_close(&copy);
	net_close(&t);
}

/* A packet that the driver has made available and not announced, because it was not asked to. */
static void test_unannounced(void)
{
	struct net t, copy;
	struct stream s = {.guest_port = 5, .host_port = 6};
	struct virtio_state state;
	struct packet p;
	uint16_t head;
	uint32_t len;
	REQUIRE(net_open(&t));
	uint64_t area = give_events(&t);
	guest_settle(&t.g, 5);
	struct virtio_vsock_hdr hdr = header_of(&s, VIRTIO_VSOCK_OP_RW, 0);
	memcpy(guest_at(&t.g, t.tx_area, HEADER), &hdr, HEADER);
	CHECK(ring_add(&t.d, TX, (struct buf[]){{t.tx_area, HEADER}}, 1, 0) >= 0);
	save(&t.d, &state);
	CHECK_EQ(state.queue[TX].avail_next, 0);
	REQUIRE(copy_net(&copy, &t, &state));
	CHECK(expect(&copy, &p, VIRTIO_VSOCK_OP_RST));
	CHECK_EQ(p.hdr.dst_port, 5);
	CHECK(ring_wait(&copy.d, TX, &head, &len));
	CHECK(!ring_used(&copy.d, TX, &head, &len));
	take_event(&copy, area);
	net_close(&copy);

	/* And the device that was saved serves it when it is kicked. */
	ring_kick(&t.d, TX);
	CHECK(expect(&t, &p, VIRTIO_VSOCK_OP_RST));
	net_close(&t);
}

/* Completions that the device held back are shown by the save, and their interrupt is raised again by the copy. */
static void test_quiet(void)
{
	struct net t, copy;
	struct stream s = {.guest_port = 5, .host_port = 6};
	struct virtio_state state;
	REQUIRE(net_open(&t));
	guest_settle(&t.g, 5);
	drv_interrupts(&t.d);
	struct virtio_vsock_hdr hdr = header_of(&s, VIRTIO_VSOCK_OP_RST, 0);
	CHECK(post_raw(&t, &hdr, NULL, 0, 0));
	while (t.d.dev->queue[TX].vq.state.avail_next == 0)
		loop_step(t.g.loop, 1);
	save(&t.d, &state);
	CHECK_EQ(t.d.ring[TX].used[1], 1);
	CHECK_EQ(state.queue[TX].used_next, 1);
	CHECK_EQ(state.interrupt_status, VIRTIO_MMIO_INT_VRING);
	CHECK_EQ(drv_interrupts(&t.d), 1);
	REQUIRE(copy_net(&copy, &t, &state));
	CHECK_EQ(drv_interrupts(&copy.d), 1);
	CHECK_EQ(reg_read(&copy.d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	CHECK_EQ(take_used(&copy.d, TX), 1);
	net_close(&copy);
	guest_settle(&t.g, 20);
	CHECK_EQ(take_used(&t.d, TX), 1);
	net_close(&t);
}

/* A client that never stops sending does not keep the device busy, and no byte of it is lost by a save. */
static void test_flood(void)
{
	static uint8_t bytes[256 << 10], got[RX_BYTES];
	struct net t;
	struct stream s;
	struct virtio_state state;
	struct packet p;
	size_t sent = 0, at = 0;
	REQUIRE(net_open(&t));
	int fd = open_stream(&t, &s, 77);
	s.alloc = 1u << 30;
	CHECK(send_op(&t, &s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0));
	for (unsigned round = 0; round < 20; round++) {
		fill(bytes, sent, sizeof(bytes));
		ssize_t n = send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		loop_step(t.g.loop, 0);
		CHECK(!virtio_busy(t.d.dev));
		virtio_save(&t.d.mmio, &state);
		CHECK_EQ(t.d.ring[RX].used[1], state.queue[RX].used_next);
	}
	CHECK(sent > RX_BUFFERS * RX_BYTES); /* more than the guest's buffers hold */
	while (at < sent && take_wait(&t, &p)) {
		memcpy(got, p.data, p.hdr.len);
		CHECK(p.hdr.op == VIRTIO_VSOCK_OP_RW && follows(got, &at, p.hdr.len));
	}
	CHECK_EQ(at, sent);
	close(fd);
	guest_settle(&t.g, 5);
	net_close(&t);
}

TEST_MAIN("virtio_state", {"disk", test_disk}, {"refused", test_refused}, {"every_status", test_every_status},
        {"console", test_console}, {"balloon", test_balloon}, {"socket_event", test_socket_event},
        {"late_buffer", test_late_buffer}, {"unannounced", test_unannounced}, {"quiet", test_quiet},
        {"flood", test_flood})
