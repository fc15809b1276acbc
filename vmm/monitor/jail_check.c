/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/jail_check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/monitor/jail.h"
#include "vmm/monitor/loop.h"

int jail_check(void)
{
	struct description description;
	struct description_fds fds;
	struct err err = {0};
	struct jail jail;
	struct loop *loop = NULL;
	description_init(&description);
	description_init_fds(&fds);
	description.memory_mib = WISP_MEMORY_MIB_MIN;
	fds.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int ret = loop_choose_engine(&description.engine, &err);
	if (ret == 0)
		ret = jail_enter(&jail, WISP_LAYER_ALL, &description, &fds, &err);
	if (ret == 0)
		ret = loop_create(&loop, &err);
	if (ret == 0)
		ret = loop_open(loop, &(struct loop_options){.entries = 1, .engine = description.engine}, &err);
	if (ret == 0)
		jail_note_engine(&jail);
	if (ret == 0)
		printf("0x%x %s\n", jail.layers, jail.text);
	else
		fprintf(stderr, "wisp-vmm: %s\n", err.text);
	loop_destroy(loop);
	return ret == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
