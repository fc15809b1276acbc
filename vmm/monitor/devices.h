/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creates devices as a description names them. A device that was created owns its descriptors: they are -1 then. 0 or
 * -errno with *err.
 */
#ifndef WISP_MONITOR_DEVICES_H
#define WISP_MONITOR_DEVICES_H

#include <stdbool.h>

#include "virtio/device.h"
#include "vmm/shared/description.h"

/* `image`: the root file system, which may be padded to whole sectors. */
int devices_create_disk(struct virtio_dev **dev, struct virtio_env *env, const struct description_disk *disk,
        bool image, unsigned cpus, int *fd, struct err *err);
/* `folder` outlives the device. */
int devices_create_folder(struct virtio_dev **dev, struct virtio_env *env, unsigned number,
        const struct description_folder *folder, int fds[DESCRIPTION_FOLDER_FDS], struct err *err);
int devices_create_net(
        struct virtio_dev **dev, struct virtio_env *env, const struct description_net *net, int *fds, struct err *err);

#endif
