/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/manage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/monitor/ports.h"
#include "vmm/shared/container_of.h"
#include "vmm/shared/manage.h"

/* A client needs one or two; the others of a socket wait in its backlog. */
#define CLIENTS_MAX 16u
#define BACKLOG 64
#define ACCEPT_PAUSE_NS 100000000

struct client {
	struct manage *manage;
	int fd; /* -1: the slot is free */
	bool receiving;
	bool waiting; /* `request` is to be carried out */
	bool holds;   /* the machine is paused as long as this connection lasts */
	int file;     /* the descriptor that came with the request, or -1 */
	struct manage_request request;
	struct msghdr message;
	struct iovec io;
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct loop_op op;
	struct writer writer; /* of its snapshot */
	bool counting;        /* the answer waits for the counts */
	struct counts_request counts;
	uint32_t paused_us;
};

struct manage {
	struct manage_options o;
	int listen_fd;
	bool accepting, resting; /* the operation is in flight */
	bool closing;
	bool bound;
	struct loop_op accept_op, rest_op;
	struct __kernel_timespec rest;
	struct client client[CLIENTS_MAX];
	struct client *current; /* whose request is carried out; it may have gone */
	bool paused;            /* by a request, until another resumes it */
	bool stands;            /* the vCPUs were stopped, and nothing has let them run since */
	bool told;              /* what o.paused heard last */
	bool stopping;          /* the guest is to power off: nothing pauses it any more */
	bool thawing;           /* the guest's sessions do not run yet: the next request waits */
	uint64_t begun_ns;
	struct loop_task task;
};

static void next_request(struct manage *m);
static void accept_clients(struct manage *m);
static void gone(struct client *c);

/* --- connections --- */

static void close_file(struct client *c)
{
	if (c->file >= 0)
		close(c->file);
	c->file = -1;
}

static void close_client(struct client *c)
{
	close_file(c);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->waiting = c->holds = false;
}

static void receive(struct client *c)
{
	struct loop *loop = c->manage->o.loop;
	c->io = (struct iovec){.iov_base = &c->request, .iov_len = sizeof(c->request)};
	c->message = (struct msghdr){.msg_iov = &c->io,
	        .msg_iovlen = 1,
	        .msg_control = c->control.bytes,
	        .msg_controllen = CMSG_LEN(sizeof(int))}; /* CMSG_SPACE has room for two descriptors */
	struct io_uring_sqe *sqe = loop_sqe(loop);
	io_uring_prep_recvmsg(sqe, c->fd, &c->message, MSG_CMSG_CLOEXEC);
	c->receiving = true;
	loop_start(loop, sqe, &c->op);
}

/* Answers the request. The connection goes on, unless the answer cannot be sent. */
static void reply(struct client *c, const struct manage_reply *reply)
{
	close_file(c);
	if (c->fd < 0)
		return;
	if (send(c->fd, reply, sizeof(*reply), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(*reply))
		receive(c);
	else
		close_client(c);
}

static struct manage_reply make_reply(const struct err *err)
{
	struct manage_reply r = {.magic = MANAGE_MAGIC, .version = MANAGE_VERSION, .error = -err->errnum};
	snprintf(r.text, sizeof(r.text), "%s", err->text);
	return r;
}

static void answer(struct client *c, const struct err *err)
{
	struct manage_reply r = make_reply(err);
	reply(c, &r);
}

/* --- pausing --- */

static void on_thawed(void *context, int error);

/* Lets the guest run on. */
static void go_on(struct manage *m)
{
	m->stands = false;
	machine_resume(m->o.machine);
	m->thawing = m->o.control && control_thaw(m->o.control, MANAGE_THAW_MS, on_thawed, m) == 0;
}

static bool is_held(const struct manage *m)
{
	bool held = false;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		held |= m->client[i].holds;
	return held;
}

/* The machine stands still as long as it is paused, or any client holds it. */
static void settle(struct manage *m)
{
	bool still = !m->stopping && (m->paused || is_held(m));
	if (!m->o.machine)
		return;
	if (m->stands && !still)
		go_on(m);
	/* One that is held is short, and no state that others should see. */
	if (m->told != m->paused)
		m->o.paused(m->o.context, m->paused);
	m->told = m->paused;
}

/* After whatever may allow the next request, or end a pause. */
static void move_on(struct manage *m)
{
	if (m->current || m->closing)
		return;
	settle(m);
	next_request(m);
}

static void finish(struct manage *m)
{
	m->current = NULL;
	move_on(m);
	accept_clients(m);
}

static void on_thawed(void *context, int error)
{
	struct manage *m = context;
	m->thawing = false;
	if (error < 0 && error != -ECONNRESET)
		log_line(m->o.log, LOG_WARN, "the guest did not thaw its sessions: %s", strerror(-error));
	move_on(m);
}

static int make_clone(struct manage *m, struct client *c, struct err *err)
{
	struct snapshot_origin own = {0}, *origin = m->o.origin ? m->o.origin : &own;
	int ret = m->o.machine ? machine_save(m->o.machine, &own, err) : 0;
	if (ret == 0)
		ret = m->o.fork(m->o.context, c->fd, origin, err);
	free(own.state);
	return ret;
}

static struct manage_reply make_snapshot_reply(const struct client *c, const struct err *err)
{
	struct manage_reply r = make_reply(err);
	r.paused_us = c->paused_us;
	r.layout = c->writer.result.layout;
	return r;
}

static void on_written(struct writer *writer)
{
	struct client *c = container_of(writer, struct client, writer);
	if (c->manage->closing)
		return;
	struct manage_reply r = make_snapshot_reply(c, &writer->result.err);
	reply(c, &r);
	accept_clients(c->manage);
}

static void write_snapshot(struct manage *m, struct client *c, struct err *err)
{
	struct snapshot_origin origin = {0};
	int ret = machine_save(m->o.machine, &origin, err);
	/* One that stays paused can as well be written here. */
	if (ret == 0 && (m->paused || is_held(m) || writer_start(&c->writer, c->file, &origin) < 0))
		snapshot_write(c->file, &origin, &c->writer.result.layout, err);
	free(origin.state);
}

static int fail_stopping(struct err *err)
{
	return err_set(err, ECANCELED, "the sandbox is being stopped");
}

/* With the machine paused, if `ret` is 0. Answers, but for a snapshot that a process is writing. */
static void carry_out(struct manage *m, struct client *c, int ret, struct err *err)
{
	uint16_t op = c->request.op;
	if (ret == 0 && op == MANAGE_SNAPSHOT)
		write_snapshot(m, c, err);
	else if (ret == 0 && op == MANAGE_FORK)
		ret = make_clone(m, c, err);
	if (ret == 0 && op == MANAGE_PAUSE) {
		*(c->request.flags & MANAGE_HOLD ? &c->holds : &m->paused) = true;
		settle(m);
	}
	c->paused_us = (uint32_t)((loop_now_ns() - m->begun_ns) / 1000);
	if (c->writer.active)
		return;
	struct manage_reply r = make_snapshot_reply(c, err);
	if (ret == 0 && op == MANAGE_FORK) {
		/* The clone has the connection, and reads from it. Without the answer, neither side would go on. */
		if (send(c->fd, &r, sizeof(r), MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof(r))
			shutdown(c->fd, SHUT_RDWR);
		close_client(c);
	} else {
		reply(c, &r);
	}
}

/* Outside of completions: pausing runs rounds of the loop. */
static void run_request(struct loop_task *task)
{
	struct manage *m = container_of(task, struct manage, task);
	struct client *c = m->current;
	struct err err = {0};
	int ret = 0;
	if (m->closing)
		return;
	/* Of one that is paused, too: its devices may have been served since. */
	if (m->o.machine) {
		m->stands = true;
		ret = machine_pause(m->o.machine, &err);
	}
	if (ret == 0 && m->stopping)
		ret = fail_stopping(&err);
	carry_out(m, c, ret, &err);
	if (ret == -ESHUTDOWN)
		return; /* it ends, and carries out nothing more */
	finish(m);
}

static void on_frozen(void *context, int error)
{
	struct manage *m = context;
	struct err err = {0};
	if (error == 0) {
		loop_defer(m->o.loop, &m->task);
		return;
	}
	if (error == -ETIMEDOUT)
		err_set(&err, ETIMEDOUT, "the guest did not freeze its sessions within %u s", MANAGE_FREEZE_MS / 1000);
	else if (error == -ENOTCONN)
		err_set(&err, ENOTCONN, "the guest is not ready, or its agent has closed the control connection");
	else if (error == -EBUSY)
		err_set(&err, EBUSY, "the guest has not answered an earlier request to freeze or thaw its sessions");
	else if (m->stopping)
		fail_stopping(&err);
	else
		err_set(&err, -error, "the guest cannot freeze its sessions: %s", strerror(-error));
	answer(m->current, &err);
	finish(m);
}

/* --- requests --- */

static bool is_about_ports(uint16_t op)
{
	return op >= MANAGE_FORWARD && op <= MANAGE_FORWARDS;
}

static int check_request(const struct manage *m, const struct client *c, struct err *err)
{
	const struct manage_request *r = &c->request;
	uint32_t allowed = r->op == MANAGE_PAUSE ? MANAGE_HOLD : 0;
	if (r->magic != MANAGE_MAGIC || r->version != MANAGE_VERSION)
		return err_set(err, EPROTO,
		        "the monitor and the library are of different versions: the sandbox was "
		        "started by another wisp");
	bool has_value = r->op == MANAGE_FORWARD || r->op == MANAGE_UNFORWARD;
	if (r->op < MANAGE_PAUSE || r->op > MANAGE_STATS || r->flags & ~allowed || (r->value && !has_value))
		return err_set(err, EPROTO, "the monitor does not know this request");
	if (c->message.msg_flags & MSG_CTRUNC)
		return err_set(err, EMFILE,
		        "the monitor could not take the request's descriptor: it is short of descriptors, or there "
		        "were several");
	bool has_file = r->op == MANAGE_SNAPSHOT || r->op == MANAGE_FORWARD || r->op == MANAGE_FORWARDS;
	if (has_file != (c->file >= 0))
		return err_set(err, EPROTO, "a request without the descriptor that it requires, or another with one");
	if (!m->o.machine && r->op != MANAGE_FORK && r->op != MANAGE_PAUSE && r->op != MANAGE_STATS)
		return err_set(err, EOPNOTSUPP, "the sandbox is a template: it never runs, and can only be forked");
	if (r->op == MANAGE_PAUSE && !r->flags && (m->paused || !m->o.machine))
		return err_set(err, EALREADY, "the sandbox is paused already");
	if (r->op == MANAGE_RESUME && !m->paused && !c->holds)
		return err_set(err, EALREADY, "the sandbox is not paused");
	bool harmless = r->op == MANAGE_REFRESH_DISKS || r->op == MANAGE_FORWARDS || r->op == MANAGE_STATS;
	return m->stopping && !harmless ? fail_stopping(err) : 0;
}

/* Both parts at once: what an empty socket does not take, the client has not asked for. */
static void on_counted(struct counts_request *request, const struct stats *stats)
{
	struct client *c = container_of(request, struct client, counts);
	struct manage_reply reply = make_reply(&(struct err){0});
	struct iovec parts[2] = {{&reply, sizeof(reply)}, {(void *)(uintptr_t)stats, sizeof(*stats)}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	c->counting = false;
	if (sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(sizeof(reply) + sizeof(*stats)))
		receive(c);
	else
		gone(c);
}

/* Out of turn: it changes nothing, and must not wait for a guest that does not freeze. */
static void count(struct client *c)
{
	struct err err = {0};
	if (check_request(c->manage, c, &err) < 0) {
		answer(c, &err);
		return;
	}
	c->counting = true;
	c->counts.done = on_counted;
	counts_collect(c->manage->o.counts, &c->counts);
}

static void begin(struct manage *m, struct client *c)
{
	struct err err = {0};
	m->current = c;
	c->waiting = false;
	c->writer.result = (struct writer_result){0};
	m->begun_ns = loop_now_ns();
	int ret = check_request(m, c, &err);
	if (ret == 0 && c->request.op == MANAGE_RESUME) {
		*(c->holds ? &c->holds : &m->paused) = false;
		settle(m);
	}
	if (ret == 0 && c->request.op == MANAGE_REFRESH_DISKS)
		machine_refresh_disks(m->o.machine);
	if (ret == 0 && is_about_ports(c->request.op))
		ret = ports_manage(machine_vsock(m->o.machine), &c->request, &c->file, &err);
	if (ret < 0 || c->request.op == MANAGE_REFRESH_DISKS || c->request.op == MANAGE_RESUME ||
	        is_about_ports(c->request.op)) {
		answer(c, &err);
		finish(m);
		return;
	}
	if (!m->o.control || m->stands) {
		loop_defer(m->o.loop, &m->task);
		return;
	}
	ret = control_freeze(m->o.control, MANAGE_FREEZE_MS, on_frozen, m);
	if (ret < 0)
		on_frozen(m, ret);
}

static void next_request(struct manage *m)
{
	for (unsigned i = 0; i < CLIENTS_MAX && !m->current && !m->thawing; i++) {
		if (m->client[i].fd >= 0 && m->client[i].waiting)
			begin(m, &m->client[i]);
	}
}

/* The descriptor that came with a message; others are closed by the kernel, which had no room for them. */
static int take_file(struct client *c)
{
	struct cmsghdr *head = CMSG_FIRSTHDR(&c->message);
	int fd = -1;
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	        head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(head), sizeof(fd));
	return fd;
}

static void gone(struct client *c)
{
	struct manage *m = c->manage;
	close_client(c);
	move_on(m);
	accept_clients(m);
}

static void received(struct loop_op *op, int res, uint32_t flags)
{
	struct client *c = container_of(op, struct client, op);
	struct manage *m = c->manage;
	(void)flags;
	c->receiving = false;
	if (res > 0)
		c->file = take_file(c);
	if (m->closing)
		return;
	if (res == -EINTR || res == -EAGAIN) {
		receive(c);
		return;
	}
	if (res != (int)sizeof(c->request)) {
		gone(c);
		return;
	}
	if (c->request.op == MANAGE_STATS) {
		count(c);
		return;
	}
	c->waiting = true;
	move_on(m);
}

/* --- the socket --- */

static void rest(struct manage *m)
{
	m->rest = (struct __kernel_timespec){.tv_nsec = ACCEPT_PAUSE_NS};
	struct io_uring_sqe *sqe = loop_sqe(m->o.loop);
	io_uring_prep_timeout(sqe, &m->rest, 0, 0);
	m->resting = true;
	loop_start(m->o.loop, sqe, &m->rest_op);
}

static struct client *free_client(struct manage *m)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		if (m->client[i].fd < 0 && !m->client[i].receiving && !m->client[i].writer.active &&
		        m->current != &m->client[i])
			return &m->client[i];
	}
	return NULL;
}

static void accept_clients(struct manage *m)
{
	if (m->closing || m->accepting || m->resting || !free_client(m))
		return;
	struct io_uring_sqe *sqe = loop_sqe(m->o.loop);
	io_uring_prep_accept(sqe, m->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	m->accepting = true;
	loop_start(m->o.loop, sqe, &m->accept_op);
}

static void rested(struct loop_op *op, int res, uint32_t flags)
{
	struct manage *m = container_of(op, struct manage, rest_op);
	(void)res, (void)flags;
	m->resting = false;
	accept_clients(m);
}

static void accepted(struct loop_op *op, int res, uint32_t flags)
{
	struct manage *m = container_of(op, struct manage, accept_op);
	struct client *c = free_client(m);
	(void)flags;
	m->accepting = false;
	if (m->closing || (res >= 0 && !c)) {
		if (res >= 0)
			close(res);
		return;
	}
	if (res < 0) { /* a shortage of the host, which may pass */
		rest(m);
		return;
	}
	c->fd = res;
	receive(c);
	accept_clients(m);
}

static int listen_at(struct manage *m, const char *path, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	m->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* The mode of the inode is set before it has a name: at no moment can others connect. */
	if (m->listen_fd < 0 || fchmod(m->listen_fd, 0600) < 0 ||
	        bind(m->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return err_set(err, errno, "cannot create the socket %s: %s", path, strerror(errno));
	m->bound = true;
	if (chmod(path, 0600) < 0 || listen(m->listen_fd, BACKLOG) < 0)
		return err_set(err, errno, "cannot listen at %s: %s", path, strerror(errno));
	return 0;
}

int manage_create(struct manage **out, const struct manage_options *options, struct err *err)
{
	struct manage *m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(err, ENOMEM, "out of memory for the monitor's socket");
	m->o = *options;
	m->listen_fd = -1;
	m->task.run = run_request;
	m->accept_op.done = accepted;
	m->rest_op.done = rested;
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		m->client[i] = (struct client){.manage = m, .fd = -1, .file = -1};
		m->client[i].op.done = received;
		m->client[i].writer = (struct writer){.loop = options->loop, .done = on_written};
	}
	int ret = listen_at(m, options->path, err);
	if (ret < 0) {
		manage_destroy(m);
		return ret;
	}
	accept_clients(m);
	*out = m;
	return 0;
}

void manage_stop(struct manage *m)
{
	if (!m)
		return;
	m->stopping = true;
	m->paused = false;
	if (!m->current)
		settle(m);
}

static bool in_flight(const struct manage *m)
{
	bool any = m->accepting || m->resting;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		any |= m->client[i].receiving || m->client[i].writer.active;
	return any;
}

void manage_close(struct manage *m)
{
	if (m)
		m->closing = true;
}

void manage_destroy(struct manage *m)
{
	if (!m)
		return;
	manage_close(m);
	if (m->accepting)
		loop_cancel(m->o.loop, &m->accept_op);
	if (m->resting)
		loop_cancel(m->o.loop, &m->rest_op);
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		if (m->client[i].receiving)
			loop_cancel(m->o.loop, &m->client[i].op);
		if (m->client[i].writer.active)
			writer_cancel(&m->client[i].writer);
	}
	bool drained = true;
	while (drained && (in_flight(m) || m->task.queued))
		drained = loop_step(m->o.loop, -1) >= 0;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		close_client(&m->client[i]);
	if (m->listen_fd >= 0)
		close(m->listen_fd);
	if (m->bound)
		unlink(m->o.path);
	/* After a failure of the ring the kernel may still write to the object, so it is not freed. */
	if (drained)
		free(m);
}
