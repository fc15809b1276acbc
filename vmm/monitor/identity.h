/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WISP_MONITOR_IDENTITY_H
#define WISP_MONITOR_IDENTITY_H

#include "vmm/monitor/err.h"
#include "vmm/shared/proto.h"

/* What the agent of a clone needs to make a machine of its own of it: 0, or -errno with `err` set. */
int identity_make(struct proto_thaw *thaw, const char *hostname, struct err *err);

#endif
