/* SPDX-License-Identifier: Apache-2.0 */
/* What a session's program writes: from its pipes or terminal into the ring, and on to those who look. */
#include "agent/session.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/mirror.h"
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

bool agent_output_open(const struct agent_session *session)
{
	return session->streams[0].watch.fd >= 0 || session->streams[1].watch.fd >= 0;
}

static void wake_clients(struct agent_session *session)
{
	list_for_each_safe(node, next, &session->clients)
	        agent_client_wake(container_of(node, struct agent_client, session_node));
}

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
	*asked = AGENT_READ_BYTES;
	ssize_t count = read(stream->watch.fd, agent->scratch, AGENT_READ_BYTES);
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

void agent_output_pump(struct agent_session *session)
{
	if (read_streams(session) && (session->streams[0].readable || session->streams[1].readable))
		poller_defer(&session->agent->poller, &session->pump);
	agent_session_check_exit(session);
	agent_session_release(session);
}

static void pump_task(struct poller_task *task)
{
	agent_output_pump(container_of(task, struct agent_session, pump));
}

void agent_session_room(struct agent_session *session)
{
	if (session->streams[0].readable || session->streams[1].readable)
		poller_defer(&session->agent->poller, &session->pump);
}

static void stream_ready(struct poller_watch *watch, uint32_t events)
{
	struct session_stream *stream = container_of(watch, struct session_stream, watch);
	struct agent_session *session = stream->session;
	if (events & EPOLLOUT && session->tty)
		agent_stdin_drain(session);
	stream->hung_up |= (events & (EPOLLHUP | EPOLLERR)) != 0;
	stream->readable |= (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
	if (stream->hung_up && !(events & EPOLLIN) && !session->tty)
		close_stream(stream);
	agent_output_pump(session);
}

void agent_output_init(struct agent_session *session)
{
	session->pump.run = pump_task;
	for (int i = 0; i < 2; i++)
		session->streams[i] =
		        (struct session_stream){.session = session, .watch = {.fd = -1, .ready = stream_ready}};
}

int agent_output_begin(struct agent_session *session)
{
	int error = 0;
	for (int i = 0; i < 2 && !error; i++)
		if (session->streams[i].watch.fd >= 0)
			error = poller_watch(&session->agent->poller, &session->streams[i].watch, EPOLLIN | EPOLLET);
	return error;
}

void agent_output_close(struct agent_session *session)
{
	list_remove(&session->pump.node);
	for (int i = 0; i < 2; i++)
		poller_close(&session->agent->poller, &session->streams[i].watch);
	outring_free(&session->ring);
}

bool agent_output_complete(const struct agent_session *session)
{
	for (int i = 0; i < 2; i++) {
		const struct session_stream *stream = &session->streams[i];
		if (stream->watch.fd >= 0 && (stream->owed || !session->grace_over))
			return false;
	}
	return true;
}

void agent_output_reaped(struct agent_session *session)
{
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
}
