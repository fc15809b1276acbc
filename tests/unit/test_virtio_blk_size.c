/* SPDX-License-Identifier: Apache-2.0 */
/* The block device's size: files that end inside a sector, disks that grow and shrink, blocks of 4096 bytes. */
#include "tests/unit/guest_disk.h"

#include <linux/fs.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* A file that ends inside its last sector: nothing of it is lost, and the rest of the sector is zeros. */
static void tail(bool direct)
{
	char path[64];
	struct disk t;
	uint32_t used;
	uint8_t data[1000], seen[1024];
	int fd = disk_file();
	pattern(data, sizeof(data), 3);
	REQUIRE(fd >= 0 && write(fd, data, sizeof(data)) == (long)sizeof(data));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int disk = open(path, O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
	close(fd);
	if (disk < 0)
		SKIP("the file system of /var/tmp has no O_DIRECT");
	REQUIRE(disk_open_on(&t, disk, &(struct blk_options){.direct = direct}, BLK_FEATURES));
	fcntl(t.fd, F_SETFL, 0); /* reads at any alignment */
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG), 2);
	uint64_t area = guest_alloc(&t.g, 8192, 4096);
	uint8_t *mem = guest_at(&t.g, area, 8192);
	static const uint8_t none[24];

	memset(mem, 0xff, 8192);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 1, &(struct buf){area, 512}, 1, &used), VIRTIO_BLK_S_OK);
	CHECK_EQ(used, 513);
	CHECK(memcmp(mem, data + 512, 488) == 0 && memcmp(mem + 488, none, 24) == 0 && mem[512] == 0xff);
	/* the end of the file inside the second buffer, and between two */
	memset(mem, 0xff, 8192);
	struct buf split[] = {{area, 700}, {area + 1000, 310}, {area + 2000, 14}};
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 0, split, 3, &used), VIRTIO_BLK_S_OK);
	CHECK_EQ(used, 1025);
	CHECK(memcmp(mem, data, 700) == 0 && memcmp(mem + 1000, data + 700, 300) == 0);
	CHECK(memcmp(mem + 1300, none, 10) == 0 && memcmp(mem + 2000, none, 14) == 0);
	struct buf exact[] = {{area, 1000}, {area + 4096, 24}};
	memset(mem, 0xff, 8192);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 0, exact, 2, NULL), VIRTIO_BLK_S_OK);
	CHECK(memcmp(mem, data, 1000) == 0 && memcmp(mem + 4096, none, 24) == 0);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 2, &(struct buf){area, 512}, 1, NULL), VIRTIO_BLK_S_IOERR);

	/* what is written there can be had back, and the file has it */
	pattern(mem, 512, 9);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, 1, &(struct buf){area, 512}, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 1, &(struct buf){area + 4096, 512}, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK(memcmp(mem, mem + 4096, 512) == 0);
	CHECK_EQ(pread(t.fd, seen, sizeof(seen), 0), 1024);
	CHECK(memcmp(seen, data, 512) == 0 && memcmp(seen + 512, mem, 512) == 0);

	/* a file that was cut meanwhile is still an error */
	REQUIRE(ftruncate(t.fd, 600) == 0);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 1, &(struct buf){area, 512}, 1, NULL), VIRTIO_BLK_S_IOERR);
	disk_close(&t);
}

static void test_tail(void)
{
	tail(false);
}

static void test_tail_direct(void)
{
	tail(true);
}

/* An image in whole blocks: what the file does not have of the last one reads as zeros, from any sector on. */
static void test_padded(void)
{
	struct disk t;
	uint8_t data[1000];
	static const uint8_t none[4096];
	int fd = disk_file();
	pattern(data, sizeof(data), 3);
	REQUIRE(fd >= 0 && write(fd, data, sizeof(data)) == (long)sizeof(data));
	REQUIRE(disk_open_on(&t, fd, &(struct blk_options){.readonly = true, .padded = true}, BLK_FEATURES));
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG), 8);
	uint64_t area = guest_alloc(&t.g, 8192, 4096);
	uint8_t *mem = guest_at(&t.g, area, 8192);
	memset(mem, 0xff, 8192);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 0, &(struct buf){area, 4096}, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK(memcmp(mem, data, 1000) == 0 && memcmp(mem + 1000, none, 3096) == 0);
	for (unsigned sector = 2; sector < 8; sector++) {
		memset(mem, 0xff, 512);
		CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, sector, &(struct buf){area, 512}, 1, NULL), VIRTIO_BLK_S_OK);
		CHECK(memcmp(mem, none, 512) == 0);
	}
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 8, &(struct buf){area, 512}, 1, NULL), VIRTIO_BLK_S_IOERR);
	disk_close(&t);
}

static uint64_t capacity(struct disk *t)
{
	return reg_read(&t->d, VIRTIO_MMIO_CONFIG) | (uint64_t)reg_read(&t->d, VIRTIO_MMIO_CONFIG + 4) << 32;
}

/* The driver is told of a new size; what was out of reach is in, and the other way round. */
static void test_resize(void)
{
	struct disk t;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	uint64_t area = guest_alloc(&t.g, 512, 512);
	struct buf sector = {area, 512};
	uint32_t generation = reg_read(&t.d, VIRTIO_MMIO_CONFIG_GENERATION);
	CHECK_EQ(blk_resized(t.d.dev, NULL), 0);
	CHECK_EQ(drv_interrupts(&t.d), 0); /* nothing has changed */
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG_GENERATION), generation);

	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, DISK_SECTORS, &sector, 1, NULL), VIRTIO_BLK_S_IOERR);
	drv_interrupts(&t.d);
	reg_write(&t.d, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	REQUIRE(ftruncate(t.fd, 3ll << 40) == 0 || ftruncate(t.fd, 2 * DISK_BYTES) == 0);
	struct stat st;
	REQUIRE(fstat(t.fd, &st) == 0);
	CHECK_EQ(blk_resized(t.d.dev, NULL), 0);
	CHECK_EQ(drv_interrupts(&t.d), 1);
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	CHECK(reg_read(&t.d, VIRTIO_MMIO_CONFIG_GENERATION) != generation);
	CHECK_EQ(capacity(&t), (uint64_t)st.st_size / 512);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_OUT, DISK_SECTORS, &sector, 1, NULL), VIRTIO_BLK_S_OK);

	REQUIRE(ftruncate(t.fd, 4096 + 1) == 0);
	CHECK_EQ(blk_resized(t.d.dev, NULL), 0);
	CHECK_EQ(capacity(&t), 9);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 8, &sector, 1, NULL), VIRTIO_BLK_S_OK);
	CHECK_EQ(request(&t, VIRTIO_BLK_T_IN, 9, &sector, 1, NULL), VIRTIO_BLK_S_IOERR);
	disk_close(&t);
}

/* A file in the place of a block device: these calls of the device are answered here. 0: not now. */
static int device_block;

int fstat(int fd, struct stat *st)
{
	int ret = fstatat(fd, "", st, AT_EMPTY_PATH);
	if (ret == 0 && device_block)
		st->st_mode = S_IFBLK | 0600;
	return ret;
}

int ioctl(int fd, unsigned long number, ...)
{
	va_list args;
	va_start(args, number);
	void *result = va_arg(args, void *);
	va_end(args);
	(void)fd;
	if (number == BLKGETSIZE64)
		*(uint64_t *)result = DISK_BYTES;
	else if (number == BLKSSZGET)
		*(int *)result = device_block;
	else
		return -1;
	return 0;
}

static void block_size(int device, unsigned block, unsigned exponent, unsigned best)
{
	struct disk t;
	device_block = device;
	REQUIRE(disk_open(&t, &(struct blk_options){0}));
	uint8_t topology[4];
	CHECK_EQ(capacity(&t), DISK_SECTORS); /* in sectors of 512 bytes, whatever the block */
	CHECK_EQ(reg_read(&t.d, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, blk_size)), block);
	for (unsigned i = 0; i < 4; i++)
		virtio_mmio_read(&t.d.mmio,
		        VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, physical_block_exp) + i, &topology[i],
		        1);
	CHECK_EQ(topology[0], exponent);
	CHECK_EQ(topology[1], 0);
	CHECK_EQ(topology[2], best);
	round_trip(&t, 9); /* a driver may still use any sector: section 5.2.5 */
	disk_close(&t);
	device_block = 0;
}

static void test_block_size(void)
{
	block_size(0, 512, 3, 8);
	block_size(512, 512, 3, 8);
	block_size(4096, 4096, 0, 1);
	block_size(65536, 4096, 0, 1); /* more than a driver would accept */
}

TEST_MAIN("virtio_blk_size", {"tail", test_tail}, {"tail_direct", test_tail_direct}, {"padded", test_padded},
        {"resize", test_resize}, {"block_size", test_block_size})
