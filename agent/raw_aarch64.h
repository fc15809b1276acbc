/* SPDX-License-Identifier: Apache-2.0 */
/* raw.h for arm64. */
#ifndef WISP_AGENT_RAW_AARCH64_H
#define WISP_AGENT_RAW_AARCH64_H

#include <linux/sched.h>
#include <sys/syscall.h>

static inline long raw_syscall(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = 0;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory", "cc");
	return x0;
}

static inline long raw_clone(struct clone_args *args, void (*main)(void *), void *argument)
{
	register long x8 __asm__("x8") = SYS_clone3;
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = sizeof(*args);
	__asm__ volatile("svc #0\n\t"
	                 "cbnz x0, 1f\n\t"
	                 "mov x29, xzr\n\t" /* the outermost frame */
	                 "mov x30, xzr\n\t"
	                 "mov x0, %[argument]\n\t"
	                 "blr %[main]\n\t"
	                 "brk #1\n"
	                 "1:"
	                 : "+r"(x0)
	                 : "r"(x8), "r"(x1), [main] "r"(main), [argument] "r"(argument)
	                 : "memory", "cc");
	return x0;
}

#endif
