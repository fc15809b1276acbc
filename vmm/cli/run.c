/* SPDX-License-Identifier: Apache-2.0 */
/* wisp run and wisp exec. */
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/cli.h"

int cli_exec(struct cli_args *args)
{
	struct wisp_error error;
	int code = 0;
	struct wisp_sandbox *sandbox = cli_open(args->operands[0], &code);
	if (!sandbox)
		return code;
	code = cli_bridge_exec(sandbox, args, &error);
	if (code < 0)
		code = cli_fail_error(&error);
	wisp_close_sandbox(sandbox);
	return code;
}

/* A connection that was lost: by then the monitor knows what became of the guest. */
static int fail_lost(struct wisp_sandbox *sandbox, const struct wisp_error *error)
{
	static const char *const words[] = {
	        [WISP_END_POWEROFF] = "the guest powered off",
	        [WISP_END_REBOOT] = "the guest asked for a reboot, which ends a sandbox,",
	        [WISP_END_PANIC] = "the guest's kernel ended in a panic",
	        [WISP_END_TRIPLE_FAULT] = "the guest's processor shut down by a triple fault",
	        [WISP_END_KILLED] = "the sandbox was killed",
	        [WISP_END_INTERNAL] = "the sandbox's monitor gave up",
	};
	enum wisp_end end;
	if (error->status == WISP_ERR_DISCONNECTED && wisp_wait_sandbox(sandbox, 10000, &end, NULL) == 0 &&
	        (size_t)end < sizeof(words) / sizeof(words[0]) && words[end])
		return cli_fail("%s before the command had ended", words[end]);
	return cli_fail_error(error);
}

/* What outlives the sandbox has to be written before it goes. */
static bool writes_to_disks(const struct cli_args *args)
{
	bool writes = args->writable || args->overlay;
	for (size_t i = 0; i < args->disk_count; i++)
		writes |= !args->disks[i].read_only;
	return writes;
}

int cli_run(struct cli_args *args)
{
	struct wisp_error error;
	int code = 0;
	if (args->detach)
		return cli_fail(
		        "run: --detach would end the command with the sandbox: use wisp create and wisp exec --detach");
	if (args->tty && (!args->command || !args->command[0]))
		args->command = NULL; /* the shell */
	struct wisp_sandbox *sandbox = cli_create(args, false, &code);
	if (!sandbox)
		return code;
	code = cli_bridge_exec(sandbox, args, &error);
	if (code < 0)
		code = fail_lost(sandbox, &error);
	else if (writes_to_disks(args) && wisp_stop_sandbox(sandbox, 0, &error) < 0)
		code = cli_fail_error(&error);
	wisp_close_sandbox(sandbox);
	return code;
}
