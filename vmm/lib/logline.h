/* SPDX-License-Identifier: Apache-2.0 */
/* One line of exec.log: a flat JSON object. */
#ifndef WISP_LIB_LOGLINE_H
#define WISP_LIB_LOGLINE_H

#include "vmm/lib/lib.h"

struct logline {
	int64_t time_ns;
	uint64_t session;
	char stream[16];
	struct lib_string data; /* decoded; for an event, its other members as "name=value" */
};

/* Returns false if the line is not a record. Calls reuse `data`; the caller frees its text at the end. */
bool logline_parse(const char *line, size_t length, struct logline *record);

#endif
