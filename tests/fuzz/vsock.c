/* SPDX-License-Identifier: Apache-2.0 */
/* The socket device: packets of the guest, receive buffers of any kind, and clients and a server on the host. */
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/fuzz/device.h"
#include "virtio/vsock.h"

enum { RX, TX };

#define CID 3u
#define HOST_PORT (1u << 30) /* of the first client */
#define SERVED_PORT 1024u
#define FORWARDED_TO 80u
#define PEERS 8u

static int peers[PEERS]; /* sockets of the host's side: clients, and what the server accepted */

static void fill_address(struct sockaddr_un *address, const char *suffix)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "/tmp/wisp-fuzz-%d%s", getpid(), suffix);
}

static int unix_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	MUST(fd >= 0);
	return fd;
}

static void remove_server(void)
{
	struct sockaddr_un address;
	fill_address(&address, "_1024");
	unlink(address.sun_path);
}

static int server(void)
{
	static int fd = -1;
	struct sockaddr_un address;
	if (fd >= 0)
		return fd;
	fill_address(&address, "_1024");
	unlink(address.sun_path);
	fd = unix_socket();
	MUST(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 16) == 0);
	atexit(remove_server);
	return fd;
}

static void replace(int *peer, int fd)
{
	if (*peer >= 0)
		close(*peer);
	*peer = fd;
}

static void connect_client(int *peer, uint8_t how)
{
	struct sockaddr_un address;
	static const char *const lines[] = {"CONNECT 77\n", "CONNECT 77\nearly data", "CONNECT 4294967296\n",
	        "CONNECT 7", "CONNECT 1024\n\n", "", "\n", "connect 77\n01234567890123456789012345678901234567890"};
	fill_address(&address, "");
	int fd = unix_socket();
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return;
	}
	const char *line = lines[how % 8];
	send(fd, line, strlen(line), MSG_NOSIGNAL);
	replace(peer, fd);
}

/* The listener whose connections are forwarded has no file. */
static void fill_forward_address(struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "wisp-fuzz-%d", getpid());
}

static void connect_forwarded(int *peer)
{
	struct sockaddr_un address;
	fill_forward_address(&address);
	int fd = unix_socket();
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		close(fd);
	else
		replace(peer, fd);
}

static void forward(struct machine *m)
{
	struct sockaddr_un address;
	struct err err = {0};
	int fd = unix_socket();
	fill_forward_address(&address);
	MUST(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 16) == 0);
	MUST(vsock_forward(m->dev, fd, FORWARDED_TO, &err) > 0);
}

static void act_host(struct machine *m, struct input *in)
{
	static uint8_t bytes[256 * 500];
	uint8_t what = in8(in), how = in8(in);
	int *peer = &peers[what % PEERS];
	switch (what / PEERS % 8) {
	case 0:
	case 1: connect_client(peer, how); break;
	case 2: replace(peer, accept4(server(), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)); break;
	case 3: send(*peer, bytes, how & 128 ? how * 500u : how, MSG_NOSIGNAL | MSG_DONTWAIT); break;
	case 4: recv(*peer, bytes, how & 128 ? sizeof(bytes) : how, MSG_DONTWAIT); break;
	case 5: shutdown(*peer, how % 3); break;
	case 6: replace(peer, -1); break;
	default: connect_forwarded(peer); break;
	}
	if (what & 128)
		machine_step(m, 2);
}

/* Receive buffers: usually good ones. */
static void give_buffers(struct machine *m, struct input *in)
{
	uint8_t how = in8(in);
	uint32_t split = how & 0x40 ? how % 60 : 0, len = how & 0x80 ? 0x1000 : 0x200;
	for (unsigned i = 0; i < how % 8u; i++) {
		uint64_t addr = 0x8000 + i * 0x1000;
		struct part parts[] = {{addr, split, true}, {addr + split, len, true}};
		offer_chain(m, RX, split ? parts : parts + 1, split ? 2 : 1);
	}
	reg(m, VIRTIO_MMIO_QUEUE_NOTIFY, RX);
}

/* A packet that is of a connection more often than not. */
static void packet(struct machine *m, struct input *in)
{
	uint8_t kind = in8(in), from = in8(in);
	struct virtio_vsock_hdr header = {
	        .src_cid = CID,
	        .dst_cid = kind & 64 ? in8(in) : 2,
	        .src_port = kind & 1 ? 77 : from % 4,
	        .dst_port = kind & 1 ? HOST_PORT + from % 8 : SERVED_PORT,
	        .type = kind & 32 ? in8(in) : VIRTIO_VSOCK_TYPE_STREAM,
	        .op = in8(in) % 9,
	        .flags = in8(in) & 7,
	        .buf_alloc = kind & 2 ? in32(in) : 0x10000,
	        .fwd_cnt = kind & 4 ? in32(in) : 0,
	};
	if (kind & 1 && from & 128)
		header.dst_port = VSOCK_FORWARD_PORTS | (from % 8u) << 16 | FORWARDED_TO;
	uint32_t bytes = header.op == VIRTIO_VSOCK_OP_RW ? (kind & 8 ? in16(in) : in8(in)) : 0;
	header.len = kind & 16 ? in32(in) : bytes;
	uint32_t split = kind & 128 ? in8(in) % 60 : 0;
	store(m, BUFFERS, &header, sizeof(header));
	uint32_t total = (uint32_t)sizeof(header) + bytes;
	struct part parts[] = {{BUFFERS, split, false}, {BUFFERS + split, total > split ? total - split : 0, false}};
	offer_chain(m, TX, split ? parts : parts + 1, split ? 2 : 1);
	reg(m, VIRTIO_MMIO_QUEUE_NOTIFY, TX);
	machine_step(m, 2);
}

static void network(struct machine *m, struct input *in)
{
	switch (in8(in) % 4) {
	case 0: act_host(m, in); break;
	case 1: give_buffers(m, in); break;
	case 2: packet(m, in); break;
	default: machine_step(m, 1); break;
	}
}

static void hang_up(void)
{
	int fd;
	for (unsigned i = 0; i < PEERS; i++)
		replace(&peers[i], -1);
	while ((fd = accept4(server(), NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct machine m;
	struct sockaddr_un address;
	server();
	for (unsigned i = 0; i < PEERS; i++)
		peers[i] = -1;
	machine_open(&m);
	fill_address(&address, "");
	struct vsock_options options = {.cid = CID, .socket_path = address.sun_path, .forward_port = 77};
	MUST(vsock_create(&m.dev, &m.env, &options, &err) == 0 && vsock_listen(m.dev, &err) == 0);
	forward(&m);
	machine_run(&m, &in, network);
	hang_up();
	return 0;
}
