/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/shared/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/shared/checksum.h"
#include "vmm/shared/fs_wire.h"
#include "wisp.h"

_Static_assert(SNAPSHOT_DISKS_MAX == WISP_DISKS_MAX + 2, "the image and the overlay too");
_Static_assert(SNAPSHOT_FOLDER_MAX == FS_TABLE_MAX &&
                       SNAPSHOT_STATE_MAX == SNAPSHOT_DEVICES_MAX + WISP_FOLDERS_MAX * FS_TABLE_MAX,
        "a table for each folder");
_Static_assert(sizeof(struct snapshot_head) % 8 == 0 && sizeof(struct snapshot_disk) == 40, "no padding");

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

uint64_t snapshot_count_sums(uint64_t data_size)
{
	return data_size / SNAPSHOT_CHUNK + (data_size % SNAPSHOT_CHUNK != 0);
}

void snapshot_init_head(struct snapshot_head *head)
{
	*head = (struct snapshot_head){.magic = SNAPSHOT_MAGIC,
	        .version = SNAPSHOT_VERSION,
	        .size = sizeof(*head),
	        .arch = SNAPSHOT_ARCH,
	        .page_size = SNAPSHOT_PAGE};
}

static uint64_t sum_head(const uint8_t *bytes)
{
	static const uint8_t zero[sizeof(((struct snapshot_head *)0)->head_sum)];
	const size_t at = offsetof(struct snapshot_head, head_sum), after = at + sizeof(zero);
	uint64_t sum = checksum(bytes, at, 0);
	sum = checksum(zero, sizeof(zero), sum);
	return checksum(bytes + after, SNAPSHOT_HEAD_SIZE - after, sum);
}

void snapshot_seal_head(uint8_t bytes[SNAPSHOT_HEAD_SIZE], struct snapshot_head *head)
{
	memcpy(bytes, head, sizeof(*head));
	head->head_sum = sum_head(bytes);
	memcpy(bytes, head, sizeof(*head));
}

bool snapshot_is_head(const void *bytes, size_t size)
{
	const char magic[sizeof(((struct snapshot_head *)0)->magic)] = SNAPSHOT_MAGIC;
	return size >= sizeof(magic) && memcmp(bytes, magic, sizeof(magic)) == 0;
}

static bool is_string(const char *field, size_t size)
{
	return memchr(field, '\0', size) != NULL;
}

static const char *check_disks(const struct snapshot_head *h)
{
	if (h->disk_count > SNAPSHOT_DISKS_MAX)
		return "the number of disks";
	bool image = h->flags & SNAPSHOT_IMAGE, overlay = h->flags & SNAPSHOT_OVERLAY;
	if ((overlay && !image) || h->disk_count < (uint32_t)image + (uint32_t)overlay ||
	        (h->flags & SNAPSHOT_BARE && h->disk_count > 0))
		return "what its disks are for";
	for (uint32_t i = 0; i < h->disk_count; i++) {
		const struct snapshot_disk *disk = &h->disk[i];
		bool read_only = disk->flags & SNAPSHOT_DISK_READ_ONLY;
		if (disk->flags & ~(uint32_t)SNAPSHOT_DISK_FLAGS_ALL || disk->cache > WISP_CACHE_UNSAFE ||
		        (read_only && disk->flags & SNAPSHOT_DISK_COPIED))
			return "a disk's mode";
		if (!read_only && !(disk->flags & SNAPSHOT_DISK_COPIED) && !(h->flags & SNAPSHOT_STOPPED))
			return "a disk that its sandbox went on to write to";
	}
	if (overlay && (!(h->disk[0].flags & SNAPSHOT_DISK_READ_ONLY) || h->disk[1].flags & SNAPSHOT_DISK_READ_ONLY))
		return "an overlay that is read-only, or over an image that is not";
	return NULL;
}

static const char *check_fields(const struct snapshot_head *h, const uint8_t *bytes)
{
	if (h->flags & ~(uint32_t)SNAPSHOT_FLAGS_ALL || h->page_size != SNAPSHOT_PAGE)
		return "its flags";
	if (h->cpus < 1 || h->cpus > WISP_CPUS_MAX || h->memory_mib < WISP_MEMORY_MIB_MIN ||
	        h->memory_mib > SNAPSHOT_MEMORY_MIB_MAX || h->layout.data_size > (uint64_t)h->memory_mib << 20)
		return "the size of the machine";
	if (!is_string(h->wisp_version, sizeof(h->wisp_version)))
		return "a string without an end";
	if (h->config_size == 0 || h->config_size > SNAPSHOT_CONFIG_MAX)
		return "the size of its config";
	const char *config = (const char *)bytes + sizeof(*h);
	if (memchr(config, '\0', h->config_size) || config[h->config_size - 1] != '\n')
		return "its config";
	return check_disks(h);
}

/* The file's size is known by the head. */
static int check_end(const struct snapshot_head *h, uint64_t file_size, char *why, size_t why_size)
{
	uint64_t end = h->sums_offset + h->sums_count * sizeof(uint64_t);
	if (file_size < end)
		snprintf(why, why_size, "it is truncated: it has %llu bytes, and its head says %llu",
		        (unsigned long long)file_size, (unsigned long long)end);
	else if (file_size > end)
		snprintf(why, why_size, "it has %llu bytes after its end", (unsigned long long)(file_size - end));
	return file_size == end ? 0 : -EBADMSG;
}

static const char *check_parts(const struct snapshot_head *h)
{
	const struct snapshot_layout *l = &h->layout;
	/* So large that no sum overflows, and larger than any machine's memory. */
	if (h->sums_offset % sizeof(uint64_t) != 0 || h->sums_offset > UINT64_MAX / 4)
		return "where its checksums are";
	const char *what = snapshot_check_layout(l, h->sums_offset);
	if (!what && h->sums_count != snapshot_count_sums(l->data_size))
		what = "the number of checksums";
	return what;
}

int snapshot_decode_head(
        const void *bytes, size_t size, uint64_t file_size, struct snapshot_head *h, char *why, size_t why_size)
{
	if (!snapshot_is_head(bytes, size)) {
		snprintf(why, why_size, "it is not a snapshot");
		return -ENODATA;
	}
	if (size < SNAPSHOT_HEAD_SIZE) {
		snprintf(why, why_size, "it is truncated: it ends in its head");
		return -EBADMSG;
	}
	memcpy(h, bytes, sizeof(*h));
	if (h->version != SNAPSHOT_VERSION || h->size != sizeof(*h)) {
		snprintf(why, why_size, "its format is version %u, and this is wisp %u.%u with version %u", h->version,
		        WISP_VERSION_MAJOR, WISP_VERSION_MINOR, SNAPSHOT_VERSION);
		return -EPROTO;
	}
	if (sum_head(bytes) != h->head_sum) {
		snprintf(why, why_size, "its head is damaged: the checksum differs");
		return -EBADMSG;
	}
	if (!is_string(h->arch, sizeof(h->arch)) || strcmp(h->arch, SNAPSHOT_ARCH) != 0) {
		snprintf(why, why_size, "it is of another kind of processor than this host's, %s", SNAPSHOT_ARCH);
		return -EPROTO;
	}
	const char *what = check_fields(h, bytes);
	if (!what)
		what = check_parts(h);
	if (what) {
		snprintf(why, why_size, "its head is invalid: %s", what);
		return -EBADMSG;
	}
	return check_end(h, file_size, why, why_size);
}
