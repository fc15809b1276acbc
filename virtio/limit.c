/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/limit.h"

#include "vmm/shared/container_of.h"

/* A queue may take all that there is, so those that wait come first in turn. */
static void on_time(struct loop_op *op, int res, uint32_t flags)
{
	struct virtio_dev *dev = container_of(op, struct virtio_dev, limit.op);
	struct virtio_limit *limit = &dev->limit;
	unsigned waiting = limit->waiting, count = dev->queue_count;
	(void)res, (void)flags;
	limit->armed = false;
	limit->waiting = 0;
	do
		limit->first = (limit->first + 1) % count;
	while (!(waiting >> limit->first & 1));
	for (unsigned i = limit->first; i < limit->first + count; i++) {
		if (waiting >> i % count & 1)
			virtio_kick(&dev->queue[i % count]);
	}
}

bool virtio_ask(struct virtio_dev *dev, unsigned queue)
{
	struct virtio_limit *limit = &dev->limit;
	uint64_t now_ns = loop_now_ns();
	uint64_t bytes_ns = bucket_wait_ns(&limit->bytes, now_ns), wait_ns = bucket_wait_ns(&limit->operations, now_ns);
	if (bytes_ns > wait_ns)
		wait_ns = bytes_ns;
	if (wait_ns == 0)
		return true;
	limit->waiting |= 1u << queue;
	if (!limit->armed) {
		struct io_uring_sqe *sqe = loop_sqe(dev->env.loop);
		limit->time = (struct __kernel_timespec){
		        .tv_sec = (long long)(wait_ns / 1000000000), .tv_nsec = (long long)(wait_ns % 1000000000)};
		io_uring_prep_timeout(sqe, &limit->time, 0, 0);
		limit->op.done = on_time;
		limit->armed = true;
		loop_start(dev->env.loop, sqe, &limit->op);
	}
	return false;
}

void virtio_take(struct virtio_dev *dev, uint64_t bytes, uint64_t operations)
{
	if (!virtio_is_limited(dev))
		return;
	uint64_t now_ns = loop_now_ns();
	bucket_take(&dev->limit.bytes, now_ns, bytes);
	bucket_take(&dev->limit.operations, now_ns, operations);
}

void virtio_moved(struct virtio_dev *dev, struct virtio_count *direction, uint64_t bytes)
{
	virtio_count(direction, bytes);
	virtio_take(dev, bytes, 1);
}
