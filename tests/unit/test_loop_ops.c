/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation that the monitor asks of its loop, with either engine, and how they end. Also run under TSan. */
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/fail_call.h"
#include "tests/unit/test.h"
#include "tests/unit/test_loop.h"

#define HANG_ROUNDS 100 /* of 100 ms */

struct noted {
	struct loop_op op;
	int count, last;
	uint32_t flags;
};

static struct loop *loop;

static void note(struct loop_op *op, int res, uint32_t flags)
{
	struct noted *n = (struct noted *)op;
	n->count++;
	n->last = res;
	n->flags = flags;
}

static struct io_uring_sqe *sqe(struct noted *n)
{
	*n = (struct noted){.op.done = note};
	return loop_sqe(loop);
}

static void begin(struct noted *n, struct io_uring_sqe *s)
{
	loop_start(loop, s, &n->op);
}

/* Until it has completed so many times. */
static bool await(const struct noted *n, int count)
{
	for (int i = 0; i < HANG_ROUNDS && n->count < count; i++)
		CHECK(loop_step(loop, 100) >= 0);
	return n->count == count;
}

/* What is ready now has been dispatched, if it is anything. */
static void settle(void)
{
	for (int i = 0; i < 3; i++)
		CHECK(loop_step(loop, 0) >= 0);
}

static void begin_read(struct noted *n, int fd, void *to, unsigned length)
{
	struct io_uring_sqe *s = sqe(n);
	io_uring_prep_read(s, fd, to, length, 0);
	begin(n, s);
}

static void begin_poll(struct noted *n, int fd, unsigned events, bool multishot)
{
	struct io_uring_sqe *s = sqe(n);
	if (multishot)
		io_uring_prep_poll_multishot(s, fd, events);
	else
		io_uring_prep_poll_add(s, fd, events);
	begin(n, s);
}

static void begin_timeout(struct noted *n, struct __kernel_timespec *time)
{
	struct io_uring_sqe *s = sqe(n);
	io_uring_prep_timeout(s, time, 0, 0);
	begin(n, s);
}

static void put(int fd, const char *text)
{
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* For what only this engine does. */
static bool open_epoll(int (*confine)(struct err *err))
{
	struct loop_options options = {.entries = 8, .engine = WISP_ENGINE_EPOLL, .confine = confine};
	return loop_create(&loop, NULL) == 0 && loop_open(loop, &options, NULL) == 0;
}

/* --- descriptors that become ready --- */

static void reads_wait_for_data(void)
{
	struct noted n;
	char buffer[8] = "";
	int fds[2];
	uint64_t value = 0, two = 2;
	REQUIRE(open_loop(&loop, 8, NULL) && pipe2(fds, O_CLOEXEC) == 0);
	begin_read(&n, fds[0], buffer, sizeof(buffer));
	settle();
	CHECK_EQ(n.count, 0);
	put(fds[1], "one");
	CHECK(await(&n, 1) && n.last == 3 && memcmp(buffer, "one", 3) == 0);
	struct iovec parts[2] = {{buffer, 1}, {buffer + 4, 2}};
	struct io_uring_sqe *s = sqe(&n);
	io_uring_prep_readv(s, fds[0], parts, 2, 0);
	put(fds[1], "two");
	begin(&n, s);
	CHECK(await(&n, 1) && n.last == 3 && buffer[0] == 't' && memcmp(buffer + 4, "wo", 2) == 0);
	begin_read(&n, fds[0], buffer, sizeof(buffer));
	close(fds[1]);
	CHECK(await(&n, 1) && n.last == 0);
	close(fds[0]);

	int event = eventfd(0, EFD_CLOEXEC);
	for (int i = 0; i < 20; i++) {
		begin_read(&n, event, &value, sizeof(value));
		CHECK(write(event, &two, sizeof(two)) == sizeof(two));
		CHECK(await(&n, 1) && n.last == sizeof(value) && value == 2);
	}
	close(event);
	begin_read(&n, event, &value, sizeof(value));
	CHECK(await(&n, 1) && n.last == -EBADF);
	loop_destroy(loop);
}

static void sockets_are_served(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct noted n;
	char buffer[8] = "";
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	REQUIRE(open_loop(&loop, 8, NULL));
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/wisp-loop-%d", (int)getpid());
	unlink(address.sun_path);
	REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 1) == 0);
	struct io_uring_sqe *s = sqe(&n);
	io_uring_prep_accept(s, listener, NULL, NULL, SOCK_CLOEXEC);
	begin(&n, s);
	settle();
	CHECK_EQ(n.count, 0);
	REQUIRE(connect(client, (struct sockaddr *)&address, sizeof(address)) == 0);
	REQUIRE(await(&n, 1) && n.last >= 0);
	int server = n.last;
	CHECK(fcntl(server, F_GETFD) & FD_CLOEXEC);
	s = sqe(&n);
	io_uring_prep_recv(s, server, buffer, sizeof(buffer), 0);
	begin(&n, s);
	settle();
	CHECK_EQ(n.count, 0);
	put(client, "recv");
	CHECK(await(&n, 1) && n.last == 4 && memcmp(buffer, "recv", 4) == 0);

	/* A message with a descriptor. */
	struct iovec io = {buffer, sizeof(buffer)};
	struct msghdr out = {
	        .msg_iov = &io, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
	struct msghdr in = out;
	struct cmsghdr *head = CMSG_FIRSTHDR(&out);
	*head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(head), &listener, sizeof(int));
	CHECK(sendmsg(client, &out, 0) == sizeof(buffer));
	s = sqe(&n);
	io_uring_prep_recvmsg(s, server, &in, MSG_CMSG_CLOEXEC);
	begin(&n, s);
	REQUIRE(await(&n, 1) && n.last == sizeof(buffer) && (head = CMSG_FIRSTHDR(&in)) != NULL);
	int passed;
	memcpy(&passed, CMSG_DATA(head), sizeof(int));
	CHECK(passed != listener && (fcntl(passed, F_GETFD) & FD_CLOEXEC));
	close(client);
	s = sqe(&n);
	io_uring_prep_recv(s, server, buffer, sizeof(buffer), 0);
	begin(&n, s);
	CHECK(await(&n, 1) && n.last == 0);
	close(passed);
	close(server);
	close(listener);
	unlink(address.sun_path);
	loop_destroy(loop);
}

static void a_poll_looks_at_the_present(void)
{
	struct noted in, out;
	int pair[2];
	char buffer[8];
	REQUIRE(open_loop(&loop, 8, NULL) && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	/* Both directions of one descriptor, each for itself. */
	begin_poll(&in, pair[0], POLLIN, false);
	begin_poll(&out, pair[0], POLLOUT, false);
	CHECK(await(&out, 1) && out.last == POLLOUT && !(out.flags & IORING_CQE_F_MORE));
	settle();
	CHECK_EQ(in.count, 0);
	begin_poll(&out, pair[0], POLLOUT, false);
	CHECK(await(&out, 1));
	put(pair[1], "x");
	CHECK(await(&in, 1) && in.last == POLLIN);
	/* What was there before is seen by the next, as long as nobody takes it. */
	for (int i = 0; i < 3; i++) {
		begin_poll(&in, pair[0], POLLIN, false);
		CHECK(await(&in, 1) && in.last == POLLIN);
	}
	CHECK(read(pair[0], buffer, sizeof(buffer)) == 1);
	begin_poll(&in, pair[0], POLLIN, false);
	settle();
	CHECK_EQ(in.count, 0);
	close(pair[1]);
	CHECK(await(&in, 1) && (in.last & POLLHUP));
	close(pair[0]);
	loop_destroy(loop);
}

static void a_multishot_poll_reports_changes(void)
{
	struct noted in, out;
	int pair[2];
	REQUIRE(open_loop(&loop, 8, NULL) && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	begin_poll(&in, pair[0], POLLIN | POLLRDHUP, true);
	settle();
	CHECK_EQ(in.count, 0);
	put(pair[1], "x");
	CHECK(await(&in, 1) && in.last == POLLIN && (in.flags & IORING_CQE_F_MORE));
	/* It stays readable, and nothing is said of that. */
	settle();
	CHECK_EQ(in.count, 1);
	put(pair[1], "y");
	CHECK(await(&in, 2) && in.last == POLLIN);
	/* The other direction of the descriptor comes and goes. */
	char many[4096] = "";
	while (write(pair[0], many, sizeof(many)) > 0)
		;
	begin_poll(&out, pair[0], POLLOUT, true);
	settle();
	CHECK_EQ(out.count, 0);
	while (read(pair[1], many, sizeof(many)) > 0)
		;
	for (int i = 0; i < HANG_ROUNDS && out.count == 0; i++)
		CHECK(loop_step(loop, 100) >= 0);
	CHECK(out.last == POLLOUT && (out.flags & IORING_CQE_F_MORE));
	loop_cancel(loop, &out.op);
	for (int i = 0; i < HANG_ROUNDS && out.flags & IORING_CQE_F_MORE; i++)
		CHECK(loop_step(loop, 100) >= 0);
	CHECK_EQ(out.last, -ECANCELED);
	close(pair[1]);
	for (int i = 0; i < HANG_ROUNDS && !(in.last & POLLHUP); i++)
		CHECK(loop_step(loop, 100) >= 0);
	CHECK(in.last & POLLRDHUP && in.flags & IORING_CQE_F_MORE);
	/* Cancelled before its descriptor is closed, it ends once. */
	settle();
	int seen = in.count;
	loop_cancel(loop, &in.op);
	close(pair[0]);
	CHECK(await(&in, seen + 1) && in.last == -ECANCELED && !(in.flags & IORING_CQE_F_MORE));
	settle();
	CHECK_EQ(in.count, seen + 1);
	loop_destroy(loop);
}

/* Numbers of descriptors are used again, often in the same round. */
static void another_file_has_its_number(void)
{
	struct noted n;
	char byte;
	int fds[2], other[2];
	REQUIRE(open_loop(&loop, 8, NULL));
	for (int i = 0; i < 3; i++) {
		REQUIRE(pipe(fds) == 0);
		begin_read(&n, fds[0], &byte, 1);
		put(fds[1], "x");
		CHECK(await(&n, 1) && n.last == 1);
		/* A descriptor elsewhere, as in a clone, keeps the first file open. */
		int kept = dup(fds[0]), number = fds[0];
		close(number);
		REQUIRE(pipe(other) == 0 && (other[0] == number || dup2(other[0], number) == number));
		begin_read(&n, number, &byte, 1);
		put(fds[1], "y"); /* of no interest any more */
		settle();
		CHECK_EQ(n.count, 0);
		put(other[1], "z");
		CHECK(await(&n, 1) && n.last == 1 && byte == 'z');
		close(kept);
		close(fds[1]);
		close(other[1]);
		if (other[0] != number)
			close(other[0]);
		close(number);
	}
	loop_destroy(loop);
}

/* Against the rule that whoever closes a descriptor cancels its operations: they get nothing of the next file. (A ring
 * would keep the first one open.) */
static void a_closed_file_is_not_mixed_up(void)
{
	struct noted old, new;
	char bytes[2] = "";
	int fds[2], other[2];
	REQUIRE(open_epoll(NULL) && pipe(fds) == 0 && pipe(other) == 0);
	begin_read(&old, fds[0], &bytes[0], 1);
	REQUIRE(dup2(other[0], fds[0]) == fds[0]);
	put(other[1], "x");
	settle();
	CHECK_EQ(old.count, 0);
	begin_read(&new, fds[0], &bytes[1], 1);
	CHECK(await(&new, 1) && new.last == 1 && bytes[1] == 'x');
	CHECK(old.count == 1 && old.last == -EBADF && bytes[0] == '\0');
	close(fds[0]);
	close(fds[1]);
	close(other[0]);
	close(other[1]);
	loop_destroy(loop);
}

/* --- timeouts --- */

static int passed[4], passed_count;

static void on_passed(struct loop_op *op, int res, uint32_t flags)
{
	struct noted *n = (struct noted *)op;
	(void)flags;
	n->last = res;
	passed[passed_count++] = n->count;
}

static void timeouts_pass_in_order(void)
{
	static const long ms[4] = {30, 5, 0, 10};
	struct __kernel_timespec time[4];
	struct noted n[4], cancelled;
	passed_count = 0;
	REQUIRE(open_loop(&loop, 8, NULL));
	uint64_t began_ns = loop_now_ns();
	for (int i = 0; i < 4; i++) {
		time[i] = (struct __kernel_timespec){.tv_nsec = ms[i] * 1000000};
		begin_timeout(&n[i], &time[i]);
		n[i].op.done = on_passed;
		n[i].count = i;
	}
	struct __kernel_timespec long_time = {.tv_sec = 1000};
	begin_timeout(&cancelled, &long_time);
	for (int i = 0; i < HANG_ROUNDS && passed_count < 4; i++)
		CHECK(loop_step(loop, 100) >= 0);
	CHECK(loop_now_ns() - began_ns >= 30000000);
	CHECK(passed_count == 4 && passed[0] == 2 && passed[1] == 1 && passed[2] == 3 && passed[3] == 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(n[i].last, -ETIME);
	CHECK_EQ(cancelled.count, 0);
	loop_cancel(loop, &cancelled.op);
	CHECK(await(&cancelled, 1) && cancelled.last == -ECANCELED);
	/* It is over: nothing comes of that. */
	loop_cancel(loop, &cancelled.op);
	settle();
	CHECK_EQ(cancelled.count, 1);
	loop_destroy(loop);
}

/* --- files --- */

static int make_file(void)
{
	char path[] = "/tmp/wisp-loop-XXXXXX";
	int fd = mkstemp(path);
	unlink(path);
	return fd;
}

static void files_are_read_and_written(void)
{
	enum { BLOCKS = 200, BLOCK = 512 };
	static struct noted n[BLOCKS];
	static uint8_t data[BLOCKS][BLOCK], again[BLOCKS][BLOCK];
	struct io_uring_sqe *s;
	int fd = make_file();
	REQUIRE(open_loop(&loop, 8, NULL) && fd >= 0);
	for (unsigned i = 0; i < BLOCKS; i++) {
		memset(data[i], (int)i + 1, BLOCK);
		struct iovec halves[2] = {{data[i], BLOCK / 2}, {data[i] + BLOCK / 2, BLOCK / 2}};
		static struct iovec kept[BLOCKS][2];
		memcpy(kept[i], halves, sizeof(halves));
		s = sqe(&n[i]);
		if (i % 2)
			io_uring_prep_write(s, fd, data[i], BLOCK, i * BLOCK);
		else
			io_uring_prep_writev(s, fd, kept[i], 2, i * BLOCK);
		s->rw_flags = i % 4 == 0 ? RWF_DSYNC : 0;
		loop_start_file(loop, s, &n[i].op, true);
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		CHECK(await(&n[i], 1) && n[i].last == BLOCK);
	struct noted sync;
	s = sqe(&sync);
	io_uring_prep_fsync(s, fd, IORING_FSYNC_DATASYNC);
	loop_start_file(loop, s, &sync.op, true);
	CHECK(await(&sync, 1) && sync.last == 0);
	for (int cached = 0; cached < 2; cached++) {
		memset(again, 0, sizeof(again));
		for (unsigned i = 0; i < BLOCKS; i++) {
			static struct iovec whole[BLOCKS];
			whole[i] = (struct iovec){again[i], BLOCK};
			s = sqe(&n[i]);
			if (i % 2)
				io_uring_prep_read(s, fd, again[i], BLOCK, i * BLOCK);
			else
				io_uring_prep_readv(s, fd, &whole[i], 1, i * BLOCK);
			loop_start_file(loop, s, &n[i].op, cached);
		}
		for (unsigned i = 0; i < BLOCKS; i++)
			CHECK(await(&n[i], 1) && n[i].last == BLOCK);
		CHECK(memcmp(data, again, sizeof(data)) == 0);
	}
	struct noted hole, end;
	s = sqe(&hole);
	io_uring_prep_fallocate(s, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
	loop_start_file(loop, s, &hole.op, false);
	CHECK(await(&hole, 1) && (hole.last == 0 || hole.last == -EOPNOTSUPP));
	s = sqe(&end);
	io_uring_prep_read(s, fd, again[0], BLOCK, BLOCKS * BLOCK);
	loop_start_file(loop, s, &end.op, true);
	CHECK(await(&end, 1) && end.last == 0);
	close(fd);
	s = sqe(&end);
	io_uring_prep_write(s, fd, data[0], 1, 0);
	loop_start_file(loop, s, &end.op, true);
	CHECK(await(&end, 1) && end.last == -EBADF);
	loop_destroy(loop);
}

static int count_threads(void)
{
	char line[64];
	int threads = 0;
	FILE *status = fopen("/proc/self/status", "re");
	while (status && fgets(line, sizeof(line), status) && sscanf(line, "Threads: %d", &threads) != 1)
		;
	if (status)
		fclose(status);
	return threads;
}

/* Calls that wait, as of a disk that does not answer: reads of a pipe at its present position. */
static void slow_files_delay_nobody(void)
{
	enum { SLOW = 10 };
	struct noted slow[SLOW], event;
	char bytes[SLOW];
	int fds[2], other = eventfd(0, EFD_CLOEXEC);
	uint64_t one = 1, value;
	int before = count_threads();
	REQUIRE(open_loop(&loop, 8, NULL) && pipe(fds) == 0);
	CHECK_EQ(count_threads(), before); /* they start when they are needed */
	for (int i = 0; i < SLOW; i++) {
		struct io_uring_sqe *s = sqe(&slow[i]);
		io_uring_prep_read(s, fds[0], &bytes[i], 1, (uint64_t)-1);
		loop_start_file(loop, s, &slow[i].op, false);
	}
	begin_read(&event, other, &value, sizeof(value));
	CHECK(write(other, &one, sizeof(one)) == sizeof(one));
	CHECK(await(&event, 1) && event.last == sizeof(value));
	if (test_engine() == WISP_ENGINE_EPOLL)
		CHECK_EQ(count_threads() - before, 4);
	/* One that still waits for its turn ends at once; those that have begun, with their call. */
	loop_cancel(loop, &slow[SLOW - 1].op);
	CHECK(await(&slow[SLOW - 1], 1) && slow[SLOW - 1].last == -ECANCELED);
	for (int i = 0; i < SLOW - 1; i++)
		put(fds[1], "x");
	for (int i = 0; i < SLOW - 1; i++)
		CHECK(await(&slow[i], 1) && slow[i].last == 1);
	close(fds[0]);
	close(fds[1]);
	close(other);
	loop_destroy(loop);
	CHECK_EQ(count_threads(), before);
}

/* A loop that ends with operations in flight: what a worker does is waited for, the rest is dropped. */
static void the_end_waits_for_workers(void)
{
	static struct noted n[100];
	static char bytes[100];
	int fd = make_file();
	REQUIRE(open_loop(&loop, 8, NULL) && fd >= 0 && ftruncate(fd, 4096) == 0);
	for (int i = 0; i < 100; i++) {
		struct io_uring_sqe *s = sqe(&n[i]);
		io_uring_prep_write(s, fd, &bytes[i], 1, i);
		loop_start_file(loop, s, &n[i].op, false);
	}
	loop_destroy(loop);
	close(fd);
}

static int refuse(struct err *err)
{
	(void)err;
	return -EPERM;
}

/* A thread that cannot be confined does nothing. */
static void workers_are_confined(void)
{
	struct noted n;
	int fd = make_file();
	REQUIRE(open_epoll(refuse) && fd >= 0);
	struct io_uring_sqe *s = sqe(&n);
	io_uring_prep_write(s, fd, "x", 1, 0);
	loop_start_file(loop, s, &n.op, false);
	CHECK(await(&n, 1) && n.last == -EPERM);
	CHECK_EQ(lseek(fd, 0, SEEK_END), 0);
	close(fd);
	loop_destroy(loop);
}

static void a_host_without_threads_reads_and_writes(void)
{
	int status = -1;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		struct noted n;
		int fd = make_file(), before = count_threads();
		char byte = 0;
		if (!make_call_fail(SYS_clone3, EAGAIN) || !make_call_fail(SYS_clone, EAGAIN) || !open_epoll(NULL))
			_exit(77);
		struct io_uring_sqe *s = sqe(&n);
		io_uring_prep_write(s, fd, "x", 1, 0);
		loop_start_file(loop, s, &n.op, false);
		bool good = await(&n, 1) && n.last == 1;
		_exit(!(good && pread(fd, &byte, 1, 0) == 1 && byte == 'x' && count_threads() == before));
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("seccomp is not available");
	CHECK_EQ(status, 0);
}

/* --- the choice --- */

/* The engine that is chosen where io_uring_setup fails with `errnum`; 16 if io_uring itself is refused; 0: not tried.
 */
static int choose_with(unsigned errnum, uint32_t engine)
{
	int status = -1;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		struct err err = {0};
		if (errnum && !make_call_fail(SYS_io_uring_setup, errnum))
			_exit(0);
		int ret = loop_choose_engine(&engine, &err);
		_exit(ret < 0 ? strstr(err.text, "cannot use io_uring: ") && ret == -(int)errnum ? 16 : 17
		              : (int)engine);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_engine_is_chosen(void)
{
	static const unsigned errors[] = {EPERM, ENOSYS, EINVAL};
	CHECK_EQ(choose_with(0, WISP_ENGINE_EPOLL), WISP_ENGINE_EPOLL);
	if (choose_with(EPERM, WISP_ENGINE_AUTO) == 0)
		SKIP("seccomp is not available");
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		CHECK_EQ(choose_with(errors[i], WISP_ENGINE_AUTO), WISP_ENGINE_EPOLL);
		CHECK_EQ(choose_with(errors[i], WISP_ENGINE_EPOLL), WISP_ENGINE_EPOLL);
		CHECK_EQ(choose_with(errors[i], WISP_ENGINE_IO_URING), 16);
	}
	/* Here, with what this host allows. */
	uint32_t engine = WISP_ENGINE_AUTO;
	CHECK_EQ(loop_choose_engine(&engine, NULL), 0);
	CHECK(engine == WISP_ENGINE_IO_URING || engine == WISP_ENGINE_EPOLL);
	if (engine == WISP_ENGINE_IO_URING)
		CHECK_EQ(choose_with(0, WISP_ENGINE_IO_URING), WISP_ENGINE_IO_URING);
}

TEST_MAIN("loop_ops", {"reads_wait_for_data", reads_wait_for_data}, {"sockets_are_served", sockets_are_served},
        {"a_poll_looks_at_the_present", a_poll_looks_at_the_present},
        {"a_multishot_poll_reports_changes", a_multishot_poll_reports_changes},
        {"another_file_has_its_number", another_file_has_its_number},
        {"a_closed_file_is_not_mixed_up", a_closed_file_is_not_mixed_up},
        {"timeouts_pass_in_order", timeouts_pass_in_order}, {"files_are_read_and_written", files_are_read_and_written},
        {"slow_files_delay_nobody", slow_files_delay_nobody}, {"the_end_waits_for_workers", the_end_waits_for_workers},
        {"workers_are_confined", workers_are_confined},
        {"a_host_without_threads_reads_and_writes", a_host_without_threads_reads_and_writes},
        {"the_engine_is_chosen", the_engine_is_chosen})
