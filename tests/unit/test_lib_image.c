/* SPDX-License-Identifier: Apache-2.0 */
/* Images that the guest's kernel cannot mount are refused before the boot, with the reason by name; others are not. */
#include <endian.h>

#include "tests/unit/test_lib.h"
#include "vmm/lib/image.h"

struct field {
	uint16_t at;
	uint8_t bytes;
	uint32_t value;
};

#define FIELDS 4
#define SQUASHFS_SB                          \
	{0, 4, 0x73717368}, {12, 4, 131072}, \
	{                                    \
		28, 2, 4                     \
	} /* magic, block_size, s_major */
#define EROFS_SB                    \
	{                           \
		1024, 4, 0xe0f5e1e2 \
	}
#define EXT4_SB                      \
	{                            \
		1024 + 56, 2, 0xef53 \
	}
#define COMPAT (1024 + 92)
#define INCOMPAT (1024 + 96)
#define RO_COMPAT (1024 + 100)

/* A superblock as Linux lays it out, and the words of its refusal: the feature and the remedy. */
static const struct image {
	const char *name;
	bool writable;
	const char *feature, *remedy; /* NULL: it is accepted */
	struct field field[FIELDS + 2];
} images[] = {
        {"squashfs zlib", false, NULL, NULL, {SQUASHFS_SB, {20, 2, 1}}},
        {"squashfs lzma", false, "lzma", "mksquashfs -comp zstd", {SQUASHFS_SB, {20, 2, 2}}},
        {"squashfs lzo", false, NULL, NULL, {SQUASHFS_SB, {20, 2, 3}}},
        {"squashfs xz", false, NULL, NULL, {SQUASHFS_SB, {20, 2, 4}}},
        {"squashfs lz4", false, NULL, NULL, {SQUASHFS_SB, {20, 2, 5}}},
        {"squashfs zstd", false, NULL, NULL, {SQUASHFS_SB, {20, 2, 6}}},
        {"squashfs 7", false, "unknown kind 7", "mksquashfs -comp zstd", {SQUASHFS_SB, {20, 2, 7}}},
        {"squashfs 0", false, "unknown kind 0", "mksquashfs -comp zstd", {SQUASHFS_SB}},
        {"squashfs 3.1", false, "version 3.1", "mksquashfs", {SQUASHFS_SB, {28, 4, 0x10003}, {20, 2, 6}}},
        {"squashfs 4.1", false, "version 4.1", "mksquashfs", {SQUASHFS_SB, {28, 4, 0x10004}, {20, 2, 6}}},
        {"squashfs swapped", false, "big-endian", "mksquashfs", {{0, 4, 0x68737173}}},
        {"squashfs small blocks", false, "2048 bytes", "mksquashfs", {SQUASHFS_SB, {12, 4, 2048}, {20, 2, 6}}},
        {"erofs plain", false, NULL, NULL, {EROFS_SB, {1024 + 12, 1, 12}}},
        {"erofs 512", false, NULL, NULL, {EROFS_SB, {1024 + 12, 1, 9}}},
        {"erofs 16 KiB", false, "2^14", "mkfs.erofs -b 4096", {EROFS_SB, {1024 + 12, 1, 14}}},
        {"erofs all of 6.1", false, NULL, NULL,
                {EROFS_SB, {1024 + 12, 1, 12}, {1024 + 80, 4, 0x3f}, {1024 + 84, 2, 3}}},
        {"erofs deflate", false, "deflate", "-z lz4hc",
                {EROFS_SB, {1024 + 12, 1, 12}, {1024 + 80, 4, 3}, {1024 + 84, 2, 4}}},
        {"erofs zstd", false, "zstd", "-z lz4hc", {EROFS_SB, {1024 + 12, 1, 12}, {1024 + 80, 4, 3}, {1024 + 84, 2, 9}}},
        /* Without COMPR_CFGS, the field is a distance. */
        {"erofs distance", false, NULL, NULL,
                {EROFS_SB, {1024 + 12, 1, 12}, {1024 + 80, 4, 1}, {1024 + 84, 2, 0xffff}}},
        {"erofs xattr_prefixes", false, "xattr_prefixes", "without that",
                {EROFS_SB, {1024 + 12, 1, 12}, {1024 + 80, 4, 0x41}}},
        {"erofs unknown", false, "incompat bit 0x1000", "without that",
                {EROFS_SB, {1024 + 12, 1, 12}, {1024 + 80, 4, 0x1000}}},
        {"ext4 plain", true, NULL, NULL, {EXT4_SB, {INCOMPAT, 4, 0x242}, {RO_COMPAT, 4, 0x46b}}},
        {"ext4 all of 6.1", true, NULL, NULL, {EXT4_SB, {INCOMPAT, 4, 0x3e7d6}, {RO_COMPAT, 4, 0x1a77f}}},
        {"ext4 casefold", true, NULL, NULL, {EXT4_SB, {INCOMPAT, 4, 0x20242}}},
        {"ext4 casefold, read", false, "casefold, which cannot lie under a writable layer", "write to it",
                {EXT4_SB, {INCOMPAT, 4, 0x20242}}},
        {"ext4 encrypt", true, NULL, NULL, {EXT4_SB, {INCOMPAT, 4, 0x10242}}},
        {"ext4 dirty journal", false, NULL, NULL, {EXT4_SB, {INCOMPAT, 4, 0x246}, {COMPAT, 4, 4}, {1024 + 224, 4, 8}}},
        {"ext4 dirty journal, written", true, NULL, NULL,
                {EXT4_SB, {INCOMPAT, 4, 0x246}, {COMPAT, 4, 4}, {1024 + 224, 4, 8}}},
        {"ext4 compression", false, "compression", "mkfs.ext4", {EXT4_SB, {INCOMPAT, 4, 0x243}}},
        {"ext4 dirdata", false, "dirdata", "mkfs.ext4", {EXT4_SB, {INCOMPAT, 4, 0x1242}}},
        {"ext4 unknown", false, "incompat bit 0x80000000", "mkfs.ext4", {EXT4_SB, {INCOMPAT, 4, 0x80000242}}},
        {"ext4 journal device", false, "the journal of another", "give that one", {EXT4_SB, {INCOMPAT, 4, 0x8}}},
        {"ext4 64 KiB blocks", false, "larger than the guest's pages", "mkfs.ext4 -b 4096",
                {EXT4_SB, {1024 + 24, 4, 6}}},
        {"ext4 shared_blocks", false, NULL, NULL, {EXT4_SB, {RO_COMPAT, 4, 0x4000}}},
        {"ext4 shared_blocks, written", true, "shared_blocks", "do not write to it", {EXT4_SB, {RO_COMPAT, 4, 0x4000}}},
        {"ext4 unknown, read", false, NULL, NULL, {EXT4_SB, {RO_COMPAT, 4, 0x40000000}}},
        {"ext4 unknown, written", true, "ro_compat bit 0x40000000", "do not write",
                {EXT4_SB, {RO_COMPAT, 4, 0x40000000}}},
        {"ext4 read-only", true, "marked read-only", "tune2fs -O ^read-only", {EXT4_SB, {RO_COMPAT, 4, 0x1000}}},
        {"ext4 bigalloc", true, "bigalloc", "mkfs.ext4", {EXT4_SB, {RO_COMPAT, 4, 0x200}}},
        {"ext4 journal elsewhere", true, "journal is on another device", "mkfs.ext4", {EXT4_SB, {COMPAT, 4, 4}}},
};

static void build(const struct image *image, uint8_t head[SUPERBLOCK_HEAD])
{
	memset(head, 0, SUPERBLOCK_HEAD);
	for (size_t i = 0; i < FIELDS + 2; i++) {
		uint32_t value = htole32(image->field[i].value);
		memcpy(head + image->field[i].at, &value, image->field[i].bytes);
	}
}

/* All of it, by the call that a sandbox's creation makes. */
static void superblocks(void)
{
	char path[] = "/tmp/wisp-test-image-XXXXXX";
	uint8_t head[SUPERBLOCK_HEAD];
	int fd = mkostemp(path, O_CLOEXEC);
	REQUIRE(fd >= 0);
	for (size_t i = 0; i < sizeof(images) / sizeof(images[0]); i++) {
		const struct image *image = &images[i];
		struct image_use use = {.writable = image->writable};
		enum image_format format;
		struct wisp_error error = {.message = ""};
		build(image, head);
		REQUIRE(pwrite(fd, head, sizeof(head), 0) == (ssize_t)sizeof(head));
		int r = image_check(fd, path, &use, &format, &error);
		bool good = image->feature
		                    ? r == -EINVAL && error.status == WISP_ERR_IMAGE && strstr(error.message, path) &&
		                              strstr(error.message, image->feature) &&
		                              strstr(error.message, image->remedy)
		                    : r == 0;
		if (!good)
			printf("# %s: %d: %s\n", image->name, r, error.message);
		CHECK(good);
		/* Another kernel may know more. */
		use.other_kernel = true;
		CHECK_EQ(image_check(fd, path, &use, &format, &error), 0);
	}
	close(fd);
	unlink(path);
}

static void overlays(void)
{
	static const struct {
		struct field field;
		const char *word;
	} cases[] = {{{0, 0, 0}, "has none"}, {{0, 4, 0x73717368}, "has a squashfs"}, {{1024 + 56, 2, 0xef53}, NULL}};
	char path[] = "/tmp/wisp-test-image-XXXXXX";
	struct image_use use = {.overlay = true};
	enum image_format format;
	struct wisp_error error;
	int fd = mkostemp(path, O_CLOEXEC);
	REQUIRE(fd >= 0);
	for (size_t i = 0; i < 3; i++) {
		uint8_t head[SUPERBLOCK_HEAD];
		build(&(struct image){.field = {cases[i].field}}, head);
		REQUIRE(pwrite(fd, head, sizeof(head), 0) == (ssize_t)sizeof(head));
		CHECK_EQ(image_check(fd, path, &use, &format, &error), cases[i].word ? -EINVAL : 0);
		CHECK(!cases[i].word || (strstr(error.message, cases[i].word) && strstr(error.message, path) &&
		                                strstr(error.message, "mkfs.ext4")));
	}
	close(fd);
	unlink(path);
}

/* A length that is no multiple of a sector is as good as another, one that is too short is not. */
static void odd_lengths(void)
{
	static const struct image image = {.field = {SQUASHFS_SB, {20, 2, 6}, {40, 4, 5001}}};
	char path[] = "/tmp/wisp-test-image-XXXXXX";
	struct image_use use = {0};
	enum image_format format;
	struct wisp_error error;
	uint8_t head[SUPERBLOCK_HEAD];
	int fd = mkostemp(path, O_CLOEXEC);
	build(&image, head);
	REQUIRE(fd >= 0 && pwrite(fd, head, sizeof(head), 0) == (ssize_t)sizeof(head));
	CHECK_EQ(ftruncate(fd, 5001), 0);
	CHECK_EQ(image_check(fd, path, &use, &format, &error), 0);
	CHECK_EQ(ftruncate(fd, 5000), 0);
	CHECK_EQ(image_check(fd, path, &use, &format, &error), -EINVAL);
	CHECK(strstr(error.message, "truncated"));
	close(fd);
	unlink(path);
}

TEST_MAIN("lib_image", {"superblocks", superblocks}, {"overlays", overlays}, {"odd_lengths", odd_lengths})
