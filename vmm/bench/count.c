/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's kernel counts for any monitor alike: exits in debugfs, and system calls by a perf counter on the
 * tracepoint that each of them passes. Work that the kernel does for a monitor in threads of its own, such as vhost,
 * makes no system calls and is not counted.
 */
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/perf_event.h>

#include "vmm/bench/side.h"

int64_t bench_count_exits(pid_t pid)
{
	static const char root[] = "/sys/kernel/debug/kvm";
	char prefix[24], path[sizeof(root) + NAME_MAX + 8];
	long long exits = -1;
	struct dirent *found;
	DIR *dir = opendir(root);
	snprintf(prefix, sizeof(prefix), "%d-", (int)pid);
	while (dir && exits < 0 && (found = readdir(dir))) {
		if (strncmp(found->d_name, prefix, strlen(prefix)) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s/exits", root, found->d_name);
		FILE *file = fopen(path, "re");
		if (file && fscanf(file, "%lld", &exits) != 1)
			exits = -1;
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
	return exits;
}

/* The tracepoint's number; 0: unknown. */
static unsigned long long find_tracepoint(void)
{
	static const char *const paths[] = {"/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
	        "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id"};
	unsigned long long id = 0;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]) && id == 0; i++) {
		FILE *file = fopen(paths[i], "re");
		if (file && fscanf(file, "%llu", &id) != 1)
			id = 0;
		if (file)
			fclose(file);
	}
	return id;
}

/* False if the kernel refuses, or there are too many threads. */
static bool watch_thread(struct bench_syscalls *syscalls, pid_t thread, unsigned long long tracepoint)
{
	struct perf_event_attr attr = {
	        .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr), .config = tracepoint, .inherit = 1};
	for (size_t i = 0; i < syscalls->count; i++) {
		if (syscalls->thread[i] == thread)
			return true;
	}
	if (syscalls->count == BENCH_WATCHED_MAX)
		return false;
	int fd = (int)syscall(SYS_perf_event_open, &attr, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return false;
	syscalls->thread[syscalls->count] = thread;
	syscalls->fd[syscalls->count++] = fd;
	return true;
}

void bench_watch_syscalls(struct bench_syscalls *syscalls, pid_t pid)
{
	char path[32];
	unsigned long long tracepoint = find_tracepoint();
	struct dirent *found;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = tracepoint && pid > 0 ? opendir(path) : NULL;
	bool watched = dir;
	while (watched && (found = readdir(dir))) {
		pid_t thread = (pid_t)strtol(found->d_name, NULL, 10);
		watched = thread <= 0 || watch_thread(syscalls, thread, tracepoint);
	}
	if (dir)
		closedir(dir);
	if (!watched) /* counts of some of the threads would be wrong */
		bench_unwatch_syscalls(syscalls);
}

void bench_unwatch_syscalls(struct bench_syscalls *syscalls)
{
	while (syscalls->count > 0)
		close(syscalls->fd[--syscalls->count]);
}

int64_t bench_count_syscalls(const struct bench_syscalls *syscalls)
{
	int64_t sum = 0;
	uint64_t count;
	for (size_t i = 0; i < syscalls->count; i++) {
		if (read(syscalls->fd[i], &count, sizeof(count)) != sizeof(count))
			return -1;
		sum += (int64_t)count;
	}
	return syscalls->count > 0 ? sum : -1;
}

struct bench_counts bench_count_side(const struct bench_side *side)
{
	return (struct bench_counts){
	        .exits = bench_count_exits(side->pid), .syscalls = bench_count_syscalls(&side->syscalls)};
}
