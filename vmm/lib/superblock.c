/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/superblock.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* squashfs: Documentation/filesystems/squashfs; erofs: fs/erofs/erofs_fs.h; ext4: Documentation/filesystems/ext4. */
#define SQUASHFS_MAGIC 0x73717368u
#define SQUASHFS_SWAPPED 0x68737173u /* big-endian: version 3 and earlier */
#define EROFS_MAGIC 0xe0f5e1e2u
#define EXT4_MAGIC 0xef53u
#define SUPER_OFFSET 1024 /* of erofs and ext4 */
#define PAGE_SHIFT 12     /* the guest's */

static uint16_t get16(const uint8_t *at)
{
	uint16_t value;
	memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

enum image_format superblock_read(const uint8_t head[SUPERBLOCK_HEAD], uint64_t *bytes)
{
	const uint8_t *super = head + SUPER_OFFSET;
	*bytes = 0;
	if (get32(head) == SQUASHFS_SWAPPED)
		return IMAGE_SQUASHFS;
	if (get32(head) == SQUASHFS_MAGIC) {
		*bytes = get64(head + 40); /* bytes_used */
		return IMAGE_SQUASHFS;
	}
	if (get32(super) == EROFS_MAGIC) {
		unsigned shift = super[12]; /* blkszbits */
		*bytes = shift < 32 ? (uint64_t)get32(super + 36) << shift : UINT64_MAX;
		return IMAGE_EROFS;
	}
	if (get16(super + 56) == EXT4_MAGIC) {
		uint64_t blocks = get32(super + 4);
		unsigned shift = get32(super + 24); /* s_log_block_size */
		if (get32(super + 96) & 0x80)       /* INCOMPAT_64BIT */
			blocks |= (uint64_t)get32(super + 336) << 32;
		*bytes = shift <= 6 && blocks < UINT64_MAX >> 16 ? blocks << (10 + shift) : UINT64_MAX;
		return IMAGE_EXT4;
	}
	return IMAGE_UNKNOWN;
}

/* ---- What the guest's kernel cannot mount ---- */

struct reason {
	char *text;
	size_t size;
};

static bool refuse(const struct reason *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool refuse(const struct reason *reason, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vsnprintf(reason->text, reason->size, format, ap);
	va_end(ap);
	return true;
}

/* A feature of a file system, as its tools call it. */
struct feature {
	uint32_t bit;
	const char *name;
};

/* The name of the lowest bit that is set, or a number for one without a name. */
static const char *name_feature(
        const struct feature *features, size_t count, uint32_t set, const char *kind, char number[32])
{
	uint32_t lowest = set & -set;
	for (size_t i = 0; i < count; i++) {
		if (features[i].bit == lowest)
			return features[i].name;
	}
	snprintf(number, 32, "%s bit 0x%x", kind, lowest);
	return number;
}

static bool refuse_squashfs(const uint8_t *super, const struct reason *reason)
{
	static const char *const remedy = "pack it again with mksquashfs -comp zstd";
	static const char *const compressors[] = {[1] = "zlib", "lzma", "lzo", "xz", "lz4", "zstd"};
	if (get32(super) == SQUASHFS_SWAPPED)
		return refuse(reason, "it is a big-endian squashfs of version 3 or earlier: %s", remedy);
	unsigned compressor = get16(super + 20), major = get16(super + 28), minor = get16(super + 30);
	if (major != 4 || minor != 0)
		return refuse(reason, "it is a squashfs of version %u.%u, and the guest's kernel knows 4.0: %s", major,
		        minor, remedy);
	if (compressor < 1 || compressor >= sizeof(compressors) / sizeof(compressors[0]))
		return refuse(reason, "its compression is of unknown kind %u: %s", compressor, remedy);
	if (strcmp(compressors[compressor], "lzma") == 0)
		return refuse(reason, "it is compressed with lzma, which Linux does not read: %s or xz", remedy);
	unsigned block = get32(super + 12);
	if (block < 1u << PAGE_SHIFT || block > 1u << 20)
		return refuse(reason, "its blocks have %u bytes, and the guest's kernel takes 4096 to 1048576: %s",
		        block, remedy);
	return false;
}

static bool refuse_erofs(const uint8_t *super, const struct reason *reason)
{
	static const struct feature later[] = {{0x40, "xattr_prefixes"}, {0x80, "48bit"}, {0x100, "metabox"}},
	                            algorithms[] = {{1u << 2, "deflate"}, {1u << 3, "zstd"}};
	enum { KNOWN = 0x3f, COMPR_CFGS = 0x2, LZ4_LZMA = 0x3 };
	char number[32];
	unsigned shift = super[12];
	uint32_t incompat = get32(super + 80), algorithm = incompat & COMPR_CFGS ? get16(super + 84) : 0;
	if (shift < 9 || shift > PAGE_SHIFT)
		return refuse(reason,
		        "its blocks have 2^%u bytes, and the guest's kernel takes 512 to 4096: "
		        "make it again with mkfs.erofs -b 4096",
		        shift);
	if (incompat & ~(uint32_t)KNOWN)
		return refuse(reason, "the guest's kernel lacks the erofs feature %s: make it again without that",
		        name_feature(later, 3, incompat & ~(uint32_t)KNOWN, "incompat", number));
	if (algorithm & ~(uint32_t)LZ4_LZMA)
		return refuse(reason,
		        "it is compressed with %s, which the guest's kernel lacks: make it again with "
		        "mkfs.erofs -z lz4hc or -z lzma",
		        name_feature(algorithms, 2, algorithm & ~(uint32_t)LZ4_LZMA, "algorithm", number));
	return false;
}

/* The features that make Linux 6.1 refuse a mount: fs/ext4/ext4.h, EXT4_FEATURE_INCOMPAT_SUPP and RO_COMPAT_SUPP. */
static bool refuse_ext4(const uint8_t *super, bool writable, const struct reason *reason)
{
	static const struct feature incompat[] = {{0x1, "compression"}, {0x1000, "dirdata"}},
	                            ro_compat[] = {{0x80, "snapshot"}, {0x800, "replica"}, {0x4000, "shared_blocks"}};
	enum {
		HAS_JOURNAL = 0x4,
		JOURNAL_DEV = 0x8,
		EXTENTS = 0x40,
		BIGALLOC = 0x200,
		READ_ONLY = 0x1000,
		CASEFOLD = 0x20000
	};
	enum { INCOMPAT_KNOWN = 0x3e7d6, RO_COMPAT_KNOWN = 0x1a77f };
	char number[32];
	uint32_t shift = get32(super + 24), compat = get32(super + 92);
	uint32_t needs = get32(super + 96), to_write = get32(super + 100);
	if (needs & JOURNAL_DEV)
		return refuse(reason, "it is the journal of another file system: give that one");
	uint32_t unknown = needs & ~(uint32_t)INCOMPAT_KNOWN;
	if (unknown)
		return refuse(reason, "the guest's kernel lacks the ext4 feature %s: make it again with mkfs.ext4",
		        name_feature(incompat, 2, unknown, "incompat", number));
	if (shift > PAGE_SHIFT - 10)
		return refuse(reason, "its blocks are larger than the guest's pages of 4096 bytes: make it again with "
		                      "mkfs.ext4 -b 4096");
	if (!writable && (needs & CASEFOLD))
		return refuse(reason,
		        "it has the ext4 feature casefold, which cannot lie under a writable layer: let the "
		        "guest write to it, or make it again without that");
	if (!writable)
		return false;
	if (to_write & READ_ONLY)
		return refuse(reason, "it is marked read-only: run tune2fs -O ^read-only on it, or do not write to it");
	unknown = to_write & ~(uint32_t)RO_COMPAT_KNOWN;
	if (unknown)
		return refuse(reason,
		        "the guest's kernel cannot write with the ext4 feature %s: make it again with "
		        "mkfs.ext4, or do not write to it",
		        name_feature(ro_compat, 3, unknown, "ro_compat", number));
	if ((to_write & BIGALLOC) && !(needs & EXTENTS))
		return refuse(reason, "it has the ext4 feature bigalloc without extent: make it again with mkfs.ext4");
	if ((compat & HAS_JOURNAL) && get32(super + 224) == 0) /* s_journal_inum */
		return refuse(reason, "its journal is on another device: make it again with mkfs.ext4, or do not write "
		                      "to it");
	return false;
}

bool superblock_refuse(const uint8_t head[SUPERBLOCK_HEAD], bool writable, char *why, size_t size)
{
	const struct reason reason = {why, size};
	uint64_t bytes;
	switch (superblock_read(head, &bytes)) {
	case IMAGE_SQUASHFS: return refuse_squashfs(head, &reason);
	case IMAGE_EROFS: return refuse_erofs(head + SUPER_OFFSET, &reason);
	case IMAGE_EXT4: return refuse_ext4(head + SUPER_OFFSET, writable, &reason);
	default: return false;
	}
}
