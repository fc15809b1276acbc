/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/fs_link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/shared/container_of.h"

#define REPLY_HEAD sizeof(struct fuse_out_header)

uint32_t fs_reply_matters(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_OPEN: return sizeof(struct fuse_out_header) + sizeof(struct fuse_open_out);
	case FUSE_CREATE: return sizeof(struct fs_reply);
	default: return sizeof(struct fuse_out_header);
	}
}

bool fs_link_is_full(const struct fs_link *link)
{
	return link->polling;
}

bool fs_link_is_idle(const struct fs_link *link)
{
	return !link->polling && !link->receiving && !link->unsent && !link->oldest;
}

/* The first `bytes` of the buffers. Returns how many buffers those are. */
static unsigned cut(struct iovec *to, const struct iovec *from, unsigned count, size_t bytes)
{
	unsigned used = 0;
	for (; used < count && bytes > 0; used++) {
		to[used] = from[used];
		if (to[used].iov_len > bytes)
			to[used].iov_len = bytes;
		bytes -= to[used].iov_len;
	}
	return used;
}

/* --- the end --- */

/* Not before the kernel is done with the guest's buffers. */
static void fail_all(struct fs_link *link)
{
	if (link->receiving || link->polling)
		return;
	*link->end = link->unsent;
	struct fs_message *m = link->oldest;
	link->unsent = link->oldest = NULL;
	link->unsent_end = &link->unsent;
	link->end = &link->oldest;
	link->unsent_count = 0;
	while (m) {
		struct fs_message *next = m->next;
		link->owner->failed(m);
		m = next;
	}
	link->owner->ready(link);
}

void fs_link_end(struct fs_link *link, const char *why)
{
	if (link->lost)
		return;
	link->lost = true;
	link->owner->lost(link, why);
	shutdown(link->socket, SHUT_RDWR);
	if (link->receiving)
		loop_cancel(link->loop, &link->receive_op);
	if (link->polling)
		loop_cancel(link->loop, &link->send_op);
}

/* --- replies --- */

static void start_receiving(struct fs_link *link, struct io_uring_sqe *sqe)
{
	link->receiving = true;
	loop_start(link->loop, sqe, &link->receive_op);
}

static void receive_message(struct fs_link *link)
{
	if (!link->oldest || link->receiving || link->lost)
		return;
	link->received = 0;
	link->in = (struct iovec){link->inbox, sizeof(link->inbox)};
	link->message = (struct msghdr){.msg_iov = &link->in,
	        .msg_iovlen = 1,
	        .msg_control = &link->control,
	        .msg_controllen = CMSG_LEN(sizeof(int))}; /* CMSG_SPACE has room for two descriptors */
	struct io_uring_sqe *sqe = loop_sqe(link->loop);
	io_uring_prep_recvmsg(sqe, link->socket, &link->message, MSG_CMSG_CLOEXEC);
	start_receiving(link, sqe);
}

static void receive_rest(struct fs_link *link)
{
	const struct fs_message *m = link->oldest;
	memcpy(link->rest, m->in, m->in_count * sizeof(*m->in));
	unsigned used_up = iov_advance(link->rest, m->in_count, link->received);
	struct iovec *rest = link->rest + used_up;
	unsigned count = cut(rest, rest, m->in_count - used_up, link->reply.header.len - link->received);
	struct io_uring_sqe *sqe = loop_sqe(link->loop);
	io_uring_prep_readv(sqe, link->replies, rest, count, 0);
	start_receiving(link, sqe);
}

static void replied(struct fs_link *link, int file)
{
	struct fs_message *m = link->oldest;
	link->oldest = m->next;
	if (!link->oldest)
		link->end = &link->oldest;
	link->owner->replied(m, &link->reply, file);
}

/* The file that came with a message, or -1. */
static int take_file(struct msghdr *message)
{
	struct cmsghdr *head = CMSG_FIRSTHDR(message);
	int file = -1;
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	        head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&file, CMSG_DATA(head), sizeof(int));
	return file;
}

/* Puts one reply, of which `bytes` may be here, where the guest wants it. Returns how many those are; 0: it is wrong.
 */
static uint32_t put_reply(struct fs_link *link, const uint8_t *from, uint32_t bytes)
{
	const struct fs_message *m = link->oldest;
	struct fuse_out_header *head = &link->reply.header;
	if (!m || bytes < REPLY_HEAD)
		return 0;
	memcpy(head, from, REPLY_HEAD);
	uint32_t here = head->len < bytes ? head->len : bytes;
	if (head->len < REPLY_HEAD || head->len > m->head.frame.room || head->unique != m->head.header.unique)
		return 0;
	uint32_t matters = fs_reply_matters(m->head.header.opcode);
	if (here < head->len && matters > REPLY_HEAD)
		return 0;
	memcpy(&link->reply, from, here < matters ? here : matters);
	guest_store_iov(m->in, m->in_count, 0, from, here);
	return here;
}

/* One message: replies, whose last one may go on in the pipe. Only one that is alone may have a file. */
static bool take_replies(struct fs_link *link, uint32_t bytes, int file)
{
	for (uint32_t at = 0, here; at < bytes; at += here) {
		here = put_reply(link, link->inbox + at, bytes - at);
		if (here == 0 || (file >= 0 && here < bytes))
			break;
		if (here < link->reply.header.len) {
			link->received = here;
			receive_rest(link);
			return true;
		}
		replied(link, file);
		if (at + here == bytes)
			return true;
	}
	if (file >= 0)
		close(file);
	return false;
}

static void received(struct loop_op *op, int res, uint32_t flags)
{
	struct fs_link *link = container_of(op, struct fs_link, receive_op);
	bool first = link->received == 0;
	(void)flags;
	link->receiving = false;
	int file = first && res > 0 ? take_file(&link->message) : -1;
	if (!link->lost && (res == -EINTR || res == -EAGAIN)) {
		first ? receive_message(link) : receive_rest(link);
		return;
	}
	if (link->lost && file >= 0)
		close(file);
	if (!link->lost && res <= 0) {
		fs_link_end(link, res < 0 ? strerror(-res) : "wisp-fs has ended");
	} else if (!link->lost && first) {
		if (link->message.msg_flags & MSG_TRUNC || !take_replies(link, (uint32_t)res, file))
			fs_link_end(link, "wisp-fs violated the protocol");
	} else if (!link->lost) {
		link->received += (uint32_t)res;
		link->received < link->reply.header.len ? receive_rest(link) : replied(link, -1);
	}
	if (link->lost) {
		fail_all(link);
		return;
	}
	receive_message(link);
}

/* --- requests --- */

static void poll_for_room(struct fs_link *link, int fd)
{
	struct io_uring_sqe *sqe = loop_sqe(link->loop);
	io_uring_prep_poll_add(sqe, fd, POLLOUT);
	link->polling = true;
	loop_start(link->loop, sqe, &link->send_op);
}

/* The first one that is unsent is on its way. */
static void sent(struct fs_link *link)
{
	struct fs_message *m = link->unsent;
	link->unsent = m->next;
	link->unsent_count--;
	if (!link->unsent)
		link->unsent_end = &link->unsent;
	if (m->head.frame.room == 0) {
		link->owner->sent(m);
		return;
	}
	m->next = NULL;
	*link->end = m;
	link->end = &m->next;
}

/* Bytes of a request that are in the message, without those before its header's end. */
static size_t body_of(const struct fs_message *m)
{
	return m->head.header.len - sizeof(m->head.header) - m->head.frame.piped;
}

/* One message, of as many requests as fit. 1, 0 if there is no room for it, or -errno. */
static int send_message(struct fs_link *link)
{
	struct iovec iov[2 * (VIRTQ_SIZE_MAX + 1)];
	struct msghdr message = {.msg_iov = iov};
	size_t bytes = 0;
	unsigned n = 0, count = 0;
	for (struct fs_message *m = link->unsent; m && count < FS_BATCH_MAX; m = m->next) {
		bytes += sizeof(m->head) + body_of(m);
		if (count > 0 && (bytes > FS_MESSAGE_MAX || n + 1 + m->out_count > sizeof(iov) / sizeof(iov[0])))
			break;
		iov[n++] = (struct iovec){&m->head, sizeof(m->head)};
		n += cut(&iov[n], m->out, m->out_count, body_of(m));
		count++;
		if (m->head.frame.piped > 0)
			break;
	}
	message.msg_iovlen = n;
	if (sendmsg(link->socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -errno;
	while (count-- > 0) {
		struct fs_message *m = link->unsent;
		if (m->head.frame.piped == 0) {
			sent(link);
			continue;
		}
		unsigned used_up = iov_advance(m->out, m->out_count, body_of(m));
		m->out += used_up;
		m->out_count -= used_up;
		m->told = true;
	}
	return 1;
}

static int send_rest(struct fs_link *link)
{
	struct fs_message *m = link->unsent;
	while (m->out_count > 0) {
		ssize_t n = writev(link->requests, m->out, (int)m->out_count);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		unsigned used_up = iov_advance(m->out, m->out_count, (size_t)n);
		m->out += used_up;
		m->out_count -= used_up;
	}
	sent(link);
	return 1;
}

void fs_link_send(struct fs_link *link)
{
	while (link->unsent && !link->polling && !link->lost) {
		bool told = link->unsent->told;
		int ret = told ? send_rest(link) : send_message(link);
		if (ret == 0)
			poll_for_room(link, told ? link->requests : link->socket);
		if (ret < 0) {
			fs_link_end(link, ret == -EPIPE || ret == -ECONNRESET ? "wisp-fs has ended" : strerror(-ret));
			fail_all(link);
			return;
		}
	}
	receive_message(link);
}

static void room(struct loop_op *op, int res, uint32_t flags)
{
	struct fs_link *link = container_of(op, struct fs_link, send_op);
	(void)flags;
	link->polling = false;
	if (!link->lost && res < 0 && res != -EINTR)
		fs_link_end(link, strerror(-res));
	if (link->lost) {
		fail_all(link);
		return;
	}
	fs_link_send(link);
	if (!link->polling)
		link->owner->ready(link);
}

void fs_link_add(struct fs_link *link, struct fs_message *m)
{
	if (link->lost) {
		link->owner->failed(m);
		return;
	}
	m->next = NULL;
	m->told = false;
	*link->unsent_end = m;
	link->unsent_end = &m->next;
	if (++link->unsent_count >= FS_BATCH_MAX || m->head.frame.piped > 0)
		fs_link_send(link);
}

void fs_link_init(struct fs_link *link, struct loop *loop, const struct fs_link_owner *owner)
{
	link->loop = loop;
	link->owner = owner;
	link->socket = link->requests = link->replies = -1;
	link->unsent_end = &link->unsent;
	link->end = &link->oldest;
	link->send_op.done = room;
	link->receive_op.done = received;
}
