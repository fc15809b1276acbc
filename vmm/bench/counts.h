/* SPDX-License-Identifier: Apache-2.0 */
/* What a monitor costs its host: exits and system calls. -1: unknown. */
#ifndef WISP_BENCH_COUNTS_H
#define WISP_BENCH_COUNTS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Of a monitor until now. */
struct bench_counts {
	int64_t exits, syscalls;
};

#define BENCH_WATCHED_MAX 64u
/* Counters of the system calls of a process's threads, and of all threads that they start. Zeroed: none. */
struct bench_syscalls {
	int fd[BENCH_WATCHED_MAX];
	pid_t thread[BENCH_WATCHED_MAX];
	size_t count;
};
/* Begins to count if the kernel permits it (a tracepoint of perf: root, and tracefs mounted). */
void bench_watch_syscalls(struct bench_syscalls *syscalls, pid_t pid);
void bench_unwatch_syscalls(struct bench_syscalls *syscalls);
/* Since bench_watch_syscalls. */
int64_t bench_count_syscalls(const struct bench_syscalls *syscalls);
/* KVM's exits of a process's first machine, from debugfs. */
int64_t bench_count_exits(pid_t pid);

#endif
