/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a snapshot in a process of its own, which has the guest's memory as it was when the process was forked. So the
 * machine goes on while the file is written, and its pause does not depend on the disk.
 */
#ifndef WISP_MONITOR_WRITER_H
#define WISP_MONITOR_WRITER_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/monitor/err.h"
#include "vmm/monitor/loop.h"
#include "vmm/monitor/snapshot.h"

struct writer_result {
	struct snapshot_layout layout;
	struct err err;
};

struct writer {
	struct loop *loop;
	void (*done)(struct writer *writer); /* on the loop's thread; `result` is there, or the writer was cancelled */
	bool active;
	struct writer_result result;
	int pipe;
	size_t received; /* bytes of `result` */
	struct loop_op op;
};

/*
 * The caller has filled in `loop` and `done`. `file` and `origin` are needed only until this returns. 0, and `done`
 * will be called; or -errno: there can be no such process. The loop's thread; the machine is paused.
 */
int writer_start(struct writer *writer, int file, const struct snapshot_origin *origin);

/* Waits no longer: `done` is called soon. The process ends with the monitor. */
void writer_cancel(struct writer *writer);

#endif
