/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of the host that lead to the guest's TCP: what manage.h in vmm/shared asks for. */
#ifndef WISP_MONITOR_PORTS_H
#define WISP_MONITOR_PORTS_H

#include "virtio/device.h"
#include "vmm/monitor/err.h"
#include "vmm/shared/manage.h"

/*
 * Carries out MANAGE_FORWARD, MANAGE_UNFORWARD or MANAGE_FORWARDS. `vsock` is NULL for a machine without one. Takes
 * over *file if it keeps it, and sets it to -1 then. 0, or -errno with `err`. The loop's thread.
 */
int ports_manage(struct virtio_dev *vsock, const struct manage_request *request, int *file, struct err *err);

#endif
