/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the VMM writes down beside the guest: a log file of bounded size, and exec.log, one JSON line an event of an
 * execution. Everything in it comes from the guest, so sizes are bounded and bytes are kept losslessly whatever they
 * are.
 */
#ifndef WISP_MONITOR_EXECLOG_H
#define WISP_MONITOR_EXECLOG_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/monitor/err.h"

/* A file that starts anew when it is full; the one before is kept as "<path>.1". Any thread. */
struct capped_file {
	pthread_mutex_t lock;
	int fd;               /* 0: none; -1: to be created by the first write */
	uint64_t size, limit; /* bytes */
	char path[256];
};

/*
 * In two steps, since others may write to it between them: the first write creates it then, with mode 0600, and
 * capped_create what nobody has written to. What is in it already stays: it may be our standard error output as well.
 * 0 or -errno with `err`.
 */
int capped_prepare(struct capped_file *file, const char *path, uint64_t limit, struct err *err);
int capped_create(struct capped_file *file, struct err *err);
/* Appends all or, when the disk is full, less: a log's loss never stops a guest. */
void capped_write(struct capped_file *file, const void *data, size_t len);
/* The same for what must not be parted from the piece before: never starts the file anew, so it may exceed the limit.
 */
void capped_continue(struct capped_file *file, const void *data, size_t len);
/* Takes a zeroed object. */
void capped_close(struct capped_file *file);

/*
 * One event of the agent as a JSON line: {"time","session","stream", and what the event carries}. Output is "data", a
 * string, where it is UTF-8 without a NUL, else "data_b64": exactly the bytes either way. `type` and `payload`
 * are as in vmm/shared/proto.h and are not trusted. 0, or -EPROTO when the payload does not fit its type.
 */
int execlog_write(struct capped_file *file, uint64_t session, uint64_t realtime_ns, uint8_t type,
        const uint8_t *payload, size_t len);

#endif
