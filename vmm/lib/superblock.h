/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the first bytes of a disk tell of its file system: its format and size, and whether the kernel that is built
 * with wisp (Linux 6.1, kernel-config/fs.config) is certain not to mount it. The bytes are hostile, and only read.
 */
#ifndef WISP_LIB_SUPERBLOCK_H
#define WISP_LIB_SUPERBLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUPERBLOCK_HEAD 4096u /* bytes that are looked at; zeros where the disk is shorter */

enum image_format { IMAGE_UNKNOWN, IMAGE_SQUASHFS, IMAGE_EROFS, IMAGE_EXT4 };

/* Returns the format, and stores the size that the superblock gives; UINT64_MAX if that is absurd. */
enum image_format superblock_read(const uint8_t head[SUPERBLOCK_HEAD], uint64_t *bytes);

/*
 * Returns true if the guest's kernel cannot mount it, for writing if `writable`, and stores the reason and what to do:
 * "it is compressed with lzma, ...: pack it again ...".
 */
bool superblock_refuse(const uint8_t head[SUPERBLOCK_HEAD], bool writable, char *why, size_t size);

#endif
