/* SPDX-License-Identifier: Apache-2.0 */
/* What clients send to a session's program: written as it takes it, the rest kept until there is room. */
#include "agent/session.h"

#include <errno.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/pty.h"
#include "agent/serve.h"

void agent_stdin_close(struct agent_session *session)
{
	poller_close(&session->agent->poller, &session->input);
	bytes_free(&session->stdin_bytes);
}

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
	agent_stdin_close(session);
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

void agent_stdin_drain(struct agent_session *session)
{
	struct bytes *bytes = &session->stdin_bytes;
	if (session->spawn || stdin_fd(session) < 0)
		return;
	ssize_t written = bytes->length ? write_stdin(session, bytes_data(bytes), bytes->length) : 0;
	if (written < 0)
		return;
	bytes_consume(bytes, (size_t)written);
	if (session->stdin_eof && !bytes->length)
		agent_stdin_close(session);
}

int agent_session_stdin(struct agent_session *session, const uint8_t *data, size_t length)
{
	if (stdin_fd(session) < 0 || length == 0)
		return 0;
	session->stdin_in_line = data[length - 1] != '\n' && data[length - 1] != '\r';
	ssize_t written = session->spawn || session->stdin_bytes.length ? 0 : write_stdin(session, data, length);
	if (written < 0 || (size_t)written == length)
		return 0;
	int error = bytes_append(&session->stdin_bytes, data + written, length - (size_t)written);
	return error || session->spawn ? error : await_stdin_room(session);
}

void agent_session_stdin_eof(struct agent_session *session)
{
	if (!session->tty) {
		session->stdin_eof = true;
		agent_stdin_drain(session);
		return;
	}
	uint8_t typed[2];
	size_t length =
	        stdin_fd(session) < 0 ? 0 : agent_pty_end_of_file(stdin_fd(session), session->stdin_in_line, typed);
	/* In its place behind what was sent before; as when typed, where a terminal that is full loses it. */
	if (length > 0 && session->stdin_bytes.length < SESSION_STDIN_MAX)
		agent_session_stdin(session, typed, length);
	session->stdin_in_line = false;
}

static void input_ready(struct poller_watch *watch, uint32_t events)
{
	struct agent_session *session = container_of(watch, struct agent_session, input);
	if (events)
		agent_stdin_drain(session);
}

void agent_stdin_begin(struct agent_session *session)
{
	agent_stdin_drain(session);
	int error = session->stdin_bytes.length ? await_stdin_room(session) : 0;
	if (error)
		stdin_failed(session, -error);
}

void agent_stdin_init(struct agent_session *session)
{
	session->input = (struct poller_watch){.fd = -1, .ready = input_ready};
}
