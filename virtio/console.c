/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/console.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { RECEIVEQ, TRANSMITQ, QUEUES };

/*
 * What the guest prints is handed on in pieces of this size, through a buffer of ours. In one round of the loop it is
 * OUTPUT_ROUND bytes at most; a guest that prints more waits, and everything else of the loop has its turn.
 */
#define PIECE 4096u
#define OUTPUT_ROUND 65536u

_Static_assert((CONSOLE_INPUT_MAX & (CONSOLE_INPUT_MAX - 1)) == 0, "positions count on, modulo 2^32");

struct console {
	struct virtio_dev dev;
	void (*output)(void *context, const void *data, size_t len);
	void (*input_room)(void *context);
	void *context;
	uint32_t size; /* atomic: columns, and rows << 16. vCPUs read it while the loop's thread changes it */
	bool printing; /* `out` is held, and from `out_done` on not printed yet */
	uint32_t out_done;
	struct virtq_chain out;
	struct virtq_chain in;
	uint32_t input_head, input_tail;
	uint8_t input[CONSOLE_INPUT_MAX];
};

static struct console *to_console(struct virtio_dev *dev)
{
	return (struct console *)dev;
}

/* Prints from the chain at hand. False when the round's share is used up before the chain is. */
static bool print(struct console *con, size_t *share)
{
	uint8_t piece[PIECE];
	while (con->out_done < con->out.readable_bytes) {
		size_t len = *share < PIECE ? *share : PIECE;
		if (len == 0)
			return false;
		len = guest_load_iov(piece, con->out.iov, con->out.readable, con->out_done, len);
		con->output(con->context, piece, len);
		con->out_done += (uint32_t)len;
		*share -= len;
	}
	con->printing = false;
	virtio_complete(&con->dev, TRANSMITQ, con->out.head, 0);
	return true;
}

static void transmit(struct console *con)
{
	size_t share = OUTPUT_ROUND;
	do {
		while (con->printing || virtio_fetch(&con->dev, TRANSMITQ, &con->out)) {
			if (!con->printing)
				con->out_done = 0;
			con->printing = true;
			if (!print(con, &share)) {
				virtio_kick_again(&con->dev, TRANSMITQ);
				return;
			}
		}
	} while (virtio_more(&con->dev, TRANSMITQ));
}

/* Input, without a copy of the rest: as much as lies in one piece of the ring at a time. */
static uint32_t fill(struct console *con)
{
	uint32_t done = 0;
	while (con->input_head != con->input_tail) {
		uint32_t at = con->input_head % CONSOLE_INPUT_MAX;
		uint32_t len = con->input_tail - con->input_head;
		if (len > CONSOLE_INPUT_MAX - at)
			len = CONSOLE_INPUT_MAX - at;
		uint32_t put = (uint32_t)guest_store_iov(
		        con->in.iov + con->in.readable, con->in.writable, done, con->input + at, len);
		if (put == 0)
			break;
		con->input_head += put;
		done += put;
	}
	return done;
}

static void receive(struct console *con)
{
	uint32_t before = con->input_head;
	do {
		while (con->input_head != con->input_tail && virtio_fetch(&con->dev, RECEIVEQ, &con->in))
			virtio_complete(&con->dev, RECEIVEQ, con->in.head, fill(con));
		if (con->input_head == con->input_tail)
			break; /* buffers that come now are of no interest */
	} while (virtio_more(&con->dev, RECEIVEQ));
	if (con->input_head != before && con->input_room)
		con->input_room(con->context);
}

static void console_kick(struct virtio_dev *dev, unsigned queue)
{
	if (queue == TRANSMITQ)
		transmit(to_console(dev));
	else
		receive(to_console(dev));
}

static void console_reset(struct virtio_dev *dev)
{
	to_console(dev)->printing = false;
	virtio_reset_done(dev); /* nothing is ever in flight */
}

static void console_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	uint32_t size = __atomic_load_n(&to_console(dev)->size, __ATOMIC_RELAXED);
	struct virtio_console_config config = {
	        .cols = (uint16_t)size, .rows = (uint16_t)(size >> 16), .max_nr_ports = 1};
	memcpy(data, (const uint8_t *)&config + offset, len);
}

/* emerg_wr takes a character at any time, also of a driver that set up nothing: section 5.3.5.1. */
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
        .destroy = console_destroy,
};

int console_create(
        struct virtio_dev **dev, const struct virtio_env *env, const struct console_options *opt, struct err *err)
{
	struct console *con = calloc(1, sizeof(*con));
	if (!con)
		return err_set(err, ENOMEM, "out of memory for the console");
	con->output = opt->output;
	con->input_room = opt->input_room;
	con->context = opt->context;
	con->size = opt->cols | (uint32_t)opt->rows << 16;
	int ret = virtio_init(&con->dev, &console_type, env, QUEUES,
	        1ull << VIRTIO_CONSOLE_F_SIZE | 1ull << VIRTIO_CONSOLE_F_EMERG_WRITE, err);
	if (ret < 0) {
		virtio_destroy(&con->dev);
		return ret;
	}
	*dev = &con->dev;
	return 0;
}

size_t console_input(struct virtio_dev *dev, const void *data, size_t len)
{
	struct console *con = to_console(dev);
	const uint8_t *bytes = data;
	size_t accepted = 0;
	while (accepted < len && con->input_tail - con->input_head < CONSOLE_INPUT_MAX)
		con->input[con->input_tail++ % CONSOLE_INPUT_MAX] = bytes[accepted++];
	if (accepted > 0)
		virtio_kick_again(dev, RECEIVEQ);
	return accepted;
}

void console_resize(struct virtio_dev *dev, uint16_t cols, uint16_t rows)
{
	uint32_t size = cols | (uint32_t)rows << 16;
	if (__atomic_exchange_n(&to_console(dev)->size, size, __ATOMIC_RELAXED) != size)
		virtio_config_changed(dev);
}
