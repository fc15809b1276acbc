/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/balloon.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

/*
 * A driver has the first two queues whatever it negotiates, and the reporting queue behind those of features that this
 * device does not offer. Section 5.5.2 counts these, which makes it the fifth; Linux does not, and for it the queue is
 * the third. So every queue behind the first two is the reporting queue.
 */
enum { INFLATEQ, DEFLATEQ, FIRST_REPORTINGQ, QUEUES = 5 };

/*
 * Reported bytes after which other devices get their turn. A chain is never cut: Linux reports 128 MiB in one, and the
 * longest chain has less than 4 GiB.
 */
#define REPORT_ROUND (64u << 20)

static void report(struct virtio_dev *dev, unsigned queue)
{
	struct virtq_chain chain;
	uint64_t share = REPORT_ROUND;
	do {
		while (virtio_fetch(dev, queue, &chain)) {
			for (unsigned i = 0; i < chain.writable; i++)
				gmem_discard(
				        chain.iov[chain.readable + i].iov_base, chain.iov[chain.readable + i].iov_len);
			/* Written by nobody: what the pages hold from now on is undefined, as after section 5.5.6.7. */
			virtio_complete(dev, queue, chain.head, 0);
			if (chain.writable_bytes >= share) {
				virtio_kick_again(dev, queue);
				return;
			}
			share -= chain.writable_bytes;
		}
	} while (virtio_more(dev, queue));
}

/* The host wants no pages, so a driver that gives or takes some is answered and keeps them. */
static void answer(struct virtio_dev *dev, unsigned queue)
{
	struct virtq_chain chain;
	do {
		while (virtio_fetch(dev, queue, &chain))
			virtio_complete(dev, queue, chain.head, 0);
	} while (virtio_more(dev, queue));
}

static void balloon_kick(struct virtio_dev *dev, unsigned queue)
{
	if (queue < FIRST_REPORTINGQ)
		answer(dev, queue);
	else if (virtio_has(dev, VIRTIO_BALLOON_F_REPORTING))
		report(dev, queue);
}

static void balloon_reset(struct virtio_dev *dev)
{
	virtio_reset_done(dev); /* nothing is ever in flight */
}

/* The wanted size of the balloon and the driver's account of it, both 0. */
static void balloon_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	(void)dev;
	(void)offset;
	memset(data, 0, len);
}

static void balloon_destroy(struct virtio_dev *dev)
{
	free(dev);
}

static const struct virtio_type balloon_type = {
        .name = "balloon",
        .id = VIRTIO_ID_BALLOON,
        .queue_size_max = VIRTQ_SIZE_MAX,
        .config_size = offsetof(struct virtio_balloon_config, free_page_hint_cmd_id),
        .kick = balloon_kick,
        .reset = balloon_reset,
        .config_read = balloon_config_read,
        .destroy = balloon_destroy,
};

int balloon_create(struct virtio_dev **out, const struct virtio_env *env, struct err *err)
{
	struct virtio_dev *dev = calloc(1, sizeof(*dev));
	if (!dev)
		return err_set(err, ENOMEM, "out of memory for the balloon");
	/*
	 * Without PAGE_POISON: a guest that relies on the contents of free pages, with init_on_free for example, then
	 * does not report any.
	 */
	int ret = virtio_init(dev, &balloon_type, env, QUEUES, 1ull << VIRTIO_BALLOON_F_REPORTING, err);
	if (ret < 0) {
		virtio_destroy(dev);
		return ret;
	}
	*out = dev;
	return 0;
}
