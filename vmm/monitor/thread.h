/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the monitor's threads other than the main one. */
#ifndef WISP_MONITOR_THREAD_H
#define WISP_MONITOR_THREAD_H

#include <pthread.h>
#include <stddef.h>

/*
 * The thread takes `wake_signal` (0: none), which interrupts its system calls and does nothing else, and the signals of
 * its own faults (sigbus.h, jail.h); the others are the main thread's. `stack_size` is in bytes: nothing here needs the
 * default of 8 MiB, and the kernel may back a large stack with a huge page. 0, or a positive errno, as pthread_create.
 */
int thread_start(pthread_t *thread, size_t stack_size, int wake_signal, void *(*run)(void *context), void *context);

#endif
