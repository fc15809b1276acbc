/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every unit test needs: a table of named cases, checks that say where they failed, one line a case.
 * A program of cases ends with TEST_MAIN({"name", function}, ...). Its lines ("ok", "FAIL", "skip") are counted by
 * tests/run; its exit status is 1 when a case failed.
 */
#ifndef WISP_TEST_H
#define WISP_TEST_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

struct test_case {
	const char *name;
	void (*run)(void);
};

static bool test_failed;
static const char *test_skipped;

#define CHECK(cond)                                                         \
	do {                                                                \
		if (!(cond)) {                                              \
			test_failed = true;                                 \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond); \
		}                                                           \
	} while (0)

/* The same, and leaves the case: for what the next lines build on. */
#define REQUIRE(cond)                                                       \
	do {                                                                \
		if (!(cond)) {                                              \
			test_failed = true;                                 \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			return;                                             \
		}                                                           \
	} while (0)

#define CHECK_EQ(a, b)                                                                                                \
	do {                                                                                                          \
		long long test_a_ = (long long)(a), test_b_ = (long long)(b);                                         \
		if (test_a_ != test_b_) {                                                                             \
			test_failed = true;                                                                           \
			printf("# %s:%d: %s is %lld, not %s (%lld)\n", __FILE__, __LINE__, #a, test_a_, #b, test_b_); \
		}                                                                                                     \
	} while (0)

#define CHECK_STR(a, b)                                                                                          \
	do {                                                                                                     \
		const char *test_a_ = (a), *test_b_ = (b);                                                       \
		if (strcmp(test_a_, test_b_) != 0) {                                                             \
			test_failed = true;                                                                      \
			printf("# %s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #a, test_a_, test_b_); \
		}                                                                                                \
	} while (0)

#define SKIP(reason)                     \
	do {                             \
		test_skipped = (reason); \
		return;                  \
	} while (0)

/* Whether a process of one thread is in this state of proc_pid_stat(5): 'T' is stopped, 'Z' a zombie. */
__attribute__((unused)) static bool process_is(pid_t pid, char state)
{
	char path[32], line[256] = "", now[] = ") ? ";
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	now[2] = state;
	FILE *file = fopen(path, "re");
	bool is = file && fgets(line, sizeof(line), file) && strstr(line, now);
	if (file)
		fclose(file);
	return is;
}

/* SIGSTOP returns before the process stops, which can still read what is sent to it meanwhile. */
__attribute__((unused)) static void stop_process(pid_t pid)
{
	CHECK(kill(pid, SIGSTOP) == 0);
	for (int ms = 0; ms < 10000 && !process_is(pid, 'T'); ms++)
		poll(NULL, 0, 1);
	CHECK(process_is(pid, 'T'));
}

/* With arguments, only the cases they name are run. */
__attribute__((unused)) static int test_main(
        const char *suite, const struct test_case *cases, size_t count, int argc, char **argv)
{
	bool any_failed = false;
	size_t length = strlen(argv[0]);
	/* A test that lacks fake_vmm_main would start itself as its own monitor, without end. */
	if (length >= 8 && strcmp(argv[0] + length - 8, "wisp-vmm") == 0)
		abort();
	/* Whoever runs the tests may ignore some, as nohup(1) does; what is tested would inherit that. */
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGCHLD, SIGALRM, SIGUSR1, SIGUSR2};
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	for (size_t i = 0; i < count; i++) {
		bool wanted = argc < 2;
		for (int a = 1; a < argc; a++)
			wanted |= strcmp(argv[a], cases[i].name) == 0;
		if (!wanted)
			continue;
		test_failed = false;
		test_skipped = NULL;
		cases[i].run();
		if (test_failed)
			printf("FAIL %s/%s\n", suite, cases[i].name);
		else if (test_skipped)
			printf("skip %s/%s: %s\n", suite, cases[i].name, test_skipped);
		else
			printf("ok %s/%s\n", suite, cases[i].name);
		fflush(stdout);
		any_failed |= test_failed;
	}
	return any_failed ? 1 : 0;
}

#define TEST_MAIN(suite, ...)                                                                 \
	int main(int argc, char **argv)                                                       \
	{                                                                                     \
		static const struct test_case cases[] = {__VA_ARGS__};                        \
		return test_main(suite, cases, sizeof(cases) / sizeof(cases[0]), argc, argv); \
	}

#endif
