/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "vmm/lib/conn_out.h"

/* Room for the rest of a frame of stdin and for many control frames. */
#define KEPT_SIZE (sizeof(struct proto_frame) + PROTO_DATA_MAX + 4096)

void conn_out_destroy(struct conn_out *out)
{
	free(out->kept);
	*out = (struct conn_out){0};
}

bool conn_out_is_pending(const struct conn_out *out)
{
	return out->head < out->end;
}

/*
 * No more can be sent. If the agent has hung up, what it said before is still to be received; if the host is at fault,
 * the agent must not wait for what does not come, nor the receiver for an answer.
 */
static void give_up(struct conn_out *out, int fd, int errnum)
{
	out->broken = true;
	if (errnum != EPIPE && errnum != ECONNRESET)
		shutdown(fd, SHUT_RDWR);
}

void conn_out_flush(struct conn_out *out, int fd)
{
	while (conn_out_is_pending(out) && !out->broken) {
		ssize_t n = send(fd, out->kept + out->head, out->end - out->head, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0) {
			give_up(out, fd, errno);
			break;
		}
		out->head += (size_t)n;
	}
	out->head = out->end = 0;
}

int conn_out_queue(struct conn_out *out, int fd, enum proto_type type, const void *payload, size_t length)
{
	struct proto_frame frame = proto_frame(type, length);
	size_t total = sizeof(frame) + length, sent = 0;
	conn_out_flush(out, fd);
	if (out->broken)
		return -EPIPE;
	if (!conn_out_is_pending(out)) {
		union {
			const void *from;
			void *to;
		} bytes = {.from = payload}; /* sendmsg does not change what it points to */
		struct iovec iov[2] = {{&frame, sizeof(frame)}, {bytes.to, length}};
		struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
		ssize_t n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
			give_up(out, fd, errno);
			return -EPIPE;
		}
		sent = n > 0 ? (size_t)n : 0;
	}
	if (sent == total)
		return 0;
	if (!out->kept && !(out->kept = malloc(KEPT_SIZE))) {
		if (sent > 0) /* the agent would take the next frame for the rest of this one */
			give_up(out, fd, ENOMEM);
		return -ENOMEM;
	}
	if (total - sent > KEPT_SIZE - out->end)
		return -EAGAIN;
	if (sent < sizeof(frame)) {
		memcpy(out->kept + out->end, (const char *)&frame + sent, sizeof(frame) - sent);
		out->end += sizeof(frame) - sent;
		sent = sizeof(frame);
	}
	if (total > sent) {
		memcpy(out->kept + out->end, (const char *)payload + (sent - sizeof(frame)), total - sent);
		out->end += total - sent;
	}
	return 0;
}
