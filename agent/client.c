/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/mirror.h"
#include "agent/serve.h"
#include "agent/session.h"

/* ---- What is to be sent ---- */

void agent_client_wake(struct agent_client *client)
{
	poller_defer(&client->agent->poller, &client->flush);
}

void agent_client_append(struct agent_client *client, uint8_t type, const void *payload, size_t length)
{
	struct proto_frame frame = proto_frame(type, length);
	uint8_t *room = bytes_reserve(&client->out, sizeof(frame) + length);
	if (!room) {
		client->broken = true;
		return;
	}
	memcpy(room, &frame, sizeof(frame));
	if (length)
		memcpy(room + sizeof(frame), payload, length);
	client->out.length += sizeof(frame) + length;
}

void agent_client_queue(struct agent_client *client, uint8_t type, const void *payload, size_t length)
{
	agent_client_append(client, type, payload, length);
	agent_client_wake(client);
}

void agent_client_defer(struct agent_client *client)
{
	poller_arm(&client->agent->poller, &client->hold, poller_now() + CLIENT_HOLD_NS);
}

uint64_t agent_client_limit(const struct agent_client *client)
{
	const struct agent_session *session = client->session;
	if (client->limit)
		return client->limit;
	return session->exited ? session->exit_position : session->ring.head;
}

void agent_client_credit(struct agent_client *client, uint32_t bytes)
{
	/* Its predecessor's stdin or an end-of-file character, which were written as well, are not its credit. */
	uint32_t missing = PROTO_WINDOW_INITIAL - client->window - client->credit;
	client->credit += bytes < missing ? bytes : missing;
	agent_client_wake(client);
}

void agent_client_rescue(struct agent_client *client)
{
	struct iovec slices[2];
	if (!client->header_left && !client->frame_left)
		return;
	int error = 0;
	int count = outring_slices(&client->session->ring, client->position, client->frame_left, slices);
	while (count-- > 0 && !error)
		error = bytes_prepend(&client->out, slices[count].iov_base, slices[count].iov_len);
	const uint8_t *header = client->header + sizeof(client->header) - client->header_left;
	if (!error)
		error = bytes_prepend(&client->out, header, client->header_left);
	client->position += client->frame_left;
	client->frame_left = client->header_left = 0;
	client->broken |= error != 0;
	agent_client_wake(client);
}

/* ---- Its end ---- */

static void leave_session(struct agent_client *client)
{
	struct agent_session *session = client->session;
	if (!session)
		return;
	list_remove(&client->session_node);
	if (session->writer == client)
		session->writer = NULL;
	client->session = NULL;
	agent_session_left(session);
}

static void disarm(struct agent_client *client)
{
	poller_disarm(&client->hold);
	poller_disarm(&client->patience);
	poller_disarm(&client->shut);
	poller_disarm(&client->linger);
}

void agent_client_free(struct agent_client *client)
{
	struct agent *agent = client->agent;
	leave_session(client);
	if (client->control) {
		agent->control = NULL;
		poller_disarm(&agent->mirror_timer);
	} else if (client->state == CLIENT_CLOSING) {
		agent->closing_count--;
	} else if (client->state == CLIENT_IDLE) {
		agent->idle_count--;
	} else {
		agent->client_count--;
	}
	list_remove(&client->node);
	list_remove(&client->flush.node);
	disarm(client);
	poller_close(&agent->poller, &client->watch);
	bytes_free(&client->in);
	bytes_free(&client->out);
	free(client);
}

void agent_client_end(struct agent_client *client)
{
	if (client->session)
		agent_client_rescue(client);
	leave_session(client);
	client->state = CLIENT_ENDING;
	disarm(client);
	poller_arm(&client->agent->poller, &client->linger, poller_now() + CLIENT_LINGER_NS);
	agent_client_wake(client);
}

static void leave_rest(struct agent_client *client)
{
	struct agent *agent = client->agent;
	list_remove(&client->node);
	list_append(&agent->clients, &client->node);
	agent->idle_count--;
	agent->client_count++;
	client->state = CLIENT_REQUEST;
}

void agent_client_refuse(struct agent_client *client, enum proto_error_code code, const char *message)
{
	struct {
		struct proto_error error;
		char message[PROTO_STRING_MAX];
	} payload = {.error.code = code};
	size_t length = strlen(message);
	memcpy(payload.message, message, length);
	if (client->session)
		agent_client_rescue(client); /* the frame under way comes first */
	client->keep = false;
	if (client->state == CLIENT_IDLE)
		leave_rest(client);
	agent_client_queue(client, PROTO_ERROR, &payload, sizeof(payload.error) + length);
	agent_client_end(client);
}

/* ---- Its timers ---- */

static void hold_over(struct poller_timer *timer)
{
	agent_client_wake(container_of(timer, struct agent_client, hold));
}

static void patience_over(struct poller_timer *timer)
{
	struct agent_client *client = container_of(timer, struct agent_client, patience);
	if (client->state <= CLIENT_IDLE)
		agent_client_refuse(client, PROTO_ERROR_PROTOCOL, "no request came in time");
	else
		agent_client_free(client);
}

static void shut_over(struct poller_timer *timer)
{
	shutdown(container_of(timer, struct agent_client, shut)->watch.fd, SHUT_WR);
}

static void linger_over(struct poller_timer *timer)
{
	agent_client_free(container_of(timer, struct agent_client, linger));
}

/*
 * All is sent. The last bytes could be lost by closing now, since a close with something unread resets the
 * connection: let the peer close first. Most do as soon as they have read the last frame; one that waits for the end of
 * the stream gets it a little later, which saves the others a packet.
 */
static void leave(struct agent_client *client)
{
	struct agent *agent = client->agent;
	list_remove(&client->node);
	client->state = CLIENT_CLOSING;
	agent->client_count--;
	if (agent->closing_count == CLIENT_CLOSING_MAX)
		agent_client_free(container_of(agent->closing.next, struct agent_client, node));
	list_append(&agent->closing, &client->node);
	agent->closing_count++;
	uint64_t now_ns = poller_now();
	poller_arm(&agent->poller, &client->shut, now_ns + CLIENT_SHUT_NS);
	poller_arm(&agent->poller, &client->linger, now_ns + CLIENT_SHUT_NS + CLIENT_LINGER_NS);
}

void agent_client_be_patient(struct agent_client *client)
{
	poller_arm(&client->agent->poller, &client->patience, poller_now() + client->agent->patience_ns);
}

/* A connection without a request may stay for as long as its client likes, but not in the middle of a frame. */
static void watch_idle(struct agent_client *client)
{
	if (client->state != CLIENT_IDLE)
		return;
	if (!client->in.length)
		poller_disarm(&client->patience);
	else if (!list_linked(&client->patience.node))
		agent_client_be_patient(client);
}

void agent_client_rest(struct agent_client *client)
{
	struct agent *agent = client->agent;
	list_remove(&client->node);
	agent->client_count--;
	if (agent->idle_count == CLIENT_IDLE_MAX)
		agent_client_free(container_of(agent->idle.next, struct agent_client, node));
	list_append(&agent->idle, &client->node);
	agent->idle_count++;
	agent->rested_ns = poller_now();
	client->state = CLIENT_IDLE;
	client->writer = client->collect = client->stdin_closed = client->stdin_ended = false;
	client->position = client->limit = client->list_next = 0;
	client->window = client->credit = 0;
	poller_disarm(&client->linger);
	watch_idle(client);
}

bool agent_client_resume(struct agent_client *client)
{
	leave_rest(client);
	if (client->agent->client_count <= PROTO_CLIENTS_MAX)
		return true;
	agent_client_refuse(client, PROTO_ERROR_BUSY, "too many connections at once");
	return false;
}

/* ---- Events ---- */

static bool await_room(struct agent_client *client, bool wanted)
{
	if (client->awaits_room == wanted)
		return true;
	client->awaits_room = wanted;
	return poller_rewatch(&client->agent->poller, &client->watch, EPOLLIN | EPOLLRDHUP | (wanted ? EPOLLOUT : 0)) ==
	       0;
}

static void flush_task(struct poller_task *task)
{
	struct agent_client *client = container_of(task, struct agent_client, flush);
	if (client->state == CLIENT_CLOSING)
		return;
	int error = client->broken ? -ENOMEM : agent_client_send(client);
	if (!error || error == -EAGAIN)
		if (!await_room(client, error == -EAGAIN))
			error = -ENOMEM;
	/* It has left already, but what it asked for before is still to be read. */
	if (error == -EPIPE && client->state <= CLIENT_IDLE) {
		bytes_free(&client->out);
		return;
	}
	if (!error && client->control && client->state == CLIENT_ENDING)
		error = -EPROTO;
	if (error && error != -EAGAIN) {
		if (client->control)
			agent_log(client->agent, "the control connection ended: %s", strerror(-error));
		agent_client_free(client);
		return;
	}
	if (client->writer && client->session)
		agent_session_room(client->session);
	if (client->control)
		agent_mirror_room(client->agent);
	else if (!error && client->state == CLIENT_ENDING && client->keep && !client->agent->stopping)
		agent_client_rest(client);
	else if (!error && client->state == CLIENT_ENDING)
		leave(client);
}

/* One read. False when the connection is at its end. */
static bool receive(struct agent_client *client)
{
	struct agent *agent = client->agent;
	ssize_t count = recv(client->watch.fd, agent->scratch, AGENT_READ_BYTES, MSG_DONTWAIT);
	if (count < 0)
		return errno == EAGAIN || errno == EINTR;
	if (count == 0)
		return false;
	uint8_t *data = agent->scratch;
	size_t length = (size_t)count;
	if (client->in.length) {
		if (bytes_append(&client->in, data, length))
			return agent_client_starve(client, bytes_data(&client->in), client->in.length);
		bytes_consume(&client->in, agent_client_frames(client, bytes_data(&client->in), client->in.length));
		return true;
	}
	size_t used = agent_client_frames(client, data, length);
	if (used == length || bytes_append(&client->in, data + used, length - used) == 0)
		return true;
	return agent_client_starve(client, data + used, length - used);
}

static void client_ready(struct poller_watch *watch, uint32_t events)
{
	struct agent_client *client = container_of(watch, struct agent_client, watch);
	bool alive = true;
	if (events & EPOLLIN && !(events & EPOLLHUP && client->state == CLIENT_CLOSING)) {
		alive = receive(client);
		watch_idle(client);
	} else if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		alive = false;
	}
	if (!alive) {
		/* It may have said that it sends no more and still read. Nothing waits for that. */
		if (client->state < CLIENT_CLOSING && !client->broken && !(events & EPOLLHUP))
			agent_client_send(client);
		/* A restore has reset it. */
		if (client->control && !client->agent->freeze.frozen)
			agent_log(client->agent, "the control connection was closed");
		agent_client_free(client);
		return;
	}
	if (events & EPOLLOUT)
		agent_client_wake(client);
}

static void mirror_due(struct poller_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, mirror_timer);
	agent_client_wake(agent->control);
}

int agent_client_serve(struct agent *agent, int fd, bool control)
{
	struct agent_client *client = calloc(1, sizeof(*client));
	if (!client) {
		close(fd);
		return -ENOMEM;
	}
	client->agent = agent;
	client->watch = (struct poller_watch){.fd = fd, .ready = client_ready};
	client->flush.run = flush_task;
	client->hold.fire = hold_over;
	client->patience.fire = patience_over;
	client->shut.fire = shut_over;
	client->linger.fire = linger_over;
	client->control = control;
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION, .realtime_ns = agent_realtime()};
	/* With the answer to its request, which follows soon, or alone when the client waits for it. */
	agent_client_append(client, PROTO_HELLO, &hello, sizeof(hello));
	list_append(&agent->clients, &client->node);
	if (!control) {
		poller_arm(&agent->poller, &client->hold, poller_now() + CLIENT_HOLD_NS);
		agent_client_be_patient(client);
	}
	if (control) {
		agent_client_wake(client);
		agent->control = client;
		agent->mirror_timer.fire = mirror_due;
	} else if (++agent->client_count > PROTO_CLIENTS_MAX) {
		agent_client_refuse(client, PROTO_ERROR_BUSY, "too many connections at once");
	}
	int error = poller_watch(&agent->poller, &client->watch, EPOLLIN | EPOLLRDHUP);
	if (error)
		agent_client_free(client);
	return error;
}
