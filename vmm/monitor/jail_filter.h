/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls that the monitor makes: a table, and the program that it becomes for the kernel (seccomp, classic
 * BPF). Every other call is refused, and ends the process (jail.c).
 */
#ifndef WISP_MONITOR_JAIL_FILTER_H
#define WISP_MONITOR_JAIL_FILTER_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

enum jail_thread {
	JAIL_LOOP = 1 << 0, /* the main thread, and with it the whole process */
	JAIL_VCPU = 1 << 1,
};

/*
 * One way to make a call; any of them is enough. All rules of a call look at the same argument, and at its low 32 bits:
 * of the arguments that rules look at, the kernel uses no others.
 */
struct jail_rule {
	uint32_t number;
	uint8_t threads; /* enum jail_thread */
	uint8_t test;    /* enum jail_test */
	uint8_t argument;
	uint32_t value;
};

enum jail_test {
	JAIL_ANY = 0,
	JAIL_IS,     /* the argument is `value` */
	JAIL_NOT,    /* it is not */
	JAIL_LACKS,  /* it has none of the bits of `value` */
	JAIL_MISSING /* no test: the call fails with ENOSYS, as if the kernel did not have it */
};

extern const struct jail_rule jail_rules[];
extern const size_t jail_rule_count;

/* What only this processor has: its calls, its requests to KVM, and its name (AUDIT_ARCH_*). */
extern const struct jail_rule jail_arch_rules[];
extern const size_t jail_arch_rule_count;
extern const uint32_t jail_arch;

#define JAIL_FILTER_MAX 512

/* Returns the number of instructions; 0 if there are more than JAIL_FILTER_MAX. */
size_t jail_filter(enum jail_thread thread, struct sock_filter program[JAIL_FILTER_MAX]);

#endif
