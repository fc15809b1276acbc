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
 *
 * Several pairs of queues do this independently, all in the loop's thread. The driver says through the control queue
 * how many of them it uses. The tap device's queues of the other pairs are detached, so that the host's kernel gives
 * them no frames.
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

/* The queues of a pair. Those of the next pair follow; the control queue comes after the last pair. */
enum { RXQ, TXQ, PAIR_QUEUES };

#define BIT(feature) (1ull << (feature))
#define OFFLOADS                                                                              \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | \
	        BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6))

#define SEVERAL_PAIRS (BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ))

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
#define ATTACH_PAUSE_MS 100

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

struct pair {
	struct net_port port;
	struct wait readable, writable;

	unsigned rx_count, rx_parts;
	uint64_t rx_bytes; /* more than 4 GiB if the driver repeats its memory */
	struct rx_chain rx[VIRTQ_SIZE_MAX];
	struct iovec rx_iov[PARTS_MAX + 1]; /* one more, for net_port_receive */

	unsigned tx_first, tx_count; /* tx[tx_first .. tx_count) are to be sent */
	struct virtq_chain tx[NET_BATCH];
};

struct net {
	struct virtio_dev dev;
	bool offload;
	bool restored;  /* the driver must read the status again, which may have changed */
	bool connected; /* the ports can be used */
	struct virtio_net_config config;
	uint16_t status; /* the configuration's, which is packed there; atomic: vCPUs read it */

	bool mergeable;
	uint32_t rx_need; /* bytes of the largest frame with its header */
	uint32_t tx_quiet_max;
	struct virtq_chain fetched;

	bool pausing; /* the host's kernel was told of pairs_attached a moment ago, and is told nothing else yet */
	struct loop_op pause_op;
	struct __kernel_timespec pause;

	unsigned pairs, pairs_used; /* all; those that the driver uses, from the first one on */
	unsigned pairs_attached;    /* those that the host's kernel gives frames to */
	struct pair pair[];
};

static struct net *to_net(struct virtio_dev *dev)
{
	return (struct net *)dev;
}

static struct net *net_of(const struct pair *p)
{
	return p->readable.net;
}

static unsigned rx_queue(const struct pair *p)
{
	return p->readable.queue;
}

static unsigned tx_queue(const struct pair *p)
{
	return p->writable.queue;
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

static void await(struct wait *w, int fd, unsigned events)
{
	struct loop *loop = w->net->dev.env.loop;
	if (w->armed)
		return;
	struct io_uring_sqe *sqe = loop_sqe(loop);
	io_uring_prep_poll_add(sqe, fd, events);
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

/* Fetches one receive chain. False if there is none, or it breaks a rule. */
static bool fetch_rx(struct pair *p)
{
	struct net *n = net_of(p);
	const struct virtq_chain *chain = &n->fetched;
	if (!virtio_fetch(&n->dev, rx_queue(p), &n->fetched))
		return false;
	if (chain->readable > 0 || chain->writable_bytes < NET_HEADER) {
		virtio_fail(&n->dev, "a receive buffer that is to be read, or has no room for a header");
		return false;
	}
	p->rx[p->rx_count++] = (struct rx_chain){chain->head, chain->writable, chain->writable_bytes};
	memcpy(p->rx_iov + p->rx_parts, chain->iov, chain->writable * sizeof(*chain->iov));
	p->rx_parts += chain->writable;
	p->rx_bytes += chain->writable_bytes;
	return true;
}

/* Collects room for the largest frame: a single chain if frames cannot be spread over several. */
static bool gather(struct pair *p)
{
	const struct net *n = net_of(p);
	if (!n->mergeable)
		return p->rx_count > 0 || fetch_rx(p);
	while (p->rx_bytes < n->rx_need && p->rx_parts + VIRTQ_SIZE_MAX <= PARTS_MAX) {
		if (!fetch_rx(p))
			return false;
	}
	return true;
}

/* A frame of `len` bytes is in the first buffers: completes their chains, and keeps the others. */
static void deliver(struct pair *p, uint32_t len)
{
	struct virtio_dev *dev = &net_of(p)->dev;
	unsigned chains = 0, parts = 0;
	uint64_t room = 0;
	do {
		room += p->rx[chains].bytes;
		parts += p->rx[chains].parts;
		chains++;
	} while (room < len);
	uint16_t buffers = (uint16_t)chains;
	guest_store_iov(p->rx_iov, parts, offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers, sizeof(buffers));
	virtio_moved(dev, &dev->to_guest, len - NET_HEADER);
	for (unsigned i = 0; i < chains; i++) {
		uint32_t written = p->rx[i].bytes < len ? p->rx[i].bytes : len;
		len -= written;
		virtio_complete(dev, rx_queue(p), p->rx[i].head, written);
	}
	p->rx_count -= chains;
	p->rx_parts -= parts;
	p->rx_bytes -= room;
	memmove(p->rx, p->rx + chains, p->rx_count * sizeof(*p->rx));
	memmove(p->rx_iov, p->rx_iov + parts, p->rx_parts * sizeof(*p->rx_iov));
}

/* The driver may use fewer pairs from one frame to the next. */
static bool is_used(const struct pair *p)
{
	const struct net *n = net_of(p);
	return n->connected && n->dev.active && p < &n->pair[n->pairs_used];
}

/* Frames until there is none, or no room, or this round's share is used up: each counts, delivered or not. */
static void receive(struct pair *p)
{
	struct net *n = net_of(p);
	uint32_t unseen = 0;
	for (unsigned frames = 0; is_used(p); frames++) {
		if (!virtio_may(&n->dev, rx_queue(p)))
			return;
		while (!gather(p)) {
			if (!virtio_more(&n->dev, rx_queue(p)))
				return;
		}
		if (frames == VIRTQ_SIZE_MAX) {
			virtio_kick_again(&n->dev, rx_queue(p));
			return;
		}
		ssize_t len = net_port_receive(&p->port, p->rx_iov, p->rx_parts, p->rx_bytes);
		if (len == -EAGAIN) {
			await(&p->readable, p->port.fd, POLLIN);
			return;
		}
		if (len < 0) {
			lose(n, (int)len);
			return;
		}
		if (len > (ssize_t)NET_HEADER) {
			deliver(p, (uint32_t)len);
			unseen += (uint32_t)len;
		}
		if (unseen >= SHOW_BYTES) {
			virtio_show(&n->dev);
			unseen = 0;
		}
	}
}

/* --- from the guest --- */

static void complete_tx(struct pair *p, const struct virtq_chain *chain)
{
	struct net *n = net_of(p);
	if (chain->readable_bytes > n->tx_quiet_max)
		virtio_complete(&n->dev, tx_queue(p), chain->head, 0);
	else
		virtio_complete_quietly(&n->dev, tx_queue(p), chain);
}

/* Fetches one frame. False if there is none. */
static bool fetch_tx(struct pair *p)
{
	struct net *n = net_of(p);
	struct virtq_chain *chain = &p->tx[p->tx_count];
	if (!virtio_may(&n->dev, tx_queue(p)) || !virtio_fetch(&n->dev, tx_queue(p), chain))
		return false;
	if (chain->readable_bytes < NET_HEADER) {
		virtio_fail(&n->dev, "a frame without a whole header");
		return false;
	}
	uint32_t bytes = chain->readable_bytes - NET_HEADER;
	virtio_moved(&n->dev, &n->dev.from_guest, bytes);
	if (bytes > 0 && bytes <= NET_FRAME_MAX)
		p->tx_count++;
	else
		complete_tx(p, chain); /* no network would carry it */
	return true;
}

/* Sends what was fetched. False while the port does not take all of it. */
static bool send_fetched(struct pair *p)
{
	struct net *n = net_of(p);
	while (p->tx_first < p->tx_count) {
		unsigned waiting = p->tx_count - p->tx_first;
		int done = n->connected ? net_port_send(&p->port, &p->tx[p->tx_first], waiting) : (int)waiting;
		if (done == 0) {
			await(&p->writable, p->port.fd, POLLOUT);
			return false;
		}
		if (done < 0)
			lose(n, done);
		for (; done > 0; done--)
			complete_tx(p, &p->tx[p->tx_first++]);
	}
	p->tx_first = p->tx_count = 0;
	return true;
}

static void transmit(struct pair *p)
{
	struct virtio_dev *dev = &net_of(p)->dev;
	do {
		do {
			bool full = p->tx_count == NET_BATCH;
			if (!send_fetched(p))
				return;
			if (full) /* the driver goes on while the others are sent */
				virtio_show(dev);
			while (p->tx_count < NET_BATCH && fetch_tx(p))
				;
		} while (p->tx_count > 0);
	} while (virtio_may(dev, tx_queue(p)) && virtio_more(dev, tx_queue(p)));
}

/* --- the control queue --- */

static void attach_used(struct net *n);

static void pause_over(struct loop_op *op, int res, uint32_t flags)
{
	struct net *n = container_of(op, struct net, pause_op);
	(void)res, (void)flags;
	n->pausing = false;
	if (!n->dev.destroying)
		attach_used(n);
}

/*
 * Makes the host's kernel give frames only to the pairs that are in use. For each queue that it attaches or detaches,
 * it holds the lock of all networks and keeps others waiting. So there is a pause after each change; what the driver
 * wants at its end is done then.
 */
static void attach_used(struct net *n)
{
	if (n->pausing || n->pairs_attached == n->pairs_used || !n->connected || !n->offload)
		return;
	n->pairs_attached = n->pairs_used;
	for (unsigned i = 0; i < n->pairs && n->connected; i++) {
		int ret = net_port_attach(&n->pair[i].port, i < n->pairs_used);
		if (ret < 0)
			lose(n, ret);
	}
	struct io_uring_sqe *sqe = loop_sqe(n->dev.env.loop);
	n->pause = (struct __kernel_timespec){.tv_nsec = ATTACH_PAUSE_MS * 1000000};
	io_uring_prep_timeout(sqe, &n->pause, 0, 0);
	n->pause_op.done = pause_over;
	n->pausing = true;
	loop_start(n->dev.env.loop, sqe, &n->pause_op);
}

/* Section 5.1.6.5.6: the only command that the device offers. */
static uint8_t obey(struct net *n, const struct virtq_chain *chain)
{
	struct {
		struct virtio_net_ctrl_hdr head;
		uint8_t pairs[2];
	} command = {0};
	size_t len = guest_load_iov(&command, chain->iov, chain->readable, 0, sizeof(command));
	unsigned pairs = command.pairs[0] | (unsigned)command.pairs[1] << 8;
	if (len < sizeof(command) || command.head.class != VIRTIO_NET_CTRL_MQ ||
	        command.head.cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !virtio_has(&n->dev, VIRTIO_NET_F_MQ) ||
	        pairs < 1 || pairs > n->pairs)
		return VIRTIO_NET_ERR;
	n->pairs_used = pairs;
	return VIRTIO_NET_OK;
}

/* Of many commands at once, the host's kernel hears the outcome. The driver sees the answers after the round. */
static void control(struct net *n, unsigned queue)
{
	const struct virtq_chain *chain = &n->fetched;
	unsigned before = n->pairs_used;
	do {
		while (virtio_fetch(&n->dev, queue, &n->fetched)) {
			if (chain->writable_bytes < sizeof(uint8_t)) {
				virtio_fail(&n->dev, "a command without room for an answer");
				return;
			}
			uint8_t answer = obey(n, chain);
			guest_store_iov(chain->iov + chain->readable, chain->writable, 0, &answer, sizeof(answer));
			virtio_complete(&n->dev, queue, chain->head, sizeof(answer));
		}
	} while (virtio_more(&n->dev, queue));
	if (n->pairs_used == before)
		return;
	attach_used(n);
	for (unsigned i = 0; i < n->pairs_used; i++)
		virtio_kick_again(&n->dev, rx_queue(&n->pair[i]));
}

/* --- the device --- */

static void net_kick(struct virtio_dev *dev, unsigned queue)
{
	struct net *n = to_net(dev);
	unsigned last = virtio_queues(dev, dev->negotiated) - 1;
	struct pair *p = &n->pair[queue / PAIR_QUEUES];
	if (n->pairs > 1 && queue == last) {
		if (virtio_has(dev, VIRTIO_NET_F_CTRL_VQ))
			control(n, queue);
	} else if (queue % PAIR_QUEUES == TXQ) {
		transmit(p);
	} else {
		receive(p);
	}
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
	/* This sets the whole tap device, not one queue of it. */
	int ret = net_port_set_offload(
	        &n->pair[0].port, (checksums ? TUN_F_CSUM : 0) | (tso4 ? TUN_F_TSO4 : 0) | (tso6 ? TUN_F_TSO6 : 0));
	if (ret < 0)
		lose(n, ret);
	attach_used(n);
}

static void net_reset(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);
	for (unsigned i = 0; i < n->pairs; i++) {
		struct pair *p = &n->pair[i];
		p->rx_count = p->rx_parts = p->rx_bytes = 0;
		p->tx_first = p->tx_count = 0;
		net_port_forget(&p->port);
	}
	n->pairs_used = 1;
	virtio_reset_done(dev); /* nothing that is in flight touches guest memory */
}

static uint64_t pack_identity(const struct virtio_net_config *config)
{
	uint64_t packed = (uint64_t)config->mtu << 48;
	memcpy(&packed, config->mac, sizeof(config->mac));
	return packed;
}

/*
 * own[0] is the MAC and, in the upper 16 bits, the MTU; own[1] is how many pairs the driver uses beyond the first.
 * Chains that are held go back.
 */
static void net_save(const struct virtio_dev *dev, struct virtio_state *state)
{
	const struct net *n = (const struct net *)dev;
	state->own[0] = pack_identity(&n->config);
	state->own[1] = n->pairs_used - 1;
	for (unsigned i = 0; i < n->pairs && dev->active; i++) {
		const struct pair *p = &n->pair[i];
		struct virtq_state *rx = &state->queue[rx_queue(p)], *tx = &state->queue[tx_queue(p)];
		rx->avail_next = (uint16_t)(rx->avail_next - p->rx_count);
		tx->avail_next = (uint16_t)(tx->avail_next - (p->tx_count - p->tx_first));
	}
}

static int net_restore(struct virtio_dev *dev, const struct virtio_state *state, struct err *err)
{
	struct net *n = to_net(dev);
	uint16_t mtu = (uint16_t)(state->own[0] >> 48);
	if (mtu < NET_MTU_MIN)
		return err_set(err, EINVAL, "cannot restore the net device of the snapshot: its MTU is %u", mtu);
	if (state->own[1] >= n->pairs || (state->own[1] > 0 && !(state->negotiated & BIT(VIRTIO_NET_F_MQ))))
		return err_set(err, EINVAL,
		        "cannot restore the net device of the snapshot: its driver uses more queues than it has");
	n->pairs_used = (unsigned)state->own[1] + 1;
	memcpy(n->config.mac, &state->own[0], sizeof(n->config.mac));
	n->config.mtu = mtu;
	n->restored = true;
	return 0;
}

static void net_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	const struct net *n = to_net(dev);
	struct virtio_net_config config = {.mtu = n->config.mtu, .max_virtqueue_pairs = (uint16_t)n->pairs};
	memcpy(config.mac, n->config.mac, sizeof(config.mac));
	config.status = __atomic_load_n(&n->status, __ATOMIC_RELAXED);
	memcpy(data, (const uint8_t *)&config + offset, len);
}

static void net_destroy(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);
	for (unsigned i = 0; i < 2 * n->pairs; i++) {
		struct pair *p = &n->pair[i / 2];
		struct wait *w = i % 2 ? &p->writable : &p->readable;
		if (w->armed)
			loop_cancel(dev->env.loop, &w->op);
		while (w->armed) {
			if (loop_step(dev->env.loop, -1) < 0)
				return; /* a failed ring: the kernel may still access the object */
		}
	}
	if (n->pausing)
		loop_cancel(dev->env.loop, &n->pause_op);
	while (n->pausing) {
		if (loop_step(dev->env.loop, -1) < 0)
			return;
	}
	for (unsigned i = 0; i < n->pairs; i++)
		net_port_close(&n->pair[i].port);
	free(n);
}

static const struct virtio_type net_type = {
        .name = "net",
        .id = VIRTIO_ID_NET,
        .queue_size_max = VIRTQ_SIZE_MAX,
        .config_size = CONFIG_SIZE,
        .multiqueue = BIT(VIRTIO_NET_F_MQ),
        .first_queues = PAIR_QUEUES + 1,
        .activate = net_activate,
        .kick = net_kick,
        .reset = net_reset,
        .config_read = net_config_read,
        .save = net_save,
        .restore = net_restore,
        .destroy = net_destroy,
};

/* Takes over the descriptors once all of them can be used. */
static int open_ports(struct net *n, const struct net_options *opt, struct err *err)
{
	for (unsigned i = 0; i < n->pairs; i++) {
		struct net_port *port = &n->pair[i].port;
		*port = (struct net_port){.fd = opt->fd[i], .stream = opt->stream};
		int ret = net_port_open(port);
		if (ret == 0)
			continue;
		for (unsigned k = 0; k <= i; k++)
			n->pair[k].port.fd = -1;
		return err_set(err, -ret, "cannot use the network's descriptor: %s", strerror(-ret));
	}
	return 0;
}

int net_create(struct virtio_dev **dev, const struct virtio_env *env, const struct net_options *opt, struct err *err)
{
	unsigned pairs = opt->pairs ? opt->pairs : 1;
	uint64_t features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MTU) |
	                    BIT(VIRTIO_NET_F_MRG_RXBUF) | (opt->offload ? OFFLOADS : 0) |
	                    (pairs > 1 ? SEVERAL_PAIRS : 0);
	struct net *n = calloc(1, sizeof(*n) + pairs * sizeof(n->pair[0]));
	if (!n)
		return err_set(err, ENOMEM, "out of memory for the network device");
	n->offload = opt->offload;
	n->pairs = n->pairs_attached = pairs;
	n->pairs_used = 1;
	n->config.mtu = opt->mtu;
	memcpy(n->config.mac, opt->mac, sizeof(n->config.mac));
	for (unsigned i = 0; i < pairs; i++) {
		n->pair[i].port.fd = -1;
		n->pair[i].readable = (struct wait){.net = n, .queue = i * PAIR_QUEUES + RXQ};
		n->pair[i].writable = (struct wait){.net = n, .queue = i * PAIR_QUEUES + TXQ};
	}
	int ret = virtio_init(&n->dev, &net_type, env, pairs * PAIR_QUEUES + (pairs > 1), features, err);
	if (ret == 0)
		ret = open_ports(n, opt, err);
	if (ret < 0) {
		virtio_destroy(&n->dev);
		return ret;
	}
	n->connected = opt->fd[0] >= 0;
	n->status = n->connected ? VIRTIO_NET_S_LINK_UP : 0;
	*dev = &n->dev;
	return 0;
}
