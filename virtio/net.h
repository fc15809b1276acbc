/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio network device (virtio 1.2, section 5.1) over a tap device, with one queue of it for each pair of queues, or
 * over a stream socket, with one pair (net_port.h).
 */
#ifndef WISP_VIRTIO_NET_H
#define WISP_VIRTIO_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"

#define NET_MTU_MIN 68u
#define NET_MTU_MAX 65535u
#define NET_PAIRS_MAX ((VIRTIO_QUEUES_MAX - 1) / 2) /* and the control queue */

struct net_options {
	unsigned pairs;        /* of queues; 0 means 1. Only a tap device can have several */
	int fd[NET_PAIRS_MAX]; /* one for each pair; -1: nothing is connected, and the link stays down */
	bool stream;           /* a stream socket; else a tap device with IFF_VNET_HDR and headers of 12 bytes */
	bool offload;          /* the tap device takes and gives checksums and segments that are not done yet */
	uint8_t mac[6];
	uint16_t mtu; /* NET_MTU_MIN .. NET_MTU_MAX; a restored device keeps its MAC and MTU */
};

/* 0 and `*dev` (ended by virtio_destroy), which owns the descriptors; or -errno with `err`. Loop's thread. */
int net_create(struct virtio_dev **dev, const struct virtio_env *env, const struct net_options *opt, struct err *err);

#endif
