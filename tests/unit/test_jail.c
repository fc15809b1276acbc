/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's jail, from inside: each case tries what code that took over a monitor would, in a child of its own. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
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
#include "vmm/monitor/jail_filter.h"

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
		fds.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (chdir(root) < 0 || jail_enter(&jail, layers, &description, &fds, NULL) < 0)
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

static bool may_lock; /* root with CAP_SETPCAP */

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
	wrong |= !(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) & SECBIT_NOROOT_LOCKED) && may_lock ? 2 : 0;
	wrong |= prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_ADMIN, 0, 0) == 1 ? 4 : 0;
	wrong |= prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ? 8 : 0;
	wrong |= prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 ? 16 : 0;
	return wrong | (core.rlim_cur || core.rlim_max ? 32 : 0);
}

static void no_privileges_are_left(void)
{
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	CHECK_EQ(in_jail(JAIL_PRIVILEGES, 0, count_privileges), 0);
	CHECK(in_jail(JAIL_ALL, DESCRIPTION_NO_JAIL, count_privileges) & 8);
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
		int error = cases[i].abi <= landlock_abi() ? in_jail(JAIL_PRIVILEGES | JAIL_PATHS, 0, cases[i].attempt)
		                                           : cases[i].error;
		if (error != cases[i].error)
			printf("# %s: %s\n", cases[i].what, error < 0 ? strsignal(-error) : strerror(error));
		CHECK_EQ(error, cases[i].error);
	}
	CHECK_EQ(in_jail(JAIL_ALL, DESCRIPTION_NO_JAIL, read_passwd), 0);
}

/* What a monitor does in its state directory. */
static int work(void)
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

static void its_own_work_goes_on(void)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/box", root);
	REQUIRE(mkdir(path, 0700) == 0);
	CHECK_EQ(in_jail(JAIL_ALL, 0, work), 0);
}

/* --- system calls --- */

#define ONES 0xffffffffu /* of an argument that does not matter */
#define NEW_USER 0x10000000u

/* One call, with `value` as the argument `at` and no others: a filter that lets it through finds it harmless. */
static const struct {
	const char *what;
	uint32_t number;
	unsigned at;
	uint32_t value;
	bool vcpu_only; /* the loop may */
} refused[] = {
        {"execve", SYS_execve, 0, 0, false},
        {"execveat", SYS_execveat, 0, 0, false},
        {"execve of x32", SYS_execve | 0x40000000, 0, 0, false},
        {"ptrace", SYS_ptrace, 0, 0, false},
        {"process_vm_readv", SYS_process_vm_readv, 0, 0, false},
        {"process_vm_writev", SYS_process_vm_writev, 0, 0, false},
        {"pidfd_getfd", SYS_pidfd_getfd, 0, ONES, false},
        {"kill", SYS_kill, 1, 0, false},
        {"tkill with SIGKILL", SYS_tkill, 1, SIGKILL, false},
        {"pidfd_send_signal", SYS_pidfd_send_signal, 0, ONES, false},
        {"an internet socket", SYS_socket, 0, AF_INET, false},
        {"a netlink socket", SYS_socket, 0, AF_NETLINK, false},
        {"a vsock socket", SYS_socket, 0, AF_VSOCK, false},
        {"executable memory", SYS_mmap, 2, 7, false},
        {"memory made executable", SYS_mprotect, 2, 5, false},
        {"pkey_mprotect", SYS_pkey_mprotect, 0, 0, false},
        {"a file in memory", SYS_memfd_create, 0, 0, false},
        {"a user namespace", SYS_clone, 0, NEW_USER, false},
        {"unshare", SYS_unshare, 0, 0, false},
        {"setns", SYS_setns, 0, ONES, false},
        {"mount", SYS_mount, 0, 0, false},
        {"pivot_root", SYS_pivot_root, 0, 0, false},
        {"chroot", SYS_chroot, 0, 0, false},
        {"bpf", SYS_bpf, 0, ONES, false},
        {"perf_event_open", SYS_perf_event_open, 0, 0, false},
        {"userfaultfd", SYS_userfaultfd, 0, 0, false},
        {"kexec_load", SYS_kexec_load, 0, ONES, false},
        {"init_module", SYS_init_module, 0, 0, false},
        {"keyctl", SYS_keyctl, 0, ONES, false},
        {"setuid", SYS_setuid, 0, 0, false},
        {"capset", SYS_capset, 0, 0, false},
        {"open_by_handle_at", SYS_open_by_handle_at, 0, ONES, false},
        {"another ioctl", SYS_ioctl, 1, 0x5412 /* TIOCSTI: types for a terminal */, false},
        {"another prctl", SYS_prctl, 0, PR_SET_DUMPABLE, false},
        {"another fcntl", SYS_fcntl, 1, 8 /* F_SETOWN */, false},
        {"a handler of SIGSYS", SYS_rt_sigaction, 0, SIGSYS, false},
        {"a number that is none", 4000, 0, 0, false},
        {"strict seccomp, another mode", SYS_seccomp, 0, 0, false},
        {"fork on a vCPU", SYS_fork, 0, 0, true},
        {"a thread of a vCPU", SYS_clone, 0, 0x10100 /* CLONE_VM, CLONE_THREAD */, true},
        {"a socket on a vCPU", SYS_socket, 0, AF_UNIX, true},
        {"recvmsg on a vCPU", SYS_recvmsg, 0, ONES, true},
        {"a ring on a vCPU", SYS_io_uring_setup, 0, 0, true},
        {"a ring's work on a vCPU", SYS_io_uring_enter, 0, ONES, true},
        {"another machine on a vCPU", SYS_ioctl, 1, 0xae01 /* KVM_CREATE_VM */, true},
};
#define REFUSED_COUNT (sizeof(refused) / sizeof(refused[0]))

static size_t attempt_index;

static int make_call(void)
{
	long a[6] = {0};
	a[refused[attempt_index].at] = refused[attempt_index].value;
	syscall(refused[attempt_index].number, a[0], a[1], a[2], a[3], a[4], a[5]);
	return 0;
}

static int make_call_of_vcpu(void)
{
	return jail_enter_vcpu(NULL) < 0 ? 254 : make_call();
}

static int make_32_bit_call(void)
{
	long getpid_32 = 20;
	__asm__ volatile("int $0x80" : "+a"(getpid_32) : : "memory");
	return 0;
}

static int make_clone3(void)
{
	return result_of(syscall(SYS_clone3, NULL, 0));
}

static void refused_calls_end_the_process(void)
{
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	for (size_t i = 0; i < REFUSED_COUNT; i++) {
		attempt_index = i;
		int loop = refused[i].vcpu_only ? JAIL_STATUS : in_jail(JAIL_PRIVILEGES | JAIL_CALLS, 0, make_call);
		int vcpu = in_jail(JAIL_PRIVILEGES | JAIL_CALLS, 0, make_call_of_vcpu);
		if (loop != JAIL_STATUS || vcpu != JAIL_STATUS)
			printf("# %s\n", refused[i].what);
		CHECK_EQ(loop, JAIL_STATUS);
		CHECK_EQ(vcpu, JAIL_STATUS);
	}
	/* It is not told apart by its number, so nobody can say which it was. */
	CHECK_EQ(in_jail(JAIL_PRIVILEGES | JAIL_CALLS, 0, make_32_bit_call), -SIGSYS);
	CHECK_EQ(in_jail(JAIL_PRIVILEGES | JAIL_CALLS, 0, make_clone3), ENOSYS);
}

static void read_file(const char *name, char *text, size_t size)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/%s", root, name);
	FILE *file = fopen(path, "re");
	size_t n = file ? fread(text, 1, size - 1, file) : 0;
	text[n] = '\0';
	if (file)
		fclose(file);
}

static int execute_as_vcpu7(void)
{
	prctl(PR_SET_NAME, "vcpu7");
	return jail_enter_vcpu(NULL) < 0 ? 254 : execute();
}

static void a_refusal_says_which_call_and_thread(void)
{
	static const char wanted[] = "exit internal the monitor's jail refused system call 59 in thread vcpu7\n";
	char text[200];
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	snprintf(text, sizeof(text), "%s/vmm.log", root);
	unlink(text); /* which has the refusals of other cases */
	CHECK_EQ(in_jail(JAIL_ALL, 0, execute_as_vcpu7), JAIL_STATUS);
	read_file("state", text, sizeof(text));
	CHECK_STR(text, wanted);
	read_file("vmm.log", text, sizeof(text));
	CHECK_STR(text, wanted);
}

/* The programs again, interpreted: without a kernel, and for every number. */
static uint32_t interpret(
        const struct sock_filter *program, size_t count, const struct seccomp_data *data, unsigned *executed)
{
	uint32_t a = 0;
	*executed = 0;
	for (size_t i = 0; i < count; i++) {
		const struct sock_filter *f = &program[i];
		++*executed;
		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS: memcpy(&a, (const char *)data + f->k, sizeof(a)); break;
		case BPF_JMP | BPF_JEQ | BPF_K: i += a == f->k ? f->jt : f->jf; break;
		case BPF_JMP | BPF_JGE | BPF_K: i += a >= f->k ? f->jt : f->jf; break;
		case BPF_JMP | BPF_JSET | BPF_K: i += a & f->k ? f->jt : f->jf; break;
		case BPF_RET | BPF_K: return f->k;
		default: return 0x12345678;
		}
	}
	return 0x12345678; /* it does not end */
}

static struct jail_rule rule[256];
static size_t rule_count;

static void copy_rules(void)
{
	REQUIRE(jail_rule_count + jail_arch_rule_count <= sizeof(rule) / sizeof(rule[0]));
	memcpy(rule, jail_rules, jail_rule_count * sizeof(rule[0]));
	memcpy(rule + jail_rule_count, jail_arch_rules, jail_arch_rule_count * sizeof(rule[0]));
	rule_count = jail_rule_count + jail_arch_rule_count;
}

/* What the tables say, without any order. */
static uint32_t wanted(enum jail_thread thread, const struct seccomp_data *data)
{
	for (size_t i = 0; i < rule_count; i++) {
		uint32_t value = (uint32_t)data->args[rule[i].argument];
		if (rule[i].number != (uint32_t)data->nr || !(rule[i].threads & thread))
			continue;
		if (rule[i].test == JAIL_MISSING)
			return SECCOMP_RET_ERRNO | ENOSYS;
		if (rule[i].test == JAIL_ANY || (rule[i].test == JAIL_IS && value == rule[i].value) ||
		        (rule[i].test == JAIL_NOT && value != rule[i].value) ||
		        (rule[i].test == JAIL_LACKS && !(value & rule[i].value)))
			return SECCOMP_RET_ALLOW;
	}
	return SECCOMP_RET_TRAP;
}

/* With every value that any rule tests as each of the arguments, and with values next to it. */
static bool is_as_wanted(
        const struct sock_filter *program, size_t count, enum jail_thread thread, uint32_t number, unsigned *most)
{
	bool same = true;
	unsigned executed;
	for (size_t i = 0; i < 3 * rule_count; i++) {
		uint32_t value = rule[i / 3].value + (uint32_t)(i % 3) - 1;
		struct seccomp_data data = {.nr = (int)number, .arch = jail_arch};
		for (size_t k = 0; k < 6; k++)
			data.args[k] = value;
		same &= interpret(program, count, &data, &executed) == wanted(thread, &data);
		*most = executed > *most ? executed : *most;
	}
	return same;
}

static void the_programs_refuse_all_others(void)
{
	static const enum jail_thread threads[] = {JAIL_LOOP, JAIL_VCPU};
	struct sock_filter program[JAIL_FILTER_MAX];
	unsigned executed, most = 0;
	copy_rules();
	for (size_t t = 0; t < 2; t++) {
		size_t count = jail_filter(threads[t], program);
		REQUIRE(count > 0);
		for (uint32_t number = 0; number < 1024; number++) {
			struct seccomp_data data = {.nr = (int)number, .arch = jail_arch ^ 1};
			CHECK(is_as_wanted(program, count, threads[t], number, &most));
			CHECK(is_as_wanted(program, count, threads[t], number | 0x40000000, &most)); /* x32 */
			CHECK(is_as_wanted(program, count, threads[t], ~number, &most));
			CHECK_EQ(interpret(program, count, &data, &executed), SECCOMP_RET_KILL_PROCESS);
		}
		for (size_t i = 0; i < REFUSED_COUNT; i++) {
			struct seccomp_data data = {.nr = (int)refused[i].number, .arch = jail_arch};
			data.args[refused[i].at] = refused[i].value;
			CHECK_EQ(interpret(program, count, &data, &executed),
			        threads[t] == JAIL_LOOP && refused[i].vcpu_only ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP);
		}
	}
	printf("# at most %u instructions decide\n", most);
}

/* How many instructions decide about what a busy guest causes. */
static void hot_calls_are_cheap(void)
{
	static const struct {
		enum jail_thread thread;
		uint32_t number, argument_1;
		unsigned instructions;
	} cases[] = {
	        {JAIL_VCPU, SYS_ioctl, 0xae80 /* KVM_RUN */, 7},
	        {JAIL_LOOP, SYS_ioctl, 0xae80, 7},
	        {JAIL_LOOP, SYS_io_uring_enter, 0, 6},
	        {JAIL_LOOP, SYS_write, 0, 7},
	        {JAIL_LOOP, SYS_read, 0, 8},
	};
	struct sock_filter program[JAIL_FILTER_MAX];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t count = jail_filter(cases[i].thread, program);
		struct seccomp_data data = {.nr = (int)cases[i].number, .arch = jail_arch};
		unsigned executed;
		data.args[1] = cases[i].argument_1;
		CHECK_EQ(interpret(program, count, &data, &executed), SECCOMP_RET_ALLOW);
		CHECK_EQ(executed, cases[i].instructions);
	}
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
		jail_enter(&jail, JAIL_ALL, &description, &none, NULL);
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
	CHECK(strstr(text, ", a filter of system calls") != NULL);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"no_privileges_are_left", no_privileges_are_left},
	        {"nothing_outside_can_be_reached", nothing_outside_can_be_reached},
	        {"its_own_work_goes_on", its_own_work_goes_on},
	        {"refused_calls_end_the_process", refused_calls_end_the_process},
	        {"a_refusal_says_which_call_and_thread", a_refusal_says_which_call_and_thread},
	        {"the_programs_refuse_all_others", the_programs_refuse_all_others},
	        {"hot_calls_are_cheap", hot_calls_are_cheap},
	        {"the_layers_are_named", the_layers_are_named},
	};
	char command[64];
	may_lock = geteuid() == 0 && prctl(PR_CAPBSET_READ, CAP_SETPCAP, 0, 0, 0) == 1;
	if (!mkdtemp(root))
		return 1;
	int status = test_main("jail", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command) == 0 ? status : 1;
}
