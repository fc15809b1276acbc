/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's jail, from inside: each case tries what code that took over a monitor would, in a child of its own. */
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/jail.h"

static char root[] = "/tmp/wisp-test-XXXXXX";

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

/* Of Landlock; 0: this host has none. */
static long landlock_abi(void)
{
	long abi = syscall(444, NULL, 0, 1);
	return abi > 0 ? abi : 0;
}

/* In a child: the jail, and in it `attempt`, which returns an errno, or 0. */
static int in_jail(uint32_t flags, int (*attempt)(void))
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
		fds.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (chdir(root) < 0 || jail_enter(&jail, &description, &fds, NULL) < 0)
			_exit(255);
		_exit(attempt());
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int result_of(long r)
{
	return r < 0 ? errno : 0;
}

/* --- privileges --- */

static int count_privileges(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	struct rlimit core;
	if (syscall(SYS_capget, &head, data) < 0 || getrlimit(RLIMIT_CORE, &core) < 0)
		return 254;
	int wrong = 0;
	for (int i = 0; i < 2; i++)
		wrong |= data[i].effective || data[i].permitted || data[i].inheritable ? 1 : 0;
	wrong |= prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) != 0 && geteuid() == 0 ? 2 : 0;
	wrong |= prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_ADMIN, 0, 0) == 1 ? 4 : 0;
	wrong |= prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ? 8 : 0;
	wrong |= prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 ? 16 : 0;
	return wrong | (core.rlim_cur || core.rlim_max ? 32 : 0);
}

static void no_privileges_are_left(void)
{
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	CHECK_EQ(in_jail(0, count_privileges), 0);
	CHECK(in_jail(DESCRIPTION_NO_JAIL, count_privileges) & 8);
}

/* --- files --- */

static int read_passwd(void)
{
	return result_of(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

static int read_own_memory(void)
{
	return result_of(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
}

static int write_to_tmp(void)
{
	return result_of(open("/tmp/wisp-test-outside-the-jail", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static int leave_by_link(void)
{
	return result_of(open("link", O_RDONLY | O_CLOEXEC));
}

static int make_link(void)
{
	return result_of(symlink("/etc", "other"));
}

static int make_device(void)
{
	return result_of(mknod("device", S_IFCHR | 0600, 0x103));
}

static int make_pipe(void)
{
	return result_of(mkfifo("pipe", 0600));
}

static int execute(void)
{
	char *const argv[] = {(char[]){"true"}, NULL};
	return result_of(execv("/bin/true", argv));
}

static int execute_own(void)
{
	char *const argv[] = {(char[]){"true"}, NULL};
	return result_of(execv("program", argv));
}

static int listen_on_tcp(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return result_of(fd < 0 ? -1 : bind(fd, (const struct sockaddr *)&any, sizeof(any)));
}

static int kill_parent(void)
{
	return result_of(kill(getppid(), 0));
}

static void nothing_outside_can_be_reached(void)
{
	static const struct {
		const char *what;
		int (*attempt)(void);
		long abi;
		int error;
	} cases[] = {
	        {"read /etc/passwd", read_passwd, 1, EACCES},
	        {"read /proc/self/mem", read_own_memory, 1, EACCES},
	        {"write to /tmp", write_to_tmp, 1, EACCES},
	        {"follow a link", leave_by_link, 1, EACCES},
	        {"make a link", make_link, 1, EACCES},
	        {"make a device", make_device, 1, EACCES},
	        {"make a pipe", make_pipe, 1, EACCES},
	        {"execute /bin/true", execute, 1, EACCES},
	        {"execute its own file", execute_own, 1, EACCES},
	        {"listen on TCP", listen_on_tcp, 4, EACCES},
	        {"kill its parent", kill_parent, 6, EPERM},
	};
	char path[64];
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	if (landlock_abi() < 1)
		SKIP("this host has no Landlock");
	snprintf(path, sizeof(path), "%s/link", root);
	CHECK(symlink("/etc/passwd", path) == 0);
	snprintf(path, sizeof(path), "%s/program", root);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	CHECK(fd >= 0 && write(fd, "#!/bin/true\n", 12) == 12 && close(fd) == 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int error = cases[i].abi <= landlock_abi() ? in_jail(0, cases[i].attempt) : cases[i].error;
		if (error != cases[i].error)
			printf("# %s: %s\n", cases[i].what, error < 0 ? strsignal(-error) : strerror(error));
		CHECK_EQ(error, cases[i].error);
	}
	CHECK_EQ(in_jail(DESCRIPTION_NO_JAIL, read_passwd), 0);
}

/* What a monitor does in its state directory. */
static int work(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "box/vsock.sock"};
	struct stat st;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
	int file = open("box/vmm.log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool done = file >= 0 && write(file, "x", 1) == 1 && ftruncate(file, 0) == 0 &&
	            link("box/vmm.log", "box/vmm.log.new") == 0 && rename("box/vmm.log.new", "box/vmm.log.1") == 0 &&
	            bind(listener, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	            chmod("box/vsock.sock", 0600) == 0 && listen(listener, 1) == 0 &&
	            connect(client, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	            unlink("box/vsock.sock") == 0 && unlink("box/vmm.log") == 0 && unlink("box/vmm.log.1") == 0 &&
	            rename("box", ".hidden") == 0 && rmdir(".hidden") == 0 && lstat("/etc/passwd", &st) == 0;
	return done ? 0 : errno;
}

static void its_own_work_goes_on(void)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/box", root);
	REQUIRE(mkdir(path, 0700) == 0);
	CHECK_EQ(in_jail(0, work), 0);
}

/* --- what is said --- */

static void the_layers_are_named(void)
{
	int fds[2];
	char text[JAIL_TEXT_SIZE] = "";
	REQUIRE(pipe(fds) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct description description;
		struct description_fds none;
		struct jail jail;
		description_init(&description);
		description_init_fds(&none);
		none.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		jail_enter(&jail, &description, &none, NULL);
		_exit(write(fds[1], jail.text, sizeof(jail.text)) < 0);
	}
	CHECK(read(fds[0], text, sizeof(text) - 1) > 0);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	if (sanitized) {
		CHECK_STR(text, "none, because this is a build with sanitizers");
		return;
	}
	CHECK(strncmp(text, "no privileges, ", 15) == 0);
	CHECK(strstr(text, landlock_abi() > 0 ? "Landlock ABI " : "without Landlock (") != NULL);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"no_privileges_are_left", no_privileges_are_left},
	        {"nothing_outside_can_be_reached", nothing_outside_can_be_reached},
	        {"its_own_work_goes_on", its_own_work_goes_on},
	        {"the_layers_are_named", the_layers_are_named},
	};
	char command[64];
	if (!mkdtemp(root))
		return 1;
	int status = test_main("jail", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command) == 0 ? status : 1;
}
