/* SPDX-License-Identifier: Apache-2.0 */
/* What wisp-fs gives up before it serves a guest: all but the folder, and the calls that serve it. */
#ifndef WISP_FS_JAIL_H
#define WISP_FS_JAIL_H

#include "vmm/fs/fs.h"

/*
 * 0, or -errno with what could not be done in `why`. A layer that the host's kernel does not have is left out. Builds
 * with sanitizers have none.
 */
int fs_jail_enter(const struct fs *fs, const char **why);

/* Raises or lowers the limit of open files to what wisp-fs uses. Before fs_init. */
void fs_jail_set_files(void);

#endif
