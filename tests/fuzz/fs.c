/* SPDX-License-Identifier: Apache-2.0 */
/* The file system device, between a driver and a wisp-fs that are both the script's. */
#include "tests/fuzz/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/fs.h"
#include "vmm/shared/fs_wire.h"

static int server, requests, replies;
static int file = -1; /* what wisp-fs passes */

/* A request that is as it should be, but for its body. */
static void act_request(struct machine *m, struct input *in)
{
	uint32_t size = in16(in) % 9000u, room = in16(in) % 9000u;
	struct fuse_in_header header = {.len = size + (uint32_t)sizeof(header), .opcode = in8(in), .unique = in8(in)};
	uint64_t at = BUFFERS + 16u * in8(in);
	store(m, at, &header, sizeof(header));
	struct part parts[] = {{at, sizeof(header), false}, {at + 64, size, false}, {BUFFERS + 0x4000, room, true}};
	offer_chain(m, in8(in) % 2, parts, room >= 16 ? 3 : 2);
}

/* The same of a file that is open, laid out as Linux does it, or nearly so. */
static void act_transfer(struct machine *m, struct input *in)
{
	uint32_t size = in16(in) % 5000u, off = in8(in) % 8 == 0 ? 1 : 0;
	bool writes = in8(in) % 2;
	struct {
		struct fuse_in_header header;
		struct fuse_write_in in;
	} request = {.header = {.len = (uint32_t)sizeof(request) + (writes ? size : 0),
	                     .opcode = writes ? FUSE_WRITE : FUSE_READ,
	                     .unique = in8(in)},
	        .in = {.fh = in8(in) % 4,
	                .offset = in16(in),
	                .size = size + off,
	                .flags = in8(in) % 8 == 0 ? O_APPEND : 0}};
	store(m, BUFFERS, &request, sizeof(request));
	struct part parts[] = {{BUFFERS, sizeof(request.header), false},
	        {BUFFERS + sizeof(request.header), sizeof(request.in), false}, {BUFFERS + 0x1000, size, !writes},
	        {BUFFERS + 0x4000, sizeof(struct fuse_out_header), true}, {BUFFERS + 0x4100, 8, true}};
	if (!writes) { /* the header first */
		parts[4] = parts[2];
		parts[2] = parts[3];
		parts[3] = parts[4];
	}
	offer_chain(m, 1, parts, writes ? 5 : 4);
}

/* Opens a file, which wisp-fs passes if it likes. */
static void act_open(struct machine *m, struct input *in)
{
	struct fuse_in_header header = {.len = sizeof(header) + 8, .unique = in8(in)};
	header.opcode = in8(in) % 4 == 0 ? FUSE_CREATE : in8(in) % 4 == 0 ? FUSE_RELEASE : FUSE_OPEN;
	uint64_t fh = in8(in) % 4;
	store(m, BUFFERS, &header, sizeof(header));
	store(m, BUFFERS + sizeof(header), &fh, sizeof(fh));
	struct part parts[] = {{BUFFERS, header.len, false}, {BUFFERS + 0x4000, 160, true}};
	offer_chain(m, 1, parts, 2);
}

static void pass(struct fuse_out_header *head, uint32_t opcode, struct input *in)
{
	uint32_t before = opcode == FUSE_CREATE ? sizeof(struct fuse_entry_out) : 0;
	uint8_t body[sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)] = {0};
	uint64_t fh = in8(in) % 4;
	uint32_t size = before + (uint32_t)sizeof(struct fuse_open_out);
	memcpy(body + before, &fh, sizeof(fh));
	head->len = (uint32_t)sizeof(*head) + size;
	head->error = in8(in) % 8 == 0 ? -EIO : 0;
	struct iovec iov[] = {{head, sizeof(*head)}, {body, size}};
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	memcpy(CMSG_DATA(&control.head), in8(in) % 8 ? &file : &requests, sizeof(int));
	struct msghdr message = {
	        .msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control)};
	(void)!sendmsg(server, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* What wisp-fs may say, true or not. */
static void act_reply(struct machine *m, struct input *in)
{
	uint8_t message[300] = {0};
	struct fuse_out_header head = {.len = in16(in), .unique = in8(in)};
	size_t size = in8(in);
	(void)m;
	memcpy(message, &head, sizeof(head));
	(void)!send(server, message, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Answers the oldest request as it should be. */
static void act_serve(struct machine *m, struct input *in)
{
	struct {
		struct fs_frame frame;
		struct fuse_in_header header;
		uint8_t body[FS_INLINE_MAX];
	} got;
	uint8_t message[FS_INLINE_MAX] = {0}, bytes[4096];
	(void)m;
	ssize_t n = recv(server, &got, sizeof(got), MSG_DONTWAIT);
	if (n <= 0)
		return;
	MUST(n >= (ssize_t)(sizeof(got.frame) + sizeof(got.header)));
	MUST(got.header.len - got.frame.piped == (size_t)n - sizeof(got.frame));
	MUST(got.frame.room == 0 || (got.frame.room >= 16 && got.frame.room <= FS_REPLY_MAX));
	for (uint32_t left = got.frame.piped; left > 0;) {
		ssize_t more = read(requests, bytes, left < sizeof(bytes) ? left : sizeof(bytes));
		if (more <= 0)
			break; /* it comes later: then the bytes of the next are its */
		left -= (uint32_t)more;
	}
	if (got.frame.room == 0)
		return;
	if (got.frame.room >= 160 && (got.header.opcode == FUSE_OPEN || got.header.opcode == FUSE_CREATE)) {
		struct fuse_out_header opened = {.unique = got.header.unique};
		pass(&opened, got.header.opcode, in);
		return;
	}
	uint32_t room = got.frame.room < sizeof(message) ? got.frame.room : sizeof(message);
	uint32_t here = 16 + in16(in) % (room - 15), later = in8(in) % (got.frame.room - here + 1);
	struct fuse_out_header head = {.len = here + later, .unique = got.header.unique};
	memcpy(message, &head, sizeof(head));
	(void)!send(server, message, here, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)!write(replies, message, later);
}

static void act_fs(struct machine *m, struct input *in)
{
	switch (in8(in) % 8) {
	case 0: act_reply(m, in); break;
	case 1: act_request(m, in); break;
	case 2: act_transfer(m, in); break;
	case 3: act_open(m, in); break;
	default: act_serve(m, in); break;
	}
	machine_step(m, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct machine m;
	int sockets[2], to[2], from[2];
	machine_open(&m);
	if (file < 0)
		MUST((file = memfd_create("file", MFD_CLOEXEC)) >= 0);
	MUST(ftruncate(file, 4000) == 0);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
	MUST(pipe2(to, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(from, O_CLOEXEC | O_NONBLOCK) == 0);
	fcntl(from[0], F_SETFL, 0); /* as io_uring needs it, to wait */
	server = sockets[1];
	requests = to[0];
	replies = from[1];
	struct fsdev_options opt = {
	        .tag = "t", .path = "/t", .socket = sockets[0], .requests = to[1], .replies = from[0]};
	MUST(fsdev_create(&m.dev, &m.env, &opt, &err) == 0);
	/* A driver's reset waits for wisp-fs, which here would never answer. */
	virtio_mmio_init(&m.mmio, m.dev);
	if (in8(&in) % 8 != 0)
		set_up(&m, 0);
	for (unsigned i = 0; i < ACTS_MAX && in.left > 0; i++)
		act_fs(&m, &in);
	machine_step(&m, 4);
	MUST(m.log_lines <= 2); /* the driver's fault, and the folder's loss */
	virtio_destroy(m.dev);
	virtio_mmio_destroy(&m.mmio);
	ram_destroy(&m.gmem);
	close(server);
	close(requests);
	close(replies);
	return 0;
}
