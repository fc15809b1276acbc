/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.log: one JSON line for each event of a session. The events come from the guest and are hostile; the bytes of its
 * output are recorded losslessly, whatever they are.
 */
#ifndef WISP_MONITOR_EXECLOG_H
#define WISP_MONITOR_EXECLOG_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/monitor/logfile.h"

/*
 * Appends an event as {"time","session","stream", and what the event carries}. Output is the string "data" if it is
 * UTF-8 without a NUL, and "data_b64" otherwise. `type` and `payload` are as in vmm/shared/proto.h and are not trusted.
 * 0, or -EPROTO if the payload does not fit its type.
 */
int execlog_write(
        struct logfile *file, uint64_t session, uint64_t realtime_ns, uint8_t type, const uint8_t *payload, size_t len);

#endif
