/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/devices.h"

#include <stdio.h>
#include <string.h>

#include "virtio/blk.h"
#include "virtio/fs.h"
#include "virtio/net.h"
#include "vmm/shared/fs_wire.h"

/* One queue for each vCPU, so that none waits for another's lock. */
int devices_create_disk(struct virtio_dev **dev, struct virtio_env *env, const struct description_disk *disk,
        bool image, unsigned cpus, int *fd, struct err *err)
{
	struct blk_options options = {.fd = *fd,
	        .readonly = disk->read_only,
	        .padded = image && disk->read_only,
	        .direct = disk->cache == WISP_CACHE_DIRECT,
	        .ignore_flushes = disk->cache == WISP_CACHE_UNSAFE,
	        .queues = cpus < VIRTIO_QUEUES_MAX ? cpus : VIRTIO_QUEUES_MAX};
	int ret = blk_create(dev, env, &options, err);
	if (ret == 0)
		*fd = -1;
	return ret;
}

int devices_create_folder(struct virtio_dev **dev, struct virtio_env *env, unsigned number,
        const struct description_folder *folder, int fds[DESCRIPTION_FOLDER_FDS], struct err *err)
{
	char tag[FS_TAG_MAX];
	struct fsdev_options options = {.tag = tag,
	        .path = folder->path,
	        .socket = fds[DESCRIPTION_FOLDER_SOCKET],
	        .requests = fds[DESCRIPTION_FOLDER_REQUESTS],
	        .replies = fds[DESCRIPTION_FOLDER_REPLIES]};
	snprintf(tag, sizeof(tag), FS_TAG, number);
	int ret = fsdev_create(dev, env, &options, err);
	for (unsigned i = 0; i < DESCRIPTION_FOLDER_FDS && ret == 0; i++)
		fds[i] = -1;
	return ret;
}

_Static_assert(NET_PAIRS_MAX == DESCRIPTION_NET_QUEUES_MAX, "as many as a device can have");

int devices_create_net(
        struct virtio_dev **dev, struct virtio_env *env, const struct description_net *net, int *fds, struct err *err)
{
	/* Nothing is connected to one that is down, so it can offer whatever its saved driver chose. */
	struct net_options options = {.pairs = net->queues,
	        .stream = net->port == DESCRIPTION_NET_STREAM,
	        .offload = net->port != DESCRIPTION_NET_STREAM,
	        .mtu = net->mtu};
	for (unsigned i = 0; i < net->queues; i++)
		options.fd[i] = net->port == DESCRIPTION_NET_DOWN ? -1 : fds[i];
	memcpy(options.mac, net->mac, sizeof(options.mac));
	int ret = net_create(dev, env, &options, err);
	for (unsigned i = 0; i < net->queues && ret == 0; i++)
		fds[i] = -1;
	return ret;
}
