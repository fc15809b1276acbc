/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a network device: a descriptor that takes and gives Ethernet frames, in one of two framings.
 *
 * A tap device moves one frame per call, preceded by struct virtio_net_hdr_v1. The host's kernel reads that
 * header, checks it, and segments or checksums as it says. The buffers are the guest's; nothing is copied here.
 *
 * A stream socket, as passt has, carries the length of each frame in four bytes, big-endian, before the frame, and no
 * header. Frames are sent many at a time from the guest's buffers. They are received many at a time into a buffer, of
 * which each is copied to the guest. The peer is not trusted: it reads and writes what the guest's peers send. It may
 * connect wherever a packet goes, in the host's own network: so one that goes to the host's loopback gets the type of
 * no protocol.
 *
 * Threads: the loop's.
 */
#ifndef WISP_VIRTIO_NET_PORT_H
#define WISP_VIRTIO_NET_PORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "virtio/queue.h"

#define NET_HEADER 12u          /* bytes of struct virtio_net_hdr_v1, which precedes every frame in the guest */
#define NET_FRAME_MAX 65553u    /* the largest IP packet, behind an Ethernet header with a VLAN tag */
#define NET_BATCH 16u           /* frames that are sent at once */
#define NET_BUFFER (192u << 10) /* of a stream: what one call may receive */

/* The beginning of a frame, as a stream gets it: a copy, which the guest does not change after it was looked at. */
struct net_start {
	uint32_t length;   /* of the frame, big-endian */
	uint8_t bytes[54]; /* the headers of Ethernet and IPv6 */
};

/* Zeroed except for `fd` and `stream`. */
struct net_port {
	int fd; /* -1: nothing is there */
	bool stream;
	bool detached; /* a queue of a tap device, which gets no frames */
	/* The rest is for streams. */
	uint32_t sent, left;   /* bytes of the next frame, with its length, that the socket has taken, and has not */
	struct net_start next; /* that frame's, if some of it is sent */
	uint32_t owed;         /* bytes of `next`, whose end the guest has taken back; zeros stand for its contents */
	uint8_t *buffer;       /* NET_BUFFER bytes */
	uint32_t start, len;   /* what it holds */
};

/* Prepares the descriptor and allocates: 0 or -errno. */
int net_port_open(struct net_port *port);

/* Closes the descriptor, frees. */
void net_port_close(struct net_port *port);

/* Which frames a tap device may give: TUN_F_*. 0 or -errno. */
int net_port_set_offload(struct net_port *port, unsigned flags);

/* Sets whether a queue of a tap device with several queues gets frames. 0 or -errno. */
int net_port_attach(struct net_port *port, bool attached);

/*
 * Sends the frames in the readable buffers of chain[0 .. count), headers included. Returns how many it is done with,
 * from the first on; 0 when the port takes nothing at present, and the next call must begin with the same frame; or
 * -errno when it is gone. A frame that the host refuses is done with: networks lose frames.
 */
int net_port_send(struct net_port *port, const struct virtq_chain *chain, unsigned count);

/* Gives up the frames that were not sent, so that the next call may begin with any other. */
void net_port_forget(struct net_port *port);

/*
 * Receives one frame, with its header, into `iov`, which holds `room` bytes in `count` buffers and has space for one
 * more. Returns its length; 0 for one that was longer than the room and is lost; -EAGAIN if there is none; or -errno
 * when the port is gone.
 */
ssize_t net_port_receive(struct net_port *port, struct iovec *iov, unsigned count, uint64_t room);

#endif
