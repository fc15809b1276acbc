/* SPDX-License-Identifier: Apache-2.0 */
/* mksquashfs, which packs a directory. It does not outlive the process that started it. */
#ifndef WISP_LIB_PACK_H
#define WISP_LIB_PACK_H

#include "vmm/lib/lib.h"

/* Returns the path of mksquashfs, or NULL if it is not installed. */
const char *pack_find(void);

/* Packs `dir` as the file `out`, and keeps what mksquashfs says in the file `said`, which the caller removes. */
int pack_run(
        const char *dir, const char *out, const char *said, const struct lib_cancel *cancel, struct wisp_error *error);

#endif
