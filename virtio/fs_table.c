/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/fs_table.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "vmm/shared/fs_wire.h"

static int send_whole(int socket, const void *data, size_t size)
{
	ssize_t n;
	do
		n = send(socket, data, size, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EPROTO;
}

/* One message: its bytes, or -errno. */
static ssize_t receive(int socket, void *to, size_t size)
{
	ssize_t n;
	do
		n = recv(socket, to, size, 0);
	while (n < 0 && errno == EINTR);
	return n > 0 ? n : n < 0 ? -errno : -EPIPE;
}

static int ask(int socket, uint32_t op, size_t size)
{
	const struct fs_table_message message = {.op = op, .size = (uint32_t)size};
	return send_whole(socket, &message, sizeof(message));
}

static int receive_reply(int socket, struct fs_table_reply *reply)
{
	ssize_t n = receive(socket, reply, sizeof(*reply));
	if (n < 0)
		return (int)n;
	return n != (ssize_t)sizeof(*reply) || reply->error > 0 || reply->size > FS_TABLE_MAX ? -EPROTO : reply->error;
}

int fs_table_fetch(int socket, void **table, size_t *size)
{
	struct fs_table_reply reply;
	int ret = ask(socket, FS_SAVE, 0);
	if (ret == 0)
		ret = receive_reply(socket, &reply);
	if (ret < 0)
		return ret;
	uint8_t *to = malloc(reply.size ? reply.size : 1);
	if (!to)
		return -ENOMEM;
	for (size_t done = 0; done < reply.size && ret == 0;) {
		ssize_t n = receive(socket, to + done, reply.size - done);
		if (n < 0)
			ret = (int)n;
		else
			done += (size_t)n;
	}
	if (ret < 0) {
		free(to);
		return ret;
	}
	*table = to;
	*size = reply.size;
	return 0;
}

int fs_table_give(int socket, const void *table, size_t size)
{
	struct fs_table_reply reply;
	const uint8_t *from = table;
	int ret = size <= FS_TABLE_MAX ? ask(socket, FS_RESTORE, size) : -EPROTO;
	for (size_t piece; size > 0 && ret == 0; from += piece, size -= piece) {
		piece = size < FS_TABLE_PIECE ? size : FS_TABLE_PIECE;
		ret = send_whole(socket, from, piece);
	}
	return ret < 0 ? ret : receive_reply(socket, &reply);
}
