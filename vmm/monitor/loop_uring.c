/* SPDX-License-Identifier: Apache-2.0 */
/* The loop's first engine: io_uring. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/monitor/loop_engine.h"
#include "vmm/shared/container_of.h"

/* How long a full ring is submitted again before the kernel's refusal counts as a failure: about a second. */
#define SUBMIT_TRIES 1000u
#define SUBMIT_PAUSE_NS 1000000

struct ring_engine {
	struct loop_engine engine;
	struct io_uring ring;
	int error;                  /* -errno once the ring has failed, for good */
	struct io_uring_sqe unsent; /* takes the operations of a failed ring */
};

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

static struct ring_engine *to_ring(struct loop_engine *engine)
{
	return container_of(engine, struct ring_engine, engine);
}

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

/*
 * A ring with these flags; -EINVAL if the kernel does not know them all. Disks alone can have more operations in flight
 * than the ring has room for completions: the kernel keeps the excess, and hands it over as the ring empties.
 */
static int ring_create(struct io_uring *ring, unsigned entries, unsigned flags)
{
	struct io_uring_params params = {
	        .flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP, .cq_entries = entries * 4};
	int ret = io_uring_queue_init_params(entries, ring, &params);
	if (ret < 0)
		return ret;
	ret = restrict_ring(ring);
	if (ret < 0)
		io_uring_queue_exit(ring);
	return ret;
}

/* DEFER_TASKRUN batches completions (Linux 6.1); it requires a single submitter. */
static int ring_init(struct io_uring *ring, unsigned entries)
{
	int ret = ring_create(ring, entries, URING_FLAGS | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	return ret == -EINVAL ? ring_create(ring, entries, URING_FLAGS) : ret;
}

/* Hands the full ring to the kernel. EBUSY and EAGAIN are shortages of the host that may pass. */
static int submit_full(struct ring_engine *r)
{
	static const struct timespec pause = {.tv_nsec = SUBMIT_PAUSE_NS};
	int ret = 0;
	for (unsigned tries = 0; tries < SUBMIT_TRIES; tries++) {
		ret = io_uring_submit(&r->ring);
		if (ret > 0)
			return 0;
		if (ret < 0 && ret != -EBUSY && ret != -EAGAIN && ret != -EINTR)
			return ret;
		nanosleep(&pause, NULL);
	}
	return ret < 0 ? ret : -EAGAIN;
}

static struct io_uring_sqe *get_sqe(struct loop_engine *engine)
{
	struct ring_engine *r = to_ring(engine);
	struct io_uring_sqe *sqe = NULL;
	while (r->error == 0 && !(sqe = io_uring_get_sqe(&r->ring)))
		r->error = submit_full(r);
	if (!sqe)
		sqe = &r->unsent;
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

static void start(struct loop_engine *engine, struct io_uring_sqe *sqe, struct loop_op *op)
{
	(void)engine;
	io_uring_sqe_set_data(sqe, op);
}

/* The kernel knows what a descriptor is, and tries the page cache by itself. */
static void start_file(struct loop_engine *engine, struct io_uring_sqe *sqe, struct loop_op *op, bool cached)
{
	(void)cached;
	start(engine, sqe, op);
}

static void cancel(struct loop_engine *engine, struct loop_op *op)
{
	struct io_uring_sqe *sqe = get_sqe(engine);
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL); /* its own completion says nothing that `op`'s does not */
}

static int dispatch(struct io_uring *ring)
{
	struct io_uring_cqe *cqes[64];
	unsigned count = io_uring_peek_batch_cqe(ring, cqes, 64);
	for (unsigned i = 0; i < count; i++) {
		struct loop_op *op = io_uring_cqe_get_data(cqes[i]);
		int res = cqes[i]->res;
		uint32_t flags = cqes[i]->flags;
		if (op)
			op->done(op, res, flags);
	}
	io_uring_cq_advance(ring, count);
	return (int)count;
}

static int step(struct loop_engine *engine, int timeout_ms)
{
	struct ring_engine *r = to_ring(engine);
	int ret;
	if (r->error < 0)
		return r->error;
	if (timeout_ms == 0) {
		ret = io_uring_submit_and_get_events(&r->ring);
	} else if (timeout_ms < 0) {
		ret = io_uring_submit_and_wait(&r->ring, 1);
	} else {
		struct __kernel_timespec ts = {.tv_sec = timeout_ms / 1000, .tv_nsec = (timeout_ms % 1000) * 1000000LL};
		struct io_uring_cqe *cqe;
		ret = io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, &ts, NULL);
	}
	if (ret < 0 && ret != -EINTR && ret != -ETIME && ret != -EBUSY && ret != -EAGAIN) {
		r->error = ret;
		return ret;
	}
	return dispatch(&r->ring);
}

static void destroy(struct loop_engine *engine)
{
	struct ring_engine *r = to_ring(engine);
	io_uring_queue_exit(&r->ring);
	free(r);
}

static const struct loop_engine_type ring_type = {
        .sqe = get_sqe, .start = start, .start_file = start_file, .cancel = cancel, .step = step, .destroy = destroy};

int loop_uring_create(struct loop_engine **engine, const struct loop_options *options, struct err *err)
{
	struct ring_engine *r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(err, ENOMEM, "out of memory for the event loop");
	int ret = ring_init(&r->ring, options->entries);
	if (ret < 0) {
		free(r);
		return err_set(err, -ret, "cannot set up io_uring: %s", strerror(-ret));
	}
	/* A clone's process must not share the ring. */
	io_uring_ring_dontfork(&r->ring);
	r->engine.type = &ring_type;
	*engine = &r->engine;
	return 0;
}
