/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's jail, from inside: each attempt is what code that took over a monitor would do, in a child of its own.
 */
#ifndef WISP_TEST_JAIL_H
#define WISP_TEST_JAIL_H

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/engine.h"
#include "tests/unit/host.h"
#include "tests/unit/test.h"
#include "vmm/monitor/jail.h"
#include "vmm/shared/fs_wire.h"

static char root[] = "/tmp/wisp-test-XXXXXX";

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

static uint32_t folders; /* of the sandbox */

/* As the monitor does, with no descriptor but that of the root. */
static int enter(struct jail *jail, unsigned layers, uint32_t flags, struct err *err)
{
	struct description description;
	struct description_fds fds;
	description_init(&description);
	description_init_fds(&fds);
	description.flags = flags;
	description.engine = test_engine();
	description.memory_mib = WISP_MEMORY_MIB_MIN;
	description.folder_count = folders;
	fds.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return jail_enter(jail, layers, &description, &fds, err);
}

/* In a child: the jail, and in it `attempt`, which returns an errno, or 0. */
static int in_jail(unsigned layers, uint32_t flags, int (*attempt)(void))
{
	int status = -1;
	pid_t pid = fork();
	if (pid == 0) {
		struct jail jail;
		if (chdir(root) < 0 || enter(&jail, layers, flags, NULL) < 0)
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

__attribute__((unused)) static int execute(void)
{
	char *const argv[] = {(char[]){"true"}, NULL};
	return result_of(execv("/bin/true", argv));
}

/* --- namespaces --- */

__attribute__((unused)) static bool may_unshare(void)
{
	int status = -1;
	pid_t pid = fork();
	if (pid == 0)
		_exit(unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0;
}

static const char *const own_namespaces[] = {"net", "ipc", "uts", "cgroup"};
#define OWN_NAMESPACES (sizeof(own_namespaces) / sizeof(own_namespaces[0]))

__attribute__((unused)) static char outside[OWN_NAMESPACES][64];

__attribute__((unused)) static void read_namespaces(char names[OWN_NAMESPACES][64])
{
	for (size_t i = 0; i < OWN_NAMESPACES; i++) {
		char path[64];
		snprintf(path, sizeof(path), "/proc/self/ns/%s", own_namespaces[i]);
		ssize_t n = readlink(path, names[i], 63);
		names[i][n > 0 ? n : 0] = '\0';
	}
}

__attribute__((unused)) static int count_shared(void)
{
	char inside[OWN_NAMESPACES][64];
	int shared = 0;
	read_namespaces(inside);
	for (size_t i = 0; i < OWN_NAMESPACES; i++)
		shared += !inside[i][0] || strcmp(inside[i], outside[i]) == 0;
	return shared;
}

/* What a monitor does in its state directory. */
__attribute__((unused)) static int work(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "box/vsock.sock"};
	struct stat st;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
	int file = open("box/vmm.log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool done = file >= 0 && write(file, "x", 1) == 1 && ftruncate(file, 0) == 0 &&
	            linkat(AT_FDCWD, "box/vmm.log", AT_FDCWD, "box/vmm.log.new", 0) == 0 &&
	            renameat(AT_FDCWD, "box/vmm.log.new", AT_FDCWD, "box/vmm.log.1") == 0 &&
	            bind(listener, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	            chmod("box/vsock.sock", 0600) == 0 && listen(listener, 1) == 0 &&
	            connect(client, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	            unlink("box/vsock.sock") == 0 && unlink("box/vmm.log") == 0 && unlink("box/vmm.log.1") == 0 &&
	            renameat(AT_FDCWD, "box", AT_FDCWD, ".hidden") == 0 &&
	            unlinkat(AT_FDCWD, ".hidden", AT_REMOVEDIR) == 0 && lstat("/etc/passwd", &st) == 0;
	return done ? 0 : errno;
}

/* --- what is said --- */

struct told {
	int ret;
	struct jail jail;
	struct err err;
};

/* What the jail says in a child with these flags, which enters `layers`. */
__attribute__((unused)) static struct told enter_in_child(unsigned layers, uint32_t flags)
{
	struct told told = {.ret = 1};
	int fds[2];
	if (pipe(fds) < 0)
		return told;
	pid_t pid = fork();
	if (pid == 0) {
		told.ret = enter(&told.jail, layers, flags, &told.err);
		if (told.ret == 0)
			jail_note_engine(&told.jail);
		_exit(write(fds[1], &told, sizeof(told)) < 0);
	}
	if (read(fds[0], &told, sizeof(told)) != sizeof(told))
		told.ret = 1;
	waitpid(pid, NULL, 0);
	close(fds[0]);
	close(fds[1]);
	return told;
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
