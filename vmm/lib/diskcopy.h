/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of disks: a clone of the file's extents where the file system can (FICLONE), else a copy with holes. */
#ifndef WISP_LIB_DISKCOPY_H
#define WISP_LIB_DISKCOPY_H

#include "vmm/lib/lib.h"

/* Copies `from`, a file or block device, to the empty file `to`. 0 or -errno, that of lib_poll among them. */
int diskcopy(int from, int to, const struct lib_cancel *cancel);

#endif
