/* SPDX-License-Identifier: Apache-2.0 */
/* The layers of the monitor's jail, apart from the filter of its system calls (test_jail_calls.c). */
#include <linux/capability.h>
#include <linux/securebits.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/unit/test_jail.h"
#include "tests/unit/test_loop.h"

/* --- privileges --- */

static int count_privileges(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	if (syscall(SYS_capget, &head, data) < 0)
		return 254;
	bool may_lock = getuid() == 0 && prctl(PR_CAPBSET_READ, CAP_SETPCAP, 0, 0, 0) == 1;
	int wrong = 0;
	for (int i = 0; i < 2; i++)
		wrong |= data[i].effective || data[i].permitted || data[i].inheritable ? 1 : 0;
	wrong |= !(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) & SECBIT_NOROOT_LOCKED) && may_lock ? 2 : 0;
	wrong |= prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_ADMIN, 0, 0) == 1 ? 4 : 0;
	wrong |= prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ? 8 : 0;
	return wrong | (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 ? 16 : 0);
}

static void no_privileges_are_left(void)
{
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	CHECK_EQ(in_jail(WISP_LAYER_PRIVILEGES, 0, count_privileges), 0);
	CHECK(in_jail(WISP_LAYER_ALL, DESCRIPTION_NO_JAIL, count_privileges) & 8);
}

/* --- namespaces --- */

static uint16_t tcp_port;

static int connect_to_tcp(void)
{
	struct sockaddr_in to = {
	        .sin_family = AF_INET, .sin_port = tcp_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return result_of(fd < 0 ? -1 : connect(fd, (const struct sockaddr *)&to, sizeof(to)));
}

static int send_udp(void)
{
	struct sockaddr_in to = {
	        .sin_family = AF_INET, .sin_port = tcp_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return result_of(fd < 0 ? -1 : sendto(fd, "x", 1, 0, (const struct sockaddr *)&to, sizeof(to)));
}

static struct sockaddr_un abstract_name(socklen_t *size)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "wisp-test-%d", (int)tcp_port);
	*size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	return name;
}

static int connect_to_abstract(void)
{
	socklen_t size;
	struct sockaddr_un to = abstract_name(&size);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return result_of(fd < 0 ? -1 : connect(fd, (const struct sockaddr *)&to, size));
}

/* As the owner of the files in the directory that it was. */
static int own_files_stay(void)
{
	struct stat st;
	int fd = open("own", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || st.st_gid != getegid() || unlink("own") < 0)
		return errno ? errno : 254;
	return close(fd);
}

static void others_are_out_of_reach(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(any), name_size;
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	    local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	if (!may_unshare())
		SKIP("this host allows no namespaces");
	REQUIRE(tcp >= 0 && bind(tcp, (struct sockaddr *)&any, size) == 0 && listen(tcp, 8) == 0);
	REQUIRE(getsockname(tcp, (struct sockaddr *)&any, &size) == 0);
	tcp_port = any.sin_port;
	struct sockaddr_un name = abstract_name(&name_size);
	REQUIRE(local >= 0 && bind(local, (struct sockaddr *)&name, name_size) == 0 && listen(local, 8) == 0);
	read_namespaces(outside);
	CHECK_EQ(in_jail(0, 0, connect_to_tcp), 0);
	CHECK_EQ(in_jail(0, 0, connect_to_abstract), 0);
	CHECK_EQ(in_jail(0, 0, count_shared), (int)OWN_NAMESPACES);
	CHECK_EQ(in_jail(WISP_LAYER_NAMESPACES, 0, connect_to_tcp), ENETUNREACH);
	CHECK_EQ(in_jail(WISP_LAYER_NAMESPACES, 0, send_udp), ENETUNREACH);
	CHECK_EQ(in_jail(WISP_LAYER_NAMESPACES, 0, connect_to_abstract), ECONNREFUSED);
	CHECK_EQ(in_jail(WISP_LAYER_NAMESPACES, 0, count_shared), 0);
	CHECK_EQ(in_jail(WISP_LAYER_NAMESPACES, 0, own_files_stay), 0);
	CHECK_EQ(in_jail(WISP_LAYER_NAMESPACES | WISP_LAYER_PRIVILEGES, 0, count_privileges), 0);
	close(tcp);
	close(local);
}

/* --- limits --- */

static int take_memory(void)
{
	/* The guest's, and that of the monitor next to it. */
	size_t size = ((size_t)WISP_MEMORY_MIB_MIN << 20) + (256u << 20);
	void *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return all == MAP_FAILED ? errno : 0;
}

static int take_guest_memory(void)
{
	size_t size = ((size_t)WISP_MEMORY_MIB_MIN << 20) + (128u << 20);
	void *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return all == MAP_FAILED ? errno : 0;
}

/* What a guest may know of two folders, and one of these tables again. */
static int take_tables(void)
{
	size_t size = 3 * (size_t)FS_TABLE_MAX;
	void *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return all == MAP_FAILED ? errno : take_guest_memory();
}

static int take_descriptors(void)
{
	int last = 0;
	for (int i = 0; i < 10000 && last >= 0; i++)
		last = fcntl(STDIN_FILENO, F_DUPFD, 0);
	return result_of(last);
}

static int raise_limits(void)
{
	static const int resources[] = {RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_DATA};
	int raised = 0;
	for (size_t i = 0; i < 3; i++) {
		struct rlimit limit;
		if (getrlimit(resources[i], &limit) < 0 || limit.rlim_cur != limit.rlim_max)
			return 254;
		limit.rlim_max++;
		raised += setrlimit(resources[i], &limit) == 0;
	}
	return raised;
}

static void limits_hold(void)
{
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	CHECK_EQ(in_jail(WISP_LAYER_LIMITS, 0, take_memory), ENOMEM);
	CHECK_EQ(in_jail(WISP_LAYER_LIMITS, 0, take_guest_memory), 0);
	CHECK_EQ(in_jail(WISP_LAYER_LIMITS, 0, take_tables), ENOMEM);
	folders = 2;
	CHECK_EQ(in_jail(WISP_LAYER_LIMITS, 0, take_tables), 0);
	folders = 0;
	CHECK_EQ(in_jail(WISP_LAYER_LIMITS, 0, take_descriptors), EMFILE);
	CHECK_EQ(in_jail(WISP_LAYER_LIMITS | WISP_LAYER_PRIVILEGES, 0, raise_limits), 0);
}

/* What others may have of them is decided by this, since the jail refuses to ask. */
static void descriptors_are_counted(void)
{
	struct rlimit few = {300, 300};
	for (int limited = 0; limited < 2; limited++) {
		int status = -1;
		pid_t pid = fork();
		if (pid == 0) {
			struct jail jail;
			if ((limited && setrlimit(RLIMIT_NOFILE, &few) < 0) || getrlimit(RLIMIT_NOFILE, &few) < 0)
				_exit(255);
			rlim_t wanted = few.rlim_max < 8192 ? few.rlim_max : 8192;
			_exit(enter(&jail, WISP_LAYER_LIMITS, 0, NULL) < 0 || jail.files != wanted);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK_EQ(status, 0);
	}
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
		int error = cases[i].abi <= landlock_abi()
		                    ? in_jail(WISP_LAYER_PRIVILEGES | WISP_LAYER_LANDLOCK, 0, cases[i].attempt)
		                    : cases[i].error;
		if (error != cases[i].error)
			printf("# %s: %s\n", cases[i].what, error < 0 ? strsignal(-error) : strerror(error));
		CHECK_EQ(error, cases[i].error);
	}
	CHECK_EQ(in_jail(WISP_LAYER_ALL, DESCRIPTION_NO_JAIL, read_passwd), 0);
}

static void its_own_work_goes_on(void)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/box", root);
	REQUIRE(mkdir(path, 0700) == 0);
	CHECK_EQ(in_jail(WISP_LAYER_ALL, 0, work), 0);
}

/* --- the loop --- */

static int ring_result;

static void on_opened(struct loop_op *op, int res, uint32_t flags)
{
	(void)op, (void)flags;
	ring_result = res;
}

/* What seccomp does not see, and Landlock would allow. */
static int open_by_ring(void)
{
	static struct loop_op op = {.done = on_opened};
	struct loop *loop;
	ring_result = 1;
	if (!open_loop(&loop, 8, NULL))
		return 254;
	struct io_uring_sqe *sqe = loop_sqe(loop);
	io_uring_prep_openat(sqe, AT_FDCWD, "own", O_WRONLY | O_CREAT, 0600);
	loop_start(loop, sqe, &op);
	while (ring_result == 1 && loop_step(loop, 1000) >= 0)
		;
	return ring_result < 0 ? -ring_result : 0;
}

/* Writes a file, and reads it, on threads of the epoll engine, which do nothing else. */
static int write_by_loop(void)
{
	static struct loop_op op = {.done = on_opened};
	struct loop_options options = {.entries = 8, .engine = test_engine(), .confine = jail_enter_worker};
	struct loop *loop;
	char text[4] = "";
	int fd = open("own", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (loop_create(&loop, NULL) < 0 || loop_open(loop, &options, NULL) < 0 || fd < 0)
		return 254;
	for (int step = 0; step < 4; step++) {
		struct io_uring_sqe *sqe = loop_sqe(loop);
		if (step == 0)
			io_uring_prep_write(sqe, fd, "own", 3, 0);
		else if (step == 1)
			io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		else if (step == 2)
			io_uring_prep_read(sqe, fd, text, 3, 0);
		else
			io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
		ring_result = 1 << 20;
		loop_start_file(loop, sqe, &op, false);
		while (ring_result == 1 << 20 && loop_step(loop, 1000) >= 0)
			;
		if (ring_result < 0 && ring_result != -EOPNOTSUPP)
			return -ring_result;
	}
	loop_destroy(loop);
	return strcmp(text, "own") == 0 ? 0 : 253;
}

static void disks_are_read_and_written(void)
{
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	CHECK_EQ(in_jail(WISP_LAYER_ALL, 0, write_by_loop), 0);
}

static void the_ring_opens_nothing(void)
{
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	CHECK_EQ(in_jail(WISP_LAYER_ALL, 0, open_by_ring), EACCES);
}

/* --- what is said --- */

static void the_layers_are_named(void)
{
	struct told told = enter_in_child(WISP_LAYER_ALL, 0);
	unsigned there = WISP_LAYER_PRIVILEGES | WISP_LAYER_LIMITS | WISP_LAYER_SECCOMP | WISP_LAYER_IO_URING;
	CHECK_EQ(told.ret, 0);
	if (sanitized) {
		CHECK(strstr(told.jail.text, "none, because this is a build with sanitizers, io_uring"));
		CHECK_EQ(told.jail.layers, WISP_LAYER_IO_URING);
		return;
	}
	there |= landlock_abi() > 0 ? WISP_LAYER_LANDLOCK : 0;
	there |= may_unshare() ? WISP_LAYER_NAMESPACES : 0;
	printf("# %s\n", told.jail.text);
	CHECK_EQ(told.jail.layers, there);
	CHECK(strstr(told.jail.text, landlock_abi() > 0 ? ", landlock ABI " : "without landlock ("));
	CHECK(strstr(told.jail.text,
	        test_engine() == WISP_ENGINE_EPOLL ? ", seccomp, io_uring (not used: epoll)" : ", seccomp, io_uring"));
	CHECK(strstr(told.jail.text, may_unshare() ? "namespaces" : "without namespaces ("));
}

static void a_missing_layer_is_refused_if_all_are_required(void)
{
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	if (landlock_abi() > 0 && may_unshare())
		CHECK_EQ(enter_in_child(WISP_LAYER_ALL, DESCRIPTION_REQUIRE_JAIL).ret, 0);
	struct told told = enter_in_child(WISP_LAYER_PRIVILEGES | WISP_LAYER_SECCOMP, DESCRIPTION_REQUIRE_JAIL);
	CHECK_EQ(told.ret, -EOPNOTSUPP);
	CHECK(strstr(told.err.text, "--jail=require"));
	CHECK_EQ(enter_in_child(WISP_LAYER_PRIVILEGES | WISP_LAYER_SECCOMP, 0).ret, 0);
}

/* --- core scheduling --- */

static uint64_t core_cookie(void)
{
	uint64_t cookie = 0;
	return prctl(62 /* PR_SCHED_CORE */, 0 /* GET */, 0, 0, &cookie) < 0 ? 0 : cookie;
}

static int has_own_core(void)
{
	return core_cookie() == 0;
}

static void another_sandbox_shares_no_core(void)
{
	int status = -1;
	pid_t pid = fork();
	if (pid == 0)
		_exit(prctl(62, 1 /* CREATE */, 0, 1, 0) < 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	/* Without it, the jail is as good as before. */
	CHECK_EQ(in_jail(WISP_LAYER_PRIVILEGES, 0, has_own_core), status == 0 ? 0 : 1);
	CHECK_EQ(core_cookie(), 0);
}

static const struct test_case cases[] = {
        {"no_privileges_are_left", no_privileges_are_left},
        {"others_are_out_of_reach", others_are_out_of_reach},
        {"limits_hold", limits_hold},
        {"descriptors_are_counted", descriptors_are_counted},
        {"nothing_outside_can_be_reached", nothing_outside_can_be_reached},
        {"its_own_work_goes_on", its_own_work_goes_on},
        {"the_ring_opens_nothing", the_ring_opens_nothing},
        {"disks_are_read_and_written", disks_are_read_and_written},
        {"another_sandbox_shares_no_core", another_sandbox_shares_no_core},
        {"the_layers_are_named", the_layers_are_named},
        {"a_missing_layer_is_refused_if_all_are_required", a_missing_layer_is_refused_if_all_are_required},
};

int main(int argc, char **argv)
{
	return run_as_both("jail", "jail_of_user", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
