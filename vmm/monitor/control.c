/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/control.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vmm/shared/proto.h"
#include "vmm/shared/container_of.h"

/* How long reading pauses once the allowance is used up; it then suffices for several reads. */
#define PAUSE_NS 20000000
/* Until the next try when descriptors or memory have run out. */
#define ACCEPT_PAUSE_NS 500000000

#define ERRNO_MAX 4095u

#define BUFFER_SIZE (sizeof(struct proto_frame) + PROTO_EVENT_MAX)

/* Of the machine, as the frames sent and received say. */
enum phase {
	RUNNING,
	FREEZING, /* FREEZE was sent; without `done`, it was given up, but its answer comes nevertheless */
	FROZEN,
	THAWING, /* THAW was sent */
};

struct control {
	struct loop *loop;
	const struct log *log;
	struct control_events events;
	struct sockaddr_un addr;
	int listen_fd;
	int fd;       /* the agent's connection; -1: none */
	bool greeted; /* HELLO has come */
	bool ready;
	bool clock_set;                             /* and the agent does not know it */
	bool ending;                                /* the guest was asked to power off */
	bool closing;                               /* no operation may start */
	bool accepting, receiving, pausing, timing; /* the operation is in flight */
	struct loop_op accept_op, receive_op, pause_op, time_op;
	struct __kernel_timespec pause, time;
	enum phase phase;
	uint32_t timeout_ms; /* of the phase */
	bool rearm;          /* the timer in flight is of an earlier phase: its completion starts the next */
	control_done *done;  /* to be called when the phase ends, or NULL */
	void *done_context;
	bool restored;
	struct proto_thaw clone; /* if it is */
	int64_t allowance;       /* bytes that may be read now */
	uint64_t refilled_ns;
	size_t used;
	uint8_t buffer[BUFFER_SIZE];
};

static void finish(struct control *c, int error)
{
	control_done *done = c->done;
	c->done = NULL;
	if (done)
		done(c->done_context, error);
}

static void give_up(struct control *c, const char *why)
{
	log_line(c->log, LOG_WARN, "control connection: %s; exec.log ends here", why);
	if (c->receiving)
		loop_cancel(c->loop, &c->receive_op);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	/* Frozen programs go on only when the agent is told so, and nobody can tell it any more. */
	bool lost = (c->phase != RUNNING || (c->restored && !c->ready)) && !c->ending;
	c->phase = RUNNING;
	finish(c, -ECONNRESET);
	if (lost)
		c->events.lost(c->events.context);
}

static uint64_t realtime_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int send_frame(struct control *c, enum proto_type type, const void *payload, uint32_t len)
{
	uint8_t bytes[sizeof(struct proto_frame) + sizeof(struct proto_thaw)];
	struct proto_frame frame = proto_frame(type, len);
	size_t total = sizeof(frame) + len;
	memcpy(bytes, &frame, sizeof(frame));
	if (len)
		memcpy(bytes + sizeof(frame), payload, len);
	/* A few dozen bytes in the life of a connection: if they do not fit, the agent does not read. */
	ssize_t n = send(c->fd, bytes, total, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n == (ssize_t)total ? 0 : -ENOTCONN;
}

/* While the guest is frozen, the agent may not read, and a time that waits is wrong. */
static void tell_clock(struct control *c)
{
	if (!c->clock_set || !c->ready || c->phase != RUNNING || c->fd < 0)
		return;
	c->clock_set = false;
	struct proto_clock clock = {.realtime_ns = realtime_ns()};
	if (send_frame(c, PROTO_CLOCK, &clock, sizeof(clock)) < 0)
		give_up(c, "the guest does not read");
}

/* thaw: for a clone; else only the clock has to be told. */
static int send_thaw(struct control *c, struct proto_thaw thaw)
{
	thaw.realtime_ns = realtime_ns();
	int ret = send_frame(c, PROTO_THAW, &thaw, sizeof(thaw));
	if (ret == 0)
		c->phase = THAWING;
	return ret;
}

static int handle_hello(struct control *c, const uint8_t *payload)
{
	struct proto_hello hello;
	if (c->greeted)
		return -EPROTO;
	memcpy(&hello, payload, sizeof(hello));
	if (hello.magic != PROTO_MAGIC || hello.version != PROTO_VERSION)
		return -EPROTO;
	c->greeted = true;
	if (c->restored)
		return send_thaw(c, c->clone);
	c->ready = true;
	c->events.ready(c->events.context);
	tell_clock(c);
	return 0;
}

static void end_phase(struct control *c, int error)
{
	if (c->timing)
		loop_cancel(c->loop, &c->time_op);
	finish(c, error);
}

static int handle_frozen(struct control *c, const uint8_t *payload)
{
	struct proto_frozen frozen;
	memcpy(&frozen, payload, sizeof(frozen));
	if (c->phase != FREEZING || frozen.error > ERRNO_MAX)
		return -EPROTO;
	c->phase = frozen.error || c->ending ? RUNNING : FROZEN;
	/* Too late: nobody else would thaw it. */
	if (c->phase == FROZEN && !c->done)
		return send_thaw(c, (struct proto_thaw){0});
	end_phase(c, -(int)frozen.error);
	tell_clock(c);
	return 0;
}

static int handle_thawed(struct control *c)
{
	if (c->phase != THAWING)
		return -EPROTO;
	c->phase = RUNNING;
	if (c->ready) {
		end_phase(c, 0);
	} else {
		c->ready = true;
		c->events.ready(c->events.context);
	}
	tell_clock(c);
	return 0;
}

static int handle_event(struct control *c, const uint8_t *payload, size_t len)
{
	struct proto_event event;
	if (!c->greeted)
		return -EPROTO;
	memcpy(&event, payload, sizeof(event));
	c->events.event(c->events.context, event.session, event.realtime_ns, event.type, payload + sizeof(event),
	        len - sizeof(event));
	return 0;
}

static int handle_frame(struct control *c, uint8_t type, const uint8_t *payload, size_t len)
{
	switch (type) {
	case PROTO_HELLO: return handle_hello(c, payload);
	case PROTO_EVENT: return handle_event(c, payload, len);
	case PROTO_FROZEN: return handle_frozen(c, payload);
	case PROTO_THAWED: return handle_thawed(c);
	case PROTO_DONE: return 0; /* the answer to POWEROFF */
	default: return -EPROTO;
	}
}

/* Handles the complete frames at the front of the buffer, and removes them. */
static int handle_frames(struct control *c)
{
	size_t at = 0;
	int ret = 0;
	while (ret == 0 && c->used - at >= sizeof(struct proto_frame)) {
		struct proto_frame frame;
		if (proto_check_frame(c->buffer + at, PROTO_AGENT_CONTROL, &frame))
			return -EPROTO;
		if (c->used - at - sizeof(frame) < frame.length)
			break;
		ret = handle_frame(c, frame.type, c->buffer + at + sizeof(frame), frame.length);
		at += sizeof(frame) + frame.length;
	}
	c->used -= at;
	memmove(c->buffer, c->buffer + at, c->used);
	return ret;
}

static void receive(struct control *c)
{
	struct io_uring_sqe *sqe = loop_sqe(c->loop);
	io_uring_prep_recv(sqe, c->fd, c->buffer + c->used, BUFFER_SIZE - c->used, 0);
	loop_start(c->loop, sqe, &c->receive_op);
	c->receiving = true;
}

static void pause_for(struct control *c, long ns)
{
	c->pause = (struct __kernel_timespec){.tv_nsec = ns};
	struct io_uring_sqe *sqe = loop_sqe(c->loop);
	io_uring_prep_timeout(sqe, &c->pause, 0, 0);
	loop_start(c->loop, sqe, &c->pause_op);
	c->pausing = true;
}

/* Starts the next receive: at once while the allowance lasts, otherwise after a pause. */
static void receive_in_turn(struct control *c)
{
	if (c->closing)
		return;
	uint64_t now = loop_now_ns();
	/* At most an hour counts: far more than the burst, and it does not overflow. */
	uint64_t earned_us = (now - c->refilled_ns) / 1000 < 3600000000u ? (now - c->refilled_ns) / 1000 : 3600000000u;
	c->allowance += (int64_t)(earned_us * CONTROL_RATE / 1000000);
	if (c->allowance > CONTROL_BURST)
		c->allowance = CONTROL_BURST;
	c->refilled_ns = now;
	/* FROZEN comes after all that waits, and programs wait for it. */
	if (c->allowance > 0 || c->ending || c->phase == FREEZING) {
		receive(c);
		return;
	}
	pause_for(c, PAUSE_NS);
}

static void accept_agent(struct control *c)
{
	struct io_uring_sqe *sqe = loop_sqe(c->loop);
	io_uring_prep_accept(sqe, c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	loop_start(c->loop, sqe, &c->accept_op);
	c->accepting = true;
}

static void paused(struct loop_op *op, int res, uint32_t flags)
{
	struct control *c = container_of(op, struct control, pause_op);
	(void)flags;
	c->pausing = false;
	if (res == -ECANCELED || c->closing)
		return;
	if (c->listen_fd >= 0)
		accept_agent(c);
	else
		receive_in_turn(c);
}

static void received(struct loop_op *op, int res, uint32_t flags)
{
	struct control *c = container_of(op, struct control, receive_op);
	(void)flags;
	c->receiving = false;
	if (res == -ECANCELED || c->fd < 0)
		return;
	if (res == -EINTR || res == -EAGAIN) {
		receive_in_turn(c);
		return;
	}
	if (res <= 0) {
		give_up(c, res == 0 ? "closed by the guest" : strerror(-res));
		return;
	}
	c->used += (size_t)res;
	c->allowance -= res;
	if (handle_frames(c) < 0)
		give_up(c, "the guest broke the protocol");
	else
		receive_in_turn(c);
}

static void accepted(struct loop_op *op, int res, uint32_t flags)
{
	struct control *c = container_of(op, struct control, accept_op);
	(void)flags;
	c->accepting = false;
	if (res == -ECANCELED)
		return;
	if (res < 0) {
		/* The host is short of descriptors or memory, and may not stay so. */
		log_line(c->log, LOG_WARN, "control connection: cannot accept: %s", strerror(-res));
		if (!c->closing)
			pause_for(c, ACCEPT_PAUSE_NS);
		return;
	}
	c->fd = res;
	/* The agent connects once: no one else may. */
	close(c->listen_fd);
	c->listen_fd = -1;
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION, .realtime_ns = realtime_ns()};
	if (send_frame(c, PROTO_HELLO, &hello, sizeof(hello)) < 0)
		give_up(c, "the guest does not read");
	else
		receive_in_turn(c);
}

/* For the phase that has begun. */
static void start_timer(struct control *c)
{
	c->rearm = c->timing;
	if (c->timing)
		return;
	c->time = (struct __kernel_timespec){.tv_sec = c->timeout_ms / 1000, .tv_nsec = c->timeout_ms % 1000 * 1000000};
	struct io_uring_sqe *sqe = loop_sqe(c->loop);
	io_uring_prep_timeout(sqe, &c->time, 0, 0);
	loop_start(c->loop, sqe, &c->time_op);
	c->timing = true;
}

static void timed(struct loop_op *op, int res, uint32_t flags)
{
	struct control *c = container_of(op, struct control, time_op);
	(void)flags;
	c->timing = false;
	if (c->closing || !c->done)
		return;
	if (c->rearm)
		start_timer(c);
	else if (res != -ECANCELED)
		finish(c, -ETIMEDOUT);
}

int control_create(struct control **out, const char *path, const struct control_events *events, struct loop *loop,
        const struct log *log, struct err *err)
{
	struct control *c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, ENOMEM, "out of memory for the control connection");
	c->loop = loop;
	c->log = log;
	c->events = *events;
	c->events.clone = NULL;
	if (events->clone) {
		c->restored = true;
		c->clone = *events->clone;
		c->clone.flags |= PROTO_THAW_CLONE;
	}
	c->fd = -1;
	c->accept_op.done = accepted;
	c->receive_op.done = received;
	c->pause_op.done = paused;
	c->time_op.done = timed;
	c->allowance = CONTROL_BURST;
	c->refilled_ns = loop_now_ns();
	c->addr.sun_family = AF_UNIX;
	int ret;
	if ((size_t)snprintf(c->addr.sun_path, sizeof(c->addr.sun_path), "%s", path) >= sizeof(c->addr.sun_path)) {
		free(c);
		return err_set(err, ENAMETOOLONG, "the socket's path %s is too long (at most %zu bytes)", path,
		        sizeof(c->addr.sun_path) - 1);
	}
	c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->listen_fd < 0 || bind(c->listen_fd, (struct sockaddr *)&c->addr, sizeof(c->addr)) < 0 ||
	        chmod(path, 0600) < 0 || listen(c->listen_fd, 1) < 0) {
		ret = err_set(err, errno, "cannot listen at %s: %s", path, strerror(errno));
		if (c->listen_fd >= 0)
			close(c->listen_fd);
		free(c);
		return ret;
	}
	accept_agent(c);
	*out = c;
	return 0;
}

int control_poweroff(struct control *c, uint32_t grace_ms)
{
	if (c->fd < 0 || !c->ready)
		return -ENOTCONN;
	c->ending = true; /* the log gets the rest soon or never */
	struct proto_poweroff request = {.grace_ms = grace_ms};
	int ret = send_frame(c, PROTO_POWEROFF, &request, sizeof(request));
	/* It thaws a frozen guest. */
	if (c->phase == FROZEN)
		c->phase = RUNNING;
	if (c->phase == FREEZING)
		finish(c, -ECANCELED);
	return ret;
}

int control_freeze(struct control *c, uint32_t timeout_ms, control_done *done, void *context)
{
	if (c->fd < 0 || !c->ready)
		return -ENOTCONN;
	if (c->phase != RUNNING)
		return -EBUSY;
	if (send_frame(c, PROTO_FREEZE, NULL, 0) < 0)
		return -ENOTCONN;
	c->phase = FREEZING;
	c->done = done;
	c->done_context = context;
	c->timeout_ms = timeout_ms;
	start_timer(c);
	return 0;
}

int control_thaw(struct control *c, uint32_t timeout_ms, control_done *done, void *context)
{
	if (c->fd < 0)
		return -ENOTCONN;
	if (c->phase != FROZEN)
		return c->phase == RUNNING ? -EINVAL : -EBUSY;
	if (send_thaw(c, (struct proto_thaw){0}) < 0) {
		give_up(c, "the guest does not read");
		return -ENOTCONN;
	}
	c->done = done;
	c->done_context = context;
	c->timeout_ms = timeout_ms;
	start_timer(c);
	return 0;
}

void control_set_clock(struct control *c)
{
	c->clock_set = true;
	if (!c->closing)
		tell_clock(c);
}

/* Handles what the guest sent before it ended, unless it was never ready. */
static void drain(struct control *c)
{
	ssize_t n = 1;
	while (c->fd >= 0 && c->ready && n > 0) {
		n = recv(c->fd, c->buffer + c->used, BUFFER_SIZE - c->used, MSG_DONTWAIT);
		c->used += n > 0 ? (size_t)n : 0;
		if (n > 0 && handle_frames(c) < 0)
			n = 0;
	}
}

void control_destroy(struct control *c)
{
	if (!c)
		return;
	c->closing = true;
	c->done = NULL;
	/* The kernel writes into this object until the operations are over. */
	if (c->accepting)
		loop_cancel(c->loop, &c->accept_op);
	if (c->receiving)
		loop_cancel(c->loop, &c->receive_op);
	if (c->pausing)
		loop_cancel(c->loop, &c->pause_op);
	if (c->timing)
		loop_cancel(c->loop, &c->time_op);
	bool drained = true;
	while (drained && (c->accepting || c->receiving || c->pausing || c->timing))
		drained = loop_step(c->loop, -1) >= 0;
	drain(c);
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	if (c->fd >= 0)
		close(c->fd);
	unlink(c->addr.sun_path);
	/* After a failure of the ring the kernel may still write to the object, so it is not freed. */
	if (drained)
		free(c);
}
