/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/net_port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LENGTH ((uint32_t)sizeof(uint32_t))
#define PARTS_MAX 512u /* buffers of one sendmsg; IOV_MAX is 1024 */

_Static_assert(NET_BUFFER >= LENGTH + NET_FRAME_MAX, "room for a frame");
_Static_assert(PARTS_MAX > VIRTQ_SIZE_MAX, "room for the longest chain and its length");

int net_port_open(struct net_port *port)
{
	if (port->fd < 0)
		return 0;
	if (port->stream)
		return (port->buffer = malloc(NET_BUFFER)) ? 0 : -ENOMEM;
	/* A tap device has no flag for a single call. */
	int flags = fcntl(port->fd, F_GETFL);
	return flags < 0 || fcntl(port->fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

void net_port_close(struct net_port *port)
{
	if (port->fd >= 0)
		close(port->fd);
	free(port->buffer);
}

int net_port_set_offload(struct net_port *port, unsigned flags)
{
	return ioctl(port->fd, TUNSETOFFLOAD, (unsigned long)flags) < 0 ? -errno : 0;
}

int net_port_attach(struct net_port *port, bool attached)
{
	struct ifreq request = {.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};
	if (port->detached == !attached)
		return 0;
	if (ioctl(port->fd, TUNSETQUEUE, &request) < 0)
		return -errno;
	port->detached = !attached;
	return 0;
}

/* --- tap --- */

static int send_tap(struct net_port *port, const struct virtq_chain *chain, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		ssize_t n;
		do
			n = writev(port->fd, chain[i].iov, chain[i].readable);
		while (n < 0 && errno == EINTR);
		if (n < 0 && errno == EBADFD) /* the interface was deleted; all else concerns this frame */
			return -EBADFD;
	}
	return (int)count;
}

static ssize_t receive_tap(struct net_port *port, struct iovec *iov, unsigned count, uint64_t room)
{
	uint8_t beyond; /* shows whether the frame is longer than the room */
	ssize_t n;
	iov[count] = (struct iovec){&beyond, sizeof(beyond)};
	do
		n = readv(port->fd, iov, (int)count + 1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n <= (ssize_t)room ? n : 0;
}

/* --- stream --- */

static uint32_t on_wire(const struct virtq_chain *chain)
{
	return LENGTH + chain->readable_bytes - NET_HEADER;
}

/* After a failed call: 0 if the socket takes no more at present, or -errno. */
static int refusal(void)
{
	return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? 0 : -errno;
}

/*
 * Sends what is owed: the rest of the length, if the peer does not have it yet, and zeros. True when nothing is owed
 * any more; false with *ret, which is 0 or -errno.
 */
static bool pay(struct net_port *port, int *ret)
{
	static const uint8_t zeros[4096];
	while (port->owed > 0) {
		uint32_t frame = ntohl(port->next.length);
		const uint8_t *from = zeros;
		size_t len = port->owed < sizeof(zeros) ? port->owed : sizeof(zeros);
		if (port->owed > frame) {
			len = port->owed - frame;
			from = (const uint8_t *)&port->next.length + LENGTH - len;
		}
		ssize_t n = send(port->fd, from, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		*ret = n < 0 ? refusal() : 0;
		if (n <= 0)
			return false;
		port->owed -= (uint32_t)n;
	}
	return true;
}

/*
 * Whether a packet goes to the host's loopback: to 127.0.0.0/8, or to 0.0.0.0, which connect(2) takes for it; by IPv6
 * to ::1, to ::, or to a form of an IPv4 address that sockets take for IPv4. No network carries a packet to any
 * address of 0.0.0.0/8 or ::/80, so that these are one rule each.
 */
static bool goes_to_loopback(const uint8_t *frame, size_t size)
{
	enum { TYPE = 12, IPV4_TO = 14 + 16, IPV6_TO = 14 + 24, IPV6_REST = 10 };
	static const uint8_t zeros[IPV6_REST];
	if (size >= IPV4_TO + 4 && frame[TYPE] == 0x08 && frame[TYPE + 1] == 0x00)
		return frame[IPV4_TO] == 127 || frame[IPV4_TO] == 0;
	if (size >= IPV6_TO + 16 && frame[TYPE] == 0x86 && frame[TYPE + 1] == 0xdd)
		return memcmp(frame + IPV6_TO, zeros, IPV6_REST) == 0;
	return false;
}

/* Copies the beginning of a frame. Returns how much of it that is. */
static uint32_t load_start(struct net_start *start, const struct virtq_chain *chain)
{
	uint32_t length = chain->readable_bytes - NET_HEADER;
	uint32_t size = length < sizeof(start->bytes) ? length : (uint32_t)sizeof(start->bytes);
	start->length = htonl(length);
	guest_load_iov(start->bytes, chain->iov, chain->readable, NET_HEADER, size);
	if (goes_to_loopback(start->bytes, size))
		memset(start->bytes + 12, 0xff, 2);
	return size;
}

static int send_stream(struct net_port *port, const struct virtq_chain *chain, unsigned count)
{
	struct net_start start[NET_BATCH];
	struct iovec iov[PARTS_MAX];
	unsigned parts = 0, frames = 0;
	int ret;
	if (!pay(port, &ret))
		return ret;
	for (; frames < count && parts + 1 + chain[frames].readable <= PARTS_MAX; frames++) {
		const struct virtq_chain *c = &chain[frames];
		struct iovec *first = &iov[parts];
		uint32_t copied = load_start(&start[frames], c);
		if (frames == 0 && port->sent > 0)
			start[0] = port->next;
		memcpy(first + 1, c->iov, c->readable * sizeof(*first));
		unsigned skipped = iov_advance(first + 1, c->readable, NET_HEADER + copied);
		memmove(first + 1, first + 1 + skipped, (c->readable - skipped) * sizeof(*first));
		*first = (struct iovec){&start[frames], LENGTH + copied};
		parts += 1 + c->readable - skipped;
	}
	unsigned skipped = iov_advance(iov, parts, port->sent);
	struct msghdr message = {.msg_iov = iov + skipped, .msg_iovlen = parts - skipped};
	ssize_t n;
	do
		n = sendmsg(port->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return refusal();
	uint64_t taken = port->sent + (uint64_t)n;
	unsigned done = 0;
	while (done < frames && taken >= on_wire(&chain[done]))
		taken -= on_wire(&chain[done++]);
	port->sent = (uint32_t)taken;
	port->left = taken > 0 ? on_wire(&chain[done]) - port->sent : 0;
	if (taken > 0)
		port->next = start[done];
	return (int)done;
}

/* Reads more, which the frame at `start` needs. 0 or -errno. */
static int fill(struct net_port *port)
{
	ssize_t n;
	if (port->len == 0 || port->start + LENGTH + NET_FRAME_MAX > NET_BUFFER) {
		memmove(port->buffer, port->buffer + port->start, port->len);
		port->start = 0;
	}
	uint32_t end = port->start + port->len;
	do
		n = recv(port->fd, port->buffer + end, NET_BUFFER - end, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	port->len += (uint32_t)n;
	return 0;
}

static ssize_t receive_stream(struct net_port *port, const struct iovec *iov, unsigned count, uint64_t room)
{
	static const uint8_t header[NET_HEADER];
	for (;;) {
		const uint8_t *at = port->buffer + port->start;
		uint32_t length = 0;
		if (port->len >= LENGTH) {
			memcpy(&length, at, LENGTH);
			length = ntohl(length);
			if (length == 0 || length > NET_FRAME_MAX)
				return -EPROTO; /* where the next frame begins is not known any more */
		}
		if (length == 0 || port->len - LENGTH < length) {
			int ret = fill(port);
			if (ret < 0)
				return ret;
			continue;
		}
		port->start += LENGTH + length;
		port->len -= LENGTH + length;
		if (length > room - NET_HEADER)
			return 0;
		guest_store_iov(iov, count, 0, header, NET_HEADER);
		guest_store_iov(iov, count, NET_HEADER, at + LENGTH, length);
		return (ssize_t)(NET_HEADER + length);
	}
}

/* --- both --- */

int net_port_send(struct net_port *port, const struct virtq_chain *chain, unsigned count)
{
	return port->stream ? send_stream(port, chain, count) : send_tap(port, chain, count);
}

void net_port_forget(struct net_port *port)
{
	/* The peer has the beginning of a frame, and must find the next one behind it. */
	port->owed += port->left;
	port->sent = port->left = 0;
}

ssize_t net_port_receive(struct net_port *port, struct iovec *iov, unsigned count, uint64_t room)
{
	return port->stream ? receive_stream(port, iov, count, room) : receive_tap(port, iov, count, room);
}
