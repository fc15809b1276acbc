/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_config.h"

#include "virtio/blk_file.h"
#include "virtio/queue.h"

uint64_t blk_features(const struct blk_options *opt, unsigned queues)
{
	uint64_t features =
	        1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY;
	/* A device that does not keep the promise must not make it: section 5.2.6.2, the note at its end. */
	if (!opt->ignore_flushes)
		features |= 1ull << VIRTIO_BLK_F_FLUSH;
	if (queues > 1)
		features |= 1ull << VIRTIO_BLK_F_MQ;
	if (opt->readonly)
		features |= 1ull << VIRTIO_BLK_F_RO;
	else
		features |= 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	return features;
}

void blk_fill_config(struct virtio_blk_config *config, uint32_t block, unsigned queues)
{
	/* Any block will do, but 4 KiB, a page of the host, are best. */
	uint32_t best = BLK_BLOCK_MAX / block;
	*config = (struct virtio_blk_config){
	        .seg_max = VIRTQ_SIZE_MAX - 2, /* the header and the status take two */
	        .blk_size = block,
	        .physical_block_exp = (uint8_t)__builtin_ctz(best),
	        .min_io_size = (uint16_t)best,
	        .num_queues = (uint16_t)(queues > 1 ? queues : 0), /* with MQ only */
	        .max_discard_sectors = BLK_DISCARD_SECTORS_MAX,
	        .max_discard_seg = BLK_RANGES_MAX,
	        .discard_sector_alignment = BLK_BLOCK_MAX / BLK_SECTOR,
	        .max_write_zeroes_sectors = BLK_ZEROES_SECTORS_MAX,
	        .max_write_zeroes_seg = BLK_RANGES_MAX,
	        .write_zeroes_may_unmap = 1,
	};
}
