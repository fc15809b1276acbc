/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/shared/fs_wire.h"

#include <errno.h>
#include <sys/socket.h>

int fs_wire_send(int socket, const void *data, size_t size)
{
	const uint8_t *from = data;
	while (size > 0) {
		size_t piece = size < FS_TABLE_PIECE ? size : FS_TABLE_PIECE;
		ssize_t n = send(socket, from, piece, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != (ssize_t)piece)
			return n < 0 ? -errno : -EPROTO;
		from += piece;
		size -= piece;
	}
	return 0;
}

ssize_t fs_wire_receive(int socket, void *to, size_t size)
{
	ssize_t n;
	do
		n = recv(socket, to, size, 0);
	while (n < 0 && errno == EINTR);
	return n > 0 ? n : n < 0 ? -errno : -EPIPE;
}

int fs_wire_receive_all(int socket, void *to, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = fs_wire_receive(socket, (uint8_t *)to + done, size - done);
		if (n < 0)
			return (int)n;
		done += (size_t)n;
	}
	return 0;
}
