/* SPDX-License-Identifier: Apache-2.0 */
/* What a disk tells its driver: the features that it offers, and its config space. */
#ifndef WISP_VIRTIO_BLK_CONFIG_H
#define WISP_VIRTIO_BLK_CONFIG_H

#include <linux/virtio_blk.h>
#include <stdint.h>

#include "virtio/blk.h"

#define BLK_SECTOR 512u

/* Ranges in a discard or write-zeroes request, and sectors in one of its ranges: 2 GiB, and 128 MiB. */
#define BLK_RANGES_MAX 16u
#define BLK_DISCARD_SECTORS_MAX (1u << 22)
#define BLK_ZEROES_SECTORS_MAX (1u << 18)

uint64_t blk_features(const struct blk_options *opt, unsigned queues);

/* Everything but the capacity. `block` is the size of the storage's blocks, in bytes. */
void blk_fill_config(struct virtio_blk_config *config, uint32_t block, unsigned queues);

#endif
