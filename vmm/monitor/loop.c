/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/monitor/loop_engine.h"
#include "vmm/shared/container_of.h"

struct loop {
	struct loop_engine *engine; /* NULL before loop_open */
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

int loop_choose_engine(uint32_t *engine, struct err *err)
{
	int ret = *engine == WISP_ENGINE_EPOLL ? 0 : uring_probe();
	if (ret < 0 && *engine == WISP_ENGINE_IO_URING)
		return err_set(err, -ret, "cannot use io_uring: %s%s", strerror(-ret),
		        ret == -EPERM ? " (allow it: sysctl kernel.io_uring_disabled=0, or the container's seccomp "
		                        "profile)"
		                      : "");
	if (*engine == WISP_ENGINE_AUTO)
		*engine = ret < 0 ? WISP_ENGINE_EPOLL : WISP_ENGINE_IO_URING;
	return 0;
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

int loop_open(struct loop *loop, const struct loop_options *options, struct err *err)
{
	int ret = options->engine == WISP_ENGINE_EPOLL ? loop_epoll_create(&loop->engine, options, err)
	                                               : loop_uring_create(&loop->engine, options, err);
	if (ret == 0)
		arm_wake(loop);
	return ret;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->engine)
		loop->engine->type->destroy(loop->engine);
	close(loop->wake_fd);
	pthread_cond_destroy(&loop->finished);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

struct io_uring_sqe *loop_sqe(struct loop *loop)
{
	return loop->engine->type->sqe(loop->engine);
}

void loop_start(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op)
{
	loop->engine->type->start(loop->engine, sqe, op);
}

void loop_start_file(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op, bool cached)
{
	loop->engine->type->start_file(loop->engine, sqe, op, cached);
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	loop->engine->type->cancel(loop->engine, op);
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

int loop_step(struct loop *loop, int timeout_ms)
{
	if (!loop->engine)
		return -ENXIO;
	int ret = loop->engine->type->step(loop->engine, loop->tasks ? 0 : timeout_ms);
	if (ret >= 0)
		run_tasks(loop);
	return ret;
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
