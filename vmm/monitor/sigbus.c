/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/sigbus.h"

#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

/* Async-signal-safe: no memory, no stdio. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
	static const char truncated[] =
	        "wisp-vmm: guest memory lost its backing: a file that is mapped into it, such as the kernel, was "
	        "truncated while the sandbox ran. Replace files by rename(2), which leaves running sandboxes alone.\n";
	static const char broken[] = "wisp-vmm: the host's memory reported a hardware error (SIGBUS)\n";
	(void)number, (void)context;
	bool hardware = info->si_code == BUS_MCEERR_AR || info->si_code == BUS_MCEERR_AO;
	ssize_t n = write(
	        STDERR_FILENO, hardware ? broken : truncated, hardware ? sizeof(broken) - 1 : sizeof(truncated) - 1);
	(void)n;
	_exit(SIGBUS_STATUS);
}

void sigbus_report(void)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
}
