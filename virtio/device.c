/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/device.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/shared/container_of.h"

#define RING_FEATURES \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX)

/* Sets the event in the status before it raises the interrupt: section 4.2.2.1. */
static void interrupt(struct virtio_dev *dev, uint32_t event)
{
	uint64_t one = 1;
	__atomic_or_fetch(&dev->interrupt_status, event, __ATOMIC_SEQ_CST);
	ssize_t n = write(dev->irq_fd, &one, sizeof(one));
	(void)n; /* EAGAIN: the eventfd is at its maximum, so the interrupt is pending */
}

void virtio_interrupt_again(struct virtio_dev *dev)
{
	if (__atomic_load_n(&dev->interrupt_status, __ATOMIC_SEQ_CST) != 0)
		interrupt(dev, 0);
}

void virtio_kick(struct virtio_queue *q)
{
	struct virtio_dev *dev = q->dev;
	if (!dev->active || !q->vq.running)
		return;
	q->budget = q->vq.state.size;
	virtq_notify_off(&q->vq);
	dev->type->kick(dev, (unsigned)(q - dev->queue));
}

static void kicked(struct loop_op *op, int res, uint32_t flags);

static void arm_kick(struct virtio_queue *q)
{
	struct io_uring_sqe *sqe = loop_sqe(q->dev->env.loop);
	io_uring_prep_read(sqe, q->kick_fd, &q->kick_count, sizeof(q->kick_count), 0);
	q->kick_op.done = kicked;
	q->armed = true;
	loop_start(q->dev->env.loop, sqe, &q->kick_op);
}

static void kicked(struct loop_op *op, int res, uint32_t flags)
{
	(void)flags;
	struct virtio_queue *q = container_of(op, struct virtio_queue, kick_op);
	q->armed = false;
	if (q->dev->destroying)
		return;
	if (res < 0 && res != -EINTR && res != -EAGAIN) {
		virtio_fail(q->dev, "the eventfd of its kicks cannot be read");
		return;
	}
	arm_kick(q); /* before looking at the queue: a kick from here on completes the new read */
	virtio_kick(q);
}

/* Shows all completions. True if the driver wants an interrupt for any of them, including quiet ones. */
static bool publish_all(struct virtio_dev *dev)
{
	bool any = false;
	for (unsigned i = 0; i < dev->queue_count; i++) {
		struct virtio_queue *q = &dev->queue[i];
		q->pushed = false;
		q->quiet = 0;
		bool wanted = virtq_publish(&q->vq);
		q->awaited &= !wanted;
		any |= wanted;
	}
	return any;
}

/* With `all`, the driver gets its interrupt for quiet completions too. Interrupts if one is wanted, or was before. */
static void show(struct virtio_dev *dev, bool all)
{
	bool wanted = (all && publish_all(dev)) || dev->asked;
	dev->asked = dev->raised = false;
	if (wanted && dev->active)
		interrupt(dev, VIRTIO_MMIO_INT_VRING);
}

void virtio_show_all(struct virtio_dev *dev)
{
	show(dev, true);
}

/* The end of a round of the loop: late kicks, then the driver sees all completions at once. */
static void end_round(struct loop_task *task)
{
	struct virtio_dev *dev = container_of(task, struct virtio_dev, round_task);
	dev->ending_round = true;
	for (unsigned i = 0; i < dev->queue_count; i++) {
		if (!dev->queue[i].again)
			continue;
		dev->queue[i].again = false;
		virtio_kick(&dev->queue[i]);
	}
	dev->ending_round = false;
	bool any = false;
	for (unsigned i = 0; i < dev->queue_count; i++) {
		any |= dev->queue[i].pushed;
		virtq_show(&dev->queue[i].vq);
	}
	show(dev, any);
}

int virtio_init(struct virtio_dev *dev, const struct virtio_type *type, const struct virtio_env *env,
        unsigned queue_count, uint64_t features, struct err *err)
{
	assert(queue_count >= 1 && queue_count <= VIRTIO_QUEUES_MAX && type->queue_size_max <= VIRTQ_SIZE_MAX);
	dev->type = type;
	dev->queue_count = queue_count;
	dev->env = *env;
	dev->features = features | RING_FEATURES;
	dev->round_task.run = end_round;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		dev->queue[i].dev = dev;
		dev->queue[i].kick_fd = -1;
	}
	dev->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bool ok = dev->irq_fd >= 0;
	/* Not EFD_NONBLOCK: io_uring would answer a read of an empty eventfd with EAGAIN instead of waiting. */
	for (unsigned i = 0; i < queue_count && ok; i++)
		ok = (dev->queue[i].kick_fd = eventfd(0, EFD_CLOEXEC)) >= 0;
	if (!ok)
		return err_set(err, errno, "cannot create an eventfd for %s: %s", type->name, strerror(errno));
	return 0;
}

static bool is_idle(const struct virtio_dev *dev)
{
	bool idle = !dev->round_task.queued && !dev->quiet_armed && !dev->limit.armed;
	for (unsigned i = 0; i < dev->queue_count; i++)
		idle &= !dev->queue[i].armed;
	return idle;
}

void virtio_destroy(struct virtio_dev *dev)
{
	if (!dev)
		return;
	dev->destroying = true;
	bool drained = virtio_reset(dev);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		if (dev->queue[i].armed)
			loop_cancel(dev->env.loop, &dev->queue[i].kick_op);
	}
	if (dev->quiet_armed)
		loop_cancel(dev->env.loop, &dev->quiet_op);
	if (dev->limit.armed)
		loop_cancel(dev->env.loop, &dev->limit.op);
	while (drained && !is_idle(dev))
		drained = loop_step(dev->env.loop, -1) >= 0;
	int fds[VIRTIO_QUEUES_MAX + 1] = {dev->irq_fd};
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		fds[i + 1] = dev->queue[i].kick_fd;
	/* A failed ring cannot be drained. The object is then not freed: the kernel may still write to it. */
	if (drained)
		dev->type->destroy(dev);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX + 1; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

static void show_soon(struct virtio_queue *q)
{
	if (!q->dev->ending_round) /* otherwise it is about to be shown */
		loop_defer(q->dev->env.loop, &q->dev->round_task);
}

static void publish_soon(struct virtio_queue *q)
{
	q->pushed = true;
	show_soon(q);
}

void virtio_complete(struct virtio_dev *dev, unsigned queue, uint16_t head, uint32_t written)
{
	if (!dev->active)
		return;
	virtq_push(&dev->queue[queue].vq, head, written);
	publish_soon(&dev->queue[queue]);
}

static void quiet_over(struct loop_op *op, int res, uint32_t flags)
{
	struct virtio_dev *dev = container_of(op, struct virtio_dev, quiet_op);
	(void)res, (void)flags;
	dev->quiet_armed = false;
	for (unsigned i = 0; i < dev->queue_count; i++)
		if (dev->queue[i].quiet)
			publish_soon(&dev->queue[i]);
}

void virtio_complete_quietly(struct virtio_dev *dev, unsigned queue, const struct virtq_chain *chain)
{
	struct virtio_queue *q = &dev->queue[queue];
	if (!dev->active)
		return;
	q->awaited |= virtq_awaits_several(&q->vq);
	if (q->awaited) {
		virtio_complete(dev, queue, chain->head, 0);
		return;
	}
	virtq_push(&q->vq, chain->head, 0);
	show_soon(q);
	q->quiet += chain->readable + chain->writable > 0 ? chain->readable + chain->writable : 1;
	if (q->quiet >= q->vq.state.size / 4) {
		publish_soon(q);
	} else if (!dev->quiet_armed) {
		struct io_uring_sqe *sqe = loop_sqe(dev->env.loop);
		io_uring_prep_timeout(sqe, &dev->quiet_delay, 0, 0);
		dev->quiet_delay = (struct __kernel_timespec){.tv_nsec = VIRTIO_QUIET_MS * 1000000};
		dev->quiet_op.done = quiet_over;
		dev->quiet_armed = true;
		loop_start(dev->env.loop, sqe, &dev->quiet_op);
	}
}

void virtio_show(struct virtio_dev *dev)
{
	if (!dev->active || !publish_all(dev))
		return;
	if (!dev->raised)
		interrupt(dev, VIRTIO_MMIO_INT_VRING);
	else
		dev->asked = true;
	dev->raised = true;
}

void virtio_needs_reset(struct virtio_dev *dev, const char *why)
{
	log_once(dev->env.log, &dev->faults, LOG_WARN, "virtio %s: the guest's driver broke the protocol: %s",
	        dev->type->name, why);
	uint32_t status = __atomic_or_fetch(&dev->status, VIRTIO_CONFIG_S_NEEDS_RESET, __ATOMIC_SEQ_CST);
	if (status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(dev, VIRTIO_MMIO_INT_CONFIG); /* section 2.1.2 */
}

void virtio_fail(struct virtio_dev *dev, const char *why)
{
	if (!dev->active)
		return;
	dev->active = false;
	virtio_needs_reset(dev, why);
}

bool virtio_fetch(struct virtio_dev *dev, unsigned queue, struct virtq_chain *chain)
{
	struct virtio_queue *q = &dev->queue[queue];
	if (!dev->active || q->budget == 0)
		return false;
	int ret = virtq_fetch(&q->vq, chain);
	if (ret < 0)
		virtio_fail(dev, q->vq.broken);
	if (ret > 0)
		q->budget--;
	return ret > 0;
}

void virtio_unfetch(struct virtio_dev *dev, unsigned queue, uint16_t head)
{
	dev->queue[queue].budget++;
	virtq_unfetch(&dev->queue[queue].vq, head);
}

bool virtio_more(struct virtio_dev *dev, unsigned queue)
{
	struct virtio_queue *q = &dev->queue[queue];
	if (!dev->active)
		return false;
	if (q->budget == 0) {
		virtio_kick_again(dev, queue);
		return false;
	}
	bool more = virtq_notify_on(&q->vq);
	if (more)
		virtq_notify_off(&q->vq);
	return more;
}

void virtio_kick_again(struct virtio_dev *dev, unsigned queue)
{
	dev->queue[queue].again = true;
	loop_defer(dev->env.loop, &dev->round_task);
}

void virtio_config_changed(struct virtio_dev *dev)
{
	__atomic_add_fetch(&dev->config_generation, 1, __ATOMIC_SEQ_CST);
	if (dev->active)
		interrupt(dev, VIRTIO_MMIO_INT_CONFIG);
}

struct device_call {
	struct loop_call call;
	struct virtio_dev *dev;
};

/* Serves the queues that run, first of all the chains added before, for which no other kick may come. */
static void serve(struct virtio_dev *dev)
{
	if (!dev->active)
		return;
	for (unsigned i = 0; i < dev->queue_count; i++)
		if (dev->queue[i].vq.running && !dev->queue[i].armed)
			arm_kick(&dev->queue[i]);
	if (dev->type->activate)
		dev->type->activate(dev);
	for (unsigned i = 0; i < dev->queue_count; i++)
		virtio_kick(&dev->queue[i]);
}

void virtio_resume(struct virtio_dev *dev)
{
	serve(dev);
	virtio_interrupt_again(dev);
}

static void activate(struct loop_call *call)
{
	struct virtio_dev *dev = container_of(call, struct device_call, call)->dev;
	dev->started = true;
	dev->active = true;
	for (unsigned i = 0; i < dev->queue_count && dev->active; i++) {
		struct virtq *vq = &dev->queue[i].vq;
		/* A queue that is not ready is not used (section 4.2.2.1). */
		if (!vq->state.ready)
			continue;
		if (virtq_start(vq, dev->env.gmem, dev->type->queue_size_max, dev->negotiated) < 0)
			virtio_fail(dev, vq->broken);
	}
	serve(dev);
	loop_call_finish(dev->env.loop, call);
}

bool virtio_activate(struct virtio_dev *dev)
{
	struct device_call call = {.call.run = activate, .dev = dev};
	return loop_call(dev->env.loop, &call.call);
}

static void forget(struct virtio_dev *dev)
{
	for (unsigned i = 0; i < dev->queue_count; i++)
		virtq_stop(&dev->queue[i].vq);
	dev->negotiated = 0;
	__atomic_store_n(&dev->interrupt_status, 0, __ATOMIC_SEQ_CST);
}

void virtio_reset_done(struct virtio_dev *dev)
{
	struct loop_call *call = dev->reset_call;
	assert(call);
	forget(dev);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		dev->queue[i].pushed = dev->queue[i].again = dev->queue[i].awaited = false;
		dev->queue[i].quiet = 0;
	}
	dev->asked = dev->raised = false;
	dev->reset_call = NULL;
	loop_call_finish(dev->env.loop, call);
}

static void begin_reset(struct loop_call *call)
{
	struct virtio_dev *dev = container_of(call, struct device_call, call)->dev;
	dev->active = dev->started = false;
	dev->reset_call = call;
	dev->type->reset(dev);
}

bool virtio_reset(struct virtio_dev *dev)
{
	/* A driver's first reset: the loop does not access what it clears before the device is started. */
	if (!dev->started) {
		forget(dev);
		return true;
	}
	struct device_call call = {.call.run = begin_reset, .dev = dev};
	return loop_call(dev->env.loop, &call.call);
}
