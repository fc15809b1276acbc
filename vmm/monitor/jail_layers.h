/* SPDX-License-Identifier: Apache-2.0 */
/* The layers of the jail that have files of their own; for jail.c. Each is entered once, in the order of jail_enter. */
#ifndef WISP_MONITOR_JAIL_LAYERS_H
#define WISP_MONITOR_JAIL_LAYERS_H

#include "vmm/monitor/jail.h"

/* For the log: that a layer holds, with a remark (" ..." or ""); that the host lacks or forbids it, as `error` says. */
void jail_holds(struct jail *jail, enum wisp_jail_layer layer, const char *remark);
void jail_lacks(struct jail *jail, enum wisp_jail_layer layer, int error);

/*
 * Namespaces of its own: by privilege, or, as an ordinary user, in a user namespace with a single user. Not in that if
 * root needs the files of others, which it could not have there. Before other threads exist, and before the process
 * gives up its privileges. 0, or -errno with `err` set.
 */
int jail_enter_namespaces(struct jail *jail, bool needs_others, struct err *err);

#endif
