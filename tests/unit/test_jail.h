/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's jail, from inside: each attempt is what code that took over a monitor would do, in a child of its own.
 */
#ifndef WISP_TEST_JAIL_H
#define WISP_TEST_JAIL_H

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/engine.h"
#include "tests/unit/test.h"
#include "vmm/monitor/jail.h"

static char root[] = "/tmp/wisp-test-XXXXXX";

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

/* Of Landlock; 0: this host has none. */
__attribute__((unused)) static long landlock_abi(void)
{
	long abi = syscall(444, NULL, 0, 1);
	return abi > 0 ? abi : 0;
}

/* In a child: the jail, and in it `attempt`, which returns an errno, or 0. */
static int in_jail(unsigned layers, uint32_t flags, int (*attempt)(void))
{
	int status = -1;
	pid_t pid = fork();
	if (pid == 0) {
		struct description description;
		struct description_fds fds;
		struct jail jail;
		description_init(&description);
		description_init_fds(&fds);
		description.flags = flags;
		description.engine = test_engine();
		description.memory_mib = WISP_MEMORY_MIB_MIN;
		fds.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (chdir(root) < 0 || jail_enter(&jail, layers, &description, &fds, NULL) < 0)
			_exit(255);
		_exit(attempt());
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

__attribute__((unused)) static int result_of(long r)
{
	return r < 0 ? errno : 0;
}

static int execute(void)
{
	char *const argv[] = {(char[]){"true"}, NULL};
	return result_of(execv("/bin/true", argv));
}

/* A directory for the cases, and all of them. */
static int run_all(const char *suite, const struct test_case *cases, size_t count, int argc, char **argv)
{
	char command[64];
	if (!mkdtemp(root))
		return 1;
	int status = test_main(suite, cases, count, argc, argv);
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command) == 0 ? status : 1;
}

/* Started by root, also as an ordinary user: `suite_of_user`. */
static int run_as_both(const char *suite, const char *suite_of_user, const struct test_case *cases, size_t count,
        int argc, char **argv)
{
	int status = -1;
	pid_t pid = geteuid() == 0 ? fork() : -1;
	if (pid == 0) {
		static const gid_t nobody = 65534;
		if (setgroups(0, NULL) < 0 || setgid(nobody) < 0 || setuid(nobody) < 0)
			_exit(1);
		prctl(PR_SET_DUMPABLE, 1); /* or it may not write to its /proc/self */
		exit(run_all(suite_of_user, cases, count, argc, argv));
	}
	if (pid > 0 && (waitpid(pid, &status, 0) != pid || status != 0))
		return 1;
	return run_all(suite, cases, count, argc, argv);
}

#endif
