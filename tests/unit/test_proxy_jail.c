/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy's jail, from inside: each attempt is what code that took over a proxy would do, in a child of its own. */
#include <grp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/unit/host.h"
#include "tests/unit/test_proxy.h"
#include "vmm/proxy/proxy.h"
#include "vmm/shared/confine.h"
#include "vmm/shared/egress.h"

#define NOBODY 65534
#define NO_JAIL 254
#define ENDED 1 /* the jail's code when it refuses a call */

/* What the attempts find outside. */
static char outside[] = "/tmp/wisp-test-XXXXXX";
static uint16_t named_port, other_port;
static int unix_socket, other_process;
static struct sockaddr_un abstract_name;
static socklen_t abstract_size;

static int result_of(long r)
{
	return r < 0 ? errno : 0;
}

static int open_outside(int flags, const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/%s", outside, name);
	return result_of(open(path, flags | O_CLOEXEC, 0600));
}

static int read_outside(void)
{
	return open_outside(O_RDONLY, "file");
}

static int write_outside(void)
{
	return open_outside(O_WRONLY, "file");
}

static int make_outside(void)
{
	return open_outside(O_WRONLY | O_CREAT, "new");
}

static int read_hosts(void)
{
	return result_of(open("/etc/hosts", O_RDONLY | O_CLOEXEC));
}

static int read_shadow(void)
{
	return result_of(open("/etc/shadow", O_RDONLY | O_CLOEXEC));
}

static int list_etc(void)
{
	return result_of(open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int use_port(int (*use)(int, const struct sockaddr *, socklen_t), uint16_t port)
{
	struct sockaddr_in to = {
	        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return result_of(fd < 0 ? -1 : use(fd, (const struct sockaddr *)&to, sizeof(to)));
}

static int bind_a_port(void)
{
	return use_port(bind, 0);
}

static int connect_to_named(void)
{
	return use_port(connect, named_port);
}

static int connect_to_other(void)
{
	return use_port(connect, other_port);
}

static int connect_to_abstract(void)
{
	return result_of(connect(unix_socket, (const struct sockaddr *)&abstract_name, abstract_size));
}

static int abort_other(void)
{
	return result_of(syscall(SYS_tkill, other_process, SIGABRT));
}

static int take_memory(void)
{
	void *memory = mmap(
	        NULL, (size_t)257 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return memory == MAP_FAILED ? errno : 0;
}

static int take_descriptors(void)
{
	for (int i = 0; i < 2048; i++) {
		if (socket(AF_INET, SOCK_DGRAM, 0) < 0)
			return errno;
	}
	return 0;
}

static bool become_nobody(void)
{
	return geteuid() != 0 || (setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
	                                 setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

static void enter(const char *rule_text)
{
	struct egress_rule rule;
	struct egress_rules rules = {.rules = &rule, .count = 1};
	const char *why;
	if (!egress_parse_rule(rule_text, &rule, &why) || proxy_jail(&rules) < 0)
		_exit(NO_JAIL);
}

/* Started by root or by another user, it ends as the same. */
static int in_jail(bool by_root, const char *rule, int (*attempt)(void))
{
	int status = -1;
	pid_t pid = fork();
	if (pid == 0) {
		if (!by_root && !become_nobody())
			_exit(NO_JAIL);
		enter(rule);
		_exit(attempt());
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static const struct {
	const char *what;
	int (*attempt)(void);
	long abi; /* of Landlock, from which on it can forbid this; 0: something else does, or nothing */
	int error;
	const char *rule; /* NULL: the named port */
} attempts[] = {
        {"read a file outside", read_outside, 1, EACCES, NULL},
        {"write to a file outside", write_outside, 1, EACCES, NULL},
        {"make a file outside", make_outside, 1, EACCES, NULL},
        {"list /etc", list_etc, 1, EACCES, NULL},
        {"read /etc/shadow", read_shadow, 0, EACCES, NULL},
        {"read /etc/hosts", read_hosts, 0, 0, NULL},
        {"bind a TCP port", bind_a_port, 4, EACCES, NULL},
        {"bind a TCP port, with a rule for all", bind_a_port, 4, EACCES, "127.0.0.1:*"},
        {"connect to a port that no rule names", connect_to_other, 4, EACCES, NULL},
        {"connect to the port of a rule", connect_to_named, 0, 0, NULL},
        {"connect to a port, with a rule for all", connect_to_other, 0, 0, "127.0.0.1:*"},
        {"connect to an abstract Unix socket", connect_to_abstract, 6, EPERM, NULL},
        {"send a signal", abort_other, 6, EPERM, NULL},
        {"take more memory", take_memory, 0, ENOMEM, NULL},
        {"take more descriptors", take_descriptors, 0, EMFILE, NULL},
};

static void try_all(bool by_root)
{
	char named[32];
	snprintf(named, sizeof(named), "127.0.0.1:%u", named_port);
	other_process = fork();
	if (other_process == 0) {
		if (!become_nobody()) /* as the process in the jail, which may then signal to it */
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		if (attempts[i].abi > landlock_abi()) {
			printf("# not tried: %s. Landlock of this kernel cannot forbid it\n", attempts[i].what);
			continue;
		}
		if (attempts[i].attempt == read_shadow && access("/etc/shadow", F_OK) < 0)
			continue;
		int error = in_jail(by_root, attempts[i].rule ? attempts[i].rule : named, attempts[i].attempt);
		if (error != attempts[i].error)
			printf("# %s, started by %s: %s\n", attempts[i].what, by_root ? "root" : "a user",
			        error < 0 ? strsignal(-error) : strerror(error));
		CHECK_EQ(error, attempts[i].error);
	}
	kill(other_process, SIGKILL);
	waitpid(other_process, NULL, 0);
}

static void jail_attempts(void)
{
	if (CONFINE_SANITIZED)
		SKIP("builds with sanitizers have no jail");
	REQUIRE(mkdtemp(outside) && chmod(outside, 0777) == 0);
	write_file(outside, "file", "x");
	char path[64];
	snprintf(path, sizeof(path), "%s/file", outside);
	REQUIRE(chmod(path, 0666) == 0);
	int named = listen_tcp(&named_port), other = listen_tcp(&other_port);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unix_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(named >= 0 && other >= 0 && listener >= 0 && unix_socket >= 0);
	/* The kernel gives it an abstract name. */
	abstract_name.sun_family = AF_UNIX;
	abstract_size = sizeof(abstract_name);
	REQUIRE(bind(listener, (struct sockaddr *)&abstract_name, sizeof(abstract_name.sun_family)) == 0 &&
	        listen(listener, SOMAXCONN) == 0 &&
	        getsockname(listener, (struct sockaddr *)&abstract_name, &abstract_size) == 0);
	if (geteuid() == 0)
		try_all(true);
	try_all(false);
	close(named);
	close(other);
	close(listener);
	close(unix_socket);
	remove_all(outside);
}

#define ONES (~0ul)

/* All other arguments are 0. */
static const struct {
	const char *what;
	long number;
	unsigned at; /* the argument that is `value` */
	unsigned long value;
} refused[] = {
        {"another program", SYS_execve, 0, 0},
        {"another program of a descriptor", SYS_execveat, 0, ONES},
        {"a process", SYS_clone, 0, SIGCHLD},
        {"a process of the new call", SYS_clone3, 0, 0},
        {"a thread with its own files", SYS_clone, 0, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD},
        {"a user namespace", SYS_clone, 0, CLONE_NEWUSER},
        {"unshare", SYS_unshare, 0, 0},
        {"setns", SYS_setns, 0, ONES},
        {"tracing", SYS_ptrace, 0, 0},
        {"reading another's memory", SYS_process_vm_readv, 0, 0},
        {"writing another's memory", SYS_process_vm_writev, 0, 0},
        {"a Unix socket", SYS_socket, 0, AF_UNIX},
        {"a netlink socket", SYS_socket, 0, AF_NETLINK},
        {"a packet socket", SYS_socket, 0, AF_PACKET},
        {"a vsock socket", SYS_socket, 0, AF_VSOCK},
        {"socketpair", SYS_socketpair, 0, 0},
        {"executable memory", SYS_mmap, 2, PROT_READ | PROT_EXEC},
        {"memory made executable", SYS_mprotect, 2, PROT_READ | PROT_EXEC},
        {"pkey_mprotect", SYS_pkey_mprotect, 2, PROT_EXEC},
        {"a file in memory", SYS_memfd_create, 0, 0},
        {"kill", SYS_kill, 0, 0},
        {"a signal to a thread", SYS_tkill, 1, SIGKILL},
        {"tgkill", SYS_tgkill, 0, 0},
        {"a handler of SIGSYS", SYS_rt_sigaction, 0, SIGSYS},
        {"prctl", SYS_prctl, 0, PR_SET_DUMPABLE},
        {"seccomp", SYS_seccomp, 0, ONES},
        {"setuid", SYS_setuid, 0, 0},
        {"capset", SYS_capset, 0, 0},
        {"a limit", SYS_prlimit64, 0, 0},
        {"mount", SYS_mount, 0, 0},
        {"chroot", SYS_chroot, 0, 0},
        {"removing a file", SYS_unlinkat, 0, 0},
        {"openat2", SYS_openat2, 0, 0},
        {"open_by_handle_at", SYS_open_by_handle_at, 0, ONES},
        {"ioctl", SYS_ioctl, 0, ONES},
        {"another fcntl", SYS_fcntl, 1, F_SETOWN},
        {"bpf", SYS_bpf, 0, ONES},
        {"a ring", SYS_io_uring_setup, 0, 0},
        {"perf_event_open", SYS_perf_event_open, 0, 0},
        {"userfaultfd", SYS_userfaultfd, 0, 0},
        {"keyctl", SYS_keyctl, 0, ONES},
        {"a number that is none", 4000, 0, 0},
};

/* Returns the code of a child that makes the call in the jail, and stores what is in net.log then. */
static int call_in_jail(long number, unsigned at, unsigned long value, char *log, size_t size)
{
	int fds[2], status = -1;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		unsigned long argument[6] = {0};
		argument[at] = value;
		dup2(fds[1], EGRESS_LOG_FD);
		enter("127.0.0.1");
		syscall(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
		_exit(2);
	}
	waitpid(pid, &status, 0);
	close(fds[1]);
	ssize_t n = read(fds[0], log, size - 1);
	log[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A call that is refused ends the process, whose log says which. */
static void jail_refuses_calls(void)
{
	char log[128], wanted[128];
	if (CONFINE_SANITIZED)
		SKIP("builds with sanitizers have no jail");
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		int code = call_in_jail(refused[i].number, refused[i].at, refused[i].value, log, sizeof(log));
		if (code != ENDED)
			printf("# %s: %d\n", refused[i].what, code);
		CHECK_EQ(code, ENDED);
		snprintf(wanted, sizeof(wanted), "the proxy's jail refused system call %ld\n", refused[i].number);
		CHECK_STR(log, wanted);
	}
}

TEST_MAIN("proxy", {"jail_attempts", jail_attempts}, {"jail_refuses_calls", jail_refuses_calls})
