/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection sends: the queued frames, and output from the ring, in as few writes as the socket allows. */
#include "agent/client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "agent/serve.h"
#include "agent/session.h"

/* Grant stdin in halves of the window: fewer frames, and the client never runs dry. */
#define GRANT_MIN (PROTO_WINDOW_INITIAL / 2)

#define FRAMES_MAX 16 /* output frames a write */
#define SLICES_MAX (3 + 1 + 3 * FRAMES_MAX + 1)

/* The frames after the last output. */
struct final {
	struct proto_frame exited_frame;
	uint8_t exited[sizeof(struct proto_exited)];
	struct proto_frame done_frame;
};

/* One write, as it was planned. */
struct write {
	struct iovec slices[SLICES_MAX];
	int slice_count;
	size_t length;
	struct proto_frame frames[FRAMES_MAX];
	int frame_count;
	struct final final;
	bool with_final;
};

static void add(struct write *plan, const void *data, size_t length)
{
	if (!length)
		return;
	plan->slices[plan->slice_count++] = (struct iovec){(void *)(uintptr_t)data, length};
	plan->length += length;
}

static void add_output(struct write *plan, const struct agent_client *client, uint64_t position, uint32_t length)
{
	plan->slice_count += outring_slices(&client->session->ring, position, length, plan->slices + plan->slice_count);
	plan->length += length;
}

static void list_sessions(struct agent_client *client)
{
	struct {
		struct proto_session session;
		char argv[PROTO_STRING_MAX];
	} payload;
	while (client->state == CLIENT_LIST && client->out.length < PROTO_DATA_MAX) {
		const struct agent_session *session = agent_session_next(client->agent, client->list_next);
		if (!session) {
			agent_client_queue(client, PROTO_DONE, NULL, 0);
			agent_client_end(client);
			return;
		}
		client->list_next = session->id + 1;
		payload.session = (struct proto_session){.session = session->id,
		        .started_ns = session->started_ns,
		        .pid = (uint32_t)session->pid,
		        .flags = agent_session_flags(session) | (session->writer ? PROTO_SESSION_WRITER : 0),
		        .code = session->exited ? session->code : 0,
		        .signal = session->exited ? session->signal : 0};
		list_for_each_safe(node, next, &session->clients) payload.session.clients++;
		memcpy(payload.argv, session->argv, session->argv_bytes);
		agent_client_queue(client, PROTO_SESSION, &payload, sizeof(payload.session) + session->argv_bytes);
	}
}

/* Frames that are better made when they can be sent than when their reason arises: so they never pile up. */
static void queue_due(struct agent_client *client)
{
	const struct agent_session *session = client->session;
	if (!session || session->spawn)
		return;
	if (client->writer && client->credit >= GRANT_MIN && !client->stdin_closed && !client->out.length) {
		struct proto_window window = {.bytes = client->credit};
		client->window += client->credit;
		client->credit = 0;
		agent_client_queue(client, PROTO_STDIN_WINDOW, &window, sizeof(window));
	}
	uint64_t limit = agent_client_limit(client);
	uint64_t first = session->ring.tail < limit ? session->ring.tail : limit;
	if (client->position < first && !client->header_left && !client->frame_left) {
		struct proto_dropped dropped = {.bytes = first - client->position};
		client->position = first;
		agent_client_queue(client, PROTO_DROPPED, &dropped, sizeof(dropped));
	}
}

/* Output frames from position on, and the final ones where nothing comes after. */
static void plan_output(struct write *plan, const struct agent_client *client, uint64_t position)
{
	const struct agent_session *session = client->session;
	uint64_t limit = agent_client_limit(client);
	if (position < session->ring.tail && position < limit)
		return; /* DROPPED first */
	while (position < limit && plan->frame_count < FRAMES_MAX) {
		unsigned int stream;
		uint32_t length = outring_run(&session->ring, position, &stream);
		if (length > limit - position)
			length = (uint32_t)(limit - position);
		if (length > PROTO_DATA_MAX)
			length = PROTO_DATA_MAX;
		struct proto_frame *frame = &plan->frames[plan->frame_count++];
		*frame = proto_frame(stream ? PROTO_STDERR : PROTO_STDOUT, length);
		add(plan, frame, sizeof(*frame));
		add_output(plan, client, position, length);
		position += length;
	}
	if (position < limit || !session->exited)
		return;
	struct proto_exited exited = agent_session_exited(session);
	plan->final = (struct final){
	        .exited_frame = proto_frame(PROTO_EXITED, sizeof(exited)), .done_frame = proto_frame(PROTO_DONE, 0)};
	memcpy(plan->final.exited, &exited, sizeof(exited));
	plan->with_final = true;
	add(plan, &plan->final, sizeof(plan->final));
}

static void plan_write(struct write *plan, const struct agent_client *client)
{
	plan->slice_count = plan->frame_count = 0;
	plan->length = 0;
	plan->with_final = false;
	add(plan, client->header + sizeof(client->header) - client->header_left, client->header_left);
	if (client->frame_left)
		add_output(plan, client, client->position, client->frame_left);
	if (client->out.length)
		add(plan, bytes_data(&client->out), client->out.length);
	if (client->session)
		plan_output(plan, client, client->position + client->frame_left);
}

static size_t minimum(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The socket took this much of what was planned. */
static void sent(struct agent_client *client, const struct write *plan, size_t count)
{
	size_t part = minimum(count, client->header_left);
	client->header_left -= (uint32_t)part;
	count -= part;
	part = minimum(count, client->frame_left);
	client->frame_left -= (uint32_t)part;
	client->position += part;
	count -= part;
	if (client->out.length) {
		part = minimum(count, client->out.length);
		bytes_consume(&client->out, part);
		count -= part;
	}
	for (int i = 0; i < plan->frame_count && count; i++) {
		const struct proto_frame *frame = &plan->frames[i];
		part = minimum(count, sizeof(*frame));
		memcpy(client->header, frame, sizeof(*frame));
		client->header_left = (uint32_t)(sizeof(*frame) - part);
		count -= part;
		part = minimum(count, frame->length);
		client->frame_left = frame->length - (uint32_t)part;
		client->position += part;
		count -= part;
	}
	if (!count || !plan->with_final)
		return;
	/* The rest of the final frames, if any, is a frame like others. */
	if (bytes_append(&client->out, (const uint8_t *)&plan->final + count, sizeof(plan->final) - count))
		client->broken = true;
	agent_client_end(client);
}

int agent_client_send(struct agent_client *client)
{
	struct write plan;
	for (;;) {
		list_sessions(client);
		queue_due(client);
		plan_write(&plan, client);
		if (!plan.length)
			return 0;
		struct msghdr message = {.msg_iov = plan.slices, .msg_iovlen = (size_t)plan.slice_count};
		ssize_t count = sendmsg(client->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		sent(client, &plan, (size_t)count);
		if (client->broken)
			return -ENOMEM;
		if ((size_t)count < plan.length)
			return -EAGAIN;
	}
}
