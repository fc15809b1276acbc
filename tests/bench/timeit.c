/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timeit N NAME -- COMMAND...: runs the command once to warm up, then N times, from start to exit, and prints one line
 * of milliseconds: name, min, p50, p90, max. A command that fails ends it: a benchmark of failures is none.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double run_once(char **argv, posix_spawn_file_actions_t *quiet)
{
	pid_t pid;
	int status;
	double start = now_ms();
	int ret = posix_spawnp(&pid, argv[0], quiet, NULL, argv, environ);
	if (ret != 0) {
		fprintf(stderr, "timeit: cannot start %s: %s\n", argv[0], strerror(ret));
		exit(1);
	}
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "timeit: %s failed (status 0x%x)\n", argv[0], (unsigned)status);
		exit(1);
	}
	return now_ms() - start;
}

int main(int argc, char **argv)
{
	if (argc < 5 || strcmp(argv[3], "--") != 0) {
		fprintf(stderr, "usage: timeit N NAME -- COMMAND...\n");
		return 2;
	}
	size_t n = strtoul(argv[1], NULL, 10);
	double *ms = calloc(n ? n : 1, sizeof(*ms));
	posix_spawn_file_actions_t quiet;
	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	if (!ms || n == 0)
		return 2;
	run_once(argv + 4, &quiet);
	for (size_t i = 0; i < n; i++)
		ms[i] = run_once(argv + 4, &quiet);
	qsort(ms, n, sizeof(*ms), by_value);
	printf("%-44s %10.2f %10.2f %10.2f %10.2f\n", argv[2], ms[0], ms[n / 2], ms[n * 9 / 10], ms[n - 1]);
	return 0;
}
