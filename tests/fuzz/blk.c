/* SPDX-License-Identifier: Apache-2.0 */
/* The block device over a file of 64 KiB: every request that a driver can form, and those it must not. */
#define _FILE_OFFSET_BITS 64
#include <linux/virtio_blk.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/device.h"
#include "virtio/blk.h"

#define DISK_BYTES 65536u

static int disk_file(void)
{
	static int file = -1;
	if (file < 0)
		file = memfd_create("disk", MFD_CLOEXEC);
	MUST(file >= 0);
	return file;
}

/* A header, its data and a status, cut into descriptors wherever the script wants. */
static void request(struct machine *m, struct input *in)
{
	uint8_t kind = in8(in);
	struct virtio_blk_outhdr header = {.type = in8(in) % 16, .sector = in8(in)};
	if (kind & 1)
		header.sector = in64(in);
	uint64_t addr = BUFFERS + 16u * in8(in);
	store(m, addr, &header, sizeof(header));
	uint32_t bytes = kind & 2 ? in16(in) : 512u * (in8(in) % 32), cut = kind & 4 ? in8(in) : 0;
	bool reads = header.type == VIRTIO_BLK_T_IN || header.type == VIRTIO_BLK_T_GET_ID;
	if (header.type == VIRTIO_BLK_T_DISCARD || header.type == VIRTIO_BLK_T_WRITE_ZEROES) {
		struct virtio_blk_discard_write_zeroes ranges[3];
		bytes = (kind & 2 ? bytes % sizeof(ranges) : (bytes / 512 % 3 + 1) * sizeof(ranges[0]));
		for (unsigned i = 0; i < 3; i++)
			ranges[i] = (struct virtio_blk_discard_write_zeroes){
			        .sector = in8(in), .num_sectors = kind & 8 ? in32(in) : in8(in), .flags = in8(in) & 3};
		store(m, addr + 16, ranges, sizeof(ranges));
	}
	if (cut > 16 + bytes)
		cut = 16 + bytes;
	struct part parts[5] = {{addr, 16, false}, {addr + 16, bytes, reads}, {addr + 16 + bytes, 1, true}};
	unsigned count = 3;
	if (cut > 0 && cut < 16) {
		parts[3] = parts[2];
		parts[2] = parts[1];
		parts[0].len = cut;
		parts[1] = (struct part){addr + cut, 16 - cut, false};
		count = 4;
	} else if (cut > 16) {
		parts[3] = parts[2];
		parts[1].len = cut - 16;
		parts[2] = (struct part){addr + cut, 16 + bytes - cut, reads};
		count = 4;
	}
	if (kind & 16) /* and the status in one piece with what is before it, or none */
		count--;
	unsigned queue = (unsigned)(header.sector % m->dev->queue_count);
	offer_chain(m, queue, parts, count);
	if (kind & 32)
		reg(m, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
	if (kind & 64)
		machine_step(m, 2);
	if ((kind & 0x81) == 0x81)
		MUST(ftruncate(disk_file(), DISK_BYTES - 512u * (header.type & 7)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct machine m;
	machine_open(&m);
	uint8_t kind = in8(&in);
	MUST(ftruncate(disk_file(), DISK_BYTES) == 0); /* an earlier input may have cut it off */
	struct blk_options options = {
	        .fd = dup(disk_file()),
	        .readonly = kind & 1,
	        .queues = kind & 4 ? 4 : 1,
	        .ignore_flushes = kind & 2,
	        .id = "fuzzed",
	};
	MUST(blk_create(&m.dev, &m.env, &options, &err) == 0);
	machine_run(&m, &in, request);
	/* Nobody writes past the end of the disk. */
	struct stat st;
	MUST(fstat(disk_file(), &st) == 0 && st.st_size <= DISK_BYTES);
	return 0;
}
