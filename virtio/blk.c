/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Every request of the driver becomes an object of a fixed pool, which never runs dry: a head is
 * in flight at most once, so there are never more requests than the queues have heads. A request is copied out of guest
 * memory once and checked as a whole; from then on only the copy counts. Its data is not copied: one operation of the
 * loop moves it between the file and all of the guest's buffers.
 *
 * With several queues (VIRTIO_BLK_F_MQ, one for each vCPU) the guest's processors do not contend for a lock; here, the
 * queue only matters for the completion. The loop submits all requests of a kick in one system call, and the driver
 * sees all completions of a round of the loop with at most one interrupt.
 *
 * O_DIRECT requires buffers to be aligned to the storage's block size, 4 KiB at most. Unaligned requests go through a
 * second descriptor of the same file, without O_DIRECT: the page cache is the bounce buffer. Linux keeps both views
 * coherent.
 *
 * The disk is the file in whole sectors, or in whole blocks of 4096 bytes (opt->padded). If the file ends inside the
 * last of them, the rest reads as zeros; a write there extends the file.
 */
#include "virtio/blk.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/blk_config.h"
#include "virtio/blk_file.h"
#include "virtio/limit.h"
#include "virtio/state.h"
#include "vmm/shared/container_of.h"

#define SECTOR BLK_SECTOR
#define QUEUE_SIZE VIRTQ_SIZE_MAX

/* This device's part of the config space: up to secure erase. */
#define CONFIG_SIZE (offsetof(struct virtio_blk_config, unused1) + 3)

/* The alignment, of buffers, lengths and offsets, that any storage accepts with O_DIRECT. Guests do I/O in pages. */
#define DIRECT_ALIGN 4096u

#define ZEROS_SIZE 4096u
static const uint8_t zeros[ZEROS_SIZE] __attribute__((aligned(ZEROS_SIZE)));

struct blk;

struct request {
	struct loop_op op;
	struct blk *blk;
	struct request *next_free;
	unsigned queue;
	bool in_flight; /* op is the loop's */
	bool syncing;   /* in the fdatasync that ends a write-zeroes request in write-through mode */
	uint32_t type;
	uint8_t *status; /* the driver's: the last writable byte */
	struct iovec *iov;
	unsigned iov_count;
	uint64_t offset;  /* in the file, of what is left */
	uint64_t left;    /* bytes */
	uint32_t room;    /* writable bytes before the status */
	uint32_t written; /* of these, the number written, from the first on */
	unsigned range, ranges;
	int fallocate_mode; /* of the range; 0: zeros are written */
	struct virtio_blk_discard_write_zeroes range_list[BLK_RANGES_MAX];
	struct virtq_chain chain;
};

struct blk {
	struct virtio_dev dev;
	int fd;
	int buffered_fd; /* fd itself unless that is O_DIRECT */
	bool readonly;
	bool sync_ignored;
	unsigned unit;                   /* bytes: the disk is a multiple of it */
	uint64_t bytes;                  /* the file's size */
	uint64_t sectors;                /* atomic: vCPUs read it while the loop's thread changes it */
	struct virtio_blk_config config; /* but for the capacity */
	char id[VIRTIO_BLK_ID_BYTES];
	struct request *free;
	struct request *requests;
	unsigned touched; /* how many were ever used: the others have cost no memory */
};

static struct blk *to_blk(struct virtio_dev *dev)
{
	return (struct blk *)dev;
}

static void release(struct request *r)
{
	r->next_free = r->blk->free;
	r->blk->free = r;
}

/* The next request to use; it stays on the list. */
static struct request *idle(struct blk *blk)
{
	if (!blk->free) {
		struct request *r = &blk->requests[blk->touched++];
		r->blk = blk;
		release(r);
	}
	return blk->free;
}

static void finish(struct request *r, uint8_t status)
{
	/*
	 * The used length counts the bytes written from the first writable one on, without a gap (section 2.7.8.1). So
	 * it includes the status, at the end, only if everything before it was written.
	 */
	uint32_t length = r->written == r->room ? r->written + 1 : r->written;
	guest_store(r->status, &status, sizeof(status));
	virtio_complete(&r->blk->dev, r->queue, r->chain.head, length);
	release(r);
}

static void completed(struct loop_op *op, int res, uint32_t flags);

static void start(struct request *r, struct io_uring_sqe *sqe)
{
	r->op.done = completed;
	r->in_flight = true;
	r->blk->dev.in_flight++;
	loop_start_file(r->blk->dev.env.loop, sqe, &r->op, sqe->fd == r->blk->buffered_fd);
}

/* Writes are stable on completion for drivers that cannot flush: section 5.2.6.2, case 1. */
static bool write_through(const struct blk *blk)
{
	return !blk->sync_ignored && !virtio_has(&blk->dev, VIRTIO_BLK_F_FLUSH);
}

/* The descriptor for what is left of a request: the one with O_DIRECT if the alignment permits. */
static int pick_fd(const struct request *r)
{
	const struct blk *blk = r->blk;
	if (blk->fd == blk->buffered_fd)
		return blk->fd;
	uint64_t bits = r->offset | r->left;
	for (unsigned i = 0; i < r->iov_count; i++)
		bits |= (uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len;
	return bits % DIRECT_ALIGN == 0 ? blk->fd : blk->buffered_fd;
}

static void transfer(struct request *r)
{
	struct io_uring_sqe *sqe = loop_sqe(r->blk->dev.env.loop);
	int fd = pick_fd(r);
	if (r->type == VIRTIO_BLK_T_IN) {
		if (r->iov_count == 1) /* one buffer: the kernel imports no array */
			io_uring_prep_read(sqe, fd, r->iov->iov_base, (unsigned)r->iov->iov_len, r->offset);
		else
			io_uring_prep_readv(sqe, fd, r->iov, r->iov_count, r->offset);
	} else {
		if (r->iov_count == 1)
			io_uring_prep_write(sqe, fd, r->iov->iov_base, (unsigned)r->iov->iov_len, r->offset);
		else
			io_uring_prep_writev(sqe, fd, r->iov, r->iov_count, r->offset);
		if (write_through(r->blk))
			sqe->rw_flags = RWF_DSYNC;
	}
	start(r, sqe);
}

static void sync_data(struct request *r)
{
	struct io_uring_sqe *sqe = loop_sqe(r->blk->dev.env.loop);
	io_uring_prep_fsync(sqe, r->blk->fd, IORING_FSYNC_DATASYNC);
	start(r, sqe);
}

/* Writes zeros to a piece of the range, from one page that is every buffer of the request. */
static void write_zeros(struct request *r)
{
	uint64_t left = r->left;
	r->iov = r->chain.iov; /* the request no longer needs it */
	for (r->iov_count = 0; r->iov_count < VIRTQ_SIZE_MAX && left > 0; r->iov_count++) {
		size_t part = left < ZEROS_SIZE ? left : ZEROS_SIZE;
		r->iov[r->iov_count] = (struct iovec){(void *)(uintptr_t)zeros, part};
		left -= part;
	}
	struct io_uring_sqe *sqe = loop_sqe(r->blk->dev.env.loop);
	io_uring_prep_writev(sqe, pick_fd(r), r->iov, r->iov_count, r->offset);
	start(r, sqe);
}

static void do_range(struct request *r)
{
	if (r->fallocate_mode == 0) {
		write_zeros(r);
		return;
	}
	struct io_uring_sqe *sqe = loop_sqe(r->blk->dev.env.loop);
	io_uring_prep_fallocate(
	        sqe, r->blk->fd, r->fallocate_mode | FALLOC_FL_KEEP_SIZE, (off_t)r->offset, (off_t)r->left);
	start(r, sqe);
}

/* Continues with the next range that is not empty; finishes the request after the last one. */
static void next_range(struct request *r)
{
	while (r->range < r->ranges) {
		const struct virtio_blk_discard_write_zeroes *range = &r->range_list[r->range++];
		bool deallocate = r->type == VIRTIO_BLK_T_DISCARD || range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		r->offset = range->sector * SECTOR;
		r->left = (uint64_t)range->num_sectors * SECTOR;
		r->fallocate_mode = deallocate ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
		if (r->left > 0) {
			do_range(r);
			return;
		}
	}
	if (r->type == VIRTIO_BLK_T_WRITE_ZEROES && write_through(r->blk)) {
		r->syncing = true;
		sync_data(r);
		return;
	}
	finish(r, VIRTIO_BLK_S_OK);
}

/* `bytes` of the request are transferred. What is written beyond the end of the file, in its last sector, extends it.
 */
static void advance(struct request *r, unsigned bytes)
{
	r->offset += bytes;
	r->left -= bytes;
	if (r->type == VIRTIO_BLK_T_IN)
		r->written += bytes;
	else if (r->offset > r->blk->bytes)
		r->blk->bytes = r->offset;
}

static void range_done(struct request *r, int res)
{
	if (r->fallocate_mode == 0) {
		if (res <= 0) {
			finish(r, VIRTIO_BLK_S_IOERR);
			return;
		}
		advance(r, (unsigned)res);
		r->left > 0 ? do_range(r) : next_range(r);
		return;
	}
	if (res == -EOPNOTSUPP || res == -EINVAL) { /* of the file system, or the block device */
		if (r->type == VIRTIO_BLK_T_DISCARD) {
			next_range(r); /* a discard is a hint */
			return;
		}
		r->fallocate_mode = r->fallocate_mode == FALLOC_FL_PUNCH_HOLE ? FALLOC_FL_ZERO_RANGE : 0;
		do_range(r);
		return;
	}
	if (res < 0)
		finish(r, VIRTIO_BLK_S_IOERR);
	else
		next_range(r);
}

/* Whether all that is left to read is the part of the last sector or block that the file does not have. */
static bool in_tail(const struct request *r)
{
	return r->type == VIRTIO_BLK_T_IN && r->left < r->blk->unit && r->offset >= r->blk->bytes;
}

static void transfer_done(struct request *r, int res)
{
	if (res < 0 || (res == 0 && !in_tail(r))) { /* 0: the file has become shorter */
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	advance(r, (unsigned)res);
	unsigned used_up = iov_advance(r->iov, r->iov_count, (unsigned)res);
	r->iov += used_up;
	r->iov_count -= used_up;
	if (in_tail(r))
		advance(r, (unsigned)guest_store_iov(r->iov, r->iov_count, 0, zeros, r->left));
	if (r->left == 0)
		finish(r, VIRTIO_BLK_S_OK);
	else
		transfer(r);
}

static void again(struct request *r)
{
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT: transfer(r); break;
	case VIRTIO_BLK_T_FLUSH: sync_data(r); break;
	default: r->syncing ? sync_data(r) : do_range(r); break;
	}
}

static void completed(struct loop_op *op, int res, uint32_t flags)
{
	(void)flags;
	struct request *r = container_of(op, struct request, op);
	struct blk *blk = r->blk;
	r->in_flight = false;
	blk->dev.in_flight--;
	if (!blk->dev.active) { /* failed, or being reset: the result has no taker */
		release(r);
		if (blk->dev.reset_call && blk->dev.in_flight == 0)
			virtio_reset_done(&blk->dev);
		return;
	}
	if (res == -EINTR || res == -EAGAIN)
		again(r);
	else if (r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_OUT)
		transfer_done(r, res);
	else if (r->type == VIRTIO_BLK_T_FLUSH || r->syncing)
		finish(r, res < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	else
		range_done(r, res);
}

/* By subtraction: neither side can overflow. */
static bool in_disk(const struct blk *blk, uint64_t sector, uint64_t count)
{
	return count <= blk->sectors && sector <= blk->sectors - count;
}

static void start_transfer(struct request *r, uint64_t sector, uint64_t bytes)
{
	struct blk *blk = r->blk;
	if (bytes % SECTOR != 0 || !in_disk(blk, sector, bytes / SECTOR) ||
	        (r->type == VIRTIO_BLK_T_OUT && blk->readonly)) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (bytes == 0) {
		finish(r, VIRTIO_BLK_S_OK);
		return;
	}
	r->offset = sector * SECTOR;
	r->left = bytes;
	virtio_moved(&blk->dev, r->type == VIRTIO_BLK_T_IN ? &blk->dev.to_guest : &blk->dev.from_guest, bytes);
	transfer(r);
}

/* Checks a list of ranges (section 5.2.6.2): VIRTIO_BLK_S_OK, or the status of its refusal. */
static uint8_t check_ranges(const struct request *r)
{
	bool discard = r->type == VIRTIO_BLK_T_DISCARD;
	uint32_t allowed_flags = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	uint32_t sectors_max = discard ? BLK_DISCARD_SECTORS_MAX : BLK_ZEROES_SECTORS_MAX;
	for (unsigned i = 0; i < r->ranges; i++) {
		const struct virtio_blk_discard_write_zeroes *range = &r->range_list[i];
		if (range->flags & ~allowed_flags)
			return VIRTIO_BLK_S_UNSUPP;
		if (range->num_sectors > sectors_max || !in_disk(r->blk, range->sector, range->num_sectors))
			return VIRTIO_BLK_S_IOERR;
	}
	return VIRTIO_BLK_S_OK;
}

static void count_other(struct request *r)
{
	r->blk->dev.other_operations++;
	virtio_take(&r->blk->dev, 0, 1);
}

static void start_ranges(struct request *r, uint64_t bytes)
{
	size_t each = sizeof(r->range_list[0]);
	if (r->blk->readonly || bytes == 0 || bytes % each != 0 || bytes / each > BLK_RANGES_MAX) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	guest_load_iov(r->range_list, r->iov, r->iov_count, 0, bytes);
	r->ranges = (unsigned)(bytes / each);
	r->range = 0;
	count_other(r);
	uint8_t status = check_ranges(r);
	if (status != VIRTIO_BLK_S_OK)
		finish(r, status);
	else
		next_range(r);
}

static void get_id(struct request *r)
{
	if (r->room < VIRTIO_BLK_ID_BYTES) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->written = (uint32_t)guest_store_iov(r->iov, r->iov_count, 0, r->blk->id, VIRTIO_BLK_ID_BYTES);
	finish(r, VIRTIO_BLK_S_OK);
}

/* The last writable byte is the status, whatever the layout of descriptors (section 2.7.4). */
static bool take_status(struct request *r)
{
	struct virtq_chain *chain = &r->chain;
	if (chain->writable == 0)
		return false;
	struct iovec *last = &chain->iov[chain->readable + chain->writable - 1];
	r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	if (--last->iov_len == 0)
		chain->writable--;
	r->room = chain->writable_bytes - 1;
	return true;
}

static void serve(struct request *r)
{
	struct virtq_chain *chain = &r->chain;
	struct virtio_blk_outhdr header;
	r->written = 0;
	r->syncing = false;
	if (!take_status(r)) {
		release(r);
		virtio_fail(&r->blk->dev, "a block request has no byte for its status");
		return;
	}
	if (guest_load_iov(&header, chain->iov, chain->readable, 0, sizeof(header)) < sizeof(header)) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	unsigned used_up = iov_advance(chain->iov, chain->readable, sizeof(header));
	uint32_t readable_bytes = chain->readable_bytes - (uint32_t)sizeof(header);
	r->type = header.type;
	if (r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_GET_ID) {
		r->iov = chain->iov + chain->readable;
		r->iov_count = chain->writable;
	} else {
		r->iov = chain->iov + used_up;
		r->iov_count = chain->readable - used_up;
	}
	switch (r->type) {
	case VIRTIO_BLK_T_IN: start_transfer(r, header.sector, r->room); break;
	case VIRTIO_BLK_T_OUT: start_transfer(r, header.sector, readable_bytes); break;
	case VIRTIO_BLK_T_FLUSH:
		count_other(r);
		r->blk->sync_ignored ? finish(r, VIRTIO_BLK_S_OK) : sync_data(r);
		break;
	case VIRTIO_BLK_T_GET_ID: get_id(r); break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES: start_ranges(r, readable_bytes); break;
	default: finish(r, VIRTIO_BLK_S_UNSUPP); break;
	}
}

static void blk_kick(struct virtio_dev *dev, unsigned queue)
{
	struct blk *blk = to_blk(dev);
	do {
		for (;;) {
			if (!virtio_may(dev, queue))
				return;
			if (!virtio_fetch(dev, queue, &idle(blk)->chain))
				break;
			struct request *r = blk->free;
			blk->free = r->next_free;
			r->queue = queue;
			serve(r);
		}
	} while (virtio_more(dev, queue));
}

static void blk_reset(struct virtio_dev *dev)
{
	struct blk *blk = to_blk(dev);
	if (blk->dev.in_flight == 0) {
		virtio_reset_done(dev);
		return;
	}
	for (unsigned i = 0; i < blk->touched; i++) {
		if (blk->requests[i].in_flight)
			loop_cancel(dev->env.loop, &blk->requests[i].op);
	}
}

/* own[0] is the file's size, in bytes. */
static void blk_save(const struct virtio_dev *dev, struct virtio_state *state)
{
	state->own[0] = ((const struct blk *)dev)->bytes;
}

static int blk_restore(struct virtio_dev *dev, const struct virtio_state *state, struct err *err)
{
	const struct blk *blk = to_blk(dev);
	if (state->own[0] == blk->bytes)
		return 0;
	return err_set(err, EINVAL, "the disk has %llu bytes, and had %llu when the snapshot was made",
	        (unsigned long long)blk->bytes, (unsigned long long)state->own[0]);
}

static void blk_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	struct virtio_blk_config config = to_blk(dev)->config;
	config.capacity = __atomic_load_n(&to_blk(dev)->sectors, __ATOMIC_RELAXED);
	memcpy(data, (const uint8_t *)&config + offset, len);
}

static void blk_destroy(struct virtio_dev *dev)
{
	struct blk *blk = to_blk(dev);
	if (blk->buffered_fd >= 0 && blk->buffered_fd != blk->fd)
		close(blk->buffered_fd);
	if (blk->fd >= 0)
		close(blk->fd);
	free(blk->requests);
	free(blk);
}

static const struct virtio_type blk_type = {
        .name = "blk",
        .id = VIRTIO_ID_BLOCK,
        .queue_size_max = QUEUE_SIZE,
        .config_size = CONFIG_SIZE,
        .multiqueue = 1ull << VIRTIO_BLK_F_MQ,
        .first_queues = 1,
        .kick = blk_kick,
        .reset = blk_reset,
        .config_read = blk_config_read,
        .save = blk_save,
        .restore = blk_restore,
        .destroy = blk_destroy,
};

static int find_size(struct blk *blk, int fd, struct err *err)
{
	int ret = blk_file_size(fd, &blk->bytes, err);
	if (ret == 0)
		__atomic_store_n(&blk->sectors,
		        (blk->bytes / blk->unit + (blk->bytes % blk->unit != 0)) * (blk->unit / SECTOR),
		        __ATOMIC_RELAXED);
	return ret;
}

int blk_create(struct virtio_dev **dev, const struct virtio_env *env, const struct blk_options *opt, struct err *err)
{
	unsigned queues = opt->queues ? opt->queues : 1;
	struct blk *blk = calloc(1, sizeof(*blk));
	/* One more, to fetch into while the driver has all heads of its queues in flight. */
	struct request *requests = calloc(queues * QUEUE_SIZE + 1, sizeof(*requests));
	if (!blk || !requests) {
		free(blk);
		free(requests);
		return err_set(err, ENOMEM, "out of memory for a disk");
	}
	blk->requests = requests;
	blk->fd = -1; /* the caller's until all is done */
	blk->buffered_fd = -1;
	blk->readonly = opt->readonly;
	blk->sync_ignored = opt->ignore_flushes;
	blk->unit = opt->padded ? BLK_BLOCK_MAX : SECTOR;
	memcpy(blk->id, opt->id, sizeof(blk->id));
	int ret = virtio_init(&blk->dev, &blk_type, env, queues, blk_features(opt, queues), err);
	if (ret == 0)
		ret = find_size(blk, opt->fd, err);
	if (ret == 0 && opt->direct)
		ret = blk->buffered_fd = blk_file_reopen(opt->fd, opt->readonly, err);
	if (ret < 0) {
		virtio_destroy(&blk->dev);
		return ret;
	}
	blk->fd = opt->fd;
	if (blk->buffered_fd < 0)
		blk->buffered_fd = blk->fd;
	blk_fill_config(&blk->config, blk_file_block(blk->fd), blk->dev.queue_count);
	*dev = &blk->dev;
	return 0;
}

int blk_resized(struct virtio_dev *dev, struct err *err)
{
	struct blk *blk = to_blk(dev);
	uint64_t before = blk->sectors;
	int ret = find_size(blk, blk->fd, err);
	if (ret == 0 && blk->sectors != before)
		virtio_config_changed(dev);
	return ret;
}
