/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's format: checksums, layout, extents and head, with every lie that a file can tell. */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/snapshot.h"
#include "vmm/shared/checksum.h"
#include "vmm/shared/snapshot.h"

/* The published values of the algorithm's own self-test, over the bytes of its generator. */
static void checksums(void)
{
	static const struct {
		size_t size;
		uint64_t sum, seeded;
	} values[] = {
	        {0, 0xef46db3751d8e999, 0xac75fda2929b17ef},
	        {1, 0xe934a84adb052768, 0x5014607643a9b4c3},
	        {4, 0x9136a0dca57457ee, 0xcaab286bd8e9fdb5},
	        {14, 0x8282dcc4994e35c8, 0xc3bd6bf63deb6df0},
	        {222, 0xb641ae8cb691c174, 0x20cb8ab7ae10c14a},
	};
	uint8_t bytes[222];
	uint64_t generator = 2654435761u;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (uint8_t)(generator >> 56);
		generator *= 11400714785074694797ull;
	}
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		CHECK_EQ(checksum(bytes, values[i].size, 0), values[i].sum);
		CHECK_EQ(checksum(bytes, values[i].size, 2654435761u), values[i].seeded);
	}
	CHECK_EQ(checksum("abc", 3, 0), 0x44bc2cf5ad770999);
}

static void layouts(void)
{
	const struct snapshot_layout good = {.state_size = 100,
	        .extents_offset = SNAPSHOT_HEAD_SIZE + SNAPSHOT_PAGE,
	        .extent_count = 2,
	        .data_offset = SNAPSHOT_HEAD_SIZE + 2 * SNAPSHOT_PAGE,
	        .data_size = 4 * SNAPSHOT_PAGE};
	const uint64_t end = good.data_offset + good.data_size;
	static const struct {
		size_t at;
		uint64_t value;
		const char *word;
	} bad[] = {
	        {offsetof(struct snapshot_layout, state_size), 0, "state"},
	        {offsetof(struct snapshot_layout, state_size), SNAPSHOT_STATE_MAX + 1, "state"},
	        {offsetof(struct snapshot_layout, state_size), SNAPSHOT_PAGE + 1, "overlap"},
	        {offsetof(struct snapshot_layout, extent_count), SNAPSHOT_EXTENTS_MAX + 1, "number"},
	        {offsetof(struct snapshot_layout, extent_count), 257, "overlap"},
	        {offsetof(struct snapshot_layout, extents_offset), SNAPSHOT_HEAD_SIZE + 8, "page"},
	        {offsetof(struct snapshot_layout, extents_offset), 0, "overlap"},
	        {offsetof(struct snapshot_layout, data_offset), SNAPSHOT_PAGE, "overlap"},
	        {offsetof(struct snapshot_layout, data_offset), UINT64_MAX - SNAPSHOT_PAGE + 1, "beyond"},
	        {offsetof(struct snapshot_layout, data_size), 5 * SNAPSHOT_PAGE, "beyond"},
	        {offsetof(struct snapshot_layout, data_size), UINT64_MAX - SNAPSHOT_PAGE + 1, "beyond"},
	        {offsetof(struct snapshot_layout, data_size), 1, "page"},
	};
	CHECK(!snapshot_check_layout(&good, end));
	CHECK(snapshot_check_layout(&good, end - 1));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct snapshot_layout l = good;
		memcpy((char *)&l + bad[i].at, &bad[i].value, sizeof(bad[i].value));
		const char *why = snapshot_check_layout(&l, end);
		CHECK(why && strstr(why, bad[i].word));
	}
}

static void extents(void)
{
	const uint64_t page = SNAPSHOT_PAGE, end = 100 * page;
	const struct snapshot_extent good[] = {{0, page}, {page, 2 * page}, {50 * page, 50 * page}};
	CHECK(!snapshot_check_extents(good, 3, 53 * page, end));
	CHECK(!snapshot_check_extents(NULL, 0, 0, end));
	static const struct {
		struct snapshot_extent second;
		const char *word;
	} bad[] = {
	        {{1, SNAPSHOT_PAGE}, "pages"},
	        {{SNAPSHOT_PAGE, 0}, "pages"},
	        {{SNAPSHOT_PAGE, SNAPSHOT_PAGE + 1}, "pages"},
	        {{0, SNAPSHOT_PAGE}, "order"},
	        {{101 * SNAPSHOT_PAGE, SNAPSHOT_PAGE}, "outside"},
	        {{99 * SNAPSHOT_PAGE, 2 * SNAPSHOT_PAGE}, "outside"},
	        {{UINT64_MAX - SNAPSHOT_PAGE + 1, SNAPSHOT_PAGE}, "outside"},
	        {{SNAPSHOT_PAGE, 9 * SNAPSHOT_PAGE}, "larger"},
	        {{SNAPSHOT_PAGE, SNAPSHOT_PAGE}, "no extent"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct snapshot_extent list[] = {{0, page}, bad[i].second};
		const char *why = snapshot_check_extents(list, 2, 3 * page, end);
		CHECK(why && strstr(why, bad[i].word));
	}
}

/* A head that is right, of a file that has no memory and a config of one line. */
static uint64_t make_head(struct snapshot_head *head, uint8_t bytes[SNAPSHOT_HEAD_SIZE])
{
	snapshot_init_head(head);
	head->flags = SNAPSHOT_IMAGE | SNAPSHOT_OVERLAY | SNAPSHOT_STOPPED;
	head->cpus = 1;
	head->memory_mib = 64;
	head->disk_count = 2;
	head->disk[0] = (struct snapshot_disk){.flags = SNAPSHOT_DISK_READ_ONLY, .size = 1};
	head->disk[1] = (struct snapshot_disk){.size = 1};
	head->config_size = 2;
	head->layout = (struct snapshot_layout){.state_size = 1,
	        .extents_offset = SNAPSHOT_HEAD_SIZE + SNAPSHOT_PAGE,
	        .extent_count = 1,
	        .data_offset = SNAPSHOT_HEAD_SIZE + 2 * SNAPSHOT_PAGE,
	        .data_size = SNAPSHOT_PAGE};
	head->sums_offset = SNAPSHOT_HEAD_SIZE + 3 * SNAPSHOT_PAGE;
	head->sums_count = 1;
	memset(bytes, 0, SNAPSHOT_HEAD_SIZE);
	memcpy(bytes + sizeof(*head), "a\n", 2);
	snapshot_seal_head(bytes, head);
	return head->sums_offset + 8;
}

static void heads(void)
{
#define FIELD(name) offsetof(struct snapshot_head, name), sizeof(((struct snapshot_head *)0)->name)
	static const struct {
		size_t at, size;
		uint64_t value;
		int ret;
		const char *word;
	} lies[] = {
	        {FIELD(magic[0]), 'W', -ENODATA, "not a snapshot"},
	        {FIELD(version), 2, -EPROTO, "version 2"},
	        {FIELD(size), 8, -EPROTO, "version"},
	        {FIELD(arch[0]), 'y', -EPROTO, "processor"},
	        {FIELD(flags), 1 << 4, -EBADMSG, "flags"},
	        {FIELD(flags), 0, -EBADMSG, "went on to write"},
	        {FIELD(flags), SNAPSHOT_OVERLAY | SNAPSHOT_STOPPED, -EBADMSG, "disks are for"},
	        {FIELD(flags), SNAPSHOT_BARE, -EBADMSG, "disks are for"},
	        {FIELD(flags), SNAPSHOT_IMAGE | SNAPSHOT_OVERLAY, -EBADMSG, "went on to write"},
	        {FIELD(page_size), 8192, -EBADMSG, "flags"},
	        {FIELD(cpus), 0, -EBADMSG, "size of the machine"},
	        {FIELD(cpus), 65, -EBADMSG, "size of the machine"},
	        {FIELD(memory_mib), 1, -EBADMSG, "size of the machine"},
	        {FIELD(memory_mib), UINT32_MAX, -EBADMSG, "size of the machine"},
	        {FIELD(layout.data_size), 65ull << 20, -EBADMSG, "size of the machine"},
	        {FIELD(layout.data_size), 0, -EBADMSG, "number of checksums"},
	        {FIELD(layout.extent_count), 300, -EBADMSG, "overlap"},
	        {FIELD(sums_offset), SNAPSHOT_HEAD_SIZE, -EBADMSG, "beyond"},
	        {FIELD(sums_offset), SNAPSHOT_HEAD_SIZE + 3 * SNAPSHOT_PAGE + 4, -EBADMSG, "where its checksums"},
	        {FIELD(sums_offset), UINT64_MAX - 7, -EBADMSG, "where its checksums"},
	        {FIELD(sums_offset), 1ull << 50, -EBADMSG, "truncated"},
	        {FIELD(sums_count), UINT64_MAX, -EBADMSG, "number of checksums"},
	        {FIELD(disk_count), 11, -EBADMSG, "number of disks"},
	        {FIELD(disk_count), 1, -EBADMSG, "disks are for"},
	        {FIELD(disk[0].flags), 0, -EBADMSG, "overlay that is read-only"},
	        {FIELD(disk[0].flags), 4, -EBADMSG, "disk's mode"},
	        {FIELD(disk[0].cache), 3, -EBADMSG, "disk's mode"},
	        {FIELD(disk[1].flags), SNAPSHOT_DISK_READ_ONLY, -EBADMSG, "overlay that is read-only"},
	        {FIELD(disk[1].flags), SNAPSHOT_DISK_READ_ONLY | SNAPSHOT_DISK_COPIED, -EBADMSG, "disk's mode"},
	        {FIELD(config_size), 0, -EBADMSG, "size of its config"},
	        {FIELD(config_size), UINT32_MAX, -EBADMSG, "size of its config"},
	        {FIELD(config_size), 1, -EBADMSG, "its config"},
	        {FIELD(config_size), 3, -EBADMSG, "its config"},
	        {sizeof(struct snapshot_head), 1, '\0', -EBADMSG, "its config"},
	};
	static uint8_t bytes[SNAPSHOT_HEAD_SIZE];
	struct snapshot_head head, decoded;
	char why[200];
	uint64_t size = make_head(&head, bytes);
	CHECK_EQ(snapshot_decode_head(bytes, sizeof(bytes), size, &decoded, why, sizeof(why)), 0);
	CHECK(memcmp(&head, &decoded, sizeof(head)) == 0);
	CHECK_EQ(snapshot_decode_head(bytes, sizeof(bytes), size - 1, &decoded, why, sizeof(why)), -EBADMSG);
	CHECK(strstr(why, "truncated"));
	CHECK_EQ(snapshot_decode_head(bytes, sizeof(bytes), size + 1, &decoded, why, sizeof(why)), -EBADMSG);
	CHECK(strstr(why, "after its end"));
	CHECK_EQ(snapshot_decode_head(bytes, sizeof(bytes) - 1, size, &decoded, why, sizeof(why)), -EBADMSG);
	CHECK_EQ(snapshot_decode_head(bytes, 15, size, &decoded, why, sizeof(why)), -ENODATA);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		make_head(&head, bytes);
		memcpy(bytes + lies[i].at, &lies[i].value, lies[i].size);
		memcpy(&head, bytes, sizeof(head));
		int ret = snapshot_decode_head(bytes, sizeof(bytes), size, &decoded, why, sizeof(why));
		CHECK_EQ(ret == -EBADMSG, strstr(why, "its head is damaged") != NULL);
		/* With a checksum that is right, what is wrong is told. */
		snapshot_seal_head(bytes, &head);
		ret = snapshot_decode_head(bytes, sizeof(bytes), size, &decoded, why, sizeof(why));
		if (ret != lies[i].ret || !strstr(why, lies[i].word))
			printf("# lie %zu: %d %s\n", i, ret, why);
		CHECK_EQ(ret, lies[i].ret);
		CHECK(strstr(why, lies[i].word));
	}
}

#define HOLE 0xc0000000ull /* of the devices, up to 4 GiB */
#define LARGE (4ull << 30)

/* NULL, or why the snapshot of these extents cannot be mapped. The data of each page is its number. */
static const char *map(const struct snapshot_extent *list, uint64_t count, struct snapshot_origin *origin)
{
	static struct err err;
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	struct snapshot_layout layout = {.state_size = 8,
	        .extents_offset = SNAPSHOT_HEAD_SIZE + SNAPSHOT_PAGE,
	        .extent_count = count,
	        .data_offset = SNAPSHOT_HEAD_SIZE + SNAPSHOT_PAGE + SNAPSHOT_EXTENTS_MAX * sizeof(*list)};
	for (uint64_t i = 0; i < count; i++)
		layout.data_size += list[i].size;
	CHECK_EQ(ftruncate(file, (off_t)(layout.data_offset + layout.data_size)), 0);
	CHECK_EQ(pwrite(file, list, count * sizeof(*list), (off_t)layout.extents_offset), count * sizeof(*list));
	for (uint64_t i = 0; i < layout.data_size / SNAPSHOT_PAGE; i++)
		CHECK_EQ(pwrite(file, &i, sizeof(i), (off_t)(layout.data_offset + i * SNAPSHOT_PAGE)), sizeof(i));
	err = (struct err){0};
	errno = ENOMEM; /* of another call */
	int ret = snapshot_read(file, &layout, LARGE, 0, false, origin, &err);
	close(file);
	CHECK_EQ(ret < 0, err.errnum != 0);
	return ret < 0 ? err.text : NULL;
}

static uint64_t first_word(const struct snapshot_origin *origin, uint64_t addr)
{
	const uint64_t *word = gmem_ptr(&origin->gmem, gpa(addr), sizeof(*word));
	return word ? *word : UINT64_MAX;
}

/* The check of the extents knows where memory ends; that it has a hole, the mapping knows. */
static void extents_are_mapped_into_memory_only(void)
{
	const uint64_t page = SNAPSHOT_PAGE;
	const struct snapshot_extent good[] = {{0, page}, {HOLE - page, page}, {LARGE, 2 * page}};
	const struct snapshot_extent bad[] = {{HOLE, page}, {LARGE - page, page}, {HOLE - page, 2 * page},
	        {LARGE - page, 2 * page}, {HOLE - page, LARGE - HOLE + 2 * page}};
	struct snapshot_origin origin;
	REQUIRE(!map(good, 3, &origin));
	CHECK_EQ(first_word(&origin, 0), 0);
	CHECK_EQ(first_word(&origin, HOLE - page), 1);
	CHECK_EQ(first_word(&origin, LARGE + page), 3);
	CHECK_EQ(first_word(&origin, 2 * page), 0);
	snapshot_destroy(&origin);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *why = map(&bad[i], 1, &origin);
		CHECK(why && strstr(why, "outside the guest's memory"));
		if (why && !strstr(why, "outside"))
			printf("# %zu: %s\n", i, why);
		CHECK(!origin.state && origin.gmem.count == 0);
	}
}

/* Before memory is allocated for it. */
static void state_is_no_larger_than_its_folders_explain(void)
{
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	struct snapshot_layout layout = {.state_size = SNAPSHOT_DEVICES_MAX + 1,
	        .extents_offset = SNAPSHOT_HEAD_SIZE + SNAPSHOT_DEVICES_MAX + SNAPSHOT_PAGE,
	        .data_offset = SNAPSHOT_HEAD_SIZE + SNAPSHOT_DEVICES_MAX + SNAPSHOT_PAGE};
	struct snapshot_origin origin;
	struct err err = {0};
	CHECK_EQ(ftruncate(file, (off_t)layout.data_offset), 0);
	CHECK_EQ(snapshot_read(file, &layout, LARGE, 0, false, &origin, &err), -EINVAL);
	CHECK(!origin.state && strstr(err.text, "than its folders explain"));
	REQUIRE(snapshot_read(file, &layout, LARGE, 1, false, &origin, &err) == 0);
	CHECK_EQ(origin.state_size, SNAPSHOT_DEVICES_MAX + 1);
	snapshot_destroy(&origin);
	close(file);
}

/* As many as a snapshot may have, each on its own: within what the kernel lets a process map. */
static void scattered_memory_can_be_mapped(void)
{
	static struct snapshot_extent list[SNAPSHOT_EXTENTS_MAX];
	struct snapshot_origin origin;
	const uint64_t step = HOLE / SNAPSHOT_EXTENTS_MAX / SNAPSHOT_PAGE * SNAPSHOT_PAGE;
	for (uint64_t i = 0; i < SNAPSHOT_EXTENTS_MAX; i++)
		list[i] = (struct snapshot_extent){i * step, SNAPSHOT_PAGE};
	const char *why = map(list, SNAPSHOT_EXTENTS_MAX, &origin);
	if (why)
		printf("# %s\n", why);
	REQUIRE(!why);
	CHECK_EQ(first_word(&origin, (SNAPSHOT_EXTENTS_MAX - 1) * step), SNAPSHOT_EXTENTS_MAX - 1);
	snapshot_destroy(&origin);
}

TEST_MAIN("snapshot", {"checksums", checksums}, {"layouts", layouts}, {"extents", extents}, {"heads", heads},
        {"extents_are_mapped_into_memory_only", extents_are_mapped_into_memory_only},
        {"state_is_no_larger_than_its_folders_explain", state_is_no_larger_than_its_folders_explain},
        {"scattered_memory_can_be_mapped", scattered_memory_can_be_mapped})
