/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that starts from a saved state: a good one of which the script changes any bytes, over memory that it has
 * written. Whatever the device and its driver then do, what is saved at the end can be restored.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/device.h"
#include "virtio/blk.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/state.h"
#include "virtio/vsock.h"

#define DISK_BYTES (16u << 10)
#define QUEUES 3u
#define PATCHES_MAX 32u

static void output(void *context, const void *data, size_t len)
{
	(void)context;
	touch(data, len);
}

static void create(struct machine *m, unsigned kind, int file)
{
	struct err err = {0};
	int ret;
	if (kind == 0) {
		struct blk_options options = {.fd = dup(file), .queues = QUEUES};
		ret = blk_create(&m->dev, &m->env, &options, &err);
	} else if (kind == 1) {
		ret = console_create(&m->dev, &m->env, &(struct console_options){.output = output}, &err);
	} else if (kind == 3) {
		ret = balloon_create(&m->dev, &m->env, &err);
	} else if (kind == 4 || kind == 5) {
		struct net_options options = {.pairs = kind == 5 ? NET_PAIRS_MAX : 1, .stream = kind == 4, .mtu = 1500};
		for (unsigned i = 0; i < options.pairs; i++) {
			int pair[2];
			MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
			close(pair[1]);
			options.fd[i] = pair[0];
		}
		ret = net_create(&m->dev, &m->env, &options, &err);
	} else {
		char path[64];
		snprintf(path, sizeof(path), "/tmp/wisp-fuzz-%d", getpid());
		ret = vsock_create(&m->dev, &m->env, &(struct vsock_options){.cid = 3, .socket_path = path}, &err);
	}
	MUST(ret == 0);
	virtio_mmio_init(&m->mmio, m->dev);
}

static void destroy(struct machine *m)
{
	virtio_destroy(m->dev);
	virtio_mmio_destroy(&m->mmio);
}

/* As after set_up. */
static void fill_state(const struct machine *m, unsigned kind, struct virtio_state *state)
{
	*state = (struct virtio_state){.id = m->dev->type->id,
	        .queue_count = m->dev->queue_count,
	        .driver_features = m->dev->features,
	        .negotiated = m->dev->features,
	        .status = 0xf,
	        .active = 1,
	        .started = 1,
	        .own = {kind == 0   ? DISK_BYTES
	                : kind >= 4 ? 1500ull << 48
	                            : 0,
	                kind == 5 ? NET_PAIRS_MAX - 1 : 0}};
	for (unsigned q = 0; q < m->dev->queue_count; q++)
		state->queue[q] = (struct virtq_state){RING(q), AVAIL(q), USED(q), RING_SIZE, 1, 0, 0};
}

static void change_state(struct virtio_state *state, struct input *in)
{
	for (unsigned i = in8(in) % PATCHES_MAX; i > 0; i--) {
		size_t at = in16(in) % sizeof(*state);
		((uint8_t *)state)[at] = in8(in);
	}
}

/* Chains that are there already, and anything else. */
static void write_memory(struct machine *m, struct input *in)
{
	for (unsigned i = in8(in) % 16; i > 0; i--) {
		if (in8(in) & 1)
			act_write(m, in, 0);
		else
			act_chain(m, in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct machine m;
	struct virtio_state state;
	uint8_t choice = in8(&in);
	/* The first devices of the corpus stay. */
	unsigned kind = choice >= 0xfd ? 3u + (0xff - choice) : choice % 3;
	int file = memfd_create("disk", MFD_CLOEXEC);
	MUST(file >= 0 && ftruncate(file, DISK_BYTES) == 0);
	machine_open(&m);
	create(&m, kind, file);
	fill_state(&m, kind, &state);
	change_state(&state, &in);
	write_memory(&m, &in);
	if (virtio_restore(&m.mmio, &state, &err) == 0) {
		virtio_resume(m.dev);
		machine_act(&m, &in, act_step);
		while (virtio_busy(m.dev))
			MUST(loop_step(m.env.loop, -1) >= 0);
		virtio_save(&m.mmio, &state);
		destroy(&m);
		create(&m, kind, file);
		MUST(virtio_restore(&m.mmio, &state, &err) == 0);
	} else {
		MUST(err.text[0] != '\0');
	}
	destroy(&m);
	ram_destroy(&m.gmem);
	close(file);
	return 0;
}
