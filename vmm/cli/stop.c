/* SPDX-License-Identifier: Apache-2.0 */
/* wisp stop and wisp rm. */
#include <errno.h>

#include "vmm/cli/cli.h"

static int stop(const char *name, const struct cli_args *args, struct wisp_error *error)
{
	struct wisp_sandbox *sandbox;
	int r = wisp_open_sandbox(cli_state_root(), name, &sandbox, error);
	if (r < 0)
		return r;
	r = args->force ? wisp_kill_sandbox(sandbox, error) : wisp_stop_sandbox(sandbox, args->grace_ms, error);
	wisp_close_sandbox(sandbox);
	return r;
}

int cli_stop(struct cli_args *args)
{
	struct wisp_error error;
	int code = 0;
	for (size_t i = 0; i < args->operand_count; i++) {
		/* One that has ended already is as it should be. */
		if (stop(args->operands[i], args, &error) < 0 &&
		        !(error.status == WISP_ERR_NOT_RUNNING && error.errnum == ESRCH))
			code = cli_fail_error(&error);
	}
	return code;
}

int cli_rm(struct cli_args *args)
{
	struct wisp_error error;
	int code = 0;
	for (size_t i = 0; i < args->operand_count; i++) {
		const char *name = args->operands[i];
		/* One that deletes itself when it stops is gone by then. */
		if (args->force && stop(name, args, &error) < 0 && error.status != WISP_ERR_NOT_RUNNING &&
		        error.status != WISP_ERR_NO_SANDBOX) {
			code = cli_fail_error(&error);
			continue;
		}
		if (wisp_remove_sandbox(cli_state_root(), name, &error) < 0 &&
		        !(args->force && error.status == WISP_ERR_NO_SANDBOX))
			code = cli_fail_error(&error);
	}
	return code;
}
