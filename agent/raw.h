/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that touch nothing but registers. A child that shares the agent's memory makes them: libc's would write
 * the agent's errno while the agent runs.
 */
#ifndef WISP_AGENT_RAW_H
#define WISP_AGENT_RAW_H

struct clone_args;

/* The result, or -errno. A fifth argument is 0: prctl checks that. */
static inline long raw_syscall(long number, long a, long b, long c, long d);

/*
 * clone3() onto a new stack, which no libc has: the child runs main(argument) there, and main must not return. The
 * child's pid, or -errno.
 */
static inline long raw_clone(struct clone_args *args, void (*main)(void *), void *argument);

#if defined(__x86_64__)
#include "agent/raw_x86_64.h"
#elif defined(__aarch64__)
#include "agent/raw_aarch64.h"
#endif

#endif
