/* SPDX-License-Identifier: Apache-2.0 */
/* What a disk's file, or block device, is like on the host. */
#ifndef WISP_VIRTIO_BLK_FILE_H
#define WISP_VIRTIO_BLK_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/err.h"

#define BLK_BLOCK_MAX 4096u /* the largest logical block that drivers accept: a page */

/* The size now. 0, or -errno with `err` and `*bytes` as it was. */
int blk_file_size(int fd, uint64_t *bytes, struct err *err);

/* The logical block that the guest is told: a block device's own, up to BLK_BLOCK_MAX; 512 for a file. */
uint32_t blk_file_block(int fd);

/* The same file without O_DIRECT: a descriptor, or -errno with `err`. */
int blk_file_reopen(int fd, bool readonly, struct err *err);

#endif
