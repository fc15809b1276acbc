/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest opens files whose descriptors come with the reply, and reads and writes them: requests as Linux lays them
 * out, for the device of fs_server.h.
 */
#ifndef WISP_TEST_FS_PASSED_H
#define WISP_TEST_FS_PASSED_H

#include "tests/unit/fs_server.h"

#include <sys/mman.h>

#include "virtio/fs_direct.h"

struct place {
	uint64_t head, body; /* of a reply, in the guest's memory */
};

/* A request with its buffers as Linux lays them out: headers, a structure, data; a header, `room` bytes in two. */
static struct place post(struct shared *t, uint32_t opcode, uint64_t unique, const void *arg, uint32_t size,
        const void *data, uint32_t bytes, uint32_t room)
{
	struct fuse_in_header header = {
	        .len = (uint32_t)IN_HEAD + size + bytes, .opcode = opcode, .unique = unique, .nodeid = 2};
	uint64_t at = guest_alloc(&t->g, IN_HEAD + size + bytes, 8), to = guest_alloc(&t->g, OUT_HEAD + room + 1, 8);
	memcpy(guest_at(&t->g, at, IN_HEAD), &header, IN_HEAD);
	memcpy(guest_at(&t->g, at + IN_HEAD, size), arg, size);
	if (bytes > 0)
		memcpy(guest_at(&t->g, at + IN_HEAD + size, bytes), data, bytes);
	memset(guest_at(&t->g, to, OUT_HEAD + room + 1), 0xaa, OUT_HEAD + room + 1);
	struct buf bufs[6] = {{at, IN_HEAD}, {at + IN_HEAD, size}};
	unsigned out = 2, in = 0;
	if (bytes > 0)
		bufs[out++] = (struct buf){at + IN_HEAD + size, bytes};
	bufs[out + in++] = (struct buf){to, OUT_HEAD};
	if (room > 0)
		bufs[out + in++] = (struct buf){to + OUT_HEAD, room / 3 + 1};
	if (room > 1)
		bufs[out + in++] = (struct buf){to + OUT_HEAD + room / 3 + 1, room - room / 3 - 1};
	CHECK(ring_add(&t->d, REQUEST, bufs, out, in) >= 0);
	ring_kick(&t->d, REQUEST);
	return (struct place){to, to + OUT_HEAD};
}

static struct place post_read(struct shared *t, uint64_t unique, uint64_t fh, uint64_t offset, uint32_t size)
{
	struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};
	return post(t, FUSE_READ, unique, &in, sizeof(in), NULL, 0, size);
}

static struct place post_write(
        struct shared *t, uint64_t unique, struct fuse_write_in in, const void *data, uint32_t bytes)
{
	return post(t, FUSE_WRITE, unique, &in, sizeof(in), data, bytes, sizeof(struct fuse_write_out));
}

static void answer_with(struct shared *t, struct fuse_out_header head, const void *body, size_t size, int fd, int more)
{
	struct iovec iov[] = {{&head, sizeof(head)}, {(void *)(uintptr_t)body, size}};
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = {{0}};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
	if (fd >= 0) {
		int fds[2] = {fd, more};
		size_t bytes = more < 0 ? sizeof(int) : sizeof(fds);
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(bytes);
		*CMSG_FIRSTHDR(&message) = (struct cmsghdr){
		        .cmsg_len = CMSG_LEN(bytes), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, bytes);
	}
	CHECK(sendmsg(t->socket, &message, 0) == (ssize_t)(sizeof(head) + size));
}

static bool done(struct shared *t, uint32_t *len)
{
	uint16_t head;
	return ring_wait(&t->d, REQUEST, &head, len);
}

/* The guest opens a file, which has the handle `fh`, and whose descriptor comes too. */
static bool open_file(struct shared *t, uint64_t fh, int fd)
{
	struct fuse_open_in in = {0};
	struct fuse_open_out out = {.fh = fh};
	struct fuse_out_header head = {.len = OUT_HEAD + sizeof(out), .unique = 900};
	uint32_t len;
	struct place to = post(t, FUSE_OPEN, 900, &in, sizeof(in), NULL, 0, sizeof(out));
	if (next(t) < 0)
		return false;
	answer_with(t, head, &out, sizeof(out), fd, -1);
	return done(t, &len) && len == head.len && head_of(t, to.head).unique == 900 &&
	       memcmp(guest_at(&t->g, to.body, sizeof(out)), &out, sizeof(out)) == 0;
}

static int make_file(uint32_t size)
{
	static uint8_t bytes[300000];
	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	int fd = memfd_create("file", MFD_CLOEXEC);
	return fd >= 0 && write(fd, bytes, size) == (ssize_t)size ? fd : -1;
}

static bool has(struct shared *t, uint64_t addr, uint32_t from, uint32_t size)
{
	const uint8_t *at = guest_at(&t->g, addr, size + 1);
	for (uint32_t i = 0; i < size; i++)
		if (at[i] != (uint8_t)((from + i) * 7 + (from + i) / 251))
			return false;
	return true;
}

/* The bytes that the reply says are written, or its error. The device itself does it. */
static int write_bytes(struct shared *t, struct fuse_write_in in, const void *data)
{
	struct place to = post_write(t, 20, in, data, in.size);
	struct fuse_write_out out;
	uint32_t len;
	if (next(t) >= 0 || !done(t, &len))
		return -1000;
	struct fuse_out_header head = head_of(t, to.head);
	CHECK(head.unique == 20 && head.len == len && len == OUT_HEAD + (head.error == 0 ? sizeof(out) : 0));
	memcpy(&out, guest_at(&t->g, to.body, sizeof(out)), sizeof(out));
	return head.error == 0 ? (int)out.size : head.error;
}

#endif
