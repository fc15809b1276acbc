/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/console.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/limit.h"
#include "virtio/state.h"

enum { RECEIVEQ, TRANSMITQ, QUEUES };

/*
 * Output is passed on in pieces of this size, through a buffer of the device, and at most OUTPUT_ROUND bytes in a round
 * of the loop. A guest that prints more waits, so that other devices get their turn.
 */
#define PIECE 4096u
#define OUTPUT_ROUND 65536u

struct console {
	struct virtio_dev dev;
	void (*output)(void *context, const void *data, size_t len);
	void *context;
	bool printing;     /* `out` is held */
	uint32_t out_done; /* bytes of it that are printed; otherwise, of the next, before a snapshot */
	struct virtq_chain out;
};

static struct console *to_console(struct virtio_dev *dev)
{
	return (struct console *)dev;
}

/* Prints from the chain at hand. False if the round's share, or the device's rate, is used up before the chain is. */
static bool print(struct console *con, size_t *share)
{
	uint8_t piece[PIECE];
	while (con->out_done < con->out.readable_bytes) {
		size_t len = *share < PIECE ? *share : PIECE;
		if (len == 0 || !virtio_may(&con->dev, TRANSMITQ))
			return false;
		len = guest_load_iov(piece, con->out.iov, con->out.readable, con->out_done, len);
		con->output(con->context, piece, len);
		con->out_done += (uint32_t)len;
		con->dev.from_guest.bytes += len;
		virtio_take(&con->dev, len, 0);
		*share -= len;
	}
	con->printing = false;
	con->out_done = 0;
	con->dev.from_guest.operations++;
	virtio_take(&con->dev, 0, 1);
	virtio_complete(&con->dev, TRANSMITQ, con->out.head, 0);
	return true;
}

static void transmit(struct console *con)
{
	size_t share = OUTPUT_ROUND;
	do {
		while (con->printing || virtio_fetch(&con->dev, TRANSMITQ, &con->out)) {
			con->printing = true;
			if (!print(con, &share)) {
				if (share == 0)
					virtio_kick_again(&con->dev, TRANSMITQ);
				return;
			}
		}
	} while (virtio_more(&con->dev, TRANSMITQ));
}

/* The receive queue's buffers stay with the device: nothing is ever typed on this console. */
static void console_kick(struct virtio_dev *dev, unsigned queue)
{
	if (queue == TRANSMITQ)
		transmit(to_console(dev));
}

static void console_reset(struct virtio_dev *dev)
{
	to_console(dev)->printing = false;
	to_console(dev)->out_done = 0;
	virtio_reset_done(dev); /* nothing is ever in flight */
}

/*
 * A chain of which a part is printed, which may be a large one, goes back: own[0] is the number of its bytes that the
 * new device does not print again.
 */
static void console_save(const struct virtio_dev *dev, struct virtio_state *state)
{
	const struct console *con = (const struct console *)dev;
	state->own[0] = con->out_done;
	if (con->printing && dev->active)
		state->queue[TRANSMITQ].avail_next--;
}

static int console_restore(struct virtio_dev *dev, const struct virtio_state *state, struct err *err)
{
	if (state->own[0] > UINT32_MAX)
		return err_set(
		        err, EINVAL, "cannot restore the console device of the snapshot: a chain of 4 GiB or more");
	to_console(dev)->out_done = (uint32_t)state->own[0];
	return 0;
}

static void console_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	static const struct virtio_console_config config = {.max_nr_ports = 1};
	(void)dev;
	memcpy(data, (const uint8_t *)&config + offset, len);
}

/* emerg_wr takes a character at any time, even before the driver has set up the device: section 5.3.5.1. */
static void console_config_write(struct virtio_dev *dev, uint32_t offset, const void *data, unsigned len)
{
	(void)len;
	if (offset == offsetof(struct virtio_console_config, emerg_wr))
		to_console(dev)->output(to_console(dev)->context, data, 1);
}

static void console_destroy(struct virtio_dev *dev)
{
	free(to_console(dev));
}

static const struct virtio_type console_type = {
        .name = "console",
        .id = VIRTIO_ID_CONSOLE,
        .queue_size_max = VIRTQ_SIZE_MAX,
        .config_size = sizeof(struct virtio_console_config),
        .kick = console_kick,
        .reset = console_reset,
        .config_read = console_config_read,
        .config_write = console_config_write,
        .save = console_save,
        .restore = console_restore,
        .destroy = console_destroy,
};

int console_create(
        struct virtio_dev **dev, const struct virtio_env *env, const struct console_options *opt, struct err *err)
{
	struct console *con = calloc(1, sizeof(*con));
	if (!con)
		return err_set(err, ENOMEM, "out of memory for the console");
	con->output = opt->output;
	con->context = opt->context;
	int ret = virtio_init(&con->dev, &console_type, env, QUEUES, 1ull << VIRTIO_CONSOLE_F_EMERG_WRITE, err);
	if (ret < 0) {
		virtio_destroy(&con->dev);
		return ret;
	}
	*dev = &con->dev;
	return 0;
}
