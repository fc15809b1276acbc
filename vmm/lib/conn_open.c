/* SPDX-License-Identifier: Apache-2.0 */
/* The beginning and the end of a connection. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/lib/conn.h"
#include "vmm/lib/conn_internal.h"
#include "vmm/lib/state.h"

/* A guest that is alive answers in milliseconds, on a host that is overloaded or emulated in seconds. */
#define CONNECT_MS 30000

static struct conn *conn_new(const char *name)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	pthread_mutex_init(&conn->lock, NULL);
	conn->refs = 1;
	conn->fd = conn->event_fd = conn->window_fd = conn->epoll_fd = conn->timer_fd = -1;
	conn->deadline_ns = INT64_MAX;
	conn->in = malloc(CONN_IN_SIZE);
	snprintf(conn->name, sizeof(conn->name), "%s", name);
	if (!conn->in) {
		conn_unref(conn);
		return NULL;
	}
	return conn;
}

void conn_ref(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	conn->refs++;
	pthread_mutex_unlock(&conn->lock);
}

void conn_unref(struct conn *conn)
{
	if (!conn)
		return;
	pthread_mutex_lock(&conn->lock);
	bool last = --conn->refs == 0;
	pthread_mutex_unlock(&conn->lock);
	if (!last)
		return;
	const int fds[] = {conn->fd, conn->event_fd, conn->window_fd, conn->epoll_fd, conn->timer_fd};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	pthread_mutex_destroy(&conn->lock);
	free(conn->in);
	free(conn->out);
	free(conn->feed);
	free(conn);
}

void conn_close(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	conn_flush(conn);
	conn->closed = true;
	shutdown(conn->fd, SHUT_RDWR);
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
}

/* Waits for one of `events`; false when the time is over. */
static bool wait_for(struct conn *conn, short events, int64_t deadline_ns)
{
	for (;;) {
		struct pollfd pfd = {.fd = conn->fd, .events = events};
		int n = poll(&pfd, 1, lib_poll_ms(deadline_ns));
		if (n > 0)
			return true;
		if (n == 0 || errno != EINTR)
			return false;
	}
}

static int fail_silent(struct conn *conn, struct wisp_error *error)
{
	if (lib_now_ns() >= conn->deadline_ns)
		return lib_fail(error, WISP_ERR_TIMEOUT, ETIMEDOUT,
		        "the execution's timeout passed before the guest of the sandbox '%s' answered", conn->name);
	return lib_fail(error, WISP_ERR_DISCONNECTED, ETIMEDOUT,
	        "the guest of the sandbox '%s' did not answer in %d s: it hangs: stop it", conn->name,
	        CONNECT_MS / 1000);
}

static int send_all(struct conn *conn, const void *data, size_t length, int64_t deadline_ns, struct wisp_error *error)
{
	const char *at = data;
	while (length > 0) {
		ssize_t n = send(conn->fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			if (!wait_for(conn, POLLOUT, deadline_ns))
				return fail_silent(conn, error);
			continue;
		}
		if (n < 0) {
			/* If the agent said why it hung up, that is received next. */
			conn->cannot_send = true;
			return 0;
		}
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

static int connect_socket(struct conn *conn, const char *dir, int64_t deadline_ns, struct wisp_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", dir, SANDBOX_FILES_VSOCK) >=
	        sizeof(address.sun_path))
		return lib_fail(
		        error, WISP_ERR_INVALID, ENAMETOOLONG, "%s: the path is too long for a socket in it", dir);
	conn->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (conn->fd < 0)
		return lib_fail_errno(error, errno, "cannot make a socket");
	/* connect waits only while the monitor's backlog is full; this bounds it, and nothing else. */
	int ms = lib_poll_ms(deadline_ns);
	struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 + 1};
	setsockopt(conn->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	while (connect(conn->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN)
			return fail_silent(conn, error);
		if (errno == ENOENT || errno == ECONNREFUSED)
			return lib_fail(
			        error, WISP_ERR_DISCONNECTED, errno, "the sandbox '%s' is not running", conn->name);
		return lib_fail_errno(error, errno, "cannot connect to %s", address.sun_path);
	}
	return 0;
}

/* "OK 1234\n"; what follows it is the agent's already. */
static int take_ok(struct conn *conn, int64_t deadline_ns, struct wisp_error *error)
{
	for (;;) {
		uint8_t *newline = memchr(conn->in, '\n', conn->end);
		if (newline) {
			size_t length = (size_t)(newline + 1 - conn->in);
			if (length < 5 || memcmp(conn->in, "OK ", 3) != 0)
				break;
			memmove(conn->in, newline + 1, conn->end - length);
			conn->end -= length;
			return 0;
		}
		if (conn->end > 32)
			break;
		ssize_t n = recv(conn->fd, conn->in + conn->end, CONN_IN_SIZE - conn->end, MSG_DONTWAIT);
		if (n > 0) {
			conn->end += (size_t)n;
		} else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			if (!wait_for(conn, POLLIN, deadline_ns))
				return fail_silent(conn, error);
		} else if (n == 0 || errno != EINTR) {
			return lib_fail(error, WISP_ERR_DISCONNECTED, ECONNRESET,
			        "the sandbox '%s' refused the connection: its agent does not listen, or it is stopping",
			        conn->name);
		}
	}
	return lib_fail(
	        error, WISP_ERR_PROTOCOL, EPROTO, "the monitor of the sandbox '%s' broke the protocol", conn->name);
}

static int64_t connect_deadline(const struct conn *conn)
{
	int64_t deadline = lib_deadline_ns(CONNECT_MS);
	return deadline < conn->deadline_ns ? deadline : conn->deadline_ns;
}

int conn_open(const char *dir, const char *name, int64_t deadline_ns, struct conn **out, struct wisp_error *error)
{
	struct conn *conn = conn_new(name);
	if (!conn)
		return lib_no_memory(error);
	conn->deadline_ns = deadline_ns;
	int r = connect_socket(conn, dir, connect_deadline(conn), error);
	if (r < 0) {
		conn_unref(conn);
		return r;
	}
	*out = conn;
	return 0;
}

int conn_ask(struct conn *conn, enum conn_request request, const void *payload, size_t length, struct wisp_error *error)
{
	static const enum proto_type types[] = {
	        [CONN_EXEC] = PROTO_EXEC, [CONN_OPEN] = PROTO_OPEN, [CONN_LIST] = PROTO_LIST, [CONN_PING] = PROTO_PING};
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	struct {
		char line[13]; /* for the VMM, which takes it out of the stream */
		struct proto_frame hello_frame;
		struct proto_hello hello;
		struct proto_frame frame;
	} __attribute__((packed)) head = {
	        .line = {'C', 'O', 'N', 'N', 'E', 'C', 'T', ' ', '1', '0', '2', '4', '\n'},
	        .hello_frame = {.length = sizeof(struct proto_hello), .type = PROTO_HELLO},
	        .hello = {.magic = PROTO_MAGIC,
	                .version = PROTO_VERSION,
	                .realtime_ns = (uint64_t)(now.tv_sec * NS_PER_S + now.tv_nsec)},
	        .frame = {.length = (uint32_t)length, .type = (uint8_t)types[request]},
	};
	_Static_assert(PROTO_PORT_AGENT == 1024, "the line above");
	conn->request = request;
	/* One write where it fits: the request is at the VMM when the guest has accepted, and the guest wakes up once.
	 */
	char *whole = malloc(sizeof(head) + length);
	if (!whole)
		return lib_no_memory(error);
	memcpy(whole, &head, sizeof(head));
	if (length > 0)
		memcpy(whole + sizeof(head), payload, length);
	int64_t deadline = connect_deadline(conn);
	int r = send_all(conn, whole, sizeof(head) + length, deadline, error);
	free(whole);
	if (r == 0)
		r = take_ok(conn, deadline, error);
	if (r == 0)
		conn_check(conn);
	return r;
}

/* ---- Descriptors to poll ---- */

/* With the lock held. */
static int make_wakeups(struct conn *conn)
{
	if (conn->event_fd < 0)
		conn->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (conn->window_fd < 0)
		conn->window_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return conn->event_fd >= 0 && conn->window_fd >= 0 ? 0 : -errno;
}

int conn_make_wakeups(struct conn *conn, struct wisp_error *error)
{
	pthread_mutex_lock(&conn->lock);
	int r = make_wakeups(conn);
	if (r < 0)
		lib_fail_errno(error, -r, "cannot make an eventfd");
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	return r;
}

static int make_epoll(struct conn *conn)
{
	int r = make_wakeups(conn);
	if (r < 0)
		return r;
	int fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct epoll_event event = {.events = EPOLLIN};
	bool ok = epoll_ctl(fd, EPOLL_CTL_ADD, conn->fd, &event) == 0 &&
	          epoll_ctl(fd, EPOLL_CTL_ADD, conn->event_fd, &event) == 0;
	if (ok && conn->deadline_ns != INT64_MAX) {
		struct itimerspec when = {
		        .it_value = {.tv_sec = conn->deadline_ns / NS_PER_S, .tv_nsec = conn->deadline_ns % NS_PER_S}};
		conn->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		ok = conn->timer_fd >= 0 && timerfd_settime(conn->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0 &&
		     epoll_ctl(fd, EPOLL_CTL_ADD, conn->timer_fd, &event) == 0;
	}
	if (!ok) {
		r = -errno;
		close(fd);
		return r;
	}
	conn->epoll_fd = fd;
	conn->wants_out = false;
	return 0;
}

int conn_event_fd(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	int r = conn->epoll_fd >= 0 ? 0 : make_epoll(conn);
	if (r == 0)
		r = conn->epoll_fd;
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	return r;
}

int conn_window_fd(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	int fd = conn->window_fd;
	pthread_mutex_unlock(&conn->lock);
	return fd;
}
