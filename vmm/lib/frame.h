/* SPDX-License-Identifier: Apache-2.0 */
/* Checks frames from the agent, which is as hostile as the rest of the guest. */
#ifndef WISP_LIB_FRAME_H
#define WISP_LIB_FRAME_H

#include "vmm/lib/conn.h"

/* Returns what is wrong with a frame whose header is right, in this phase of this request, or NULL. */
const char *frame_refuse(const struct conn *conn, uint8_t type, const uint8_t *payload);

#endif
