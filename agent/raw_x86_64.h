/* SPDX-License-Identifier: Apache-2.0 */
/* raw.h for x86-64. */
#ifndef WISP_AGENT_RAW_X86_64_H
#define WISP_AGENT_RAW_X86_64_H

#include <linux/sched.h>
#include <sys/syscall.h>

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
