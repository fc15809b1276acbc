/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/signals.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>

static sigset_t awaited(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCONT); /* after a stop; it continues a process that blocks it too */
	return set;
}

void signals_block(void)
{
	sigset_t set = awaited();
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a snapshot's file may not grow: an error, and no end */
	signal(SIGCHLD, SIG_IGN); /* clones are reaped by the kernel */
}

int signals_open(void)
{
	sigset_t set = awaited();
	int fd = signalfd(-1, &set, SFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
