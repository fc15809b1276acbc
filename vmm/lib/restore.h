/* SPDX-License-Identifier: Apache-2.0 */
/* Creations from a snapshot (wisp_create_options.from). */
#ifndef WISP_LIB_RESTORE_H
#define WISP_LIB_RESTORE_H

#include "vmm/lib/describe.h"

struct restore;

/* Opens the snapshot, and completes creation->options by what it has. Stores creation->restore. */
int restore_open(struct creation *creation, struct wisp_error *error);
/* What creation_describe does for a sandbox that boots, with the completed options, which are checked by now. */
int restore_describe(struct creation *creation, struct wisp_error *error);
void restore_free(struct restore *restore);

#endif
