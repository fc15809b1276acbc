/* SPDX-License-Identifier: Apache-2.0 */
/* A progress bar on standard error, if that is a terminal. */
#ifndef WISP_CLI_PROGRESS_H
#define WISP_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool on;
	uint64_t done, total; /* bytes; total 0: unknown */
	int64_t began_ns, shown_ns;
};

void progress_begin(struct progress *progress, bool quiet, uint64_t total);
void progress_add(struct progress *progress, uint64_t bytes);
/* The same, for struct wisp_progress, whose context is the progress. */
void progress_report(void *progress, uint64_t done, uint64_t total);
/* Clears the line. */
void progress_end(struct progress *progress);

#endif
