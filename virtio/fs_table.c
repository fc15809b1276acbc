/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/fs_table.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "vmm/shared/fs_wire.h"

static int ask(int socket, uint32_t op, size_t size)
{
	const struct fs_table_message message = {.op = op, .size = (uint32_t)size};
	return fs_wire_send(socket, &message, sizeof(message));
}

static int receive_reply(int socket, struct fs_table_reply *reply)
{
	ssize_t n = fs_wire_receive(socket, reply, sizeof(*reply));
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
	ret = fs_wire_receive_all(socket, to, reply.size);
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
	int ret = size <= FS_TABLE_MAX ? ask(socket, FS_RESTORE, size) : -EPROTO;
	if (ret == 0)
		ret = fs_wire_send(socket, table, size);
	return ret < 0 ? ret : receive_reply(socket, &reply);
}
