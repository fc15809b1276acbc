/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent is told on the kernel's command line, behind "--": agent/main.c reads it. */
#ifndef WISP_MONITOR_INIT_ARGS_H
#define WISP_MONITOR_INIT_ARGS_H

#include "vmm/shared/description.h"

/* Bytes, with the NUL. Room for any description; what the kernel takes is less. */
#define INIT_ARGS_MAX \
	(DESCRIPTION_HOSTNAME_MAX + 320 + DESCRIPTION_FOLDERS_MAX * (3 * DESCRIPTION_FOLDER_PATH_MAX + 20))

/* Writes the words for a machine that boots; none for a payload. */
void init_args_make(const struct description *description, char to[INIT_ARGS_MAX]);

#endif
