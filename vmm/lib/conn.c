/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a connection: opened, shared, closed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/lib/conn.h"
#include "vmm/lib/port.h"
#include "vmm/lib/sandbox.h"
#include "vmm/shared/sandbox_files.h"

/* ---- What a handle keeps ---- */

struct conn_pool *conn_pool_new(void)
{
	struct conn_pool *pool = calloc(1, sizeof(*pool));
	if (!pool)
		return NULL;
	pthread_mutex_init(&pool->lock, NULL);
	pool->refs = 1;
	pool->fd = -1;
	return pool;
}

static void pool_unref(struct conn_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	bool last = --pool->refs == 0;
	pthread_mutex_unlock(&pool->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

/* Returns the descriptor, which is the caller's from then on, or -1. */
static int pool_take(struct conn_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	int fd = pool->fd;
	pool->fd = -1;
	pthread_mutex_unlock(&pool->lock);
	return fd;
}

/* Takes the descriptor over, if it can. */
static bool pool_put(struct conn_pool *pool, int fd)
{
	pthread_mutex_lock(&pool->lock);
	bool takes = !pool->closed && pool->fd < 0;
	if (takes)
		pool->fd = fd;
	pthread_mutex_unlock(&pool->lock);
	return takes;
}

/* A child that the process has forked may have a copy of the descriptor, which must not hold the connection open. */
static void hang_up(int fd)
{
	if (fd < 0)
		return;
	shutdown(fd, SHUT_RDWR);
	close(fd);
}

void conn_pool_drain(struct conn_pool *pool)
{
	hang_up(pool_take(pool));
}

void conn_pool_close(struct conn_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->closed = true;
	pthread_mutex_unlock(&pool->lock);
	conn_pool_drain(pool);
	pool_unref(pool);
}

/* ---- A connection ---- */

static struct conn *conn_new(const char *name, struct conn_pool *pool)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	pthread_mutex_init(&conn->lock, NULL);
	conn->refs = 1;
	conn_wake_init(&conn->wake);
	conn->deadline_ns = INT64_MAX;
	pthread_mutex_lock(&pool->lock);
	pool->refs++;
	pthread_mutex_unlock(&pool->lock);
	conn->pool = pool;
	conn->fd = pool_take(pool);
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
	hang_up(conn->fd);
	conn_wake_destroy(&conn->wake);
	conn_out_destroy(&conn->out);
	pthread_mutex_destroy(&conn->lock);
	pool_unref(conn->pool);
	free(conn->in);
	free(conn->feed);
	free(conn);
}

/* Whether the agent waits for another request, and nothing of this one is on its way in either direction. */
static bool is_reusable(const struct conn *conn)
{
	return conn->phase == CONN_DONE && !conn->lost && conn->scan == conn->end && !conn->out.broken &&
	       !conn_out_is_pending(&conn->out);
}

void conn_close(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	conn_flush(conn);
	conn->closed = true;
	/* A stdin writer or a control handle may be about to use the descriptor. */
	if (conn->refs == 1 && is_reusable(conn) && pool_put(conn->pool, conn->fd)) {
		conn->fd = -1;
	} else {
		shutdown(conn->fd, SHUT_RDWR);
		conn_update(conn);
	}
	pthread_mutex_unlock(&conn->lock);
	conn_unref(conn);
}

static int fail_silent(struct conn *conn, struct wisp_error *error)
{
	if (lib_now_ns() >= conn->deadline_ns)
		return lib_fail(error, WISP_ERR_TIMEOUT, ETIMEDOUT,
		        "the execution's timeout passed before the guest of the sandbox '%s' answered", conn->name);
	return lib_fail(error, WISP_ERR_DISCONNECTED, ETIMEDOUT,
	        "the guest of the sandbox '%s' did not answer in %d s: it hangs: stop it", conn->name,
	        PORT_ANSWER_MS / 1000);
}

static int64_t connect_deadline(const struct conn *conn)
{
	int64_t deadline = lib_deadline_ns(PORT_ANSWER_MS);
	return deadline < conn->deadline_ns ? deadline : conn->deadline_ns;
}

/* Whether the connection that was kept, if there is one, is as it was left. */
static bool is_alive(const struct conn *conn)
{
	char byte;
	return conn->fd >= 0 && recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
	       (errno == EAGAIN || errno == EWOULDBLOCK);
}

static int connect_anew(struct conn *conn, const struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	hang_up(conn->fd);
	conn->fd = -1;
	int r = port_open(sandbox, SANDBOX_FILES_VSOCK, &conn->cancel, connect_deadline(conn), &conn->fd, error);
	return r == -ETIMEDOUT ? fail_silent(conn, error) : r;
}

int conn_open(const struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, int64_t deadline_ns,
        struct conn **out, struct wisp_error *error)
{
	struct conn *conn = conn_new(wisp_get_sandbox_name(sandbox), sandbox->pool);
	if (!conn)
		return lib_no_memory(error);
	conn->deadline_ns = deadline_ns;
	conn->cancel = *cancel;
	conn->kept = is_alive(conn);
	int r = conn->kept ? port_check_runs(sandbox, error) : connect_anew(conn, sandbox, error);
	if (r < 0) {
		conn_unref(conn);
		return r;
	}
	conn->phase = conn->kept ? CONN_ASKED : CONN_GREETING;
	*out = conn;
	return 0;
}

int conn_ask(struct conn *conn, enum conn_request request, const void *payload, size_t length, struct wisp_error *error)
{
	static const enum proto_type types[] = {
	        [CONN_EXEC] = PROTO_EXEC, [CONN_OPEN] = PROTO_OPEN, [CONN_LIST] = PROTO_LIST, [CONN_PING] = PROTO_PING};
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	struct head {
		char line[13]; /* for the monitor, which removes it from the stream */
		struct proto_frame hello_frame;
		struct proto_hello hello;
		struct proto_frame keep_frame;
		struct proto_frame frame;
	} __attribute__((packed)) head = {
	        .line = {'C', 'O', 'N', 'N', 'E', 'C', 'T', ' ', '1', '0', '2', '4', '\n'},
	        .hello_frame = proto_frame(PROTO_HELLO, sizeof(struct proto_hello)),
	        .hello = {.magic = PROTO_MAGIC,
	                .version = PROTO_VERSION,
	                .realtime_ns = (uint64_t)(now.tv_sec * NS_PER_S + now.tv_nsec)},
	        .keep_frame = proto_frame(PROTO_KEEP, 0),
	        .frame = proto_frame(types[request], length),
	};
	_Static_assert(PROTO_PORT_AGENT == 1024, "the line above");
	conn->request = request;
	/* One write, if it fits: the monitor has the request when the guest accepts, and the guest wakes up once. */
	size_t skip = conn->kept ? offsetof(struct head, frame) : 0, size = sizeof(head) - skip;
	char *whole = malloc(size + length);
	if (!whole)
		return lib_no_memory(error);
	memcpy(whole, (const char *)&head + skip, size);
	if (length > 0)
		memcpy(whole + size, payload, length);
	int64_t deadline = connect_deadline(conn);
	int r = port_send(conn->fd, &conn->cancel, whole, size + length, deadline);
	free(whole);
	/* If the agent said why it hung up, that is received next. */
	bool given_up = r == -ETIMEDOUT || r == -ECANCELED || r == -EINTR;
	conn->out.broken = port_is_cut(r);
	if (r < 0 && !given_up && !port_is_cut(r))
		return lib_fail_errno(error, -r, "cannot send to the sandbox '%s'", conn->name);
	size_t rest = 0;
	if (conn->kept && port_is_cut(r))
		r = 0;
	if (!given_up && !conn->kept)
		r = port_wait_ok(conn->fd, &conn->cancel, conn->name, deadline, conn->in, CONN_IN_SIZE, &rest, error);
	if (r == 0)
		conn_received(conn, rest);
	if (r == -ECANCELED || r == -EINTR)
		return lib_fail_wait(error, r);
	if (r == -ETIMEDOUT)
		return fail_silent(conn, error);
	if (r == -ECONNREFUSED)
		return lib_fail(error, WISP_ERR_DISCONNECTED, ECONNRESET,
		        "the sandbox '%s' refused the connection: its agent does not listen, or it is stopping",
		        conn->name);
	return r;
}

int conn_wait_answer(struct conn *conn, struct wisp_error *error)
{
	int r = conn_recv(conn, PORT_ANSWER_MS, NULL, error);
	return r == -EAGAIN ? fail_silent(conn, error) : r;
}

/* ---- Descriptors to poll ---- */

void conn_update(struct conn *conn)
{
	bool pending = conn_out_is_pending(&conn->out);
	bool receivable =
	        conn->events > 0 || conn->lost || conn->phase == CONN_DONE || (pending && conn->wake_receiver);
	bool writable = conn->stdin_closed || conn->closed || conn->lost || conn->kick ||
	                (pending ? conn->wake_writer : conn->window > 0);
	conn_wake_update(&conn->wake, conn->fd, receivable, writable, pending);
}

int conn_make_wakeups(struct conn *conn, struct wisp_error *error)
{
	pthread_mutex_lock(&conn->lock);
	int r = conn_wake_make(&conn->wake);
	if (r < 0)
		lib_fail_errno(error, -r, "cannot make an eventfd");
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	return r;
}

int conn_event_fd(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	int r = conn_wake_make_epoll(&conn->wake, conn->fd, conn->deadline_ns);
	if (r == 0)
		r = conn->wake.epoll_fd;
	conn_update(conn);
	pthread_mutex_unlock(&conn->lock);
	return r;
}

int conn_window_fd(struct conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	int fd = conn->wake.window_fd;
	pthread_mutex_unlock(&conn->lock);
	return fd;
}
