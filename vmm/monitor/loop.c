/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/shared/container_of.h"

/* How long a full ring is submitted again before the kernel's refusal counts as a failure: about a second. */
#define SUBMIT_TRIES 1000u
#define SUBMIT_PAUSE_NS 1000000

struct loop {
	struct io_uring ring;
	bool open;                  /* there is a ring */
	bool restricted;            /* and it takes none but the `operations` */
	int error;                  /* -errno once the ring has failed, for good */
	struct io_uring_sqe unsent; /* takes the operations of a failed ring */
	pthread_t thread;
	int wake_fd; /* eventfd: another thread queued a call or asked for the end */
	uint64_t wake_count;
	struct loop_op wake;
	bool stop; /* atomic */
	struct loop_task *tasks, **tasks_end;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t finished;
	struct loop_call *calls; /* newest first */
	unsigned unfinished;     /* calls, waiting or running */
	bool ended;              /* no more are taken */
	bool failed;             /* nor can these be finished */
};

static void run_calls(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	struct loop_call *newest = loop->calls, *oldest = NULL;
	loop->calls = NULL;
	pthread_mutex_unlock(&loop->lock);
	while (newest) { /* reverses the list: first come, first served */
		struct loop_call *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest) {
		struct loop_call *next = oldest->next; /* the caller may be gone once it ran */
		oldest->run(oldest);
		oldest = next;
	}
}

static void arm_wake(struct loop *loop)
{
	struct io_uring_sqe *sqe = loop_sqe(loop);
	io_uring_prep_read(sqe, loop->wake_fd, &loop->wake_count, sizeof(loop->wake_count), 0);
	loop_start(loop, sqe, &loop->wake);
}

static void woken(struct loop_op *op, int res, uint32_t flags)
{
	(void)flags;
	struct loop *loop = container_of(op, struct loop, wake);
	if (res == -ECANCELED)
		return;
	arm_wake(loop);
	run_calls(loop);
}

/* All that the monitor asks of its rings. io_uring bypasses seccomp, so each is here for a reason, as calls are there.
 */
static const uint8_t operations[] = {
        IORING_OP_READ,      /* eventfds, signals, a snapshot writer's result, the memory in use, disks */
        IORING_OP_READV,     /* disks, here and below */
        IORING_OP_WRITE,     /* */
        IORING_OP_WRITEV,    /* */
        IORING_OP_FSYNC,     /* */
        IORING_OP_FALLOCATE, /* */
        IORING_OP_POLL_ADD,  /* vsock's connections, the network's port, the owner's pidfd */
        IORING_OP_RECV,      /* the agent's control connection, the owner's socket */
        IORING_OP_RECVMSG,   /* requests, with their descriptors */
        IORING_OP_ACCEPT,    /* the agent, and clients with requests */
        IORING_OP_TIMEOUT,
        IORING_OP_ASYNC_CANCEL,
};
#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

/*
 * Without a word about registrations, all of them are refused; and so are the flags that an operation may have, but for
 * ASYNC, which has a worker wait for a file that is slow to read (counts.c).
 */
static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction allowed[OPERATIONS + 1] = {0};
	for (unsigned i = 0; i < OPERATIONS; i++) {
		allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
		allowed[i].sqe_op = operations[i];
	}
	allowed[OPERATIONS].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	allowed[OPERATIONS].sqe_flags = IOSQE_ASYNC;
	/* Not every build of liburing's shared library has functions for these. */
	int fd = ring->ring_fd;
	if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, allowed, OPERATIONS + 1) < 0 ||
	        syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -errno;
	return 0;
}

/* A ring with these flags; -EINVAL if the kernel does not know them all. */
static int ring_create(struct io_uring *ring, unsigned entries, unsigned flags)
{
	struct io_uring_params params = {
	        .flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP, .cq_entries = entries * 4};
	int ret = io_uring_queue_init_params(entries, ring, &params);
	if (ret < 0)
		return ret;
	/*
	 * Disks alone can have more operations in flight than the ring has room for completions. With NODROP (Linux
	 * 5.5) the kernel keeps the excess, and hands it over as the ring empties.
	 */
	if (!(params.features & IORING_FEAT_NODROP))
		ret = -ENOSYS;
	else if (flags & IORING_SETUP_R_DISABLED)
		ret = restrict_ring(ring);
	if (ret < 0)
		io_uring_queue_exit(ring);
	return ret;
}

/*
 * DEFER_TASKRUN batches completions and keeps them from interrupting the thread (Linux 6.1); it requires a single
 * submitter. A ring that starts disabled can be restricted (Linux 5.10).
 */
static int ring_init(struct loop *loop, unsigned entries)
{
	static const unsigned flags[] = {IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
	                                         IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
	        IORING_SETUP_R_DISABLED, 0};
	int ret = -EINVAL;
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]) && ret == -EINVAL; i++) {
		ret = ring_create(&loop->ring, entries, flags[i]);
		loop->restricted = ret == 0 && flags[i] & IORING_SETUP_R_DISABLED;
	}
	return ret;
}

int loop_create(struct loop **out, struct err *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return err_set(err, ENOMEM, "out of memory for the event loop");
	loop->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (loop->wake_fd < 0) {
		int ret = err_set(err, errno, "cannot create an eventfd: %s", strerror(errno));
		free(loop);
		return ret;
	}
	loop->tasks_end = &loop->tasks;
	loop->thread = pthread_self();
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->finished, NULL);
	loop->wake.done = woken;
	*out = loop;
	return 0;
}

int loop_open(struct loop *loop, unsigned entries, struct err *err)
{
	int ret = ring_init(loop, entries);
	if (ret < 0)
		return err_set(err, -ret, "cannot set up io_uring: %s%s", strerror(-ret),
		        ret == -EPERM ? " (allow it: sysctl kernel.io_uring_disabled=0, or the container's seccomp "
		                        "profile)"
		                      : "");
	/* A clone's process must not share the ring. */
	io_uring_ring_dontfork(&loop->ring);
	loop->open = true;
	arm_wake(loop);
	return 0;
}

bool loop_is_restricted(const struct loop *loop)
{
	return loop->restricted;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->open)
		io_uring_queue_exit(&loop->ring);
	close(loop->wake_fd);
	pthread_cond_destroy(&loop->finished);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

/* Hands the full ring to the kernel. EBUSY and EAGAIN are shortages of the host that may pass. */
static int submit_full(struct loop *loop)
{
	static const struct timespec pause = {.tv_nsec = SUBMIT_PAUSE_NS};
	int ret = 0;
	for (unsigned tries = 0; tries < SUBMIT_TRIES; tries++) {
		ret = io_uring_submit(&loop->ring);
		if (ret > 0)
			return 0;
		if (ret < 0 && ret != -EBUSY && ret != -EAGAIN && ret != -EINTR)
			return ret;
		nanosleep(&pause, NULL);
	}
	return ret < 0 ? ret : -EAGAIN;
}

struct io_uring_sqe *loop_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe = NULL;
	while (loop->error == 0 && !(sqe = io_uring_get_sqe(&loop->ring)))
		loop->error = submit_full(loop);
	if (!sqe)
		sqe = &loop->unsent;
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

void loop_start(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op)
{
	(void)loop;
	io_uring_sqe_set_data(sqe, op);
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe = loop_sqe(loop);
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL); /* its own completion says nothing that `op`'s does not */
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*loop->tasks_end = task;
	loop->tasks_end = &task->next;
}

/* Runs the tasks that wait now. Those that they defer wait for the next round. */
static void run_tasks(struct loop *loop)
{
	struct loop_task *task = loop->tasks;
	loop->tasks = NULL;
	loop->tasks_end = &loop->tasks;
	while (task) {
		struct loop_task *next = task->next;
		task->queued = false;
		task->run(task);
		task = next;
	}
}

static int dispatch(struct loop *loop)
{
	struct io_uring_cqe *cqes[64];
	unsigned count = io_uring_peek_batch_cqe(&loop->ring, cqes, 64);
	for (unsigned i = 0; i < count; i++) {
		struct loop_op *op = io_uring_cqe_get_data(cqes[i]);
		int res = cqes[i]->res;
		uint32_t flags = cqes[i]->flags;
		if (op)
			op->done(op, res, flags);
	}
	io_uring_cq_advance(&loop->ring, count);
	run_tasks(loop);
	return (int)count;
}

int loop_step(struct loop *loop, int timeout_ms)
{
	int ret;
	if (!loop->open)
		return -ENXIO;
	if (loop->error < 0)
		return loop->error;
	if (loop->tasks) {
		ret = io_uring_submit_and_get_events(&loop->ring);
	} else if (timeout_ms < 0) {
		ret = io_uring_submit_and_wait(&loop->ring, 1);
	} else {
		struct __kernel_timespec ts = {.tv_sec = timeout_ms / 1000, .tv_nsec = (timeout_ms % 1000) * 1000000LL};
		struct io_uring_cqe *cqe;
		ret = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &ts, NULL);
	}
	if (ret < 0 && ret != -EINTR && ret != -ETIME && ret != -EBUSY && ret != -EAGAIN) {
		loop->error = ret;
		return ret;
	}
	return dispatch(loop);
}

int loop_run(struct loop *loop)
{
	int ret = 0;
	while (!__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE) && ret >= 0)
		ret = loop_step(loop, -1);
	loop_end(loop);
	return ret < 0 ? ret : 0;
}

void loop_end(struct loop *loop)
{
	int ret = 0;
	pthread_mutex_lock(&loop->lock);
	loop->ended = true;
	/* Each is finished: it lies on the stack of its caller, who may not return before that. */
	while (loop->unfinished > 0 && ret >= 0) {
		pthread_mutex_unlock(&loop->lock);
		ret = loop_step(loop, -1);
		pthread_mutex_lock(&loop->lock);
	}
	loop->failed = ret < 0;
	pthread_cond_broadcast(&loop->finished);
	pthread_mutex_unlock(&loop->lock);
}

void loop_wake(struct loop *loop)
{
	uint64_t one = 1;
	ssize_t n = write(loop->wake_fd, &one, sizeof(one));
	(void)n; /* only EAGAIN is possible: then it is awake already */
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
	loop_wake(loop);
}

bool loop_call(struct loop *loop, struct loop_call *call)
{
	bool own = pthread_equal(pthread_self(), loop->thread);
	call->finished = false;
	pthread_mutex_lock(&loop->lock);
	if (loop->ended && !own) {
		pthread_mutex_unlock(&loop->lock);
		return false;
	}
	loop->unfinished++;
	if (!own) {
		call->next = loop->calls;
		loop->calls = call;
		loop_wake(loop);
		while (!call->finished && !loop->failed)
			pthread_cond_wait(&loop->finished, &loop->lock);
	}
	pthread_mutex_unlock(&loop->lock);
	if (own) {
		call->run(call);
		while (!call->finished && loop_step(loop, -1) >= 0)
			;
	}
	return call->finished;
}

void loop_call_finish(struct loop *loop, struct loop_call *call)
{
	pthread_mutex_lock(&loop->lock);
	call->finished = true;
	loop->unfinished--;
	pthread_cond_broadcast(&loop->finished);
	pthread_mutex_unlock(&loop->lock);
}

uint64_t loop_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
