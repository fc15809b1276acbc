/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/cli/command.h"

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

bool cli_ignores(int number)
{
	struct sigaction action;
	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

void cli_fill_ending(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		sigaddset(set, ending[i]);
}

void cli_fill_forwarded(sigset_t *set)
{
	static const int numbers[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR};
	cli_fill_ending(set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(set, numbers[i]);
	for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
		sigaddset(set, number);
}

int cli_open_signals(void)
{
	sigset_t set;
	cli_fill_ending(&set);
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		if (cli_ignores(ending[i]))
			sigdelset(&set, ending[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int cli_fail_cancelled(int signal_fd, const struct wisp_error *error)
{
	struct signalfd_siginfo info;
	if (error->status == WISP_ERR_CANCELLED && read(signal_fd, &info, sizeof(info)) == sizeof(info))
		return CLI_EXIT_SIGNAL + (int)info.ssi_signo;
	return cli_fail_error(error);
}
