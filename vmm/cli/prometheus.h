/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of sandboxes in Prometheus' text format, version 0.0.4. */
#ifndef WISP_CLI_PROMETHEUS_H
#define WISP_CLI_PROMETHEUS_H

#include <stddef.h>
#include <stdio.h>

#include "wisp.h"

/* Each family of metrics once, with the samples of all sandboxes. What is not known has no sample. */
void cli_print_prometheus(struct wisp_stats *const *list, size_t count, FILE *to);

#endif
