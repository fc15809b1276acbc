/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

const char *pack_find(void)
{
	static const char *const places[] = {
	        "/usr/bin/mksquashfs", "/usr/sbin/mksquashfs", "/usr/local/bin/mksquashfs", "/bin/mksquashfs"};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (access(places[i], X_OK) == 0)
			return places[i];
	}
	return NULL;
}

/* In the child of what may have threads: makes only calls that are async-signal-safe. */
static _Noreturn void become(const char *program, char *const argv[], const char *said, pid_t parent)
{
	char *const envp[] = {NULL};
	sigset_t none;
	for (int i = 1; i <= SIGRTMAX; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Survives execve. The parent may have died before it was set. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(127);
	/* Above 2: whatever the caller closed of these, a file does not take its place. */
	int null = open("/dev/null", O_RDWR), log = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	null = null < 0 ? -1 : fcntl(null, F_DUPFD, 3);
	log = log < 0 ? -1 : fcntl(log, F_DUPFD, 3);
	if (null < 0 || log < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		_exit(127);
	close_range(3, ~0u, 0);
	execve(program, argv, envp);
	_exit(127);
}

/* Waits for the child, and kills it if the caller does not wait for it. */
static int wait_packer(pid_t pid, const struct lib_cancel *cancel, int *status)
{
	int r = 0, pidfd = pidfd_open(pid, 0);
	*status = 0;
	if (pidfd >= 0) {
		struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
		r = lib_poll(cancel, &pfd, 1, INT64_MAX);
		if (r < 0)
			pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
		close(pidfd);
	}
	while (waitpid(pid, status, 0) < 0) {
		/* ECHILD: the program reaped it. The rename tells whether there is an image. */
		if (errno != EINTR)
			break;
	}
	return r;
}

int pack_run(
        const char *dir, const char *out, const char *said, const struct lib_cancel *cancel, struct wisp_error *error)
{
	const char *program = pack_find();
	if (!program)
		return lib_fail(error, WISP_ERR_SETUP, ENOENT,
		        "cannot pack the directory %s: mksquashfs is missing: install the package squashfs-tools", dir);
	/* An ordinary user's files become root's, as in any image. */
	const char *argv[] = {program, dir, out, "-noappend", "-comp", "zstd", "-Xcompression-level", "3",
	        "-no-progress", "-quiet", geteuid() == 0 ? NULL : "-all-root", NULL};
	/* execve takes char *const[] and does not change it. */
	union {
		const char **from;
		char *const *to;
	} args = {.from = argv};
	/* posix_spawn cannot make a child die with its parent. */
	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return lib_fail_errno(error, errno, "cannot start %s", program);
	if (pid == 0)
		become(program, args.to, said, parent);
	int status, waited = wait_packer(pid, cancel, &status);
	if (waited < 0)
		return lib_fail_wait(error, waited);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	char *words = lib_read_file(AT_FDCWD, said, 65536, NULL);
	const char *first = words && words[0] ? words : WIFSIGNALED(status) ? "a signal ended it" : "it gave no reason";
	int r = lib_fail(error, WISP_ERR_IMAGE, EIO, "mksquashfs could not pack the directory %s: %.*s", dir,
	        (int)strcspn(first, "\n"), first);
	free(words);
	return r;
}
