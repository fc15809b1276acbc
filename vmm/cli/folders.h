/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of the host that the guest uses: the option of verbs that create a sandbox. */
#ifndef WISP_CLI_FOLDERS_H
#define WISP_CLI_FOLDERS_H

#include "vmm/cli/command.h"

struct cli_folders {
	struct wisp_folder *folders;
	size_t count;
};

extern const struct cli_option cli_folders_options[];
void cli_release_folders(void *folders);
/* The row of a verb's groups. */
#define CLI_FOLDERS_GROUP(type, field)                                                                 \
	{                                                                                              \
		.options = cli_folders_options, .offset = CLI_OFFSET(type, field, struct cli_folders), \
		.release = cli_release_folders                                                         \
	}

void cli_fill_folders(const struct cli_folders *folders, struct wisp_create_options *options);

#endif
