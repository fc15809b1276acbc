/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: completions, cancellation, calls from other threads, its end. Also run under TSan. */
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/fail_call.h"
#include "tests/unit/test.h"
#include "tests/unit/test_loop.h"
#include "vmm/shared/container_of.h"

struct counter {
	struct loop_op op;
	struct loop *loop;
	int count, last;
};

static void counted(struct loop_op *op, int res, uint32_t flags)
{
	struct counter *c = (struct counter *)op;
	(void)flags;
	c->count++;
	c->last = res;
}

/* An operation that completes at once, with -ETIME. */
static void start_any(struct loop *loop, struct counter *c)
{
	static struct __kernel_timespec none;
	struct io_uring_sqe *sqe = loop_sqe(loop);
	io_uring_prep_timeout(sqe, &none, 0, 0);
	loop_start(loop, sqe, &c->op);
}

static void operations_complete(void)
{
	struct loop *loop;
	REQUIRE(open_loop(&loop, 8, NULL));
	/* More than the ring has entries: they are submitted in rounds. */
	static struct counter c[100];
	for (int i = 0; i < 100; i++) {
		c[i] = (struct counter){.op.done = counted};
		start_any(loop, &c[i]);
	}
	int seen = 0;
	for (int round = 0; round < 100 && seen < 100; round++) {
		CHECK(loop_step(loop, 1000) >= 0);
		seen = 0;
		for (int i = 0; i < 100; i++)
			seen += c[i].count;
	}
	CHECK_EQ(seen, 100);
	loop_destroy(loop);
}

static void a_cancelled_operation_says_so(void)
{
	struct loop *loop;
	int fds[2];
	char byte;
	REQUIRE(open_loop(&loop, 8, NULL) && pipe(fds) == 0);
	struct counter c = {.op.done = counted};
	struct io_uring_sqe *sqe = loop_sqe(loop);
	io_uring_prep_read(sqe, fds[0], &byte, 1, 0);
	loop_start(loop, sqe, &c.op);
	CHECK_EQ(loop_step(loop, 0), 0);
	loop_cancel(loop, &c.op);
	for (int i = 0; i < 10 && c.count == 0; i++)
		loop_step(loop, 1000);
	CHECK_EQ(c.count, 1);
	CHECK_EQ(c.last, -ECANCELED);
	close(fds[0]);
	close(fds[1]);
	loop_destroy(loop);
}

struct call {
	struct loop_call call;
	struct loop *loop;
	pthread_t ran_on;
	int order;
};

static int calls_run; /* on the loop's thread only */

static void run_call(struct loop_call *call)
{
	struct call *c = (struct call *)call;
	c->ran_on = pthread_self();
	c->order = calls_run++;
	loop_call_finish(c->loop, call);
}

static void *caller(void *context)
{
	struct loop *loop = context;
	for (int i = 0; i < 200; i++) {
		struct call c = {.call.run = run_call, .loop = loop};
		if (!loop_call(loop, &c.call))
			return NULL;
		if (pthread_equal(c.ran_on, pthread_self()))
			return NULL;
	}
	return context;
}

static void *stopper(void *context)
{
	pthread_t threads[4];
	void *fine;
	bool all = true;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, caller, context);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &fine);
		all &= fine != NULL;
	}
	loop_stop(context);
	return all ? context : NULL;
}

static void calls_from_other_threads_run_on_the_loops(void)
{
	struct loop *loop;
	pthread_t thread;
	void *fine;
	REQUIRE(open_loop(&loop, 8, NULL));
	calls_run = 0;
	pthread_create(&thread, NULL, stopper, loop);
	CHECK_EQ(loop_run(loop), 0);
	pthread_join(thread, &fine);
	CHECK(fine != NULL);
	CHECK_EQ(calls_run, 800);
	/* After the end nothing is run and nobody waits for ever; from its own thread it still is. */
	struct call c = {.call.run = run_call, .loop = loop};
	CHECK(loop_call(loop, &c.call));
	loop_destroy(loop);
}

/* A call that takes a round more than it has when the loop is told to stop. */
struct slow_call {
	struct loop_call call;
	struct loop_task task;
	struct loop *loop;
};

static void finish_slow(struct loop_task *task)
{
	struct slow_call *c = container_of(task, struct slow_call, task);
	loop_call_finish(c->loop, &c->call);
}

static void begin_slow(struct loop_call *call)
{
	struct slow_call *c = (struct slow_call *)call;
	c->task.run = finish_slow;
	loop_defer(c->loop, &c->task);
	loop_stop(c->loop);
}

static void *slow_caller(void *context)
{
	struct slow_call c = {.call.run = begin_slow, .loop = context};
	return loop_call(context, &c.call) ? context : NULL;
}

static void the_end_finishes_what_was_begun(void)
{
	struct loop *loop;
	pthread_t thread;
	void *finished;
	REQUIRE(open_loop(&loop, 8, NULL));
	pthread_create(&thread, NULL, slow_caller, loop);
	CHECK_EQ(loop_run(loop), 0);
	pthread_join(thread, &finished);
	CHECK(finished != NULL);
	/* And takes no more. */
	pthread_create(&thread, NULL, slow_caller, loop);
	pthread_join(thread, &finished);
	CHECK(finished == NULL);
	loop_destroy(loop);
}

/* What is asked of a loop before it has its engine is done once it runs; an end that was asked for comes then. */
static void calls_wait_for_the_ring(void)
{
	struct loop *loop;
	pthread_t thread;
	void *finished;
	REQUIRE(loop_create(&loop, NULL) == 0);
	CHECK_EQ(loop_step(loop, 0), -ENXIO);
	pthread_create(&thread, NULL, slow_caller, loop);
	usleep(1000);
	REQUIRE(open_engine(loop, 8, NULL) == 0);
	CHECK_EQ(loop_run(loop), 0);
	pthread_join(thread, &finished);
	CHECK(finished != NULL);
	loop_destroy(loop);

	REQUIRE(loop_create(&loop, NULL) == 0);
	loop_stop(loop);
	REQUIRE(open_engine(loop, 8, NULL) == 0);
	CHECK_EQ(loop_run(loop), 0);
	loop_destroy(loop);
}

/* A loop that never ran, or never had an engine, leaves nobody waiting, whether they came before its end or after. */
static void the_end_of_a_loop_that_never_ran(void)
{
	for (int i = 0; i < 20; i++) {
		struct loop *loop;
		pthread_t thread;
		REQUIRE(loop_create(&loop, NULL) == 0 && (i % 4 < 2 || open_engine(loop, 8, NULL) == 0));
		pthread_create(&thread, NULL, slow_caller, loop);
		usleep(i % 2 * 1000);
		loop_end(loop);
		pthread_join(thread, NULL);
		loop_destroy(loop);
	}
}

/* Reads that all end at once: of an empty file, as they are submitted; of a pipe, when nobody writes to it any more. */
static void overflow_the_ring(int fd, int other_end)
{
	enum { COUNT = 8 * 8 * 128 }; /* of eight disks of eight queues */
	static struct counter c[COUNT];
	static char bytes[COUNT];
	struct loop *loop;
	REQUIRE(open_loop(&loop, 8, NULL));
	for (int i = 0; i < COUNT; i++) {
		c[i] = (struct counter){.op.done = counted};
		struct io_uring_sqe *sqe = loop_sqe(loop);
		io_uring_prep_read(sqe, fd, &bytes[i], 1, 0);
		if (other_end >= 0)
			loop_start(loop, sqe, &c[i].op);
		else
			loop_start_file(loop, sqe, &c[i].op, true);
	}
	int seen = 0, ret = 0;
	if (other_end >= 0) {
		CHECK_EQ(loop_step(loop, 0), 0);
		close(other_end);
	}
	for (int round = 0; round < 2 * COUNT && seen < COUNT && ret >= 0; round++) {
		ret = loop_step(loop, 1000);
		seen += ret > 0 ? ret : 0;
	}
	CHECK_EQ(seen, COUNT);
	for (int i = 0; i < COUNT; i++)
		CHECK(c[i].count == 1 && c[i].last == 0);
	close(fd);
	loop_destroy(loop);
}

/* More operations in flight than the ring can hold completions of: each completes, and once. */
static void completions_overflow_the_ring(void)
{
	int fds[2];
	overflow_the_ring(memfd_create("empty", MFD_CLOEXEC), -1);
	REQUIRE(pipe(fds) == 0);
	overflow_the_ring(fds[0], fds[1]);
}

/* The descriptor that the engine waits with. */
static int engine_fd(void)
{
	const char *kind = test_engine() == WISP_ENGINE_EPOLL ? "eventpoll" : "io_uring";
	for (int fd = 3; fd < 100; fd++) {
		char path[32], target[64] = "";
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, kind))
			return fd;
	}
	return -1;
}

/* What code that has taken over the monitor might ask of its ring, past seccomp; nor has the other engine more. */
static void other_operations_are_refused(void)
{
	enum { FLAGGED = IORING_OP_LAST, CASES };
	static const uint8_t allowed[] = {IORING_OP_READ, IORING_OP_READV, IORING_OP_WRITE, IORING_OP_WRITEV,
	        IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_POLL_ADD, IORING_OP_RECV, IORING_OP_RECVMSG,
	        IORING_OP_ACCEPT, IORING_OP_TIMEOUT, IORING_OP_ASYNC_CANCEL};
	struct loop *loop;
	unsigned tried = 0;
	REQUIRE(open_loop(&loop, 64, NULL));
	bool ring = test_engine() == WISP_ENGINE_IO_URING;
	for (unsigned op = 0; op < (ring ? CASES : FLAGGED); op++) {
		struct counter c = {.op.done = counted};
		if (op < FLAGGED && memchr(allowed, (int)op, sizeof(allowed)))
			continue;
		struct io_uring_sqe *sqe = loop_sqe(loop);
		io_uring_prep_rw(op == FLAGGED ? IORING_OP_READ : (int)op, sqe, -1, NULL, 0, 0);
		sqe->flags = op == FLAGGED ? IOSQE_IO_DRAIN : 0; /* ASYNC is allowed */
		loop_start(loop, sqe, &c.op);
		for (int i = 0; i < 10 && c.count == 0; i++)
			CHECK(loop_step(loop, 1000) >= 0);
		CHECK_EQ(c.count, 1);
		CHECK_EQ(c.last, -EACCES);
		tried++;
	}
	/* Nor can the ring be told to take them. */
	for (unsigned op = 0; ring && op < IORING_REGISTER_LAST; op++) {
		CHECK(syscall(SYS_io_uring_register, engine_fd(), op, NULL, 0) < 0);
		CHECK(errno == EACCES || errno == EINVAL); /* EINVAL: an older kernel does not know it */
		tried++;
	}
	printf("# %u operations, flags and registrations were refused\n", tried);
	loop_destroy(loop);
}

static void *call_into(void *context)
{
	struct call c = {.call.run = run_call, .loop = context};
	return loop_call(context, &c.call) ? context : NULL;
}

/* An engine that fails ends the loop with an error, also while a full ring is submitted. */
static void a_failed_ring_ends_the_loop(void)
{
	struct loop *loop;
	pthread_t thread;
	void *finished;
	static struct counter c[20];
	REQUIRE(open_loop(&loop, 8, NULL));
	/* What the kernel then says of it is what it says of any other file. */
	REQUIRE(dup2(STDIN_FILENO, engine_fd()) > 0);
	for (int i = 0; i < 20; i++) {
		c[i] = (struct counter){.op.done = counted};
		start_any(loop, &c[i]);
	}
	loop_cancel(loop, &c[0].op);
	CHECK(loop_step(loop, 0) < 0);
	pthread_create(&thread, NULL, call_into, loop);
	CHECK(loop_run(loop) < 0);
	pthread_join(thread, &finished);
	CHECK(finished == NULL);
	struct call own = {.call.run = run_call, .loop = loop};
	CHECK(loop_call(loop, &own.call)); /* this one needs no round */
	loop_end(loop);
	loop_destroy(loop);
}

static int read_past_an_early_end(void)
{
	struct loop *loop;
	struct counter c = {.op.done = counted};
	int fd = memfd_create("byte", MFD_CLOEXEC);
	char byte = 0;
	if (pwrite(fd, "x", 1, 0) != 1 || !open_loop(&loop, 8, NULL))
		return 1;
	if (!make_call_idle(SYS_preadv2, RWF_NOWAIT))
		return 77;
	struct io_uring_sqe *sqe = loop_sqe(loop);
	io_uring_prep_read(sqe, fd, &byte, 1, 0);
	loop_start_file(loop, sqe, &c.op, true);
	for (int round = 0; round < 100 && c.count == 0; round++)
		loop_step(loop, 1000);
	return c.count != 1 || c.last != 1 || byte != 'x';
}

/* preadv2() with RWF_NOWAIT returns 0, as it may on Linux 5.9 and 5.10. */
static void an_early_end_of_the_page_cache_is_none(void)
{
	int status = -1;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		_exit(read_past_an_early_end());
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("seccomp is not available");
	CHECK_EQ(status, 0);
}

TEST_MAIN("loop", {"operations_complete", operations_complete},
        {"a_cancelled_operation_says_so", a_cancelled_operation_says_so},
        {"calls_from_other_threads_run_on_the_loops", calls_from_other_threads_run_on_the_loops},
        {"the_end_finishes_what_was_begun", the_end_finishes_what_was_begun},
        {"calls_wait_for_the_ring", calls_wait_for_the_ring},
        {"the_end_of_a_loop_that_never_ran", the_end_of_a_loop_that_never_ran},
        {"completions_overflow_the_ring", completions_overflow_the_ring},
        {"other_operations_are_refused", other_operations_are_refused},
        {"a_failed_ring_ends_the_loop", a_failed_ring_ends_the_loop},
        {"an_early_end_of_the_page_cache_is_none", an_early_end_of_the_page_cache_is_none})
