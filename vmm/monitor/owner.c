/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/owner.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/shared/container_of.h"

static void receive(struct owner *o)
{
	struct io_uring_sqe *sqe = loop_sqe(o->loop);
	io_uring_prep_recv(sqe, o->socket, &o->byte, 1, 0);
	loop_start(o->loop, sqe, &o->socket_op);
}

static void on_socket(struct loop_op *op, int res, uint32_t flags)
{
	struct owner *o = container_of(op, struct owner, socket_op);
	(void)flags;
	/* ECONNRESET: it is gone, and has not read everything. */
	if (res > 0)
		receive(o);
	else if (res < 0 && res != -ECONNRESET)
		o->failed(o->context, res);
	else
		o->gone(o->context);
}

static void on_exit(struct loop_op *op, int res, uint32_t flags)
{
	struct owner *o = container_of(op, struct owner, exit_op);
	(void)flags;
	if (res < 0)
		o->failed(o->context, res);
	else
		o->gone(o->context);
}

static int watch_exit(struct owner *o, struct err *err)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	if (getsockopt(o->socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return err_set(err, errno, "cannot tell who started the sandbox: %s", strerror(errno));
	int pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	int error = errno;
	if (o->is_parent && getppid() != peer.pid) {
		if (pidfd >= 0)
			close(pidfd);
		return err_set(err, ESRCH, "the program that started it is gone");
	}
	if (pidfd < 0)
		return err_set(err, error, "cannot watch the program that started it: %s", strerror(error));
	o->exit_op.done = on_exit;
	/* The descriptor is closed at the process's end. */
	struct io_uring_sqe *sqe = loop_sqe(o->loop);
	io_uring_prep_poll_add(sqe, pidfd, POLLIN);
	loop_start(o->loop, sqe, &o->exit_op);
	return 0;
}

int owner_leave(struct err *err)
{
	pid_t pid = fork();
	if (pid < 0)
		return err_set(err, errno, "cannot start the sandbox's own process: %s", strerror(errno));
	if (pid > 0)
		_exit(0);
	setsid();
	return 0;
}

int owner_watch(struct owner *o, struct err *err)
{
	o->socket_op.done = on_socket;
	receive(o);
	return o->by_pid ? watch_exit(o, err) : 0;
}
