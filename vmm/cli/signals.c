/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/cli/command.h"

/* A signal that is ignored, by nohup or a script's "&", stays ignored; a blocked one would be kept for sigwait. */
static void add(sigset_t *set, int number)
{
	struct sigaction action;
	if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
		sigaddset(set, number);
}

void cli_fill_ending(sigset_t *set)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	sigemptyset(set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		add(set, numbers[i]);
}

void cli_fill_forwarded(sigset_t *set)
{
	static const int numbers[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR};
	cli_fill_ending(set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		add(set, numbers[i]);
	for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
		add(set, number);
}

int cli_open_signals(void)
{
	sigset_t set;
	cli_fill_ending(&set);
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
