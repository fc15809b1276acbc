/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device: a hostile driver on one side, and on the other a hostile tap device, of one queue or several, or
 * a hostile stream.
 */
#include <arpa/inet.h>
#include <linux/virtio_net.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/device.h"
#include "virtio/net.h"
#include "virtio/net_port.h"

enum { RX, TX };

static int peers[NET_PAIRS_MAX];
static unsigned pairs;
static bool is_stream;

/* Frames from the host, whole or not, and what the host reads of the guest's. */
static void from_host(struct input *in)
{
	uint8_t bytes[512];
	uint32_t lead = is_stream ? 4 : NET_HEADER, len = in8(in), kind = in8(in);
	uint32_t length = htonl(kind & 1 ? in32(in) : len);
	memset(bytes, 0, sizeof(bytes));
	int peer = peers[(kind >> 3) % pairs];
	memcpy(bytes, &length, sizeof(length));
	in_bytes(in, bytes + lead, len < 32 ? len : 32);
	uint32_t from = kind & 2 ? in8(in) % (lead + len + 1) : 0;
	(void)!send(peer, bytes + from, lead + len - from, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (kind & 4)
		(void)!recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT);
	if ((kind & 0xf8) == 0xf8)
		shutdown(peer, kind & 4 ? SHUT_WR : SHUT_RDWR);
}

/* How many pairs the driver uses, if the script does not want something else. */
static void command(struct machine *m, struct input *in)
{
	uint8_t bytes[4] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, in8(in) % 5, 0};
	uint64_t addr = BUFFERS + 16u * in8(in);
	uint8_t kind = in8(in);
	if (kind & 1)
		in_bytes(in, bytes, sizeof(bytes));
	store(m, addr, bytes, sizeof(bytes));
	struct part parts[] = {{addr, kind & 2 ? kind >> 4 : sizeof(bytes), false}, {addr + 16, kind >> 2 & 1, true}};
	offer_chain(m, 2 * pairs, parts, 2);
	reg(m, VIRTIO_MMIO_QUEUE_NOTIFY, 2 * pairs);
	machine_step(m, 2);
}

/* A buffer or a frame, cut into descriptors wherever the script wants. */
static void from_guest(struct machine *m, struct input *in, uint8_t kind)
{
	unsigned queue = 2 * ((kind >> 5) % pairs) + (kind & 1 ? TX : RX);
	uint64_t addr = BUFFERS + 16u * in8(in);
	uint32_t len = kind & 2 ? in16(in) : in8(in), cut = kind & 4 ? in8(in) : 0;
	bool to_guest = queue % 2 == RX;
	struct part parts[2] = {{addr, len, to_guest}, {addr + cut, 0, to_guest}};
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
	else if (pairs > 1 && (kind & 0x60) == 0x60)
		command(m, in);
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
	pairs = (kind & 0xf1) == 0xf0 ? NET_PAIRS_MAX : 1; /* the inputs of the corpus that had one keep it */
	signal(SIGPIPE, SIG_IGN);                          /* a tap device raises none */
	struct net_options options = {.pairs = pairs, .stream = is_stream, .mtu = kind & 2 ? 68 : 1500};
	for (unsigned i = 0; i < pairs; i++) {
		MUST(socketpair(AF_UNIX, (is_stream ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, pair) == 0);
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		options.fd[i] = pair[0];
		peers[i] = pair[1];
	}
	MUST(net_create(&m.dev, &m.env, &options, &err) == 0);
	machine_run(&m, &in, traffic);
	for (unsigned i = 0; i < pairs; i++)
		close(peers[i]);
	return 0;
}
