/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/signalfd.h>

#include "vmm/cli/command.h"

void cli_fill_signals(sigset_t *set)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	sigemptyset(set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(set, numbers[i]);
}

void cli_block_signals(void)
{
	sigset_t set;
	cli_fill_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int cli_open_signals(void)
{
	sigset_t set;
	cli_block_signals();
	cli_fill_signals(&set);
	return signalfd(-1, &set, SFD_CLOEXEC);
}
