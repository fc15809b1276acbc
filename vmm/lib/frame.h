/* SPDX-License-Identifier: Apache-2.0 */
/* What may arrive from the agent, which is as hostile as the rest of the guest. */
#ifndef WISP_LIB_FRAME_H
#define WISP_LIB_FRAME_H

#include "vmm/lib/conn.h"

/* The most that a payload of this type may have; SIZE_MAX for types that only a client sends, or nobody. */
size_t frame_limit(uint8_t type);
/* NULL, or what is wrong with a whole frame in this phase of this request. */
const char *frame_refuse(const struct conn *conn, uint8_t type, const uint8_t *payload, size_t length);

#endif
