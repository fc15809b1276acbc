/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls that the monitor makes: tables, which become programs for the kernel (vmm/shared/jail_program.h).
 * Every other call is refused, and ends the process (jail.c).
 */
#ifndef WISP_MONITOR_JAIL_FILTER_H
#define WISP_MONITOR_JAIL_FILTER_H

#include "vmm/shared/jail_program.h"

enum jail_thread {
	JAIL_LOOP = 1 << 0, /* the main thread, and with it the whole process */
	JAIL_VCPU = 1 << 1,
	JAIL_WORKER = 1 << 2, /* makes the epoll engine's calls that wait for a disk */
	/* With JAIL_LOOP: the engine that it uses. */
	JAIL_RING = 1 << 3,
	JAIL_EPOLL = 1 << 4,
};

extern const struct jail_rule jail_rules[];
extern const size_t jail_rule_count;

/* What only this processor has: its calls and its requests to KVM. */
extern const struct jail_rule jail_arch_rules[];
extern const size_t jail_arch_rule_count;

/* Of enum jail_thread. Returns the number of instructions; 0 if there are more than JAIL_FILTER_MAX. */
size_t jail_filter(unsigned thread, struct sock_filter program[JAIL_FILTER_MAX]);

#endif
