/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * From the guest: the frames of a kick are fetched up to NET_BATCH at a time and sent from the guest's buffers. What
 * the port does not take at present stays, in order, until it polls writable, and the queue waits. Small frames are
 * completed quietly: their driver only frees them.
 *
 * To the guest: as many chains are fetched as the largest possible frame needs, and a frame is read directly into them.
 * Those that it did not need stay for the next one. So chains are held in the order of the available ring, and a
 * snapshot gives them back by counting. A poll is armed only when the port is empty, for one event: a busy port costs
 * no polls, and one that the guest has no room for costs nothing.
 *
 * The host is not asked to wait with either: each call is one that does not block. So nothing in flight touches guest
 * memory, and a reset is done at once.
 */
#include "virtio/net.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/limit.h"
#include "virtio/net_port.h"
#include "virtio/state.h"
#include "vmm/shared/container_of.h"

enum { RXQ, TXQ, QUEUES };

#define BIT(feature) (1ull << (feature))
#define OFFLOADS                                                                              \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | \
	        BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6))

#define CONFIG_SIZE (offsetof(struct virtio_net_config, mtu) + sizeof(uint16_t))
#define FRAME_HEADERS (ETH_HLEN + 4u) /* with a VLAN tag */

/* Buffers of fetched receive chains: enough for the largest frame in buffers of 512 bytes, and one chain of any kind.
 */
#define PARTS_MAX (2 * VIRTQ_SIZE_MAX)

/*
 * Frames up to this size, in bytes, are completed quietly. TCP waits for the completion of its data before it sends
 * more, which is in larger frames if the port segments.
 */
#define TX_QUIET_MAX 1024u
#define TX_QUIET_MAX_SEGMENTED 2048u
#define SHOW_BYTES 32768u /* what the driver gets to see before the end of a round of the loop */

struct rx_chain {
	uint16_t head, parts;
	uint32_t bytes;
};

/* Waits until the port is ready for one direction. */
struct wait {
	struct loop_op op;
	struct net *net;
	unsigned queue;
	bool armed;
};

struct net {
	struct virtio_dev dev;
	struct net_port port;
	bool offload;
	bool restored;  /* the driver is to look at the status, which may be another than it knows */
	bool connected; /* the port is there */
	struct virtio_net_config config;
	uint16_t status; /* the configuration's, which is packed there; atomic: vCPUs read it */
	struct wait readable, writable;

	bool mergeable;
	uint32_t rx_need; /* bytes, of the largest frame with its header */
	unsigned rx_count, rx_parts;
	uint32_t rx_bytes;
	struct rx_chain rx[VIRTQ_SIZE_MAX];
	struct iovec rx_iov[PARTS_MAX + 1]; /* one more, for net_port_receive */
	struct virtq_chain fetched;

	uint32_t tx_quiet_max;
	unsigned tx_first, tx_count; /* tx[tx_first .. tx_count) are to be sent */
	struct virtq_chain tx[NET_BATCH];
};

static struct net *to_net(struct virtio_dev *dev)
{
	return (struct net *)dev;
}

/* --- the port --- */

static void ready(struct loop_op *op, int res, uint32_t flags)
{
	struct wait *w = container_of(op, struct wait, op);
	(void)res, (void)flags;
	w->armed = false;
	if (!w->net->dev.destroying)
		virtio_kick_again(&w->net->dev, w->queue);
}

static void await(struct wait *w, unsigned events)
{
	struct loop *loop = w->net->dev.env.loop;
	if (w->armed)
		return;
	struct io_uring_sqe *sqe = loop_sqe(loop);
	io_uring_prep_poll_add(sqe, w->net->port.fd, events);
	w->op.done = ready;
	w->armed = true;
	loop_start(loop, sqe, &w->op);
}

/* The port is gone for good. What the guest sends from here on is lost, as with a cable that is pulled. */
static void lose(struct net *n, int error)
{
	n->connected = false;
	log_line(n->dev.env.log, LOG_WARN, "the network is gone, and the guest's link is down: %s", strerror(-error));
	__atomic_store_n(&n->status, 0, __ATOMIC_RELAXED);
	virtio_config_changed(&n->dev);
}

/* --- to the guest --- */

/* True if it was one that can be used. */
static bool fetch_rx(struct net *n)
{
	const struct virtq_chain *chain = &n->fetched;
	if (!virtio_fetch(&n->dev, RXQ, &n->fetched))
		return false;
	if (chain->readable > 0 || chain->writable_bytes < NET_HEADER) {
		virtio_fail(&n->dev, "a receive buffer that is to be read, or has no room for a header");
		return false;
	}
	n->rx[n->rx_count++] = (struct rx_chain){chain->head, chain->writable, chain->writable_bytes};
	memcpy(n->rx_iov + n->rx_parts, chain->iov, chain->writable * sizeof(*chain->iov));
	n->rx_parts += chain->writable;
	n->rx_bytes += chain->writable_bytes;
	return true;
}

/* Collects room for the largest frame: a single chain if frames cannot be spread over several. */
static bool gather(struct net *n)
{
	if (!n->mergeable)
		return n->rx_count > 0 || fetch_rx(n);
	while (n->rx_bytes < n->rx_need && n->rx_parts + VIRTQ_SIZE_MAX <= PARTS_MAX) {
		if (!fetch_rx(n))
			return false;
	}
	return true;
}

/* A frame of `len` bytes is in the first buffers: completes their chains, and keeps the others. */
static void deliver(struct net *n, uint32_t len)
{
	unsigned chains = 0, parts = 0;
	uint32_t room = 0;
	do {
		room += n->rx[chains].bytes;
		parts += n->rx[chains].parts;
		chains++;
	} while (room < len);
	uint16_t buffers = (uint16_t)chains;
	guest_store_iov(n->rx_iov, parts, offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers, sizeof(buffers));
	virtio_moved(&n->dev, &n->dev.to_guest, len - NET_HEADER);
	for (unsigned i = 0; i < chains; i++) {
		uint32_t written = n->rx[i].bytes < len ? n->rx[i].bytes : len;
		len -= written;
		virtio_complete(&n->dev, RXQ, n->rx[i].head, written);
	}
	n->rx_count -= chains;
	n->rx_parts -= parts;
	n->rx_bytes -= room;
	memmove(n->rx, n->rx + chains, n->rx_count * sizeof(*n->rx));
	memmove(n->rx_iov, n->rx_iov + parts, n->rx_parts * sizeof(*n->rx_iov));
}

/* Frames until there is none, or no room, or this round's share is used up: each counts, delivered or not. */
static void receive(struct net *n)
{
	uint32_t unseen = 0;
	for (unsigned frames = 0; n->connected && n->dev.active; frames++) {
		if (!virtio_may(&n->dev))
			return;
		while (!gather(n)) {
			if (!virtio_more(&n->dev, RXQ))
				return;
		}
		if (frames == VIRTQ_SIZE_MAX) {
			virtio_kick_again(&n->dev, RXQ);
			return;
		}
		ssize_t len = net_port_receive(&n->port, n->rx_iov, n->rx_parts, n->rx_bytes);
		if (len == -EAGAIN) {
			await(&n->readable, POLLIN);
			return;
		}
		if (len < 0) {
			lose(n, (int)len);
			return;
		}
		if (len > (ssize_t)NET_HEADER) {
			deliver(n, (uint32_t)len);
			unseen += (uint32_t)len;
		}
		if (unseen >= SHOW_BYTES) {
			virtio_show(&n->dev);
			unseen = 0;
		}
	}
}

/* --- from the guest --- */

static void complete_tx(struct net *n, const struct virtq_chain *chain)
{
	if (chain->readable_bytes > n->tx_quiet_max)
		virtio_complete(&n->dev, TXQ, chain->head, 0);
	else
		virtio_complete_quietly(&n->dev, TXQ, chain);
}

/* Fetches one frame. False if there is none. */
static bool fetch_tx(struct net *n)
{
	struct virtq_chain *chain = &n->tx[n->tx_count];
	if (!virtio_may(&n->dev) || !virtio_fetch(&n->dev, TXQ, chain))
		return false;
	if (chain->readable_bytes < NET_HEADER) {
		virtio_fail(&n->dev, "a frame without a whole header");
		return false;
	}
	uint32_t bytes = chain->readable_bytes - NET_HEADER;
	virtio_moved(&n->dev, &n->dev.from_guest, bytes);
	if (bytes > 0 && bytes <= NET_FRAME_MAX)
		n->tx_count++;
	else
		complete_tx(n, chain); /* no network would carry it */
	return true;
}

/* Sends what was fetched. False while the port does not take all of it. */
static bool send_fetched(struct net *n)
{
	while (n->tx_first < n->tx_count) {
		unsigned waiting = n->tx_count - n->tx_first;
		int done = n->connected ? net_port_send(&n->port, &n->tx[n->tx_first], waiting) : (int)waiting;
		if (done == 0) {
			await(&n->writable, POLLOUT);
			return false;
		}
		if (done < 0)
			lose(n, done);
		for (; done > 0; done--)
			complete_tx(n, &n->tx[n->tx_first++]);
	}
	n->tx_first = n->tx_count = 0;
	return true;
}

static void transmit(struct net *n)
{
	do {
		do {
			if (!send_fetched(n))
				return;
			while (n->tx_count < NET_BATCH && fetch_tx(n))
				;
		} while (n->tx_count > 0);
	} while (virtio_may(&n->dev) && virtio_more(&n->dev, TXQ));
}

/* --- the device --- */

static void net_kick(struct virtio_dev *dev, unsigned queue)
{
	if (queue == TXQ)
		transmit(to_net(dev));
	else
		receive(to_net(dev));
}

static void net_activate(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);
	bool checksums = virtio_has(dev, VIRTIO_NET_F_GUEST_CSUM);
	bool tso4 = checksums && virtio_has(dev, VIRTIO_NET_F_GUEST_TSO4);
	bool tso6 = checksums && virtio_has(dev, VIRTIO_NET_F_GUEST_TSO6);
	n->mergeable = virtio_has(dev, VIRTIO_NET_F_MRG_RXBUF);
	n->rx_need = NET_HEADER + (tso4 || tso6 ? NET_FRAME_MAX : n->config.mtu + FRAME_HEADERS);
	n->tx_quiet_max = virtio_has(dev, VIRTIO_NET_F_HOST_TSO4) ? TX_QUIET_MAX_SEGMENTED : TX_QUIET_MAX;
	if (n->restored)
		virtio_config_changed(dev);
	n->restored = false;
	if (!n->connected || !n->offload)
		return;
	int ret = net_port_set_offload(
	        &n->port, (checksums ? TUN_F_CSUM : 0) | (tso4 ? TUN_F_TSO4 : 0) | (tso6 ? TUN_F_TSO6 : 0));
	if (ret < 0)
		lose(n, ret);
}

static void net_reset(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);
	n->rx_count = n->rx_parts = n->rx_bytes = 0;
	n->tx_first = n->tx_count = 0;
	net_port_forget(&n->port);
	virtio_reset_done(dev); /* nothing that is in flight touches guest memory */
}

static uint64_t pack_identity(const struct virtio_net_config *config)
{
	uint64_t packed = (uint64_t)config->mtu << 48;
	memcpy(&packed, config->mac, sizeof(config->mac));
	return packed;
}

/* own[0] is the MAC and, in the upper 16 bits, the MTU. Chains that are held go back. */
static void net_save(const struct virtio_dev *dev, struct virtio_state *state)
{
	const struct net *n = (const struct net *)dev;
	state->own[0] = pack_identity(&n->config);
	if (!dev->active)
		return;
	state->queue[RXQ].avail_next = (uint16_t)(state->queue[RXQ].avail_next - n->rx_count);
	state->queue[TXQ].avail_next = (uint16_t)(state->queue[TXQ].avail_next - (n->tx_count - n->tx_first));
}

static int net_restore(struct virtio_dev *dev, const struct virtio_state *state, struct err *err)
{
	struct net *n = to_net(dev);
	uint16_t mtu = (uint16_t)(state->own[0] >> 48);
	if (mtu < NET_MTU_MIN)
		return err_set(err, EINVAL, "cannot restore the net device of the snapshot: its MTU is %u", mtu);
	memcpy(n->config.mac, &state->own[0], sizeof(n->config.mac));
	n->config.mtu = mtu;
	n->restored = true;
	return 0;
}

static void net_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	const struct net *n = to_net(dev);
	struct virtio_net_config config = {.mtu = n->config.mtu};
	memcpy(config.mac, n->config.mac, sizeof(config.mac));
	config.status = __atomic_load_n(&n->status, __ATOMIC_RELAXED);
	memcpy(data, (const uint8_t *)&config + offset, len);
}

static void net_destroy(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);
	struct wait *const waits[] = {&n->readable, &n->writable};
	for (unsigned i = 0; i < 2; i++) {
		if (waits[i]->armed)
			loop_cancel(dev->env.loop, &waits[i]->op);
	}
	while (n->readable.armed || n->writable.armed) {
		if (loop_step(dev->env.loop, -1) < 0)
			return; /* a failed ring: the kernel may still access the object */
	}
	net_port_close(&n->port);
	free(n);
}

static const struct virtio_type net_type = {
        .name = "net",
        .id = VIRTIO_ID_NET,
        .queue_size_max = VIRTQ_SIZE_MAX,
        .config_size = CONFIG_SIZE,
        .activate = net_activate,
        .kick = net_kick,
        .reset = net_reset,
        .config_read = net_config_read,
        .save = net_save,
        .restore = net_restore,
        .destroy = net_destroy,
};

int net_create(struct virtio_dev **dev, const struct virtio_env *env, const struct net_options *opt, struct err *err)
{
	uint64_t features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MTU) |
	                    BIT(VIRTIO_NET_F_MRG_RXBUF) | (opt->offload ? OFFLOADS : 0);
	struct net *n = calloc(1, sizeof(*n));
	if (!n)
		return err_set(err, ENOMEM, "out of memory for the network device");
	n->port = (struct net_port){.fd = -1}; /* the caller's until all is done */
	n->offload = opt->offload;
	n->config.mtu = opt->mtu;
	memcpy(n->config.mac, opt->mac, sizeof(n->config.mac));
	n->readable = (struct wait){.net = n, .queue = RXQ};
	n->writable = (struct wait){.net = n, .queue = TXQ};
	int ret = virtio_init(&n->dev, &net_type, env, QUEUES, features, err);
	struct net_port port = {.fd = opt->fd, .stream = opt->stream};
	if (ret == 0 && (ret = net_port_open(&port)) < 0)
		err_set(err, -ret, "cannot use the network's descriptor: %s", strerror(-ret));
	if (ret < 0) {
		virtio_destroy(&n->dev);
		return ret;
	}
	n->port = port;
	n->connected = opt->fd >= 0;
	n->status = n->connected ? VIRTIO_NET_S_LINK_UP : 0;
	*dev = &n->dev;
	return 0;
}
