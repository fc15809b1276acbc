/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a scenario once to learn which calls the program under test makes, then once for each of them, with that call
 * failing. Each run is a process with a folder of its own, and passes if the scenario works as if nothing had
 * happened, or, unless the fault is one that a caller has to hide (EINTR, fewer bytes), if it reports a proper error;
 * and if it ends in time, leaves no descriptor, process or file behind, leaks no memory, and crashes nothing.
 */
#ifndef WISP_TESTS_FAULTS_DRIVER_H
#define WISP_TESTS_FAULTS_DRIVER_H

#include "tests/faults/inject.h"
#include "wisp.h"

struct fault_run {
	char dir[64];  /* its folder; what is left in `root` at the end is a violation */
	char root[80]; /* a state root, not made yet */
	struct plan *plan;
	/* The scenario's result: nothing, an error that was reported, or a violation, the first of which counts. */
	char error[1200], violation[1200];
};

struct fault_scenario {
	const char *name;
	void (*run)(struct fault_run *run);
};

/* A call of the library under test has returned `ret`. True if that is success; otherwise the error is checked. */
bool fault_check(struct fault_run *run, const char *what, int ret, const struct wisp_error *error);

/* An error that is no call's: an unexpected, but possible end. */
void fault_report(struct fault_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

void fault_violation(struct fault_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * `program` is the file under test, for names of lines. Prints a line for each scenario, and one with the counts.
 * FAULTS=all in the environment fails every call; otherwise, of a site that is called often, the first two and the
 * last.
 */
int fault_main(const char *suite, const char *program, const struct fault_scenario *scenarios, int argc, char **argv);

#endif
