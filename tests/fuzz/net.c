/* SPDX-License-Identifier: Apache-2.0 */
/* The network device: a hostile driver on one side, and on the other a hostile tap device or stream. */
#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/device.h"
#include "virtio/net.h"
#include "virtio/net_port.h"

enum { RX, TX };

static int peer;
static bool is_stream;

/* Frames from the host, whole or not, and what the host reads of the guest's. */
static void from_host(struct input *in)
{
	uint8_t bytes[512];
	uint32_t lead = is_stream ? 4 : NET_HEADER, len = in8(in), kind = in8(in);
	uint32_t length = htonl(kind & 1 ? in32(in) : len);
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, &length, sizeof(length));
	in_bytes(in, bytes + lead, len < 32 ? len : 32);
	uint32_t from = kind & 2 ? in8(in) % (lead + len + 1) : 0;
	(void)!send(peer, bytes + from, lead + len - from, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (kind & 4)
		(void)!recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT);
	if ((kind & 0xf8) == 0xf8)
		shutdown(peer, kind & 4 ? SHUT_WR : SHUT_RDWR);
}

/* A buffer or a frame, cut into descriptors wherever the script wants. */
static void from_guest(struct machine *m, struct input *in, uint8_t kind)
{
	unsigned queue = kind & 1 ? TX : RX;
	uint64_t addr = BUFFERS + 16u * in8(in);
	uint32_t len = kind & 2 ? in16(in) : in8(in), cut = kind & 4 ? in8(in) : 0;
	struct part parts[2] = {{addr, len, queue == RX}, {addr + cut, 0, queue == RX}};
	if (cut > 0 && cut < len) {
		parts[0].len = cut;
		parts[1].len = len - cut;
	}
	offer_chain(m, queue, parts, parts[1].len > 0 ? 2 : 1);
	if (kind & 8)
		reg(m, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
	if (kind & 16)
		machine_step(m, 2);
}

static void traffic(struct machine *m, struct input *in)
{
	uint8_t kind = in8(in);
	if (kind & 0x80)
		from_host(in);
	else
		from_guest(m, in, kind);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct machine m;
	int pair[2], room = 4096;
	machine_open(&m);
	uint8_t kind = in8(&in);
	is_stream = kind & 1;
	signal(SIGPIPE, SIG_IGN); /* a tap device raises none */
	MUST(socketpair(AF_UNIX, (is_stream ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, pair) == 0);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	peer = pair[1];
	struct net_options options = {.fd = pair[0], .stream = is_stream, .mtu = kind & 2 ? 68 : 1500};
	MUST(net_create(&m.dev, &m.env, &options, &err) == 0);
	machine_run(&m, &in, traffic);
	close(peer);
	return 0;
}
