/* SPDX-License-Identifier: Apache-2.0 */
/* The listening sockets of the socket device: who connects becomes a connection. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/vsock_conn.h"
#include "vmm/shared/container_of.h"

#define BACKLOG 128
#define ACCEPTS_A_ROUND 32
#define ACCEPT_DELAY_NS 50000000 /* until the next try when descriptors or memory have run out */

static void accept_later(struct listener *l, long long delay_ns);

static void accept_clients(struct listener *l)
{
	struct vsock *v = l->vsock;
	for (unsigned i = 0; i < ACCEPTS_A_ROUND; i++) {
		if (l->forward_to && v->forwards >= v->forwards_max) {
			v->forwards_full = true;
			return;
		}
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0) { /* out of descriptors or memory: clients wait in the backlog */
			accept_later(l, ACCEPT_DELAY_NS);
			return;
		}
		struct conn *conn = conn_create(v, fd, l->forward_to ? CONN_REQUEST : CONN_LINE, l);
		if (!conn)
			close(fd);
		else if (l->forward_to)
			conn_forward(conn);
	}
	accept_later(l, 0); /* the poll reports only changes, not clients that wait already */
}

static void watch(struct listener *l)
{
	if (l->armed)
		return;
	l->armed = true;
	host_poll(l->vsock, &l->op, l->fd, POLLIN);
}

/* Frees a listener that was removed and that no operation refers to. */
static void put(struct listener *l)
{
	if (l->fd < 0 && l != &l->vsock->clients && !l->armed && !l->waits)
		free(l);
}

static void timer_done(struct loop_op *op, int res, uint32_t flags)
{
	(void)res;
	(void)flags;
	struct listener *l = container_of(op, struct listener, timer);
	l->waits = false;
	l->vsock->ops--;
	if (l->fd < 0) {
		put(l);
		return;
	}
	watch(l);
	accept_clients(l);
}

static void accept_later(struct listener *l, long long delay_ns)
{
	if (l->waits)
		return;
	struct io_uring_sqe *sqe = loop_sqe(l->vsock->dev.env.loop);
	l->delay = (struct __kernel_timespec){.tv_nsec = delay_ns};
	io_uring_prep_timeout(sqe, &l->delay, 0, 0);
	loop_start(l->vsock->dev.env.loop, sqe, &l->timer);
	l->waits = true;
	l->vsock->ops++;
}

static void poll_done(struct loop_op *op, int res, uint32_t flags)
{
	struct listener *l = container_of(op, struct listener, op);
	if (!(flags & IORING_CQE_F_MORE)) {
		l->armed = false;
		l->vsock->ops--;
	}
	if (l->fd < 0) {
		put(l);
		return;
	}
	if (res < 0 && res != -ECANCELED) {
		accept_later(l, ACCEPT_DELAY_NS);
		return;
	}
	watch(l);
	accept_clients(l);
}

static void begin(struct listener *l)
{
	l->op.done = poll_done;
	l->timer.done = timer_done;
	watch(l);
}

/* May free it. */
static void end(struct listener *l)
{
	struct loop *loop = l->vsock->dev.env.loop;
	if (l->armed)
		loop_cancel(loop, &l->op);
	if (l->waits)
		loop_cancel(loop, &l->timer);
	if (l->fd >= 0) {
		shutdown(l->fd,
		        SHUT_RDWR); /* the poll holds the socket until it is cancelled; clients are refused now */
		close(l->fd);
	}
	l->fd = -1;
	put(l);
}

/* --- the socket for clients that name a port --- */

int vsock_listen(struct virtio_dev *dev, struct err *err)
{
	struct vsock *v = container_of(dev, struct vsock, dev);
	struct listener *l = &v->clients;
	const char *path = v->address.sun_path;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return err_set(err, errno, "cannot create a socket: %s", strerror(errno));
	/* Sets the mode of the inode before it has a name: at no moment can others connect. */
	if (fchmod(l->fd, 0600) < 0)
		return err_set(err, errno, "cannot set the mode of %s: %s", path, strerror(errno));
	if (bind(l->fd, (const struct sockaddr *)&v->address, sizeof(v->address)) < 0)
		return err_set(err, errno, "cannot create the socket %s: %s%s", path, strerror(errno),
		        errno == EADDRINUSE ? " (remove it if no VM uses it)" : "");
	v->bound = true;
	if (chmod(path, 0600) < 0 || listen(l->fd, BACKLOG) < 0)
		return err_set(err, errno, "cannot listen on %s: %s", path, strerror(errno));
	begin(l);
	return 0;
}

/* --- listeners that forward --- */

static int check_listener(const struct vsock *v, int fd, struct err *err)
{
	int listens = 0;
	socklen_t size = sizeof(listens);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens)
		return err_set(err, EINVAL, "the descriptor is not a listening socket");
	if (v->listener_count >= VSOCK_LISTENERS_MAX)
		return err_set(err, ENOSPC, "there are %u already, which is the maximum", VSOCK_LISTENERS_MAX);
	/* Another client may have left before it is accepted. */
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_set(err, errno, "cannot make the socket non-blocking: %s", strerror(errno));
	return 0;
}

int vsock_forward(struct virtio_dev *dev, int fd, uint16_t to, struct err *err)
{
	struct vsock *v = container_of(dev, struct vsock, dev);
	int ret = check_listener(v, fd, err);
	struct listener *l = ret < 0 ? NULL : malloc(sizeof(*l));
	if (ret == 0 && !l)
		ret = err_set(err, ENOMEM, "out of memory");
	if (ret < 0) {
		close(fd);
		return ret;
	}
	v->next_listener = v->next_listener % INT32_MAX + 1;
	*l = (struct listener){.vsock = v, .fd = fd, .id = v->next_listener, .forward_to = to};
	list_append(&v->listeners, &l->all);
	v->listener_count++;
	begin(l);
	return (int)l->id;
}

static void remove_listener(struct listener *l)
{
	list_remove(&l->all);
	l->vsock->listener_count--;
	end(l);
}

int vsock_unforward(struct virtio_dev *dev, uint32_t id)
{
	struct vsock *v = container_of(dev, struct vsock, dev);
	for (struct list *at = v->listeners.next; at != &v->listeners; at = at->next) {
		struct listener *l = container_of(at, struct listener, all);
		if (l->id == id) {
			remove_listener(l);
			return 0;
		}
	}
	return -ENOENT;
}

void vsock_each_forward(
        const struct virtio_dev *dev, void (*each)(void *context, uint32_t id, int fd, uint16_t to), void *context)
{
	const struct vsock *v = (const struct vsock *)dev;
	for (const struct list *at = v->listeners.next; at != &v->listeners; at = at->next) {
		const struct listener *l = (const struct listener *)at;
		each(context, l->id, l->fd, l->forward_to);
	}
}

void vsock_forward_ended(struct vsock *v)
{
	v->forwards--;
	if (!v->forwards_full)
		return;
	v->forwards_full = false;
	for (struct list *at = v->listeners.next; at != &v->listeners; at = at->next)
		accept_later(container_of(at, struct listener, all), 0);
}

void vsock_unlisten(struct vsock *v)
{
	if (v->sweeping)
		loop_cancel(v->dev.env.loop, &v->sweep_timer);
	while (!list_empty(&v->listeners))
		remove_listener(container_of(v->listeners.next, struct listener, all));
	end(&v->clients);
	if (v->bound)
		unlink(v->address.sun_path);
	v->bound = false;
}
