/* SPDX-License-Identifier: Apache-2.0 */
/* The root file system: from the initramfs to the disk, and its end. */
#ifndef WISP_AGENT_ROOTFS_H
#define WISP_AGENT_ROOTFS_H

#include <stdbool.h>

/*
 * Makes /dev/<root>, or the host's folder of the tag <root> ("folder0"), the root of this process and of all that
 * follow, with /dev moved along. Read-only: below an overlay whose changes go to a tmpfs, or to the ext4 on
 * /dev/<overlay>. NULL: stays where it is. 0, or -errno after a line on the console. *over_fd is for rootfs_leave(), -1
 * or the folder that holds the changes.
 */
int rootfs_enter(const char *root, bool read_only, const char *overlay, int *over_fd);

/* Unmounts everything else, makes the root and its overlay's disk read-only, and syncs. */
void rootfs_leave(int over_fd);

#endif
