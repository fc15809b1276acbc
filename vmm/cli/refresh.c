/* SPDX-License-Identifier: Apache-2.0 */
/* wisp refresh. */
#include "vmm/cli/verbs.h"

static int refresh(const struct cli_call *call)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	if (wisp_open_sandbox(call->places->state_root, call->operands[0], &sandbox, &error) < 0)
		return cli_fail_error(&error);
	int r = wisp_refresh_disks(sandbox, &error);
	wisp_close_sandbox(sandbox);
	return r < 0 ? cli_fail_error(&error) : 0;
}

const struct cli_verb cli_refresh = {
        .name = "refresh",
        .synopsis = "NAME",
        .summary = "Tell a sandbox that its disks have grown",
        .details = "The guest reads the size of each disk again, a moment after this command has returned. It does not "
                   "grow the file systems on them: run resize2fs in the guest, once /sys/block/vdb/size has the new "
                   "size. The default image has no resize2fs.",
        .operands = {CLI_SANDBOX},
        .least = 1,
        .most = 1,
        .run = refresh,
};
