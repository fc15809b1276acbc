/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a sandbox that starts from a snapshot, for the verbs that create one. */
#ifndef WISP_CLI_FROM_H
#define WISP_CLI_FROM_H

#include "vmm/cli/machine.h"

struct cli_from {
	const char *file; /* NULL: boot */
	bool copy_disks, prefetch;
};

extern const struct cli_option cli_from_options[];
/* The row of a verb's groups. */
#define CLI_FROM_GROUP(type, field)                                                              \
	{                                                                                        \
		.options = cli_from_options, .offset = CLI_OFFSET(type, field, struct cli_from), \
	}

/* 0, or the exit code after a message: a snapshot has its machine, and its image, which would be the operand. */
int cli_check_from(
        const struct cli_call *call, const struct cli_from *from, const struct cli_machine *machine, bool console);
/* The options borrow from `from`. */
void cli_fill_from(const struct cli_from *from, struct wisp_create_options *options);

/* What a snapshot is, for the verbs that start from one. */
#define CLI_FROM_DETAILS                                                                                               \
	"With --from, the sandbox does not boot. It continues from what wisp snapshot saved, with the same image, "    \
	"processors, memory and running programs, and with its own host name and random numbers. --disk replaces the " \
	"saved disks: give as many as there were. A sandbox with shared folders is saved without them: give -v for "   \
	"each, "                                                                                                       \
	"with the same GUEST."

#endif
