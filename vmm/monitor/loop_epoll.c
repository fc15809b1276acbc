/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop's second engine. An operation is in one of four places until it is completed:
 *
 *	the watch of its descriptor, until epoll says that this is ready. Polls then complete; what reads is done now,
 *	by a call that does not wait. epoll knows a descriptor once, so its operations share the watch.
 *	the list of timeouts, in the order in which they pass.
 *	a worker (loop_workers.c), if it may wait for a disk.
 *	the list of completions, whose `done` the next step calls.
 *
 * Everything is watched edge-triggered, so that a multishot poll reports each change and not each state, as io_uring's
 * does. Where only operations of one shot wait, the watch is of one shot, too: an event disables it, and what is not
 * waited for costs nothing. Starting an operation always asks epoll again, which looks at the present state: nothing is
 * lost between two operations, nor when a descriptor's number now means another file.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/monitor/loop_engine.h"
#include "vmm/monitor/loop_workers.h"
#include "vmm/shared/container_of.h"

#define EVENTS_MAX 64
#define WATCHES_MIN 64u
#define NS_PER_S 1000000000u
#define NS_PER_MS 1000000u

/* Where an operation is. */
enum { IDLE, WATCHED, TIMED, WORKED_ON, ENDED };

struct watch {
	struct loop_op *ops;
	bool added; /* epoll knows the descriptor, unless that was closed since */
};

struct epoll_engine {
	struct loop_engine engine;
	int epoll_fd;
	struct io_uring_sqe sqe; /* that the next operation is filled in with */
	struct watch *watches;   /* by descriptor */
	unsigned watch_count;
	struct loop_op *timeouts;
	struct workers workers;
	unsigned worked_on; /* operations */
	struct loop_op *completed, **completed_end;
};

static struct epoll_engine *to_epoll(struct loop_engine *engine)
{
	return container_of(engine, struct epoll_engine, engine);
}

static void complete(struct epoll_engine *e, struct loop_op *op, int res, uint32_t flags)
{
	op->res = res;
	op->flags = flags;
	if (!(flags & IORING_CQE_F_MORE))
		op->state = ENDED;
	if (op->completed)
		return; /* and this is what its owner will hear */
	op->completed = true;
	op->next_completed = NULL;
	*e->completed_end = op;
	e->completed_end = &op->next_completed;
}

static void take_out(struct loop_op **list, const struct loop_op *op)
{
	while (*list != op)
		list = &(*list)->next;
	*list = op->next;
}

/* --- descriptors that become ready --- */

static bool is_multishot(const struct loop_op *op)
{
	return op->sqe.opcode == IORING_OP_POLL_ADD && op->sqe.len & IORING_POLL_ADD_MULTI;
}

static uint32_t events_of(const struct loop_op *op)
{
	return op->sqe.opcode == IORING_OP_POLL_ADD ? op->sqe.poll32_events : EPOLLIN;
}

/* Has epoll report what the operations of the descriptor wait for: the present state, and what becomes of it. */
static int tell_epoll(struct epoll_engine *e, int fd, int how)
{
	struct epoll_event event = {.events = EPOLLET | EPOLLONESHOT, .data.fd = fd};
	for (const struct loop_op *op = e->watches[fd].ops; op; op = op->next) {
		event.events |= events_of(op);
		if (is_multishot(op))
			event.events &= ~(uint32_t)EPOLLONESHOT;
	}
	return epoll_ctl(e->epoll_fd, how, fd, &event) < 0 ? -errno : 0;
}

static void fail_all(struct epoll_engine *e, struct watch *w, const struct loop_op *except, int error)
{
	struct loop_op *op = w->ops;
	w->ops = NULL;
	while (op) {
		struct loop_op *next = op->next;
		if (op != except)
			complete(e, op, error, 0);
		op = next;
	}
}

/* `newest` is one of the watch's operations, which has just been started, or NULL. */
static void arm(struct epoll_engine *e, int fd, struct loop_op *newest)
{
	struct watch *w = &e->watches[fd];
	int ret = tell_epoll(e, fd, w->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
	if (ret == -EEXIST) {
		ret = tell_epoll(e, fd, EPOLL_CTL_MOD);
	} else if (ret == -ENOENT) {
		/* It is another file than the older operations are for. */
		fail_all(e, w, newest, -EBADF);
		if ((w->ops = newest))
			newest->next = NULL;
		ret = newest ? tell_epoll(e, fd, EPOLL_CTL_ADD) : 0;
	}
	w->added = ret == 0;
	if (ret < 0)
		fail_all(e, w, NULL, ret);
}

/* Makes room for the descriptor in the table. */
static int find_room(struct epoll_engine *e, int fd)
{
	unsigned count = e->watch_count ? e->watch_count : WATCHES_MIN;
	if (fd < 0)
		return -EBADF;
	if ((unsigned)fd < e->watch_count)
		return 0;
	while (count <= (unsigned)fd)
		count *= 2;
	struct watch *watches = realloc(e->watches, count * sizeof(*watches));
	if (!watches)
		return -ENOMEM;
	memset(watches + e->watch_count, 0, (count - e->watch_count) * sizeof(*watches));
	e->watches = watches;
	e->watch_count = count;
	return 0;
}

static void watch(struct epoll_engine *e, struct loop_op *op)
{
	int fd = op->sqe.fd, ret = find_room(e, fd);
	if (ret < 0) {
		complete(e, op, ret, 0);
		return;
	}
	op->state = WATCHED;
	op->next = e->watches[fd].ops;
	e->watches[fd].ops = op;
	arm(e, fd, op);
}

static void unwatch(struct epoll_engine *e, struct loop_op *op)
{
	int fd = op->sqe.fd;
	struct watch *w = &e->watches[fd];
	take_out(&w->ops, op);
	complete(e, op, -ECANCELED, 0);
	if (w->ops)
		return;
	(void)epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	w->added = false;
}

/* The descriptor is ready, so none of these calls waits. */
static int perform(const struct io_uring_sqe *sqe)
{
	void *data = (void *)(uintptr_t)sqe->addr;
	ssize_t ret;
	switch (sqe->opcode) {
	case IORING_OP_READ: ret = read(sqe->fd, data, sqe->len); break;
	case IORING_OP_READV: ret = readv(sqe->fd, data, (int)sqe->len); break;
	case IORING_OP_RECV: ret = recv(sqe->fd, data, sqe->len, (int)sqe->msg_flags | MSG_DONTWAIT); break;
	case IORING_OP_RECVMSG: ret = recvmsg(sqe->fd, data, (int)sqe->msg_flags | MSG_DONTWAIT); break;
	case IORING_OP_ACCEPT: ret = accept4(sqe->fd, NULL, NULL, (int)sqe->accept_flags); break;
	default: return -EACCES;
	}
	return ret < 0 ? -errno : (int)ret;
}

/* True if the operation waits for more. */
static bool serve(struct epoll_engine *e, struct loop_op *op, uint32_t ready)
{
	uint32_t seen = ready & (events_of(op) | EPOLLERR | EPOLLHUP);
	if (!seen)
		return true;
	if (is_multishot(op)) {
		complete(e, op, (int)seen, IORING_CQE_F_MORE);
		return true;
	}
	int ret = op->sqe.opcode == IORING_OP_POLL_ADD ? (int)seen : perform(&op->sqe);
	bool again = ret == -EAGAIN || ret == -EINTR;
	if (!again)
		complete(e, op, ret, 0);
	return again;
}

static void on_event(struct epoll_engine *e, int fd, uint32_t ready)
{
	struct loop_op **at = &e->watches[fd].ops;
	bool multishot = false;
	while (*at) {
		struct loop_op *op = *at, *next = op->next;
		if (serve(e, op, ready)) {
			multishot |= is_multishot(op);
			at = &op->next;
		} else {
			*at = next;
		}
	}
	if (e->watches[fd].ops && !multishot)
		arm(e, fd, NULL);
}

/* --- timeouts --- */

static uint64_t time_of(const struct __kernel_timespec *time)
{
	return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_nsec;
}

static void start_timeout(struct epoll_engine *e, struct loop_op *op)
{
	uint64_t wait_ns = time_of((const struct __kernel_timespec *)(uintptr_t)op->sqe.addr);
	struct loop_op **at = &e->timeouts;
	if (wait_ns == 0) {
		complete(e, op, -ETIME, 0);
		return;
	}
	op->state = TIMED;
	op->deadline_ns = loop_now_ns() + wait_ns;
	while (*at && (*at)->deadline_ns <= op->deadline_ns)
		at = &(*at)->next;
	op->next = *at;
	*at = op;
}

/*
 * Ends those that have passed. Returns how long to wait for descriptors: in milliseconds, as epoll counts, and never
 * less than what the first timeout has left.
 */
static int end_timeouts(struct epoll_engine *e, int timeout_ms)
{
	uint64_t now_ns = e->timeouts ? loop_now_ns() : 0, most = timeout_ms < 0 ? INT_MAX : (uint64_t)timeout_ms;
	struct loop_op *op;
	while ((op = e->timeouts) && op->deadline_ns <= now_ns) {
		e->timeouts = op->next;
		complete(e, op, -ETIME, 0);
	}
	if (e->completed)
		return 0;
	if (!op)
		return timeout_ms;
	uint64_t left_ms = (op->deadline_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
	return (int)(left_ms < most ? left_ms : most);
}

/* --- files --- */

/*
 * What the page cache has, without waiting for the disk; -EAGAIN, or -EOPNOTSUPP of some file systems, otherwise. Linux
 * 5.9 and 5.10 say 0 before the end of the file, too: a worker finds out.
 */
static int read_cached(const struct loop_op *op)
{
	struct io_uring_sqe sqe = op->sqe;
	if (sqe.opcode != IORING_OP_READ && sqe.opcode != IORING_OP_READV)
		return -EAGAIN;
	sqe.rw_flags |= RWF_NOWAIT;
	int ret = workers_call(&sqe);
	return ret == 0 ? -EAGAIN : ret;
}

static void start_file(struct loop_engine *engine, struct io_uring_sqe *sqe, struct loop_op *op, bool cached)
{
	struct epoll_engine *e = to_epoll(engine);
	op->sqe = *sqe;
	int ret = cached ? read_cached(op) : -EAGAIN;
	if (ret != -EAGAIN && ret != -EOPNOTSUPP) {
		complete(e, op, ret, 0);
	} else if (workers_start(&e->workers, op)) {
		op->state = WORKED_ON;
		e->worked_on++;
	} else {
		complete(e, op, workers_call(&op->sqe), 0); /* a host without threads: late, but right */
	}
}

static void reap(struct epoll_engine *e)
{
	struct loop_op *op = e->worked_on > 0 ? workers_reap(&e->workers) : NULL;
	while (op) {
		struct loop_op *next = op->next;
		e->worked_on--;
		complete(e, op, op->res, 0);
		op = next;
	}
}

/* --- the engine --- */

static struct io_uring_sqe *get_sqe(struct loop_engine *engine)
{
	struct epoll_engine *e = to_epoll(engine);
	memset(&e->sqe, 0, sizeof(e->sqe));
	return &e->sqe;
}

static void start(struct loop_engine *engine, struct io_uring_sqe *sqe, struct loop_op *op)
{
	struct epoll_engine *e = to_epoll(engine);
	op->sqe = *sqe;
	switch (sqe->opcode) {
	case IORING_OP_READ:
	case IORING_OP_READV:
	case IORING_OP_RECV:
	case IORING_OP_RECVMSG:
	case IORING_OP_ACCEPT:
	case IORING_OP_POLL_ADD: watch(e, op); break;
	case IORING_OP_TIMEOUT: start_timeout(e, op); break;
	default: complete(e, op, -EACCES, 0); break;
	}
}

static void cancel(struct loop_engine *engine, struct loop_op *op)
{
	struct epoll_engine *e = to_epoll(engine);
	if (op->state == WATCHED) {
		unwatch(e, op);
	} else if (op->state == TIMED) {
		take_out(&e->timeouts, op);
		complete(e, op, -ECANCELED, 0);
	} else if (op->state == WORKED_ON && workers_cancel(&e->workers, op)) {
		e->worked_on--;
		complete(e, op, -ECANCELED, 0);
	}
}

/* Those that are completed meanwhile have their turn in the next step. */
static int dispatch(struct epoll_engine *e)
{
	struct loop_op *op = e->completed;
	int count = 0;
	e->completed = NULL;
	e->completed_end = &e->completed;
	for (; op; count++) {
		struct loop_op *next = op->next_completed;
		op->completed = false;
		if (op->state == ENDED)
			op->state = IDLE;
		op->done(op, op->res, op->flags);
		op = next;
	}
	return count;
}

static int step(struct loop_engine *engine, int timeout_ms)
{
	struct epoll_engine *e = to_epoll(engine);
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_pwait(e->epoll_fd, events, EVENTS_MAX, end_timeouts(e, timeout_ms), NULL);
	if (count < 0 && errno != EINTR)
		return -errno;
	for (int i = 0; i < count; i++) {
		int fd = events[i].data.fd;
		if (fd != e->workers.done_fd)
			on_event(e, fd, events[i].events);
	}
	if (count == 0)
		end_timeouts(e, 0);
	reap(e);
	return dispatch(e);
}

static void destroy(struct loop_engine *engine)
{
	struct epoll_engine *e = to_epoll(engine);
	int done_fd = e->workers.done_fd;
	workers_end(&e->workers);
	if (done_fd >= 0)
		close(done_fd);
	if (e->epoll_fd >= 0)
		close(e->epoll_fd);
	free(e->watches);
	free(e);
}

static const struct loop_engine_type epoll_type = {
        .sqe = get_sqe, .start = start, .start_file = start_file, .cancel = cancel, .step = step, .destroy = destroy};

/* Their eventfd is never read: an edge is enough. */
static bool watch_workers(const struct epoll_engine *e)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = e->workers.done_fd};
	return epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, event.data.fd, &event) == 0;
}

int loop_epoll_create(struct loop_engine **engine, const struct loop_options *options, struct err *err)
{
	struct epoll_engine *e = calloc(1, sizeof(*e));
	if (!e)
		return err_set(err, ENOMEM, "out of memory for the event loop");
	e->engine.type = &epoll_type;
	e->completed_end = &e->completed;
	workers_init(&e->workers, -1, options->confine);
	bool ok = (e->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0;
	ok = ok && (e->workers.done_fd = eventfd(0, EFD_CLOEXEC)) >= 0;
	ok = ok && watch_workers(e);
	if (!ok) {
		int ret = err_set(err, errno, "cannot set up epoll: %s", strerror(errno));
		destroy(&e->engine);
		return ret;
	}
	*engine = &e->engine;
	return 0;
}
