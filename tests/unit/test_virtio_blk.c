/* SPDX-License-Identifier: Apache-2.0 */
/* The block device over temporary files: what it stores, what it refuses, what it promises. */
#include "tests/unit/guest_disk.h"

#include <sys/mman.h>
#include <sys/stat.h>

#define QUEUES 4u

static unsigned num_queues(struct disk *t)
{
	uint16_t value;
	virtio_mmio_read(
	        &t->d.mmio, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, num_queues), &value, sizeof(value));
	return value;
}

static void test_identity(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_DEVICE_ID), 2);
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG), DISK_SECTORS);
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG + 4), 0);
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, seg_max)), 126);
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, blk_size)), 512);
	CHECK_EQ(num_queues(&t), 0);
	CHECK(!(t.d.features >> VIRTIO_BLK_F_MQ & 1));
	uint64_t data = guest_alloc(&t.g, 64, 1);
	uint32_t used;
	CHECK_EQ(request(&t, VIRTIO_BLK_T_GET_ID, 0, &(struct buf){data, 20}, 1, &used), VIRTIO_BLK_S_OK);
	CHECK_EQ(used, 21);
	CHECK(memcmp(guest_at(&t.g, data, 20), "wisp-disk-0123456789", 20) == 0);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_GET_ID, 0, &(struct buf){data, 19}, 1, &used), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(used, 0);
	CHECK_EQ(request(&t, 0x77, 0, NULL, 0, &used), VIRTIO_BLK_S_UNSUPP);
	disk_close(&t);
}

static void test_round_trip(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	round_trip(&t, 0);
	round_trip(&t, 77);
	round_trip(&t, DISK_SECTORS - 3);
	CHECK(t.d.dev->to_guest.operations == 3 && t.d.dev->from_guest.operations == 3);
	CHECK(t.d.dev->to_guest.bytes == 3 * 1536 && t.d.dev->from_guest.bytes == 3 * 1536);
	CHECK_EQ(t.d.dev->other_operations, 3); /* its flushes */
	disk_close(&t);
}

static void test_direct(void)
{
	char path[64];
	struct disk t;
	int fd = disk_file();
	REQUIRE(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (direct < 0)
		SKIP("the file system of /var/tmp has no O_DIRECT");
	REQUIRE(disk_open_on(&t, direct, &(struct blk_options){.direct = true}, BLK_FEATURES));
	close(t.fd);
	t.fd = fd;         /* which reads at any alignment */
	round_trip(&t, 9); /* neither addresses nor sector are aligned */
	round_trip(&t, 16);
	uint64_t area = guest_alloc(&t.g, 65536, 4096);
	pattern(guest_at(&t.g, area, 65536), 65536, 5);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, 64, &(struct buf){area, 65536}, 1, NULL), VIRTIO_BLK_S_OK);
	uint64_t back = guest_alloc(&t.g, 65536, 4096);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 64, &(struct buf){back, 65536}, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK(memcmp(guest_at(&t.g, back, 65536), guest_at(&t.g, area, 65536), 65536) == 0);
	disk_close(&t);
}

/* The same data whatever the layout of descriptors: section 2.7.4. */
static void test_framing(void)
{
	struct disk t;
	uint16_t head;
	uint32_t len;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	uint64_t area = guest_alloc(&t.g, 8192, 16);
	uint8_t *mem = guest_at(&t.g, area, 8192);
	struct virtio_blk_outhdr hdr = {.type = VIRTIO_BLK_T_OUT, .sector = 5};

	/* header and data in one buffer */
	memcpy(mem, &hdr, 16);
	pattern(mem + 16, 512, 1);
	struct buf one[] = {{area, 16 + 512}, {t.status, 1}};
	CHECK(ring_add(&t.d, 0, one, 1, 1) >= 0);
	ring_kick(&t.d, 0);
	REQUIRE(ring_wait(&t.d, 0, &head, &len));
	CHECK_EQ(*(uint8_t *)guest_at(&t.g, t.status, 1), VIRTIO_BLK_S_OK);

	/* the header in pieces, an empty buffer, and data and status in one */
	hdr.type = VIRTIO_BLK_T_IN;
	memcpy(mem, &hdr, 16);
	struct buf split[] = {
	        {area, 1}, {area + 1, 6}, {area + 7, 0}, {area + 7, 9}, {area + 4096, 100}, {area + 4200, 413}};
	CHECK(ring_add_indirect(&t.d, 0, split, 4, 2) >= 0);
	ring_kick(&t.d, 0);
	REQUIRE(ring_wait(&t.d, 0, &head, &len));
	CHECK_EQ(len, 513);
	CHECK_EQ(mem[4200 + 412], VIRTIO_BLK_S_OK);
	CHECK(memcmp(mem + 4096, mem + 16, 100) == 0);
	CHECK(memcmp(mem + 4200, mem + 116, 412) == 0);
	disk_close(&t);
}

static void test_refused(void)
{
	struct disk t;
	uint32_t used;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	uint64_t area = guest_alloc(&t.g, 4096, 4096);
	struct buf sector = {area, 512}, odd = {area, 513}, two = {area, 1024};
	memset(guest_at(&t.g, area, 4096), 0x5a, 4096);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, DISK_SECTORS, &sector, 1, &used), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(used, 0);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, DISK_SECTORS - 1, &two, 1, NULL), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, DISK_SECTORS - 1, &two, 1, NULL), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, UINT64_MAX, &two, 1, NULL), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, &sector, 1, NULL), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, 0, &odd, 1, NULL), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 0, &odd, 1, NULL), VIRTIO_BLK_S_IOERR);
	struct stat st;
	CHECK(fstat(t.fd, &st) == 0 && st.st_size == DISK_BYTES && st.st_blocks == 0);

	/* half a header */
	uint16_t head;
	struct buf half[] = {{t.header, 15}, {t.status, 1}};
	set_header(&t, VIRTIO_BLK_T_FLUSH, 0);
	CHECK(ring_add(&t.d, 0, half, 1, 1) >= 0);
	ring_kick(&t.d, 0);
	REQUIRE(ring_wait(&t.d, 0, &head, &used));
	CHECK_EQ(*(uint8_t *)guest_at(&t.g, t.status, 1), VIRTIO_BLK_S_IOERR);

	/* no status: there is no way to answer */
	CHECK(!drv_failed(&t.d));
	CHECK(ring_add(&t.d, 0, half, 2, 0) >= 0);
	ring_kick(&t.d, 0);
	guest_settle(&t.g, 20);
	CHECK(drv_failed(&t.d));
	CHECK_EQ(t.g.log_lines, 1);
	disk_close(&t);
}

static void test_readonly(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){.readonly = true}));
	CHECK(t.d.features >> VIRTIO_BLK_F_RO & 1);
	CHECK(!(t.d.features >> VIRTIO_BLK_F_DISCARD & 1));
	uint64_t area = guest_alloc(&t.g, 512, 512);
	struct virtio_blk_discard_write_zeroes range = {.sector = 0, .num_sectors = 8};
	memset(guest_at(&t.g, area, 512), 0x5a, 512);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, 0, &(struct buf){area, 512}, 1, NULL), VIRTIO_BLK_S_IOERR);
	memcpy(guest_at(&t.g, area, 16), &range, 16);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_DISCARD, 0, &(struct buf){area, 16}, 1, NULL), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, &(struct buf){area, 16}, 1, NULL), VIRTIO_BLK_S_IOERR);
	struct stat st;
	CHECK(fstat(t.fd, &st) == 0 && st.st_blocks == 0);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 0, &(struct buf){area, 512}, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK_EQ(*(uint8_t *)guest_at(&t.g, area, 1), 0);
	disk_close(&t);
}

static bool all_bytes(int fd, off_t from, size_t len, uint8_t value)
{
	uint8_t block[4096];
	while (len > 0) {
		ssize_t n = pread(fd, block, len < sizeof(block) ? len : sizeof(block), from);
		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++) {
			if (block[i] != value)
				return false;
		}
		from += n;
		len -= (size_t)n;
	}
	return true;
}

/* Ranges on a disk full of 0x5a, on the file system given by `fd`. */
static void ranges(int fd)
{
	struct disk t;
	uint8_t block[4096];
	memset(block, 0x5a, sizeof(block));
	for (unsigned i = 0; i < DISK_BYTES / 4096; i++)
		REQUIRE(write(fd, block, 4096) == 4096);
	REQUIRE(disk_open_on(&t, fd, &(struct blk_options){0}, BLK_FEATURES));
	uint64_t area = guest_alloc(&t.g, 512, 16);
	struct virtio_blk_discard_write_zeroes *range = guest_at(&t.g, area, 512);
	struct buf one = {area, 16}, two = {area, 32};

	range[0] = (struct virtio_blk_discard_write_zeroes){.sector = 8, .num_sectors = 8};
	range[1] = (struct virtio_blk_discard_write_zeroes){.sector = 33, .num_sectors = 3};
	CHECK_EQ(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, &two, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK(all_bytes(t.fd, 0, 8 * 512, 0x5a) && all_bytes(t.fd, 8 * 512, 8 * 512, 0));
	CHECK(all_bytes(t.fd, 16 * 512, 17 * 512, 0x5a) && all_bytes(t.fd, 33 * 512, 3 * 512, 0));
	CHECK(all_bytes(t.fd, 36 * 512, 512, 0x5a));

	range[0].flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	range[0].sector = 40;
	range[0].num_sectors = DISK_SECTORS - 40; /* longer than one piece of the fallback */
	CHECK_EQ(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, &one, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK(all_bytes(t.fd, 40 * 512, DISK_BYTES - 40 * 512, 0) && all_bytes(t.fd, 39 * 512, 512, 0x5a));

	CHECK_EQ(request(&t, VIRTIO_BLK_T_DISCARD, 0, &one, 1, NULL), VIRTIO_BLK_S_UNSUPP); /* unmap is set */
	range[0].flags = 2;
	CHECK_EQ(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, &one, 1, NULL), VIRTIO_BLK_S_UNSUPP);
	range[0].flags = 0;
	range[0].sector = 0;
	range[0].num_sectors = 8;
	CHECK_EQ(request(&t, VIRTIO_BLK_T_DISCARD, 0, &one, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK(all_bytes(t.fd, 0, 8 * 512, 0));
	range[0].sector = UINT64_MAX - 4;
	CHECK_EQ(request(&t, VIRTIO_BLK_T_DISCARD, 0, &one, 1, NULL), VIRTIO_BLK_S_IOERR);
	range[0].sector = DISK_SECTORS - 7;
	CHECK_EQ(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, &one, 1, NULL), VIRTIO_BLK_S_IOERR);
	range[0].sector = 0;
	range[0].num_sectors = UINT32_MAX;
	CHECK_EQ(request(&t, VIRTIO_BLK_T_DISCARD, 0, &one, 1, NULL), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_DISCARD, 0, &(struct buf){area, 17}, 1, NULL), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_DISCARD, 0, &(struct buf){area, 16 * 17}, 1, NULL), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_DISCARD, 0, NULL, 0, NULL), VIRTIO_BLK_S_IOERR);
	struct stat st;
	CHECK(fstat(t.fd, &st) == 0 && st.st_size == DISK_BYTES);
	disk_close(&t);
}

static void test_ranges(void)
{
	ranges(disk_file());
}

/* tmpfs punches holes, but has no ZERO_RANGE: the way that writes zeros. */
static void test_ranges_fallback(void)
{
	ranges(memfd_create("disk", MFD_CLOEXEC));
}

/* A file that became shorter, and a file that cannot grow. */
static void test_host_errors(void)
{
	struct disk t;
	uint32_t used;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	uint64_t area = guest_alloc(&t.g, 8192, 4096);
	REQUIRE(ftruncate(t.fd, 4096) == 0);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 8, &(struct buf){area, 4096}, 1, &used), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(used, 0);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 4, &(struct buf){area, 4096}, 1, &used), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(used, 2048); /* what was there; the status, behind a gap, does not count */
	disk_close(&t);

	int fd = memfd_create("full", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	REQUIRE(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
	REQUIRE(disk_open_on(&t, fd, &(struct blk_options){0}, BLK_FEATURES));
	area = guest_alloc(&t.g, 8192, 4096);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, 0, &(struct buf){area, 4096}, 1, &used), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 0, &(struct buf){area, 4096}, 1, &used), VIRTIO_BLK_S_OK);
	CHECK(!drv_failed(&t.d));
	disk_close(&t);

	struct err err = {0};
	struct virtio_dev *dev = NULL;
	REQUIRE(guest_open(&t.g));
	fd = open("/dev/full", O_RDWR | O_CLOEXEC);
	CHECK_EQ(blk_create(&dev, &t.g.env, &(struct blk_options){.fd = fd}, &err), -EINVAL);
	CHECK(!dev && fcntl(fd, F_GETFD) >= 0); /* still the caller's */
	close(fd);
	guest_close(&t.g);
}

/*
 * EIO of the host: reads and writes of our own memory at an address where nothing is fail with it. The descriptor takes
 * the disk's place once that is open, for it is no file of any size.
 */
static void test_eio(void)
{
	struct disk t;
	uint32_t used;
	int fd = disk_file();
	REQUIRE(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0);
	REQUIRE(disk_open_on(&t, fd, &(struct blk_options){0}, BLK_FEATURES));
	int bad = open("/proc/self/mem", O_RDWR | O_CLOEXEC), good = dup(fd);
	uint8_t byte;
	REQUIRE(bad >= 0 && good >= 0 && pread(bad, &byte, 1, 0) < 0 && errno == EIO);
	REQUIRE(dup3(bad, fd, O_CLOEXEC) == fd);
	uint64_t area = guest_alloc(&t.g, 8192, 4096);
	struct buf one = {area, 4096}, two[] = {{area, 4096}, {area + 4096, 4096}};
	for (unsigned i = 0; i < 200; i++) { /* more than the queue is long: none is lost */
		CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 0, &one, 1, &used), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(used, 0);
		CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, 8, two, 2, &used), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(used, 1);
		CHECK_EQ(request(&t, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL), VIRTIO_BLK_S_IOERR);
	}
	CHECK(!drv_failed(&t.d));
	REQUIRE(dup3(good, fd, O_CLOEXEC) == fd);
	round_trip(&t, 3);
	close(bad);
	close(good);
	disk_close(&t);
}

static void test_flush_modes(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){.ignore_flushes = true}));
	CHECK(!(t.d.features >> VIRTIO_BLK_F_FLUSH & 1));
	round_trip(&t, 3);
	disk_close(&t);

	/* offered, not taken: every write is stable when it completes (RWF_DSYNC) */
	int fd = disk_file();
	REQUIRE(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0);
	REQUIRE(disk_open_on(&t, fd, &(struct blk_options){0}, RING_FEATURES_ALL | 1ull << VIRTIO_BLK_F_WRITE_ZEROES));
	round_trip(&t, 3);
	uint64_t area = guest_alloc(&t.g, 16, 16);
	*(struct virtio_blk_discard_write_zeroes *)guest_at(&t.g, area, 16) =
	        (struct virtio_blk_discard_write_zeroes){.sector = 3, .num_sectors = 1};
	CHECK_EQ(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, &(struct buf){area, 16}, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK(all_bytes(t.fd, 3 * 512, 512, 0));
	disk_close(&t);
}

/* A full queue of requests with one kick: all served, few interrupts, and no kick wanted while they are served. */
static void test_batch(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	enum { COUNT = 40 };
	uint64_t area = guest_alloc(&t.g, COUNT * 8192, 4096);
	uint64_t headers = guest_alloc(&t.g, COUNT * 16, 16), statuses = guest_alloc(&t.g, COUNT, 1);
	uint8_t data[DISK_BYTES / 8];
	pattern(data, sizeof(data), 3);
	REQUIRE(pwrite(t.fd, data, sizeof(data), 0) == (long)sizeof(data));
	drv_interrupts(&t.d);
	for (unsigned round = 0; round < 100; round++) {
		memset(guest_at(&t.g, statuses, COUNT), 0xee, COUNT);
		for (unsigned i = 0; i < COUNT; i++) {
			struct virtio_blk_outhdr hdr = {.type = VIRTIO_BLK_T_IN, .sector = (i * 13 + round) % 240};
			memcpy(guest_at(&t.g, headers + 16 * i, 16), &hdr, 16);
			struct buf bufs[] = {{headers + 16 * i, 16}, {area + i * 8192, 4096}, {statuses + i, 1}};
			REQUIRE(ring_add(&t.d, 0, bufs, 1, 2) >= 0);
		}
		ring_kick(&t.d, 0);
		for (unsigned i = 0; i < COUNT; i++) {
			uint16_t head;
			uint32_t len;
			REQUIRE(ring_wait(&t.d, 0, &head, &len));
			CHECK_EQ(len, 4097);
		}
		for (unsigned i = 0; i < COUNT; i++) {
			CHECK_EQ(*(uint8_t *)guest_at(&t.g, statuses + i, 1), 0);
			CHECK(memcmp(guest_at(&t.g, area + i * 8192, 4096), data + (i * 13 + round) % 240 * 512,
			              4096) == 0);
		}
	}
	unsigned interrupts = drv_interrupts(&t.d);
	printf("# %u requests: %u kicks, %u interrupts\n", 100 * COUNT, t.d.ring[0].kicks, interrupts);
	CHECK(t.d.ring[0].kicks <= 100 && interrupts <= 100 * 4);
	disk_close(&t);
}

/* Resets, and destruction, while requests are in flight: after either no byte of RAM changes any more. */
static void reset_in_flight(unsigned queues)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){.queues = queues}));
	enum { COUNT = 30, BYTES = 16384 };
	uint8_t data[BYTES];
	memset(data, 0x77, sizeof(data));
	for (unsigned i = 0; i < COUNT; i++)
		REQUIRE(pwrite(t.fd, data, BYTES, i * BYTES) == BYTES);
	uint64_t area = guest_alloc(&t.g, COUNT * BYTES, 4096);
	uint64_t headers = guest_alloc(&t.g, COUNT * 16, 16), statuses = guest_alloc(&t.g, COUNT, 1);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < COUNT; i++) {
			struct virtio_blk_outhdr hdr = {
			        .type = i % 4 == 3 ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_IN, .sector = i * BYTES / 512};
			memcpy(guest_at(&t.g, headers + 16 * i, 16), &hdr, 16);
			struct buf bufs[] = {{headers + 16 * i, 16}, {area + i * BYTES, BYTES}, {statuses + i, 1}};
			REQUIRE(ring_add(&t.d, i % queues, bufs, 1, 2) >= 0);
		}
		if (round % 3 == 0)
			posix_fadvise(t.fd, 0, 0, POSIX_FADV_DONTNEED);
		for (unsigned q = 0; q < queues; q++)
			ring_kick(&t.d, q);
		if (round % 2)
			loop_step(t.g.loop, 0);
		drv_reset(&t.d);
		CHECK_EQ(drv_status(&t.d), 0);
		CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
		memset(guest_at(&t.g, area, COUNT * BYTES), 0x11, COUNT * BYTES);
		drv_interrupts(&t.d);
		guest_settle(&t.g, 5);
		CHECK_EQ(drv_interrupts(&t.d), 0);
		uint8_t *mem = guest_at(&t.g, area, COUNT * BYTES);
		bool changed = false;
		for (unsigned i = 0; i < COUNT * BYTES; i++)
			changed |= mem[i] != 0x11;
		CHECK(!changed);
		REQUIRE(drv_start(&t.d, BLK_FEATURES, 128));
	}
	round_trip(&t, 1);
	for (unsigned i = 0; i < COUNT; i++) {
		struct buf bufs[] = {{headers + 16 * i, 16}, {area + i * BYTES, BYTES}, {statuses + i, 1}};
		REQUIRE(ring_add(&t.d, i % queues, bufs, 1, 2) >= 0);
	}
	for (unsigned q = 0; q < queues; q++)
		ring_kick(&t.d, q);
	loop_step(t.g.loop, 0);
	disk_close(&t);
}

static void test_reset_in_flight(void)
{
	reset_in_flight(1);
}

static void test_reset_queues(void)
{
	reset_in_flight(QUEUES);
}

/* A 4 KiB read from a sector on a queue; its data is in place when it comes back. */
static bool reads(struct disk *t, unsigned queue, uint64_t sector)
{
	struct buf bufs[] = {{t->header, 16}, {guest_alloc(&t->g, 4096, 4096), 4096}, {t->status, 1}};
	uint8_t data[4096];
	uint16_t head;
	uint32_t len;
	set_header(t, VIRTIO_BLK_T_IN, sector);
	if (ring_add(&t->d, queue, bufs, 1, 2) < 0)
		return false;
	ring_kick(&t->d, queue);
	return ring_wait(&t->d, queue, &head, &len) && len == 4097 &&
	       pread(t->fd, data, sizeof(data), (off_t)sector * 512) == (long)sizeof(data) &&
	       memcmp(guest_at(&t->g, bufs[1].addr, 4096), data, sizeof(data)) == 0;
}

/* Every head of every queue at once, through tables: as many requests as there can be. Each comes back on its queue. */
static void fill_queues(struct disk *t)
{
	uint64_t headers = guest_alloc(&t->g, QUEUES * 128 * 16, 16), statuses = guest_alloc(&t->g, QUEUES * 128, 1);
	uint64_t area = guest_alloc(&t->g, QUEUES * 128 * 512, 4096);
	unsigned wrong = 0;
	for (unsigned i = 0; i < QUEUES * 128; i++) {
		struct virtio_blk_outhdr hdr = {.type = VIRTIO_BLK_T_IN, .sector = i};
		memcpy(guest_at(&t->g, headers + 16 * i, 16), &hdr, 16);
		struct buf bufs[] = {{headers + 16 * i, 16}, {area + 512 * i, 512}, {statuses + i, 1}};
		REQUIRE(ring_add_indirect(&t->d, i % QUEUES, bufs, 1, 2) >= 0);
	}
	for (unsigned q = 0; q < QUEUES; q++)
		ring_kick(&t->d, q);
	for (unsigned i = 0; i < QUEUES * 128; i++) {
		uint16_t head;
		uint32_t len;
		REQUIRE(ring_wait(&t->d, i % QUEUES, &head, &len));
		wrong += len != 513;
	}
	uint8_t *data = malloc(QUEUES * 128 * 512);
	REQUIRE(data && pread(t->fd, data, QUEUES * 128 * 512, 0) == QUEUES * 128 * 512);
	CHECK(memcmp(guest_at(&t->g, area, QUEUES * 128 * 512), data, QUEUES * 128 * 512) == 0);
	CHECK_EQ(wrong, 0);
	free(data);
}

static void test_queues(void)
{
	struct disk t;
	uint8_t data[DISK_BYTES / 4];
	pattern(data, sizeof(data), 9);
	REQUIRE(disk_open(&t, &(struct blk_options){.queues = QUEUES}));
	REQUIRE(pwrite(t.fd, data, sizeof(data), 0) == (long)sizeof(data));
	CHECK(t.d.features >> VIRTIO_BLK_F_MQ & 1);
	CHECK_EQ(num_queues(&t), QUEUES);
	CHECK_EQ(drv_queues(&t.d), QUEUES);
	drv_interrupts(&t.d);
	fill_queues(&t);
	CHECK(drv_interrupts(&t.d) > 0);
	fill_queues(&t);

	/* a driver that prepares two of them; kicks of the others do nothing */
	drv_reset(&t.d);
	REQUIRE(drv_negotiate(&t.d, BLK_FEATURES));
	drv_queue(&t.d, 0, 128);
	drv_queue(&t.d, 2, 16);
	drv_ok(&t.d);
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX + 1; q++)
		reg_write(&t.d, VIRTIO_MMIO_QUEUE_NOTIFY, q);
	CHECK(reads(&t, 0, 8) && reads(&t, 2, 16) && reads(&t, 0, 24));
	CHECK(!drv_failed(&t.d));
	disk_close(&t);
}

/* A driver that does not take MQ has one queue: section 5.2.2. So it is until the features are agreed upon, too. */
static void test_queues_refused(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){.queues = QUEUES}));
	for (unsigned round = 0; round < 2; round++) {
		drv_reset(&t.d);
		CHECK_EQ(drv_queues(&t.d), 1);
		REQUIRE(drv_negotiate(&t.d, BLK_FEATURES & ~(1ull << VIRTIO_BLK_F_MQ)));
		CHECK_EQ(drv_queues(&t.d), 1);
		drv_queue(&t.d, 0, 128);
		drv_queue(&t.d, 1, 128); /* against the rules */
		CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_QUEUE_READY), 0);
		drv_ok(&t.d);
		CHECK(reads(&t, 0, 8));
		struct buf bufs[] = {{t.header, 16}, {t.status, 1}};
		REQUIRE(ring_add(&t.d, 1, bufs, 1, 1) >= 0);
		reg_write(&t.d, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
		guest_settle(&t.g, 20);
		uint16_t head;
		uint32_t len;
		CHECK(!ring_used(&t.d, 1, &head, &len) && !drv_failed(&t.d));
		drv_reset(&t.d); /* and with it, again */
		REQUIRE(drv_start(&t.d, BLK_FEATURES, 128));
		CHECK_EQ(drv_queues(&t.d), QUEUES);
		CHECK(reads(&t, QUEUES - 1, 8));
	}
	disk_close(&t);
}

/* A rule broken in one queue, with requests in flight in all: nothing is served until the reset, and all is after it.
 */
static void test_queues_broken(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){.queues = QUEUES}));
	for (unsigned bad = 0; bad < QUEUES; bad++) {
		uint64_t area = guest_alloc(&t.g, QUEUES * 65536, 4096);
		set_header(&t, VIRTIO_BLK_T_IN, 0);
		for (unsigned q = 0; q < QUEUES; q++) {
			struct buf bufs[] = {{t.header, 16}, {area + q * 65536, 65536}, {t.status, 1}};
			int head = ring_add(&t.d, q, bufs, 1, 2);
			REQUIRE(head >= 0);
			if (q == bad)
				ring_offer(&t.d.ring[q], (uint16_t)head);
			ring_kick(&t.d, q);
		}
		guest_settle(&t.g, 20);
		CHECK(drv_failed(&t.d));
		for (unsigned q = 0; q < QUEUES; q++)
			reg_write(&t.d, VIRTIO_MMIO_QUEUE_NOTIFY, q);
		drv_reset(&t.d);
		REQUIRE(drv_start(&t.d, BLK_FEATURES, 64));
		for (unsigned q = 0; q < QUEUES; q++)
			CHECK(reads(&t, q, 8 * q));
	}
	disk_close(&t);
}

/* The same head again while it is in flight: two completions into one request. */
static void test_same_head_twice(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	uint64_t area = guest_alloc(&t.g, 65536, 4096);
	struct buf bufs[] = {{t.header, 16}, {area, 65536}, {t.status, 1}};
	set_header(&t, VIRTIO_BLK_T_IN, 0);
	int head = ring_add(&t.d, 0, bufs, 1, 2);
	REQUIRE(head >= 0);
	ring_offer(&t.d.ring[0], (uint16_t)head);
	ring_kick(&t.d, 0);
	guest_settle(&t.g, 20);
	CHECK(drv_failed(&t.d));
	drv_reset(&t.d);
	REQUIRE(drv_start(&t.d, BLK_FEATURES, 64));
	round_trip(&t, 1);
	disk_close(&t);
}

TEST_MAIN("virtio_blk", {"identity", test_identity}, {"round_trip", test_round_trip}, {"direct", test_direct},
        {"framing", test_framing}, {"refused", test_refused}, {"readonly", test_readonly}, {"ranges", test_ranges},
        {"ranges_fallback", test_ranges_fallback}, {"host_errors", test_host_errors}, {"flush_modes", test_flush_modes},
        {"batch", test_batch}, {"reset_in_flight", test_reset_in_flight}, {"same_head_twice", test_same_head_twice},
        {"queues", test_queues}, {"queues_refused", test_queues_refused}, {"queues_broken", test_queues_broken},
        {"reset_queues", test_reset_queues}, {"eio", test_eio})
