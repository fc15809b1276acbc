/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of system calls, and the program that they become for the kernel (seccomp, classic BPF). The program traps
 * every call that is not in them: SIGSYS.
 */
#ifndef WISP_JAIL_PROGRAM_H
#define WISP_JAIL_PROGRAM_H

#include <linux/audit.h>
#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One way to make a call; any of them is enough. All rules of a call look at the same argument, and at its low 32 bits:
 * of the arguments that rules look at, the kernel uses no others.
 */
struct jail_rule {
	uint32_t number;
	uint8_t threads; /* bits: those that may make it */
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

struct jail_tables {
	const struct jail_rule *rules, *arch_rules; /* for every processor; what only this one has */
	size_t count, arch_count;
	const uint32_t *hot; /* calls that are tested first */
	size_t hot_count;
};

/* The processor, as seccomp names it. 32-bit calls have another name. */
#if defined(__x86_64__)
#define JAIL_PROCESSOR AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define JAIL_PROCESSOR AUDIT_ARCH_AARCH64
#endif

#define JAIL_FILTER_MAX 512

/* Of the rules that have any bit of `thread`. Returns the number of instructions; 0 if there are more than
 * JAIL_FILTER_MAX. */
size_t jail_build(const struct jail_tables *tables, unsigned thread, struct sock_filter program[JAIL_FILTER_MAX]);

#endif
