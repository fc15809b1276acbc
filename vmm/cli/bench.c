/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/verbs.h"

const struct cli_verb cli_bench = {
        .name = "bench",
        .program = "wisp-bench",
        .summary = "Measure this host and its sandboxes",
};
