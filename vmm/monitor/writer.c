/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/shared/container_of.h"

/* A name of its own: it is no monitor. */
#define PROCESS_NAME "wisp-snapshot"

static void await(struct writer *w);

static void on_read(struct loop_op *op, int res, uint32_t flags)
{
	struct writer *w = container_of(op, struct writer, op);
	(void)flags;
	w->received += res > 0 ? (size_t)res : 0;
	bool more = (res > 0 && w->received < sizeof(w->result)) || res == -EINTR || res == -EAGAIN;
	if (more) {
		await(w);
		return;
	}
	w->active = false;
	close(w->pipe);
	if (w->received < sizeof(w->result)) {
		w->result = (struct writer_result){0};
		err_set(&w->result.err, EIO, "the process that wrote the snapshot has died");
	}
	w->done(w);
}

static void await(struct writer *w)
{
	struct io_uring_sqe *sqe = loop_sqe(w->loop);
	io_uring_prep_read(
	        sqe, w->pipe, (char *)&w->result + w->received, (unsigned)(sizeof(w->result) - w->received), 0);
	w->op.done = on_read;
	w->active = true;
	loop_start(w->loop, sqe, &w->op);
}

/* Keeps no descriptor but its two: another's lock or socket would last as long as this process. */
static _Noreturn void write_as_child(int file, int pipe, const struct snapshot_origin *origin)
{
	struct writer_result result = {0};
	enum { FILE_FD = 3, PIPE_FD, NEXT_FD };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, PROCESS_NAME);
	/* First above the places where they go, so that neither overwrites the other. */
	int high_file = fcntl(file, F_DUPFD, NEXT_FD), high_pipe = fcntl(pipe, F_DUPFD, NEXT_FD);
	if (high_file < 0 || high_pipe < 0 || dup2(high_file, FILE_FD) < 0 || dup2(high_pipe, PIPE_FD) < 0)
		_exit(1);
	syscall(SYS_close_range, NEXT_FD, UINT_MAX, 0);
	snapshot_write(FILE_FD, origin, &result.layout, &result.err);
	for (size_t done = 0; done < sizeof(result);) {
		ssize_t n = write(PIPE_FD, (const char *)&result + done, sizeof(result) - done);
		if (n < 0 && errno != EINTR)
			_exit(1);
		done += n > 0 ? (size_t)n : 0;
	}
	_exit(0);
}

int writer_start(struct writer *w, int file, const struct snapshot_origin *origin)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid_t pid = fork();
	int ret = pid < 0 ? -errno : 0;
	if (pid == 0)
		write_as_child(file, ends[1], origin);
	close(ends[1]);
	if (ret < 0) {
		close(ends[0]);
		return ret;
	}
	w->pipe = ends[0];
	w->received = 0;
	await(w);
	return 0;
}

void writer_cancel(struct writer *w)
{
	loop_cancel(w->loop, &w->op);
}
