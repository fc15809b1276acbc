/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device, its driver (guest_driver.h), and its wisp-fs: the test, which sees what is passed on, and
 * answers well or badly.
 */
#ifndef WISP_TEST_FS_SERVER_H
#define WISP_TEST_FS_SERVER_H

#include "tests/unit/guest_driver.h"

#include <linux/fuse.h>
#include <linux/virtio_fs.h>
#include <sys/socket.h>

#include "virtio/fs.h"
#include "vmm/shared/fs_wire.h"

enum { HIPRIO, REQUEST };

#define IN_HEAD sizeof(struct fuse_in_header)
#define OUT_HEAD sizeof(struct fuse_out_header)

struct message {
	struct fs_frame frame;
	struct fuse_in_header header;
	uint8_t body[FS_INLINE_MAX];
};

struct shared {
	struct guest g;
	struct driver d;
	int socket, requests, replies; /* the ends of wisp-fs */
	struct message got;
	uint8_t bytes[FS_REPLY_MAX];
};

static struct shared shared;

static bool create(struct shared *t)
{
	int sockets[2], requests[2], replies[2];
	struct virtio_dev *dev;
	struct err err = {0};
	memset(t, 0, sizeof(*t));
	if (!guest_open(&t->g) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0 ||
	        pipe2(requests, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(replies, O_CLOEXEC) < 0)
		return false;
	t->socket = sockets[1];
	t->requests = requests[0];
	t->replies = replies[1];
	fcntl(sockets[1], F_SETFL, O_NONBLOCK);
	struct fsdev_options opt = {.tag = "folder0",
	        .path = "/work",
	        .socket = sockets[0],
	        .requests = requests[1],
	        .replies = replies[0]};
	if (fsdev_create(&dev, &t->g.env, &opt, &err) < 0)
		return false;
	drv_open(&t->d, &t->g, dev);
	return true;
}

static bool start(struct shared *t)
{
	return create(t) && drv_start(&t->d, RING_FEATURES_ALL, 64);
}

static void close_server(struct shared *t)
{
	if (t->socket < 0)
		return;
	close(t->socket);
	close(t->requests);
	close(t->replies);
	t->socket = -1;
}

static void end(struct shared *t)
{
	drv_close(&t->d);
	close_server(t);
	guest_close(&t->g);
}

/* A request of `size` bytes in all, with `room` for its reply. Returns where that room is. */
__attribute__((unused)) static uint64_t ask_for(
        struct shared *t, unsigned queue, uint32_t opcode, uint64_t unique, uint32_t size, uint32_t room)
{
	struct fuse_in_header header = {.len = size, .opcode = opcode, .unique = unique, .nodeid = 7};
	uint64_t at = guest_alloc(&t->g, size, 8), to = guest_alloc(&t->g, room + 1, 8);
	uint8_t *mem = guest_at(&t->g, at, size);
	memcpy(mem, &header, IN_HEAD);
	for (uint32_t i = IN_HEAD; i < size; i++)
		mem[i] = (uint8_t)(i + unique);
	/* The header in a buffer of its own, as Linux has it, and the rest in two. */
	uint32_t rest = size - (uint32_t)IN_HEAD;
	struct buf bufs[] = {{at, IN_HEAD}, {at + IN_HEAD, rest / 3}, {at + IN_HEAD + rest / 3, rest - rest / 3},
	        {to, room / 2}, {to + room / 2, room - room / 2}};
	CHECK(ring_add(&t->d, queue, bufs, 3, room > 0 ? 2 : 0) >= 0);
	ring_kick(&t->d, queue);
	return to;
}

__attribute__((unused)) static uint64_t ask(
        struct shared *t, unsigned queue, uint64_t unique, uint32_t size, uint32_t room)
{
	return ask_for(t, queue, FUSE_WRITE, unique, size, room);
}

/* The next message, after rounds of the loop. -1: none. */
static ssize_t next(struct shared *t)
{
	guest_settle(&t->g, 2);
	return recv(t->socket, &t->got, sizeof(t->got), 0);
}

__attribute__((unused)) static void answer(
        struct shared *t, uint64_t unique, uint32_t len, const void *body, size_t here)
{
	struct fuse_out_header head = {.len = len, .unique = unique};
	memcpy(t->bytes, &head, OUT_HEAD);
	if (here > 0)
		memcpy(t->bytes + OUT_HEAD, body, here);
	CHECK(send(t->socket, t->bytes, OUT_HEAD + here, 0) == (ssize_t)(OUT_HEAD + here));
}

/* Of the reply at `to`. */
static struct fuse_out_header head_of(struct shared *t, uint64_t to)
{
	struct fuse_out_header head;
	memcpy(&head, guest_at(&t->g, to, sizeof(head)), sizeof(head));
	return head;
}

#endif
