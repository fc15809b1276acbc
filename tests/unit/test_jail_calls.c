/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's system calls: what its threads may not do, and the programs that say so. */
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/socket.h>

#include "tests/unit/test_jail.h"
#include "vmm/monitor/jail_filter.h"

#define ONES 0xffffffffu /* of an argument that does not matter */
#define NEW_USER 0x10000000u

/* One call, with `value` as the argument `at` and no others: a filter that lets it through finds it harmless. */
static const struct {
	const char *what;
	uint32_t number;
	unsigned at;
	uint32_t value;
	bool loop_may; /* with io_uring */
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
        {"a setuid bit", SYS_fchmod, 1, 04755, false},
        {"another fcntl", SYS_fcntl, 1, 8 /* F_SETOWN */, false},
        {"a handler of SIGSYS", SYS_rt_sigaction, 0, SIGSYS, false},
        {"a number that is none", 4000, 0, 0, false},
        {"a mount namespace", SYS_clone, 0, CLONE_NEWNS, false},
        {"a process namespace", SYS_clone, 0, CLONE_NEWPID, false},
        {"a network namespace", SYS_clone, 0, CLONE_NEWNET, false},
        {"another exit signal and namespace", SYS_clone, 0, CLONE_NEWCGROUP | SIGCHLD, false},
        {"umount2", SYS_umount2, 0, 0, false},
        {"open_tree", 428, 0, ONES, false},
        {"move_mount", 429, 0, ONES, false},
        {"fsopen", 430, 0, 0, false},
        {"mount_setattr", 442, 0, ONES, false},
        {"openat2", 437, 0, ONES, false},
        {"name_to_handle_at", SYS_name_to_handle_at, 0, ONES, false},
        {"add_key", SYS_add_key, 0, 0, false},
        {"request_key", SYS_request_key, 0, 0, false},
        {"finit_module", SYS_finit_module, 0, ONES, false},
        {"delete_module", SYS_delete_module, 0, 0, false},
        {"reboot", SYS_reboot, 0, 0, false},
        {"personality", SYS_personality, 0, ONES, false},
        {"prlimit64", SYS_prlimit64, 0, 0, false},
        {"setrlimit", SYS_setrlimit, 0, 0, false},
        {"sethostname", SYS_sethostname, 0, 0, false},
        {"clock_settime", SYS_clock_settime, 0, 0, false},
        {"shmget", SYS_shmget, 1, 0, false},
        {"msgget", SYS_msgget, 0, 0, false},
        {"semget", SYS_semget, 1, 0, false},
        {"mq_open", SYS_mq_open, 0, 0, false},
        {"fanotify_init", SYS_fanotify_init, 0, ONES, false},
        {"inotify_init1", SYS_inotify_init1, 0, ONES, false},
        {"vmsplice", SYS_vmsplice, 0, ONES, false},
        {"splice", SYS_splice, 0, ONES, false},
        {"kcmp", SYS_kcmp, 2, ONES, false},
        {"process_madvise", 440, 0, ONES, false},
        {"socketpair", SYS_socketpair, 0, 0, false},
        {"strict seccomp, another mode", SYS_seccomp, 0, 0, false},
        {"a thread of a vCPU", SYS_clone, 0, 0x10100 /* CLONE_VM, CLONE_THREAD */, true},
        {"a socket on a vCPU", SYS_socket, 0, AF_UNIX, true},
        {"recvmsg on a vCPU", SYS_recvmsg, 0, ONES, true},
        {"a ring on a vCPU", SYS_io_uring_setup, 0, 0, true},
        {"a ring's work on a vCPU", SYS_io_uring_enter, 0, ONES, true},
        {"another machine on a vCPU", SYS_ioctl, 1, 0xae01 /* KVM_CREATE_VM */, true},
#ifdef SYS_iopl /* x86 */
        {"iopl", SYS_iopl, 0, 0, false},
        {"ioperm", SYS_ioperm, 0, 0, false},
        {"modify_ldt", SYS_modify_ldt, 0, ONES, false},
        {"chown", SYS_chown, 0, 0, false},
        {"link", SYS_link, 0, 0, false},
        {"symlink", SYS_symlink, 0, 0, false},
        {"mknod", SYS_mknod, 0, 0, false},
        {"fork on a vCPU", SYS_fork, 0, 0, true},
#endif
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

static int make_call_of_worker(void)
{
	return jail_enter_worker(NULL) < 0 ? 254 : make_call();
}

#if defined(__x86_64__)
static int make_32_bit_call(void)
{
	long getpid_32 = 20;
	__asm__ volatile("int $0x80" : "+a"(getpid_32) : : "memory");
	return 0;
}
#endif

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
		int loop = refused[i].loop_may ? JAIL_STATUS
		                               : in_jail(WISP_LAYER_PRIVILEGES | WISP_LAYER_SECCOMP, 0, make_call);
		int vcpu = in_jail(WISP_LAYER_PRIVILEGES | WISP_LAYER_SECCOMP, 0, make_call_of_vcpu);
		int worker = in_jail(WISP_LAYER_PRIVILEGES | WISP_LAYER_SECCOMP, 0, make_call_of_worker);
		if (loop != JAIL_STATUS || vcpu != JAIL_STATUS || worker != JAIL_STATUS)
			printf("# %s\n", refused[i].what);
		CHECK_EQ(loop, JAIL_STATUS);
		CHECK_EQ(vcpu, JAIL_STATUS);
		CHECK_EQ(worker, JAIL_STATUS);
	}
	CHECK_EQ(in_jail(WISP_LAYER_PRIVILEGES | WISP_LAYER_SECCOMP, 0, make_clone3), ENOSYS);
}

/* It is not told apart by its number, so nobody can say which it was. */
static void a_32_bit_call_ends_the_process(void)
{
#if defined(__x86_64__)
	if (in_jail(0, 0, make_32_bit_call) != 0)
		SKIP("this host's kernel has no 32-bit calls");
	CHECK_EQ(in_jail(WISP_LAYER_PRIVILEGES | WISP_LAYER_SECCOMP, 0, make_32_bit_call), -SIGSYS);
#else
	SKIP("only x86-64 has such calls");
#endif
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
	char wanted[96];
	snprintf(wanted, sizeof(wanted), "exit internal the monitor's jail refused system call %d in thread vcpu7\n",
	        SYS_execve);
	char text[200];
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	snprintf(text, sizeof(text), "%s/vmm.log", root);
	unlink(text); /* which has the refusals of other cases */
	CHECK_EQ(in_jail(WISP_LAYER_ALL, 0, execute_as_vcpu7), JAIL_STATUS);
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
static uint32_t wanted(unsigned thread, const struct seccomp_data *data)
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
        const struct sock_filter *program, size_t count, unsigned thread, uint32_t number, unsigned *most)
{
	bool same = true;
	unsigned executed;
	for (size_t i = 0; i < 3 * rule_count; i++) {
		uint32_t value = rule[i / 3].value + (uint32_t)(i % 3) - 1;
		struct seccomp_data data = {.nr = (int)number, .arch = JAIL_PROCESSOR};
		for (size_t k = 0; k < 6; k++)
			data.args[k] = value;
		same &= interpret(program, count, &data, &executed) == wanted(thread, &data);
		*most = executed > *most ? executed : *most;
	}
	return same;
}

static bool is_of_ring(uint32_t number)
{
	return number == SYS_io_uring_setup || number == SYS_io_uring_enter || number == SYS_io_uring_register;
}

/* Nor does the loop have the calls of the engine that it does not use. */
static void an_engine_has_its_own_calls(void)
{
	static const struct {
		uint32_t number;
		bool ring, epoll, worker; /* who may make it */
	} cases[] = {{SYS_io_uring_setup, true, false, false}, {SYS_io_uring_enter, true, false, false},
	        {SYS_io_uring_register, true, false, false}, {SYS_epoll_create1, false, true, false},
	        {SYS_epoll_ctl, false, true, false}, {SYS_epoll_pwait, false, true, false},
	        {SYS_preadv2, false, true, true}, {SYS_pwritev2, false, true, true}, {SYS_fdatasync, false, true, true},
	        {SYS_fallocate, false, true, true}, {SYS_write, true, true, true}, {SYS_futex, true, true, true},
	        {SYS_read, true, true, false}, {SYS_accept4, true, true, false}, {SYS_sendmsg, true, true, false},
	        {SYS_mmap, true, true, false}, {SYS_unlinkat, true, true, false}};
	struct sock_filter ring[JAIL_FILTER_MAX], epoll[JAIL_FILTER_MAX], worker[JAIL_FILTER_MAX];
	size_t counts[] = {jail_filter(JAIL_LOOP | JAIL_RING, ring), jail_filter(JAIL_LOOP | JAIL_EPOLL, epoll),
	        jail_filter(JAIL_WORKER, worker)};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct seccomp_data data = {.nr = (int)cases[i].number, .arch = JAIL_PROCESSOR};
		unsigned executed;
		CHECK_EQ(interpret(ring, counts[0], &data, &executed) == SECCOMP_RET_ALLOW, cases[i].ring);
		CHECK_EQ(interpret(epoll, counts[1], &data, &executed) == SECCOMP_RET_ALLOW, cases[i].epoll);
		CHECK_EQ(interpret(worker, counts[2], &data, &executed) == SECCOMP_RET_ALLOW, cases[i].worker);
	}
}

static void the_programs_refuse_all_others(void)
{
	static const unsigned threads[] = {JAIL_LOOP | JAIL_RING, JAIL_LOOP | JAIL_EPOLL, JAIL_VCPU, JAIL_WORKER};
	struct sock_filter program[JAIL_FILTER_MAX];
	unsigned executed, most = 0;
	copy_rules();
	for (size_t t = 0; t < sizeof(threads) / sizeof(threads[0]); t++) {
		size_t count = jail_filter(threads[t], program);
		REQUIRE(count > 0);
		for (uint32_t number = 0; number < 1024; number++) {
			struct seccomp_data data = {.nr = (int)number, .arch = JAIL_PROCESSOR ^ 1};
			CHECK(is_as_wanted(program, count, threads[t], number, &most));
			CHECK(is_as_wanted(program, count, threads[t], number | 0x40000000, &most)); /* x32 */
			CHECK(is_as_wanted(program, count, threads[t], ~number, &most));
			CHECK_EQ(interpret(program, count, &data, &executed), SECCOMP_RET_KILL_PROCESS);
		}
		for (size_t i = 0; i < REFUSED_COUNT; i++) {
			struct seccomp_data data = {.nr = (int)refused[i].number, .arch = JAIL_PROCESSOR};
			data.args[refused[i].at] = refused[i].value;
			bool allowed = refused[i].loop_may && threads[t] & JAIL_LOOP &&
			               !(threads[t] & JAIL_EPOLL && is_of_ring(refused[i].number));
			CHECK_EQ(interpret(program, count, &data, &executed),
			        allowed ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP);
		}
	}
	printf("# at most %u instructions decide\n", most);
}

/* How many instructions decide about what a busy guest causes. */
static void hot_calls_are_cheap(void)
{
	static const struct {
		unsigned thread;
		uint32_t number, argument_1;
		unsigned instructions;
	} cases[] = {
	        {JAIL_VCPU, SYS_ioctl, 0xae80 /* KVM_RUN */, 7},
	        {JAIL_LOOP | JAIL_RING, SYS_ioctl, 0xae80, 7},
	        {JAIL_LOOP | JAIL_RING, SYS_io_uring_enter, 0, 6},
	        {JAIL_LOOP | JAIL_RING, SYS_write, 0, 7},
	        {JAIL_LOOP | JAIL_RING, SYS_read, 0, 8},
	        {JAIL_LOOP | JAIL_EPOLL, SYS_epoll_pwait, 0, 6},
	        {JAIL_LOOP | JAIL_EPOLL, SYS_epoll_ctl, 0, 7},
	        {JAIL_LOOP | JAIL_EPOLL, SYS_read, 0, 9},
	        {JAIL_WORKER, SYS_write, 0, 5},
	        {JAIL_WORKER, SYS_preadv2, 0, 6},
	        {JAIL_WORKER, SYS_pwritev2, 0, 7},
	};
	struct sock_filter program[JAIL_FILTER_MAX];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t count = jail_filter(cases[i].thread, program);
		struct seccomp_data data = {.nr = (int)cases[i].number, .arch = JAIL_PROCESSOR};
		unsigned executed;
		data.args[1] = cases[i].argument_1;
		CHECK_EQ(interpret(program, count, &data, &executed), SECCOMP_RET_ALLOW);
		CHECK_EQ(executed, cases[i].instructions);
	}
}

static const struct test_case cases[] = {
        {"refused_calls_end_the_process", refused_calls_end_the_process},
        {"a_32_bit_call_ends_the_process", a_32_bit_call_ends_the_process},
        {"a_refusal_says_which_call_and_thread", a_refusal_says_which_call_and_thread},
        {"an_engine_has_its_own_calls", an_engine_has_its_own_calls},
        {"the_programs_refuse_all_others", the_programs_refuse_all_others},
        {"hot_calls_are_cheap", hot_calls_are_cheap},
};

int main(int argc, char **argv)
{
	return run_as_both("jail_calls", "jail_calls_of_user", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
