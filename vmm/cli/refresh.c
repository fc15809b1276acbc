/* SPDX-License-Identifier: Apache-2.0 */
/* wisp refresh. */
#include "vmm/cli/verbs.h"

static int refresh(const struct cli_call *call)
{
	struct wisp_error error;
	int code = 0;
	struct wisp_sandbox *sandbox = cli_open(call, call->operands[0], &code);
	if (!sandbox)
		return code;
	int r = wisp_refresh_disks(sandbox, &error);
	wisp_close_sandbox(sandbox);
	return r < 0 ? cli_fail_error(&error) : 0;
}

const struct cli_verb cli_refresh = {
        .name = "refresh",
        .synopsis = "NAME",
        .summary = "Tell a sandbox that its disks have grown",
        .details = "This command hands the request to the sandbox's monitor and does not wait for the guest: its "
                   "kernel reads the size of each disk a moment later. Before you use the room, wait until "
                   "/sys/block/vdb/size has the new size, in units of 512 bytes. wisp does not grow the file system on "
                   "the disk: run resize2fs in the guest, which the default image does not have.\n\n"
                   "  truncate -s 2G data.img && wisp refresh box\n"
                   "  wisp exec box -- sh -c 'until [ $(cat /sys/block/vdb/size) = 4194304 ]; do sleep 0.1; done'",
        .operands = {CLI_SANDBOX},
        .least = 1,
        .most = 1,
        .run = refresh,
};
