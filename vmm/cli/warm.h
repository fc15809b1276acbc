/* SPDX-License-Identifier: Apache-2.0 */
/* Starts from the snapshot of a configuration, for the verbs that create a sandbox, and the process that makes it. */
#ifndef WISP_CLI_WARM_H
#define WISP_CLI_WARM_H

#include "vmm/cli/command.h"

struct cli_warm {
	bool wanted;
};

extern const struct cli_option cli_warm_options[];
/* The row of a verb's groups. */
#define CLI_WARM_GROUP(type, field)                                                              \
	{                                                                                        \
		.options = cli_warm_options, .offset = CLI_OFFSET(type, field, struct cli_warm), \
	}

/* Completes options that are filled in otherwise: by --warm, or by WISP_WARM if nothing in them is against it. */
void cli_fill_warm(const struct cli_warm *warm, struct wisp_create_options *options);

/*
 * Leaves a process behind that makes the snapshot for the next sandbox of these options, as soon as this process has
 * ended, however it ends. Call it while this process has one thread. If it fails, the next sandbox boots.
 */
void cli_leave_warm(const struct wisp_create_options *options);

/* What --warm does, for the verbs that have it. */
#define CLI_WARM_DETAILS                                                                                              \
	"With --warm, the sandbox starts from a snapshot of a machine that has just booted, if the cache has one of " \
	"the same configuration. If not, it boots, and when wisp has ended, a process in the background makes the "   \
	"snapshot from a boot of its own."

#endif
