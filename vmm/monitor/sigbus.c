/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/sigbus.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRUNCATED                                                                                                  \
	"guest memory lost its backing: a file that is mapped into it, the kernel or the snapshot, was truncated " \
	"while the sandbox ran. Replace files by rename(2), which leaves running sandboxes alone."
#define BROKEN "the host's memory reported a hardware error (SIGBUS)"

/* Async-signal-safe: no memory, no stdio. The owner gets the monitor's last line (main.c). */
static void say(const char *log, size_t log_size, const char *line, size_t line_size)
{
	(void)!write(STDERR_FILENO, log, log_size);
	(void)!send(SIGBUS_OWNER_FD, line, line_size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	static const char cut_log[] = "wisp-vmm: " TRUNCATED "\n", cut_line[] = "exit internal " TRUNCATED "\n";
	static const char broken_log[] = "wisp-vmm: " BROKEN "\n", broken_line[] = "exit internal " BROKEN "\n";
	(void)number, (void)context;
	if (info->si_code == BUS_MCEERR_AR || info->si_code == BUS_MCEERR_AO)
		say(broken_log, sizeof(broken_log) - 1, broken_line, sizeof(broken_line) - 1);
	else
		say(cut_log, sizeof(cut_log) - 1, cut_line, sizeof(cut_line) - 1);
	_exit(SIGBUS_STATUS);
}

void sigbus_report(void)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
}

bool backing_is_cut(const struct backing *backing)
{
	struct stat st;
	return backing->size > 0 && (fstat(backing->fd, &st) < 0 || (uint64_t)st.st_size < backing->size);
}
