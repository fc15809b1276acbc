/* SPDX-License-Identifier: Apache-2.0 */
/* wisp kill. */
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/verbs.h"

struct options {
	uint64_t signal; /* 0: none given */
};

/* A number, or a name with or without SIG, in any case: guests and hosts are both Linux and share the numbers. */
static bool take_signal(const struct cli_option *option, const char *text, void *to, char *why)
{
	uint64_t *signal = to;
	const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
	(void)option;
	for (int number = 1; number < SIGRTMIN; number++) {
		const char *known = sigabbrev_np(number);
		if (known && strcasecmp(name, known) == 0) {
			*signal = (uint64_t)number;
			return true;
		}
	}
	if (text[strspn(text, "0123456789")] != '\0' || !text[0])
		return cli_refuse(why, "not a signal; write a name such as TERM, or a number from 1 to 64");
	return cli_parse_count(text, 64, signal, why) && (*signal > 0 || cli_refuse(why, "give 1 to 64"));
}

static int send(struct wisp_sandbox *sandbox, uint64_t id, uint64_t signal, struct wisp_error *error)
{
	struct wisp_open_options open = {.size = sizeof(open), .live = true};
	struct wisp_session *session;
	int r = wisp_open_session(sandbox, id, &open, &session, error);
	if (r < 0)
		return r;
	r = signal == 0 || signal == SIGKILL ? wisp_kill_session(session, error)
	                                     : wisp_signal_session(session, (int)signal, error);
	wisp_close_session(session);
	return r;
}

static int kill_session(const struct cli_call *call)
{
	const struct options *options = call->options;
	struct wisp_error error;
	char why[CLI_WHY_SIZE];
	uint64_t id;
	int code = 0;
	if (!cli_parse_count(call->operands[1], UINT64_MAX, &id, why))
		return cli_fail(
		        "kill: session '%s': %s; see wisp sessions %s", call->operands[1], why, call->operands[0]);
	struct wisp_sandbox *sandbox = cli_open(call, call->operands[0], &code);
	if (!sandbox)
		return code;
	if (send(sandbox, id, options->signal, &error) < 0)
		code = cli_fail_error(&error);
	wisp_close_sandbox(sandbox);
	return code;
}

static const struct cli_option own_options[] = {
        {.name = "signal",
                .letter = 's',
                .value = "SIGNAL",
                .take = take_signal,
                .offset = CLI_OFFSET(struct options, signal, uint64_t),
                .help = "send this signal to the command's process group, as in TERM, SIGUSR1 or 10; default KILL, to "
                        "every process that the session has started"},
        {0},
};

static const struct cli_group groups[] = {{.options = own_options}, {0}};

const struct cli_verb cli_kill = {
        .name = "kill",
        .synopsis = "NAME SESSION",
        .summary = "Kill a session of a sandbox, or send it a signal",
        .details = "SESSION is a number that wisp sessions lists. To stop the sandbox itself, use wisp stop.\n\n"
                   "  wisp kill box 3\n"
                   "  wisp kill -s HUP box 3",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_SANDBOX, CLI_SESSION},
        .least = 2,
        .most = 2,
        .run = kill_session,
};
