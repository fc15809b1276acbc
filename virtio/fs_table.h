/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of what the guest knows of a folder, which wisp-fs makes and takes (vmm/shared/fs_wire.h). The monitor
 * keeps it with the machine's state, and does not look into it.
 *
 * Both calls wait for wisp-fs, as a pause waits for requests in flight: no request of the guest is with it. Loop's
 * thread. 0, or -errno: -EPIPE if wisp-fs has ended, -EPROTO if it broke the protocol.
 */
#ifndef WISP_VIRTIO_FS_TABLE_H
#define WISP_VIRTIO_FS_TABLE_H

#include <stddef.h>

/* The caller frees *table. */
int fs_table_fetch(int socket, void **table, size_t *size);

int fs_table_give(int socket, const void *table, size_t size);

#endif
