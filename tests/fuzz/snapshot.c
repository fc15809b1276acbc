/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder of a snapshot's head, and the checks of what it leads to: what they accept can be read and restored. */
#include <stddef.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/shared/snapshot.h"

static void check_accepted(const struct snapshot_head *h, uint64_t file_size)
{
	const struct snapshot_layout *l = &h->layout;
	MUST(h->cpus >= 1 && h->memory_mib >= 1 && h->disk_count <= SNAPSHOT_DISKS_MAX);
	MUST(h->config_size >= 1 && h->config_size <= SNAPSHOT_CONFIG_MAX);
	MUST(l->state_size >= 1 && l->state_size <= SNAPSHOT_STATE_MAX && l->extent_count <= SNAPSHOT_EXTENTS_MAX);
	MUST(SNAPSHOT_HEAD_SIZE + l->state_size <= l->extents_offset);
	MUST(l->extents_offset + l->extent_count * sizeof(struct snapshot_extent) <= l->data_offset);
	MUST(l->data_offset + l->data_size <= h->sums_offset && l->data_size <= (uint64_t)h->memory_mib << 20);
	MUST(h->sums_count * SNAPSHOT_CHUNK >= l->data_size);
	MUST(h->sums_offset + h->sums_count * 8 == file_size);
	for (uint32_t i = 0; i < h->disk_count; i++)
		MUST(h->disk[i].flags != 0 || h->flags & SNAPSHOT_STOPPED);
}

/* Any extents, and any end. */
static void check_extents(struct input *in)
{
	struct snapshot_extent extents[8] = {{0}};
	uint64_t data_size = in32(in) * (uint64_t)SNAPSHOT_PAGE, end = in64(in), sum = 0;
	size_t count = in8(in) % 8;
	for (size_t i = 0; i < count; i++)
		extents[i] = (struct snapshot_extent){in64(in), in64(in)};
	if (snapshot_check_extents(extents, count, data_size, end))
		return;
	for (size_t i = 0; i < count; i++) {
		MUST(extents[i].size > 0 && extents[i].start + extents[i].size <= end);
		MUST(i == 0 || extents[i - 1].start + extents[i - 1].size <= extents[i].start);
		sum += extents[i].size;
	}
	MUST(sum == data_size);
}

/* (offset, byte) pairs over a head that is right, which is sealed again: the checksum is no secret. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[SNAPSHOT_HEAD_SIZE];
	struct snapshot_head head, decoded;
	char why[200] = "";
	struct input in = {data, size};
	check_extents(&in);
	memset(bytes, 0, sizeof(bytes));
	snapshot_init_head(&head);
	head.flags = SNAPSHOT_IMAGE;
	head.cpus = head.disk_count = 1;
	head.memory_mib = 64;
	head.disk[0].flags = SNAPSHOT_DISK_READ_ONLY;
	head.config_size = 2;
	head.layout = (struct snapshot_layout){1, SNAPSHOT_HEAD_SIZE + 4096, 1, SNAPSHOT_HEAD_SIZE + 8192, 4096};
	head.sums_offset = SNAPSHOT_HEAD_SIZE + 12288;
	head.sums_count = 1;
	memcpy(bytes, &head, sizeof(head));
	memcpy(bytes + sizeof(head), "a\n", 2);
	uint64_t file_size = head.sums_offset + 8 * (in.left ? head.sums_count : 0);
	bool sealed = in8(&in) % 8 != 0;
	while (in.left >= 3) {
		size_t at = in16(&in);
		bytes[at % (sizeof(head) + 64)] = in8(&in);
	}
	memcpy(&head, bytes, sizeof(head));
	if (sealed) {
		snapshot_seal_head(bytes, &head);
		/* A file of the size that it claims, or nearly. */
		file_size = head.sums_offset + head.sums_count * 8 + (size % 5 == 0);
	}
	int ret = snapshot_decode_head(bytes, sizeof(bytes), file_size, &decoded, why, sizeof(why));
	MUST(ret <= 0 && (ret == 0) == (why[0] == '\0'));
	if (ret == 0)
		check_accepted(&decoded, file_size);
	return 0;
}
