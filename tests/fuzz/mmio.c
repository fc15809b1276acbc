/* SPDX-License-Identifier: Apache-2.0 */
/* The registers, over a device of four queues and an odd config space that returns every chain. */
#include "tests/fuzz/device.h"

#define CONFIG_SIZE 13u

struct echo {
	struct virtio_dev dev;
	uint8_t config[CONFIG_SIZE];
};

static void echo_kick(struct virtio_dev *dev, unsigned queue)
{
	struct virtq_chain chain;
	do {
		while (virtio_fetch(dev, queue, &chain)) {
			for (unsigned i = 0; i < chain.readable + chain.writable; i++)
				touch(chain.iov[i].iov_base, chain.iov[i].iov_len);
			virtio_complete(dev, queue, chain.head, chain.writable_bytes);
		}
	} while (virtio_more(dev, queue));
}

static void echo_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	MUST(offset <= CONFIG_SIZE && len <= CONFIG_SIZE - offset);
	memcpy(data, ((struct echo *)dev)->config + offset, len);
}

static void echo_write(struct virtio_dev *dev, uint32_t offset, const void *data, unsigned len)
{
	MUST(offset <= CONFIG_SIZE && len <= CONFIG_SIZE - offset);
	memcpy(((struct echo *)dev)->config + offset, data, len);
}

static void echo_destroy(struct virtio_dev *dev)
{
	free(dev);
}

static const struct virtio_type echo_type = {
        .name = "echo",
        .id = 42,
        .queue_size_max = VIRTQ_SIZE_MAX,
        .config_size = CONFIG_SIZE,
        .kick = echo_kick,
        .reset = virtio_reset_done,
        .config_read = echo_read,
        .config_write = echo_write,
        .destroy = echo_destroy,
};

/* Around the ends of the config space, in any width. */
static void config(struct machine *m, struct input *in)
{
	uint8_t bytes[8] = {0};
	uint64_t offset = VIRTIO_MMIO_CONFIG + in8(in) % (CONFIG_SIZE + 4);
	unsigned len = in8(in) % 8 + 1u;
	virtio_mmio_write(&m->mmio, offset, bytes, len);
	virtio_mmio_read(&m->mmio, offset, bytes, len);
}

/* Any register by its number, with a small or a large value. */
static void registers(struct machine *m, struct input *in)
{
	uint8_t which = in8(in);
	if (which == 1) {
		config(m, in);
		return;
	}
	uint32_t value = which & 128 ? in32(in) : in8(in);
	reg(m, (which & 127) * 4u, value);
	virtio_mmio_read(&m->mmio, (which & 127) * 4u, &value, sizeof(value));
	if (which == 0)
		virtio_config_changed(m->dev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct machine m;
	machine_open(&m);
	struct echo *echo = calloc(1, sizeof(*echo));
	MUST(echo && virtio_init(&echo->dev, &echo_type, &m.env, 4, 0xff, &err) == 0);
	m.dev = &echo->dev;
	machine_run(&m, &in, registers);
	return 0;
}
