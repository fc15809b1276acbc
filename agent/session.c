/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/mirror.h"
#include "agent/pty.h"
#include "agent/serve.h"

/* Reads of each stream before others get their turn. */
#define PUMP_ROUNDS 4

/* What a terminal may hold unread; unlike a pipe it cannot be asked. */
#define TTY_OWED (64u * 1024)

/* Bytes in a pipe. */
#define PIPE_DEFAULT (64u * 1024)
#define PIPE_WIDE (256 * 1024)

static uint8_t stream_type(const struct session_stream *stream)
{
	return stream == &stream->session->streams[0] ? PROTO_STDOUT : PROTO_STDERR;
}

static bool outputs_open(const struct agent_session *session)
{
	return session->streams[0].watch.fd >= 0 || session->streams[1].watch.fd >= 0;
}

static void wake_clients(struct agent_session *session)
{
	list_for_each_safe(node, next, &session->clients)
	        agent_client_wake(container_of(node, struct agent_client, session_node));
}

/* ---- The end ---- */

void agent_session_free(struct agent_session *session)
{
	struct poller *poller = &session->agent->poller;
	list_remove(&session->node);
	list_remove(&session->mirror_node);
	list_remove(&session->pump.node);
	poller_disarm(&session->timeout);
	poller_disarm(&session->grace);
	poller_close(poller, &session->input);
	for (int i = 0; i < 2; i++)
		poller_close(poller, &session->streams[i].watch);
	bytes_free(&session->stdin_bytes);
	outring_free(&session->ring);
	free(session);
}

/*
 * An evicted session is gone for clients. What still holds its output, a daemon that it started, must not be killed by
 * SIGPIPE for that: it is read on, for the log.
 */
static bool release(struct agent_session *session)
{
	if (!session->evicted || !list_empty(&session->clients))
		return false;
	outring_free(&session->ring);
	if (outputs_open(session))
		return false;
	agent_mirror_forget(session);
	agent_session_free(session);
	return true;
}

static void evict(struct agent *agent)
{
	uint64_t retained = 0;
	list_for_each_safe(node, next, &agent->ended)
	{
		const struct agent_session *session = container_of(node, struct agent_session, node);
		retained += session->ring.head - session->ring.tail;
	}
	while (agent->ended_count > SESSION_ENDED_MAX || retained > SESSION_ENDED_BYTES) {
		struct agent_session *oldest = container_of(agent->ended.next, struct agent_session, node);
		retained -= oldest->ring.head - oldest->ring.tail;
		agent->ended_count--;
		list_remove(&oldest->node);
		list_append(&agent->orphaned, &oldest->node);
		oldest->evicted = true;
		release(oldest);
	}
}

static void close_stdin(struct agent_session *session)
{
	poller_close(&session->agent->poller, &session->input);
	bytes_free(&session->stdin_bytes);
}

/* Once all is known that EXITED waits for. */
static void check_exit(struct agent_session *session)
{
	if (!session->reaped || session->exited)
		return;
	for (int i = 0; i < 2; i++) {
		const struct session_stream *stream = &session->streams[i];
		if (stream->watch.fd >= 0 && (stream->owed || !session->grace_over))
			return;
	}
	struct agent *agent = session->agent;
	session->exited = true;
	session->exit_position = session->ring.head;
	poller_disarm(&session->grace);
	close_stdin(session);
	wake_clients(session);
	agent_mirror_exited(session);
	list_remove(&session->node);
	list_append(&agent->ended, &session->node);
	agent->ended_count++;
	evict(agent);
}

static void grace_over(struct poller_timer *timer)
{
	struct agent_session *session = container_of(timer, struct agent_session, grace);
	session->grace_over = true;
	check_exit(session);
}

/* ---- Output ---- */

static void close_stream(struct session_stream *stream)
{
	poller_close(&stream->session->agent->poller, &stream->watch);
	stream->readable = false;
	stream->owed = 0;
	if (stream->session->tty)
		bytes_free(&stream->session->stdin_bytes);
}

/* Frames that are under way to a client must not be overwritten by the next `room` bytes. */
static void rescue_clients(struct agent_session *session, uint32_t room)
{
	list_for_each_safe(node, next, &session->clients)
	{
		struct agent_client *client = container_of(node, struct agent_client, session_node);
		if (session->ring.head + room - client->position > session->ring.limit)
			agent_client_rescue(client);
	}
}

/* For output that comes after the end and that there is no place for: to the log, nowhere else. */
static ssize_t read_to_log(struct session_stream *stream, uint32_t *asked)
{
	struct agent *agent = stream->session->agent;
	*asked = sizeof(agent->scratch);
	ssize_t count = read(stream->watch.fd, agent->scratch, sizeof(agent->scratch));
	if (count < 0)
		return -errno;
	if (count > 0)
		agent_mirror_late(stream->session, stream_type(stream), agent->scratch, (size_t)count);
	return count;
}

static ssize_t read_to_ring(struct session_stream *stream, uint32_t room, uint32_t *asked)
{
	struct agent_session *session = stream->session;
	rescue_clients(session, room);
	ssize_t count = outring_read(&session->ring, stream->watch.fd, stream == &session->streams[1], room, asked);
	if (count <= 0)
		return count;
	wake_clients(session);
	agent_mirror_output(session);
	return count;
}

/* A program that fills its pipe gets a larger one: it and the agent then wait for each other less often. */
static void widen(struct session_stream *stream, size_t count)
{
	if (count < PIPE_DEFAULT || stream->widened || stream->session->tty)
		return;
	stream->widened = true;
	fcntl(stream->watch.fd, F_SETPIPE_SZ, PIPE_WIDE);
}

/* One read. False when there is nothing to read, or no room for it. */
static bool read_stream(struct session_stream *stream)
{
	struct agent_session *session = stream->session;
	if (!stream->readable)
		return false;
	uint64_t floor = session->writer ? session->writer->position : OUTRING_NO_FLOOR;
	uint32_t room = outring_room(&session->ring, floor, stream == &session->streams[1]);
	if (!room && !session->exited)
		return false;
	uint32_t asked = 0;
	ssize_t count = room ? read_to_ring(stream, room, &asked) : read_to_log(stream, &asked);
	if (count == -EINTR || count == -ENOBUFS)
		return true;
	if (count == -EAGAIN) {
		stream->readable = false;
		stream->owed = 0;
		return false;
	}
	/* A terminal whose programs are gone says EIO. */
	if (count <= 0) {
		close_stream(stream);
		return false;
	}
	stream->owed = stream->owed > (uint32_t)count ? stream->owed - (uint32_t)count : 0;
	widen(stream, (size_t)count);
	/* A short read emptied the pipe: saves the one that would say so. A terminal gives what it has in pieces. */
	if ((uint32_t)count < asked && !session->tty) {
		stream->readable = false;
		stream->owed = 0;
		if (stream->hung_up)
			close_stream(stream);
	}
	return true;
}

/* Takes turns. True when it stopped for others' sake. */
static bool read_streams(struct agent_session *session)
{
	bool more = true;
	for (int i = 0; i < PUMP_ROUNDS && more; i++) {
		more = read_stream(&session->streams[0]);
		more |= read_stream(&session->streams[1]);
	}
	return more;
}

/* Reads what there is and goes where that leads; the session may be gone afterwards. */
static void pump(struct agent_session *session)
{
	if (read_streams(session) && (session->streams[0].readable || session->streams[1].readable))
		poller_defer(&session->agent->poller, &session->pump);
	check_exit(session);
	release(session);
}

static void pump_task(struct poller_task *task)
{
	pump(container_of(task, struct agent_session, pump));
}

void agent_session_room(struct agent_session *session)
{
	if (session->streams[0].readable || session->streams[1].readable)
		poller_defer(&session->agent->poller, &session->pump);
}

/* ---- stdin ---- */

static int stdin_fd(const struct agent_session *session)
{
	return session->tty ? session->streams[0].watch.fd : session->input.fd;
}

bool agent_session_stdin_open(const struct agent_session *session)
{
	return stdin_fd(session) >= 0 && !session->stdin_eof && !session->exited;
}

static void stdin_failed(struct agent_session *session, int error)
{
	if (session->tty) {
		/* Its programs are gone, and soon it is told so. */
		bytes_free(&session->stdin_bytes);
		return;
	}
	session->stdin_error = (uint32_t)error;
	close_stdin(session);
	struct agent_client *writer = session->writer;
	struct proto_stdin_error frame = {.error = session->stdin_error};
	if (!writer || writer->stdin_closed)
		return;
	writer->stdin_closed = true;
	agent_client_queue(writer, PROTO_STDIN_ERROR, &frame, sizeof(frame));
}

/* How much of it the program took; -1 when stdin was closed. */
static ssize_t write_stdin(struct agent_session *session, const uint8_t *data, size_t length)
{
	size_t written = 0;
	while (written < length) {
		ssize_t count = write(stdin_fd(session), data + written, length - written);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno != EAGAIN) {
			stdin_failed(session, errno);
			return -1;
		}
		if (count < 0)
			break;
		written += (size_t)count;
	}
	if (session->writer && written)
		agent_client_credit(session->writer, (uint32_t)written);
	return (ssize_t)written;
}

/* Have the loop tell when the program has read. */
static int await_stdin_room(struct agent_session *session)
{
	struct poller *poller = &session->agent->poller;
	int error = 0;
	if (!session->stdin_watched && session->tty)
		error = poller_rewatch(poller, &session->streams[0].watch, EPOLLIN | EPOLLOUT | EPOLLET);
	else if (!session->stdin_watched)
		error = poller_watch(poller, &session->input, EPOLLOUT | EPOLLET);
	session->stdin_watched = !error;
	return error;
}

static void drain_stdin(struct agent_session *session)
{
	struct bytes *bytes = &session->stdin_bytes;
	if (stdin_fd(session) < 0)
		return;
	ssize_t written = bytes->length ? write_stdin(session, bytes_data(bytes), bytes->length) : 0;
	if (written < 0)
		return;
	bytes_consume(bytes, (size_t)written);
	if (session->stdin_eof && !bytes->length)
		close_stdin(session);
}

int agent_session_stdin(struct agent_session *session, const uint8_t *data, size_t length)
{
	if (stdin_fd(session) < 0)
		return 0;
	ssize_t written = session->stdin_bytes.length ? 0 : write_stdin(session, data, length);
	if (written < 0 || (size_t)written == length)
		return 0;
	int error = bytes_append(&session->stdin_bytes, data + written, length - (size_t)written);
	return error ? error : await_stdin_room(session);
}

void agent_session_stdin_eof(struct agent_session *session)
{
	if (!session->tty) {
		session->stdin_eof = true;
		drain_stdin(session);
		return;
	}
	int character = stdin_fd(session) < 0 ? -1 : agent_pty_eof_character(stdin_fd(session));
	uint8_t byte = (uint8_t)character;
	/* In its place behind what was sent before; as when typed, where a terminal that is full loses it. */
	if (character >= 0 && session->stdin_bytes.length < SESSION_STDIN_MAX)
		agent_session_stdin(session, &byte, 1);
}

static void input_ready(struct poller_watch *watch, uint32_t events)
{
	struct agent_session *session = container_of(watch, struct agent_session, input);
	if (events)
		drain_stdin(session);
}

/* ---- Control ---- */

static void stream_ready(struct poller_watch *watch, uint32_t events)
{
	struct session_stream *stream = container_of(watch, struct session_stream, watch);
	struct agent_session *session = stream->session;
	if (events & EPOLLOUT && session->tty)
		drain_stdin(session);
	stream->hung_up |= (events & (EPOLLHUP | EPOLLERR)) != 0;
	stream->readable |= (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
	if (stream->hung_up && !(events & EPOLLIN) && !session->tty)
		close_stream(stream);
	pump(session);
}

void agent_session_signal(struct agent_session *session, int signal)
{
	if (!session->reaped)
		kill(-session->pid, signal);
}

void agent_session_resize(struct agent_session *session, uint16_t rows, uint16_t cols)
{
	if (session->tty && session->streams[0].watch.fd >= 0)
		agent_pty_resize(session->streams[0].watch.fd, rows, cols);
}

static void timed_out(struct poller_timer *timer)
{
	struct agent_session *session = container_of(timer, struct agent_session, timeout);
	session->timed_out = true;
	agent_session_signal(session, SIGKILL);
}

void agent_session_reaped(struct agent_session *session, int status)
{
	session->reaped = true;
	session->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	session->signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
	/* It may have ended by itself just before. */
	session->timed_out &= session->signal == SIGKILL;
	poller_disarm(&session->timeout);
	for (int i = 0; i < 2; i++)
		session->streams[i].readable = session->streams[i].watch.fd >= 0;
	read_streams(session);
	for (int i = 0; i < 2; i++) {
		struct session_stream *stream = &session->streams[i];
		int held = TTY_OWED;
		if (stream->readable && !session->tty && ioctl(stream->watch.fd, FIONREAD, &held) < 0)
			held = 0;
		stream->owed = stream->readable ? (uint32_t)held : 0;
	}
	if (outputs_open(session))
		poller_arm(&session->agent->poller, &session->grace, poller_now() + SESSION_GRACE_NS);
	pump(session);
}

void agent_session_left(struct agent_session *session)
{
	if (!release(session))
		agent_session_room(session);
}

/* ---- The beginning ---- */

static struct agent_session *create(struct agent *agent, const struct agent_request *request, uint64_t id)
{
	size_t argv_bytes = request->argv_bytes - 1; /* the last NUL separates nothing */
	if (argv_bytes > PROTO_STRING_MAX)
		argv_bytes = PROTO_STRING_MAX;
	struct agent_session *session = calloc(1, sizeof(*session) + argv_bytes);
	if (!session || outring_init(&session->ring)) {
		free(session);
		return NULL;
	}
	session->agent = agent;
	session->id = id;
	session->started_ns = agent_realtime();
	session->tty = request->exec.flags & PROTO_EXEC_TTY;
	session->has_stdin = request->exec.flags & (PROTO_EXEC_TTY | PROTO_EXEC_STDIN);
	session->pump.run = pump_task;
	session->timeout.fire = timed_out;
	session->grace.fire = grace_over;
	session->input = (struct poller_watch){.fd = -1, .ready = input_ready};
	for (int i = 0; i < 2; i++)
		session->streams[i] =
		        (struct session_stream){.session = session, .watch = {.fd = -1, .ready = stream_ready}};
	list_init(&session->clients);
	session->argv_bytes = argv_bytes;
	memcpy(session->argv, request->argv[0], argv_bytes);
	return session;
}

/* Takes the program's ends over. 0 or -errno. */
static int adopt(struct agent_session *session, const struct agent_spawned *spawned)
{
	int error = 0;
	session->pid = spawned->pid;
	if (!session->tty)
		session->input.fd = spawned->input;
	for (int i = 0; i < 2; i++)
		session->streams[i].watch.fd = spawned->output[i];
	for (int i = 0; i < 2 && !error; i++)
		if (spawned->output[i] >= 0)
			error = poller_watch(&session->agent->poller, &session->streams[i].watch, EPOLLIN | EPOLLET);
	return error;
}

/* What concerns the request alone. 0, or -1 with *failure. */
static int prepare(struct agent_request *request, struct agent_user *user, struct agent_failure *failure)
{
	char why[128] = "";
	int error = agent_user_resolve(request->user, user, why, sizeof(why));
	if (error) {
		agent_fail(failure, PROTO_FAILURE_USER_SETUP_FAILED, PROTO_STAGE_USER, -error, "%s", why);
		return -1;
	}
	error = agent_request_environ(request, user);
	if (error) {
		agent_fail(failure, PROTO_FAILURE_BAD_ARGS, PROTO_STAGE_REQUEST, -error,
		        "an environment entry is not of the form NAME=value");
		return -1;
	}
	return 0;
}

struct agent_session *agent_session_start(
        struct agent *agent, struct agent_request *request, uint64_t id, struct agent_failure *failure)
{
	struct agent_user user;
	struct agent_spawned spawned;
	if (prepare(request, &user, failure))
		return NULL;
	struct agent_session *session = create(agent, request, id);
	if (!session) {
		agent_fail(failure, PROTO_FAILURE_OUT_OF_MEMORY, PROTO_STAGE_REQUEST, ENOMEM, "cannot keep a session");
		return NULL;
	}
	if (agent_spawn(&agent->spawner, request, &user, agent->null_fd, &spawned, failure)) {
		agent_session_free(session);
		return NULL;
	}
	int error = adopt(session, &spawned);
	if (error) {
		/* Reaped as any child that nobody asks for. */
		kill(-spawned.pid, SIGKILL);
		agent_session_free(session);
		agent_fail(failure, PROTO_FAILURE_RESOURCE_LIMIT, PROTO_STAGE_PIPE, -error, "cannot watch the output");
		return NULL;
	}
	uint64_t now_ns = request->exec.timeout_ns ? poller_now() : 0;
	if (request->exec.timeout_ns && request->exec.timeout_ns < UINT64_MAX - now_ns)
		poller_arm(&agent->poller, &session->timeout, now_ns + request->exec.timeout_ns);
	list_append(&agent->running, &session->node);
	return session;
}

/* ---- What can be seen of it ---- */

uint32_t agent_session_flags(const struct agent_session *session)
{
	uint32_t flags = session->tty ? PROTO_SESSION_TTY : 0;
	if (agent_session_stdin_open(session))
		flags |= PROTO_SESSION_STDIN;
	if (session->exited)
		flags |= PROTO_SESSION_EXITED;
	if (session->exited && session->timed_out)
		flags |= PROTO_SESSION_TIMEOUT;
	return flags;
}

struct proto_exited agent_session_exited(const struct agent_session *session)
{
	return (struct proto_exited){.code = session->code,
	        .signal = session->signal,
	        .flags = session->timed_out ? PROTO_SESSION_TIMEOUT : 0};
}

/* ended is in another order than that of ids. */
struct agent_session *agent_session_next(struct agent *agent, uint64_t id)
{
	struct agent_session *best = NULL;
	struct list *const lists[] = {&agent->ended, &agent->running};
	for (int i = 0; i < 2; i++)
		list_for_each_safe(node, next, lists[i])
		{
			struct agent_session *session = container_of(node, struct agent_session, node);
			if (session->id >= id && (!best || session->id < best->id))
				best = session;
		}
	return best;
}

struct agent_session *agent_session_find(struct agent *agent, uint64_t id)
{
	struct agent_session *session = agent_session_next(agent, id);
	return session && session->id == id ? session : NULL;
}
