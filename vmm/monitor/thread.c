/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/thread.h"

#include <signal.h>

static void on_wake(int number)
{
	(void)number;
}

int thread_start(pthread_t *thread, size_t stack_size, int wake_signal, void *(*run)(void *context), void *context)
{
	struct sigaction action = {.sa_handler = on_wake};
	sigset_t all, old;
	pthread_attr_t attributes;
	sigfillset(&all);
	if (wake_signal) {
		sigaction(wake_signal, &action, NULL);
		sigdelset(&all, wake_signal);
	}
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, stack_size);
	int ret = pthread_create(thread, &attributes, run, context);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}
