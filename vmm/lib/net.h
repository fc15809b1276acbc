/* SPDX-License-Identifier: Apache-2.0 */
/* The network device of a new sandbox: what it is connected to, and what the guest is told. */
#ifndef WISP_LIB_NET_H
#define WISP_LIB_NET_H

#include "vmm/lib/describe.h"

/* Describes what options.net asks for, of a machine that boots. 0, also if it asks for nothing; or -errno. */
int net_describe(struct creation *creation, struct wisp_error *error);

/*
 * The same for a machine that has a network device already, if `had` is not NULL: the guest keeps its addresses, and
 * without options.net its link is down.
 */
int net_inherit(struct creation *creation, const char *had, struct wisp_error *error);

#endif
