/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/loop_workers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/monitor/thread.h"

#define STACK_BYTES (128u << 10)

static void append(struct op_list *list, struct loop_op *op)
{
	op->next = NULL;
	*list->end = op;
	list->end = &op->next;
}

void workers_init(struct workers *w, int done_fd, int (*confine)(struct err *err))
{
	*w = (struct workers){.done_fd = done_fd, .confine = confine};
	w->queue.end = &w->queue.first;
	w->done.end = &w->done.first;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wanted, NULL);
}

/* Not by libc, whose musl has neither. */
static long transfer(long call, const struct io_uring_sqe *sqe, int flags)
{
	struct iovec one = {.iov_base = (void *)(uintptr_t)sqe->addr, .iov_len = sqe->len};
	bool is_vector = sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV;
	const struct iovec *iov = is_vector ? (const struct iovec *)(uintptr_t)sqe->addr : &one;
	unsigned long count = is_vector ? sqe->len : 1;
	return syscall(call, (long)sqe->fd, iov, count, sqe->off, 0l, (long)flags);
}

int workers_call(const struct io_uring_sqe *sqe)
{
	long ret;
	switch (sqe->opcode) {
	case IORING_OP_READ:
	case IORING_OP_READV: ret = transfer(SYS_preadv2, sqe, sqe->rw_flags); break;
	case IORING_OP_WRITE:
	case IORING_OP_WRITEV: ret = transfer(SYS_pwritev2, sqe, sqe->rw_flags); break;
	case IORING_OP_FSYNC: ret = fdatasync(sqe->fd); break;
	case IORING_OP_FALLOCATE: ret = fallocate(sqe->fd, (int)sqe->len, (off_t)sqe->off, (off_t)sqe->addr); break;
	default: return -EACCES;
	}
	return ret < 0 ? -errno : (int)ret;
}

/* Waits for the next operation. NULL: the thread is to end. */
static struct loop_op *take(struct workers *w)
{
	struct loop_op *op = NULL;
	pthread_mutex_lock(&w->lock);
	w->idle++;
	while (!w->queue.first && !w->ending)
		pthread_cond_wait(&w->wanted, &w->lock);
	w->idle--;
	if (!w->ending) {
		op = w->queue.first;
		w->queue.first = op->next;
		if (!w->queue.first)
			w->queue.end = &w->queue.first;
		w->queued--;
	}
	pthread_mutex_unlock(&w->lock);
	return op;
}

static void give_back(struct workers *w, struct loop_op *op)
{
	static const uint64_t one = 1;
	pthread_mutex_lock(&w->lock);
	bool first = !w->done.first;
	append(&w->done, op);
	pthread_mutex_unlock(&w->lock);
	if (first)
		(void)!write(w->done_fd, &one, sizeof(one));
}

static void *work(void *context)
{
	struct workers *w = context;
	struct loop_op *op;
	prctl(PR_SET_NAME, "disk");
	int error = w->confine ? w->confine(NULL) : 0;
	while ((op = take(w))) {
		op->res = error < 0 ? error : workers_call(&op->sqe);
		give_back(w, op);
	}
	return NULL;
}

bool workers_start(struct workers *w, struct loop_op *op)
{
	pthread_mutex_lock(&w->lock);
	bool crowded = w->queued >= w->idle;
	pthread_mutex_unlock(&w->lock);
	if (crowded && w->threads < WORKERS_MAX && thread_start(&w->thread[w->threads], STACK_BYTES, 0, work, w) == 0)
		w->threads++;
	if (w->threads == 0)
		return false;
	pthread_mutex_lock(&w->lock);
	append(&w->queue, op);
	w->queued++;
	pthread_cond_signal(&w->wanted);
	pthread_mutex_unlock(&w->lock);
	return true;
}

bool workers_cancel(struct workers *w, struct loop_op *op)
{
	pthread_mutex_lock(&w->lock);
	struct loop_op **at = &w->queue.first;
	while (*at && *at != op)
		at = &(*at)->next;
	bool found = *at;
	if (found) {
		*at = op->next;
		if (!*at)
			w->queue.end = at;
		w->queued--;
	}
	pthread_mutex_unlock(&w->lock);
	return found;
}

struct loop_op *workers_reap(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	struct loop_op *finished = w->done.first;
	w->done.first = NULL;
	w->done.end = &w->done.first;
	pthread_mutex_unlock(&w->lock);
	return finished;
}

void workers_end(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_broadcast(&w->wanted);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->threads; i++)
		pthread_join(w->thread[i], NULL);
	pthread_cond_destroy(&w->wanted);
	pthread_mutex_destroy(&w->lock);
}
