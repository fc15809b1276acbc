/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>

#include "vmm/cli/verbs.h"

#define EXPIRE_WAIT_MS 1000 /* for the end of a sandbox whose programs may have been told to end */

static bool is_expired(enum wisp_end end)
{
	return end == WISP_END_MAX_DURATION || end == WISP_END_IDLE_TIMEOUT;
}

int cli_fail_lost(struct wisp_sandbox *sandbox, const struct wisp_error *error, int64_t wait_ms)
{
	static const char *const words[] = {
	        [WISP_END_POWEROFF] = "the guest powered off",
	        [WISP_END_REBOOT] = "the guest rebooted, which ends a sandbox,",
	        [WISP_END_PANIC] = "the guest's kernel panicked",
	        [WISP_END_TRIPLE_FAULT] = "the guest's processor shut down after a triple fault",
	        [WISP_END_KILLED] = "the sandbox was killed",
	        [WISP_END_INTERNAL] = "the sandbox's monitor failed",
	        [WISP_END_MAX_DURATION] = "the sandbox reached its maximum duration",
	        [WISP_END_IDLE_TIMEOUT] = "the sandbox reached its idle timeout",
	};
	enum wisp_end end;
	if ((error->status != WISP_ERR_DISCONNECTED && error->status != WISP_ERR_NOT_RUNNING) ||
	        wisp_wait_sandbox(sandbox, wait_ms, &end, NULL) < 0 ||
	        (size_t)end >= sizeof(words) / sizeof(words[0]) || !words[end])
		return cli_fail_error(error);
	cli_fail("%s before the command ended", words[end]);
	return is_expired(end) ? CLI_EXIT_EXPIRED : CLI_EXIT_FAILED;
}

int cli_explain_signal(struct wisp_sandbox *sandbox, const struct cli_call *call, int code)
{
	struct wisp_sandbox_info *info;
	enum wisp_end end;
	bool limited = true; /* of one that is gone, nothing can be read */
	if (code != CLI_EXIT_SIGNAL + SIGTERM && code != CLI_EXIT_SIGNAL + SIGKILL)
		return code;
	if (wisp_inspect_sandbox(call->places->state_root, wisp_get_sandbox_name(sandbox), &info, NULL) == 0) {
		limited = info->max_duration_ms > 0 || info->idle_timeout_ms > 0;
		wisp_free_sandbox_info(info);
	}
	if (!limited || wisp_wait_sandbox(sandbox, EXPIRE_WAIT_MS, &end, NULL) < 0 || !is_expired(end))
		return code;
	cli_fail("the command was ended, because the sandbox reached its %s",
	        end == WISP_END_MAX_DURATION ? "maximum duration" : "idle timeout");
	return CLI_EXIT_EXPIRED;
}
