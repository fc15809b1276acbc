/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed snapshots are expanded into the cache, once, and every part is compared with its checksum on the way. */
#ifndef WISP_LIB_EXPAND_H
#define WISP_LIB_EXPAND_H

#include "vmm/lib/snapfile.h"

/* Opens the expanded form of `file` for reading, and stores the descriptor in *fd, which the caller closes. */
int expand_snapshot(struct snapfile *file, const char *cache_dir, const struct lib_cancel *cancel,
        const struct lib_progress *progress, int *fd, struct wisp_error *error);

#endif
