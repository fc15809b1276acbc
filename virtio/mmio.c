/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/mmio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x74726976u  /* "virt" */
#define VENDOR 0x70736977u /* "wisp" */
#define VERSION 2u
#define NO_SHM 0xffffffffu /* a length and an address of -1: there is no such region */

_Static_assert(VIRTIO_MMIO_KICK_OFFSET == VIRTIO_MMIO_QUEUE_NOTIFY, "the register of the kicks");

void virtio_mmio_init(struct virtio_mmio *mmio, struct virtio_dev *dev)
{
	*mmio = (struct virtio_mmio){.dev = dev};
	pthread_mutex_init(&mmio->lock, NULL);
}

void virtio_mmio_destroy(struct virtio_mmio *mmio)
{
	pthread_mutex_destroy(&mmio->lock);
}

static uint32_t status(const struct virtio_dev *dev)
{
	return __atomic_load_n(&dev->status, __ATOMIC_SEQ_CST);
}

/* The state of the selected queue; NULL if there is no such queue. */
static struct virtq_state *selected(struct virtio_mmio *mmio)
{
	struct virtio_dev *dev = mmio->dev;
	return mmio->queue_sel < virtio_queues(dev, dev->negotiated) ? &dev->queue[mmio->queue_sel].vq.state : NULL;
}

static uint32_t read_register(struct virtio_mmio *mmio, uint64_t offset)
{
	const struct virtio_dev *dev = mmio->dev;
	const struct virtq_state *queue = selected(mmio);
	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE: return MAGIC;
	case VIRTIO_MMIO_VERSION: return VERSION;
	case VIRTIO_MMIO_DEVICE_ID: return dev->type->id;
	case VIRTIO_MMIO_VENDOR_ID: return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return mmio->device_features_sel < 2 ? (uint32_t)(dev->features >> 32 * mmio->device_features_sel) : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX: return queue ? dev->type->queue_size_max : 0;
	case VIRTIO_MMIO_QUEUE_READY: return queue ? queue->ready : 0;
	case VIRTIO_MMIO_STATUS: return status(dev);
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH: return NO_SHM;
	case VIRTIO_MMIO_CONFIG_GENERATION: return __atomic_load_n(&dev->config_generation, __ATOMIC_SEQ_CST);
	default: return 0; /* write-only, or nothing */
	}
}

/* Whether an access to the config space lies in it. */
static bool in_config(const struct virtio_dev *dev, uint64_t offset, unsigned len)
{
	return (len == 1 || len == 2 || len == 4 || len == 8) && len <= dev->type->config_size &&
	       offset - VIRTIO_MMIO_CONFIG <= dev->type->config_size - len;
}

void virtio_mmio_read(struct virtio_mmio *mmio, uint64_t offset, void *data, unsigned len)
{
	struct virtio_dev *dev = mmio->dev;
	memset(data, 0, len);
	if (offset >= VIRTIO_MMIO_CONFIG) {
		if (!in_config(dev, offset, len))
			return;
		pthread_mutex_lock(&mmio->lock);
		dev->type->config_read(dev, (uint32_t)(offset - VIRTIO_MMIO_CONFIG), data, len);
		pthread_mutex_unlock(&mmio->lock);
		return;
	}
	if (len != 4 || offset % 4 != 0)
		return; /* section 4.2.2.2: registers are accessed as a whole */
	uint32_t value;
	if (offset == VIRTIO_MMIO_INTERRUPT_STATUS) {
		value = __atomic_load_n(&dev->interrupt_status, __ATOMIC_SEQ_CST);
	} else {
		pthread_mutex_lock(&mmio->lock);
		value = read_register(mmio, offset);
		pthread_mutex_unlock(&mmio->lock);
	}
	memcpy(data, &value, sizeof(value));
}

static void reset(struct virtio_mmio *mmio)
{
	struct virtio_dev *dev = mmio->dev;
	virtio_reset(dev);
	mmio->device_features_sel = mmio->driver_features_sel = mmio->queue_sel = 0;
	mmio->driver_features = 0;
	__atomic_store_n(&dev->status, 0, __ATOMIC_SEQ_CST); /* reads as 0 once nothing is in flight */
}

static void write_status(struct virtio_mmio *mmio, uint32_t value)
{
	struct virtio_dev *dev = mmio->dev;
	if (value == 0) {
		reset(mmio);
		return;
	}
	/* The driver only adds bits (section 2.1.1); only the device sets NEEDS_RESET. */
	uint32_t old = status(dev);
	uint32_t added = value & ~old &
	                 (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
	                         VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED);
	if (added & VIRTIO_CONFIG_S_FEATURES_OK) {
		if ((mmio->driver_features & ~dev->features) == 0 && mmio->driver_features >> VIRTIO_F_VERSION_1 & 1)
			dev->negotiated = mmio->driver_features;
		else
			added &= ~(uint32_t)VIRTIO_CONFIG_S_FEATURES_OK; /* section 2.2.2 */
	}
	/* A device starts only after the features are settled, and not after a failure. */
	if (!((old | added) & VIRTIO_CONFIG_S_FEATURES_OK) ||
	        (old & (VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)))
		added &= ~(uint32_t)VIRTIO_CONFIG_S_DRIVER_OK;
	__atomic_or_fetch(&dev->status, added, __ATOMIC_SEQ_CST);
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_activate(dev);
}

static void write_features(struct virtio_mmio *mmio, uint32_t value)
{
	if (status(mmio->dev) & VIRTIO_CONFIG_S_FEATURES_OK)
		return; /* section 3.1.1: the features are final */
	unsigned shift = 32 * (mmio->driver_features_sel & 1);
	if (mmio->driver_features_sel < 2)
		mmio->driver_features = (mmio->driver_features & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
	else if (value != 0)
		mmio->driver_features |= 1ull << 63; /* never offered: FEATURES_OK will be refused */
}

/*
 * A stopped queue must not be accessed. Queues cannot be stopped one by one here (RING_RESET is not offered), so the
 * whole device stops and asks for a reset.
 */
static void write_ready(struct virtio_mmio *mmio, struct virtq_state *queue, uint32_t value)
{
	if (!(status(mmio->dev) & VIRTIO_CONFIG_S_DRIVER_OK)) {
		queue->ready = value == 1;
	} else if (value == 0 && queue->ready) {
		virtio_reset(mmio->dev);
		virtio_needs_reset(mmio->dev, "a queue was stopped while the device runs");
	}
}

static void set_low(uint64_t *addr, uint32_t value)
{
	*addr = (*addr & ~0xffffffffull) | value;
}

static void set_high(uint64_t *addr, uint32_t value)
{
	*addr = (*addr & 0xffffffffull) | (uint64_t)value << 32;
}

static void write_queue(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtq_state *queue = selected(mmio);
	if (!queue)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_READY) {
		write_ready(mmio, queue, value);
		return;
	}
	/* A queue does not change once it is ready, nor while the loop's thread uses it: section 4.2.2.2. */
	if (queue->ready || status(mmio->dev) & VIRTIO_CONFIG_S_DRIVER_OK)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM: queue->size = value <= UINT16_MAX ? (uint16_t)value : 0; break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW: set_low(&queue->desc, value); break;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH: set_high(&queue->desc, value); break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW: set_low(&queue->avail, value); break;
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH: set_high(&queue->avail, value); break;
	case VIRTIO_MMIO_QUEUE_USED_LOW: set_low(&queue->used, value); break;
	case VIRTIO_MMIO_QUEUE_USED_HIGH: set_high(&queue->used, value); break;
	default: break; /* read-only, or nothing */
	}
}

static void write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL: mmio->device_features_sel = value; break;
	case VIRTIO_MMIO_DRIVER_FEATURES: write_features(mmio, value); break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL: mmio->driver_features_sel = value; break;
	case VIRTIO_MMIO_QUEUE_SEL: mmio->queue_sel = value; break;
	case VIRTIO_MMIO_STATUS: write_status(mmio, value); break;
	default: write_queue(mmio, offset, value); break;
	}
}

/* For kicks that no ioeventfd took. A kick of a queue that is not in use has no effect: see kick() in device.c. */
static void notify(struct virtio_dev *dev, uint32_t queue)
{
	uint64_t one = 1;
	if (queue >= dev->queue_count)
		return;
	ssize_t n = write(dev->queue[queue].kick_fd, &one, sizeof(one));
	(void)n;
}

void virtio_mmio_write(struct virtio_mmio *mmio, uint64_t offset, const void *data, unsigned len)
{
	struct virtio_dev *dev = mmio->dev;
	if (offset >= VIRTIO_MMIO_CONFIG) {
		if (!in_config(dev, offset, len) || !dev->type->config_write)
			return;
		pthread_mutex_lock(&mmio->lock);
		dev->type->config_write(dev, (uint32_t)(offset - VIRTIO_MMIO_CONFIG), data, len);
		pthread_mutex_unlock(&mmio->lock);
		return;
	}
	if (len != 4 || offset % 4 != 0)
		return;
	uint32_t value;
	memcpy(&value, data, sizeof(value));
	switch (offset) {
	case VIRTIO_MMIO_INTERRUPT_ACK: __atomic_and_fetch(&dev->interrupt_status, ~value, __ATOMIC_SEQ_CST); break;
	case VIRTIO_MMIO_QUEUE_NOTIFY: notify(dev, value); break;
	default:
		pthread_mutex_lock(&mmio->lock);
		write_register(mmio, offset, value);
		pthread_mutex_unlock(&mmio->lock);
		break;
	}
}
