/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/state.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>

_Static_assert(sizeof(struct virtq_state) == 32, "no padding: the state goes to a file");
_Static_assert(sizeof(struct virtio_state) == 72 + VIRTIO_QUEUES_MAX * 32, "no padding: the state goes to a file");

#define STATUS_BITS                                                                         \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK | \
	        VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)

bool virtio_busy(const struct virtio_dev *dev)
{
	return dev->reset_call || dev->in_flight > 0;
}

void virtio_save(struct virtio_mmio *mmio, struct virtio_state *state)
{
	struct virtio_dev *dev = mmio->dev;
	assert(!virtio_busy(dev));
	virtio_show_all(dev);
	*state = (struct virtio_state){
	        .id = dev->type->id,
	        .queue_count = dev->queue_count,
	        .driver_features = mmio->driver_features,
	        .negotiated = dev->negotiated,
	        .device_features_sel = mmio->device_features_sel,
	        .driver_features_sel = mmio->driver_features_sel,
	        .queue_sel = mmio->queue_sel,
	        .status = __atomic_load_n(&dev->status, __ATOMIC_SEQ_CST),
	        .interrupt_status = __atomic_load_n(&dev->interrupt_status, __ATOMIC_SEQ_CST),
	        .config_generation = __atomic_load_n(&dev->config_generation, __ATOMIC_SEQ_CST),
	        .active = dev->active,
	        .started = dev->started,
	};
	for (unsigned i = 0; i < dev->queue_count; i++)
		state->queue[i] = dev->queue[i].vq.state;
	if (dev->type->save)
		dev->type->save(dev, state);
}

/* From FEATURES_OK on, what the driver chose of the offer; nothing before, nor once the device was stopped. */
static const char *check_features(const struct virtio_dev *dev, const struct virtio_state *s)
{
	bool chosen = s->status & VIRTIO_CONFIG_S_FEATURES_OK;
	bool stopped = s->status & VIRTIO_CONFIG_S_DRIVER_OK && !s->started;
	if (s->negotiated == 0 && (!chosen || stopped))
		return NULL;
	if (!chosen || s->negotiated != s->driver_features)
		return "its features are not those that its driver chose";
	if (s->negotiated & ~dev->features)
		return "its driver uses features that this device does not offer";
	return s->negotiated >> VIRTIO_F_VERSION_1 & 1 ? NULL : "its driver is not one of virtio 1";
}

/* A device runs from DRIVER_OK until it fails or is stopped, which sets NEEDS_RESET. */
static const char *check_status(const struct virtio_state *s)
{
	bool ok = s->status & VIRTIO_CONFIG_S_DRIVER_OK, failed = s->status & VIRTIO_CONFIG_S_NEEDS_RESET;
	if (s->status & ~(uint32_t)STATUS_BITS || s->active > 1 || s->started > 1 ||
	        s->interrupt_status & ~(uint32_t)(VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG))
		return "its status has unknown bits";
	if ((ok && !(s->status & VIRTIO_CONFIG_S_FEATURES_OK)) || (s->started && !ok) ||
	        (!s->started && ok && !failed) || s->active != (s->started && !failed))
		return "its status contradicts itself";
	return NULL;
}

static const char *check(const struct virtio_dev *dev, const struct virtio_state *s)
{
	if (s->id != dev->type->id)
		return "it is a device of another type";
	if (s->queue_count != dev->queue_count)
		return "it has another number of queues";
	const char *why = check_status(s);
	if (!why)
		why = check_features(dev, s);
	for (unsigned i = 0; i < dev->queue_count && !why; i++) {
		if (s->queue[i].ready > (i < virtio_queues(dev, s->negotiated)))
			why = "a queue is ready that its driver does not have";
	}
	return why;
}

/* NULL, or why a queue cannot run. */
static const char *start_queues(struct virtio_dev *dev)
{
	for (unsigned i = 0; i < dev->queue_count; i++) {
		struct virtq *vq = &dev->queue[i].vq;
		if (vq->state.ready && virtq_start(vq, dev->env.gmem, dev->type->queue_size_max, dev->negotiated) < 0)
			return vq->broken;
	}
	return NULL;
}

int virtio_restore(struct virtio_mmio *mmio, const struct virtio_state *state, struct err *err)
{
	struct virtio_dev *dev = mmio->dev;
	assert(!dev->started && dev->status == 0);
	const char *why = check(dev, state);
	if (!why && dev->type->restore) {
		int ret = dev->type->restore(dev, state, err);
		if (ret < 0)
			return ret;
	}
	if (!why) {
		dev->negotiated = state->negotiated;
		for (unsigned i = 0; i < dev->queue_count; i++)
			dev->queue[i].vq.state = state->queue[i];
		why = state->active ? start_queues(dev) : NULL;
	}
	if (why)
		return err_set(err, EINVAL, "cannot restore the %s device of the snapshot: %s", dev->type->name, why);
	mmio->driver_features = state->driver_features;
	mmio->device_features_sel = state->device_features_sel;
	mmio->driver_features_sel = state->driver_features_sel;
	mmio->queue_sel = state->queue_sel;
	__atomic_store_n(&dev->status, state->status, __ATOMIC_SEQ_CST);
	__atomic_store_n(&dev->interrupt_status, state->interrupt_status, __ATOMIC_SEQ_CST);
	__atomic_store_n(&dev->config_generation, state->config_generation, __ATOMIC_SEQ_CST);
	dev->started = state->started;
	dev->active = state->active;
	return 0;
}

bool virtio_has_more(const struct virtio_dev *dev)
{
	return dev->type->save_more;
}

int virtio_save_more(struct virtio_dev *dev, void **data, size_t *size, struct err *err)
{
	*data = NULL;
	*size = 0;
	return virtio_has_more(dev) ? dev->type->save_more(dev, data, size, err) : 0;
}

int virtio_restore_more(struct virtio_dev *dev, const void *data, size_t size, struct err *err)
{
	return dev->type->restore_more(dev, data, size, err);
}
