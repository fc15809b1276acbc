/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guestcheck: runs until something is not as it must be, and then says what, with exit code 1. For guests that are
 * paused, saved, restored and cloned meanwhile: vector registers keep their values, sleeps last as long as they were
 * asked to, and time never goes back. It appends a dot to standard output for every second or so.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
	printf("guestcheck: %s\n", what);
	fflush(stdout);
	_exit(1);
}

#if defined(__x86_64__)

/* All of it in one block of instructions: the compiler may use these registers anywhere else. */
static int sse_keeps(uint64_t seed)
{
	uint64_t from[2] = {seed, ~seed}, to[2], other[2];
	__asm__ volatile("movdqu %2, %%xmm3\n\tmovdqu %2, %%xmm13\n\t"
	                 "mov $200000, %%ecx\n1:\tpause\n\tdec %%ecx\n\tjnz 1b\n\t"
	                 "movdqu %%xmm3, %0\n\tmovdqu %%xmm13, %1"
	                 : "=m"(to), "=m"(other)
	                 : "m"(from)
	                 : "ecx", "xmm3", "xmm13");
	return memcmp(from, to, sizeof(to)) == 0 && memcmp(from, other, sizeof(other)) == 0;
}

__attribute__((target("avx"))) static int avx_keeps(uint64_t seed)
{
	uint64_t from[4] = {seed, ~seed, seed * 3, seed ^ 0x5555}, to[4];
	__asm__ volatile("vmovdqu %1, %%ymm5\n\t"
	                 "mov $200000, %%ecx\n1:\tpause\n\tdec %%ecx\n\tjnz 1b\n\t"
	                 "vmovdqu %%ymm5, %0"
	                 : "=m"(to)
	                 : "m"(from)
	                 : "ecx", "xmm5");
	return memcmp(from, to, sizeof(to)) == 0;
}

/* Of each of the three state components that AVX-512 adds: a mask, the upper half of a register, a high register. */
__attribute__((target("avx512f"))) static int avx512_keeps(uint64_t seed)
{
	uint64_t from[8], low[8], high[8];
	uint32_t mask;
	for (int i = 0; i < 8; i++)
		from[i] = seed * (2 * i + 1);
	__asm__ volatile("vmovdqu64 %4, %%zmm5\n\tvmovdqu64 %4, %%zmm25\n\tkmovw %3, %%k3\n\t"
	                 "mov $200000, %%ecx\n1:\tpause\n\tdec %%ecx\n\tjnz 1b\n\t"
	                 "vmovdqu64 %%zmm5, %0\n\tvmovdqu64 %%zmm25, %1\n\tkmovw %%k3, %2"
	                 : "=m"(low), "=m"(high), "=&r"(mask)
	                 : "r"((uint32_t)seed), "m"(from)
	                 : "ecx", "xmm5", "xmm25", "k3");
	return memcmp(from, low, sizeof(low)) == 0 && memcmp(from, high, sizeof(high)) == 0 && mask == (seed & 0xffff);
}

static int registers_keep(uint64_t seed)
{
	return sse_keeps(seed) && (!__builtin_cpu_supports("avx") || avx_keeps(seed)) &&
	       (!__builtin_cpu_supports("avx512f") || avx512_keeps(seed));
}

#elif defined(__aarch64__)

static int registers_keep(uint64_t seed)
{
	uint64_t from[2] = {seed, ~seed}, to[2], other[2];
	__asm__ volatile("ldr q3, %2\n\tldr q29, %2\n\t"
	                 "movz w9, #0x0d40\n\tmovk w9, #3, lsl #16\n" /* 200000 */
	                 "1:\tyield\n\tsubs w9, w9, #1\n\tb.ne 1b\n\t"
	                 "str q3, %0\n\tstr q29, %1"
	                 : "=m"(to), "=m"(other)
	                 : "m"(from)
	                 : "w9", "v3", "v29", "cc");
	return memcmp(from, to, sizeof(to)) == 0 && memcmp(from, other, sizeof(other)) == 0;
}

#endif

static void *check_registers(void *seed)
{
	for (uint64_t n = (uintptr_t)seed;; n += 0x9e3779b97f4a7c15u) {
		if (!registers_keep(n))
			fail("a vector register has changed");
	}
}

/* A sleep never ends early by the monotonic clock. */
static void *check_sleeps(void *unused)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	(void)unused;
	for (;;) {
		int64_t before = now_ns(CLOCK_MONOTONIC);
		nanosleep(&pause, NULL);
		if (now_ns(CLOCK_MONOTONIC) - before < pause.tv_nsec)
			fail("a sleep was too short");
	}
}

static void *check_time(void *unused)
{
	int64_t last = 0;
	(void)unused;
	for (;;) {
		int64_t now = now_ns(CLOCK_MONOTONIC);
		if (now < last)
			fail("the monotonic clock went back");
		last = now;
		sched_yield();
	}
}

int main(void)
{
	pthread_t thread[4];
	pthread_create(&thread[0], NULL, check_registers, (void *)(uintptr_t)1);
	pthread_create(&thread[1], NULL, check_registers, (void *)(uintptr_t)2);
	pthread_create(&thread[2], NULL, check_sleeps, NULL);
	pthread_create(&thread[3], NULL, check_time, NULL);
	for (;;) {
		sleep(1);
		putchar('.');
		fflush(stdout);
	}
}
