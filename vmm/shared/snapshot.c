/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/shared/snapshot.h"

#include <stdbool.h>

static bool is_page(uint64_t value)
{
	return value % SNAPSHOT_PAGE == 0;
}

/* By subtraction: nothing overflows. */
static bool in_file(uint64_t offset, uint64_t size, uint64_t file_size)
{
	return offset <= file_size && size <= file_size - offset;
}

const char *snapshot_check_layout(const struct snapshot_layout *l, uint64_t file_size)
{
	if (l->state_size == 0 || l->state_size > SNAPSHOT_STATE_MAX)
		return "the size of the machine's state";
	if (l->extent_count > SNAPSHOT_EXTENTS_MAX)
		return "the number of memory extents";
	if (!is_page(l->extents_offset) || !is_page(l->data_offset) || !is_page(l->data_size))
		return "an offset that is not a multiple of a page";
	if (!in_file(SNAPSHOT_HEAD_SIZE, l->state_size, l->extents_offset) ||
	        !in_file(l->extents_offset, l->extent_count * sizeof(struct snapshot_extent), l->data_offset))
		return "parts that overlap";
	if (!in_file(l->data_offset, l->data_size, file_size))
		return "memory beyond the end of the file";
	return NULL;
}

const char *snapshot_check_extents(
        const struct snapshot_extent *extents, uint64_t count, uint64_t data_size, uint64_t end)
{
	uint64_t from = 0, left = data_size;
	for (uint64_t i = 0; i < count; i++) {
		const struct snapshot_extent *e = &extents[i];
		if (!is_page(e->start) || !is_page(e->size) || e->size == 0)
			return "an extent that is not made of pages";
		if (e->start < from)
			return "extents that are not in order";
		if (e->start > end || e->size > end - e->start)
			return "an extent outside the guest's memory";
		if (e->size > left)
			return "extents that are larger than the memory in the file";
		left -= e->size;
		from = e->start + e->size;
	}
	return left == 0 ? NULL : "memory that no extent has";
}
