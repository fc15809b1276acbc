/* SPDX-License-Identifier: Apache-2.0 */
/* A disk over a temporary file, and a driver that sends it requests. */
#ifndef WISP_TEST_GUEST_DISK_H
#define WISP_TEST_GUEST_DISK_H

#include "tests/unit/guest_driver.h"

#include <linux/virtio_blk.h>

#include "virtio/blk.h"

#define DISK_SECTORS 2048u
#define DISK_BYTES (DISK_SECTORS * 512u)
#define BLK_FEATURES                                                                                               \
	(RING_FEATURES_ALL | 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_RO | 1ull << VIRTIO_BLK_F_DISCARD | \
	        1ull << VIRTIO_BLK_F_WRITE_ZEROES | 1ull << VIRTIO_BLK_F_MQ)

struct disk {
	struct guest g;
	struct driver d;
	int fd; /* a second descriptor of the file */
	uint64_t header, status;
};

static inline int disk_file(void)
{
	char path[] = "/var/tmp/wisp-test-blk-XXXXXX";
	int fd = mkstemp(path);
	if (fd >= 0)
		unlink(path);
	return fd;
}

static inline bool disk_open_on(struct disk *t, int fd, const struct blk_options *like, uint64_t features)
{
	struct err err = {0};
	struct virtio_dev *dev;
	if (!guest_open(&t->g))
		return false;
	struct blk_options opt = *like;
	opt.fd = fd;
	memcpy(opt.id, "wisp-disk-0123456789", 20);
	t->fd = dup(fd);
	if (blk_create(&dev, &t->g.env, &opt, &err) < 0) {
		printf("# %s\n", err.text);
		test_failed = true;
		return false;
	}
	drv_open(&t->d, &t->g, dev);
	t->header = guest_alloc(&t->g, 4096, 16);
	t->status = guest_alloc(&t->g, 4096, 1);
	return drv_start(&t->d, features, 128);
}

static inline bool disk_open(struct disk *t, const struct blk_options *like)
{
	int fd = disk_file();
	if (fd < 0 || ftruncate(fd, DISK_BYTES) < 0)
		return false;
	return disk_open_on(t, fd, like, BLK_FEATURES);
}

static inline void disk_close(struct disk *t)
{
	drv_close(&t->d);
	guest_close(&t->g);
	close(t->fd);
}

static inline void set_header(struct disk *t, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr hdr = {.type = type, .sector = sector};
	memcpy(guest_at(&t->g, t->header, sizeof(hdr)), &hdr, sizeof(hdr));
	*(uint8_t *)guest_at(&t->g, t->status, 1) = 0xee;
}

/* One request with the usual three parts; its status, or -1 when it never completes. *used is the used length. */
static inline int request(
        struct disk *t, uint32_t type, uint64_t sector, const struct buf *data, unsigned count, uint32_t *used)
{
	struct buf bufs[VIRTQ_SIZE_MAX] = {{t->header, 16}};
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	uint16_t head;
	uint32_t len;
	for (unsigned i = 0; i < count; i++)
		bufs[1 + i] = data[i];
	bufs[1 + count] = (struct buf){t->status, 1};
	set_header(t, type, sector);
	if (ring_add(&t->d, 0, bufs, 1 + (in ? 0 : count), 1 + (in ? count : 0)) < 0)
		return -1;
	ring_kick(&t->d, 0);
	if (!ring_wait(&t->d, 0, &head, &len))
		return -1;
	if (used)
		*used = len;
	return *(uint8_t *)guest_at(&t->g, t->status, 1);
}

static inline void pattern(uint8_t *to, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)((i * 7 + i / 251 + seed) & 0xff);
}

/* Data in three buffers at odd addresses, of odd lengths: 1 + 1000 + 535 bytes are three sectors. */
static inline void round_trip(struct disk *t, uint64_t sector)
{
	uint64_t area = guest_alloc(&t->g, 8192, 4096) + 3;
	struct buf odd[] = {{area, 1}, {area + 100, 1000}, {area + 2000, 535}};
	uint8_t data[1536], seen[1536];
	uint32_t used = 0;
	pattern(data, sizeof(data), (unsigned)sector);
	memcpy(guest_at(&t->g, odd[0].addr, 1), data, 1);
	memcpy(guest_at(&t->g, odd[1].addr, 1000), data + 1, 1000);
	memcpy(guest_at(&t->g, odd[2].addr, 535), data + 1001, 535);
	CHECK_EQ(request(t, VIRTIO_BLK_T_OUT, sector, odd, 3, &used), VIRTIO_BLK_S_OK);
	CHECK_EQ(used, 1);
	CHECK_EQ(request(t, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL), VIRTIO_BLK_S_OK);
	CHECK_EQ(pread(t->fd, seen, sizeof(seen), (off_t)sector * 512), (long)sizeof(seen));
	CHECK(memcmp(seen, data, sizeof(data)) == 0);

	uint64_t back = guest_alloc(&t->g, 4096, 4096);
	struct buf whole[] = {{back, 512}, {back + 512, 1024}};
	CHECK_EQ(request(t, VIRTIO_BLK_T_IN, sector, whole, 2, &used), VIRTIO_BLK_S_OK);
	CHECK_EQ(used, 1537);
	CHECK(memcmp(guest_at(&t->g, back, 1536), data, 1536) == 0);
}

#endif
