/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that touch nothing but registers. A child that shares the agent's memory makes them: libc's would write
 * the agent's errno while the agent runs.
 */
#ifndef WISP_AGENT_RAW_X86_64_H
#define WISP_AGENT_RAW_X86_64_H

#include <linux/audit.h>
#include <linux/sched.h>
#include <sys/syscall.h>

#define RAW_AUDIT_ARCH AUDIT_ARCH_X86_64 /* the processor, for seccomp */

/* The result, or -errno. A fifth argument is 0: prctl checks that. */
static inline long raw_syscall(long number, long a, long b, long c, long d)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = 0;
	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
	                 : "rcx", "r11", "memory");
	return result;
}

/*
 * clone3() onto a new stack, which no libc has: the child runs main(argument) there, and main must not return. The
 * child's pid, or -errno.
 */
static inline long raw_clone(struct clone_args *args, void (*main)(void *), void *argument)
{
	long result;
	__asm__ volatile(
	        "syscall\n\t"
	        "test %%rax, %%rax\n\t"
	        "jnz 1f\n\t"
	        "xor %%ebp, %%ebp\n\t" /* the outermost frame */
	        "mov %[argument], %%rdi\n\t"
	        "call *%[main]\n\t"
	        "ud2\n"
	        "1:"
	        : "=a"(result)
	        : "a"((long)SYS_clone3), "D"(args), "S"(sizeof(*args)), [main] "r"(main), [argument] "r"(argument)
	        : "rcx", "r11", "memory", "cc");
	return result;
}

#endif
