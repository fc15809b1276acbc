/* SPDX-License-Identifier: Apache-2.0 */
/* wisp stop and wisp rm. */
#include <errno.h>

#include "vmm/cli/verbs.h"

struct stop_options {
	int64_t grace_ms;
	bool force;
};

struct rm_options {
	bool force;
};

/* A template never runs, and has nothing to shut down. */
static int shut_down(struct wisp_sandbox *sandbox, int64_t grace_ms, struct wisp_error *error)
{
	enum wisp_sandbox_state state;
	int r = wisp_get_sandbox_state(sandbox, &state, error);
	if (r == 0 && state == WISP_SANDBOX_TEMPLATE)
		return wisp_kill_sandbox(sandbox, error);
	return r < 0 ? r : wisp_stop_sandbox(sandbox, grace_ms, error);
}

static int end(const char *state_root, const char *name, int64_t grace_ms, bool force, struct wisp_error *error)
{
	struct wisp_sandbox *sandbox;
	int r = wisp_open_sandbox(state_root, name, &sandbox, error);
	if (r < 0)
		return r;
	r = force ? wisp_kill_sandbox(sandbox, error) : shut_down(sandbox, grace_ms, error);
	wisp_close_sandbox(sandbox);
	return r;
}

static int stop(const struct cli_call *call)
{
	const struct stop_options *options = call->options;
	struct wisp_error error;
	int code = 0;
	for (size_t i = 0; i < call->operand_count; i++) {
		/* It is no error if the sandbox has stopped already. */
		if (end(call->places->state_root, call->operands[i], options->grace_ms, options->force, &error) < 0 &&
		        !(error.status == WISP_ERR_NOT_RUNNING && error.errnum == ESRCH))
			code = cli_fail_error(&error);
	}
	return code;
}

static int rm(const struct cli_call *call)
{
	const struct rm_options *options = call->options;
	const char *root = call->places->state_root;
	struct wisp_error error;
	int code = 0;
	for (size_t i = 0; i < call->operand_count; i++) {
		const char *name = call->operands[i];
		/* A sandbox that removes itself when it stops is gone after that. */
		if (options->force && end(root, name, 0, true, &error) < 0 && error.status != WISP_ERR_NOT_RUNNING &&
		        error.status != WISP_ERR_NO_SANDBOX) {
			code = cli_fail_error(&error);
			continue;
		}
		if (wisp_remove_sandbox(root, name, &error) < 0 &&
		        !(options->force && error.status == WISP_ERR_NO_SANDBOX))
			code = cli_fail_error(&error);
	}
	return code;
}

static const struct cli_option stop_options[] = {
        {.name = "grace",
                .value = "DURATION",
                CLI_DURATION(struct stop_options, grace_ms),
                .help = "how long the guest may take to shut down; default: the sandbox's own"},
        {.name = "force",
                .letter = 'f',
                CLI_FLAG(struct stop_options, force),
                .help = "stop at once, like pulling the plug"},
        {0},
};

static const struct cli_option rm_options[] = {
        {.name = "force",
                .letter = 'f',
                CLI_FLAG(struct rm_options, force),
                .help = "stop running sandboxes first; ignore sandboxes that do not exist"},
        {0},
};

static const struct cli_group stop_groups[] = {{.options = stop_options}, {0}};
static const struct cli_group rm_groups[] = {{.options = rm_options}, {0}};

const struct cli_verb cli_stop = {
        .name = "stop",
        .synopsis = "NAME...",
        .summary = "Shut sandboxes down",
        .details = "The guest terminates its programs, writes and unmounts its file systems, and powers off. The "
                   "sandbox's directory, with its logs, stays until wisp rm. A paused sandbox is resumed first.",
        .groups = stop_groups,
        .options_size = sizeof(struct stop_options),
        .operands = {CLI_SANDBOX, CLI_SANDBOX, CLI_SANDBOX},
        .least = 1,
        .most = SIZE_MAX,
        .run = stop,
};

const struct cli_verb cli_rm = {
        .name = "rm",
        .synopsis = "NAME...",
        .summary = "Delete the directories of stopped sandboxes",
        .groups = rm_groups,
        .options_size = sizeof(struct rm_options),
        .operands = {CLI_SANDBOX, CLI_SANDBOX, CLI_SANDBOX},
        .least = 1,
        .most = SIZE_MAX,
        .run = rm,
};
