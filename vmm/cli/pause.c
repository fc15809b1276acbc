/* SPDX-License-Identifier: Apache-2.0 */
/* wisp pause and wisp resume. */
#include "vmm/cli/verbs.h"

static int pause_sandbox(const struct cli_call *call)
{
	struct wisp_error error;
	int code = 0;
	struct wisp_sandbox *sandbox = cli_open_any(call, call->operands[0], &code);
	if (!sandbox)
		return code;
	if (wisp_pause_sandbox(sandbox, &error) < 0)
		code = cli_fail_error(&error);
	wisp_close_sandbox(sandbox);
	return code;
}

static int resume(const struct cli_call *call)
{
	struct wisp_error error;
	int code = 0;
	struct wisp_sandbox *sandbox = cli_open_any(call, call->operands[0], &code);
	if (!sandbox)
		return code;
	code = cli_check_state(sandbox, false);
	if (code == 0 && wisp_resume_sandbox(sandbox, &error) < 0)
		code = cli_fail_error(&error);
	wisp_close_sandbox(sandbox);
	return code;
}

const struct cli_verb cli_pause = {
        .name = "pause",
        .synopsis = "NAME",
        .summary = "Stop a sandbox's processors until wisp resume",
        .details =
                "A paused sandbox keeps its memory and takes no processor time. Commands that need it to run, such as "
                "wisp exec, fail with exit code 123. Those that are running wait, and continue after wisp resume.",
        .operands = {CLI_SANDBOX},
        .least = 1,
        .most = 1,
        .run = pause_sandbox,
};

const struct cli_verb cli_resume = {
        .name = "resume",
        .synopsis = "NAME",
        .summary = "Let a paused sandbox run again",
        .details = "The guest's clock is set again, and its programs continue where they were.",
        .operands = {CLI_SANDBOX},
        .least = 1,
        .most = 1,
        .run = resume,
};
