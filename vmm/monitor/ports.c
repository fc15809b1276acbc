/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/ports.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/vsock.h"

_Static_assert(MANAGE_PORTS_MAX == VSOCK_LISTENERS_MAX, "a list has room for all");
_Static_assert(sizeof((struct manage_port){0}.address) == sizeof(struct sockaddr_storage), "and for any address");

static int add(struct virtio_dev *vsock, uint32_t to, int *file, struct err *err)
{
	if (to < 1 || to > UINT16_MAX)
		return err_set(err, EINVAL, "%u is not a TCP port", to);
	int fd = *file;
	*file = -1;
	int ret = vsock_forward(vsock, fd, (uint16_t)to, err);
	return ret < 0 ? ret : 0;
}

struct listing {
	struct manage_port port[MANAGE_PORTS_MAX];
	size_t count;
	int error; /* errno */
};

static void add_entry(void *context, uint32_t id, int fd, uint16_t to)
{
	struct listing *listing = context;
	struct manage_port *port = &listing->port[listing->count++];
	struct sockaddr_storage address = {0};
	socklen_t size = sizeof(address);
	*port = (struct manage_port){.id = id, .to = to};
	if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		listing->error = errno;
	port->address_size = (uint16_t)size;
	memcpy(port->address, &address, sizeof(port->address));
}

static int list(const struct virtio_dev *vsock, int file, struct err *err)
{
	struct listing listing = {.count = 0, .error = 0};
	vsock_each_forward(vsock, add_entry, &listing);
	if (listing.error)
		return err_set(err, listing.error, "cannot tell an address: %s", strerror(listing.error));
	size_t size = listing.count * sizeof(listing.port[0]);
	ssize_t n = pwrite(file, listing.port, size, 0);
	if (n != (ssize_t)size)
		return err_set(err, n < 0 ? errno : EIO, "cannot write the list: %s", strerror(n < 0 ? errno : EIO));
	return 0;
}

int ports_manage(struct virtio_dev *vsock, const struct manage_request *request, int *file, struct err *err)
{
	if (!vsock)
		return err_set(err, EOPNOTSUPP, "a payload without an agent has no ports");
	if (request->op == MANAGE_FORWARD)
		return add(vsock, request->value, file, err);
	if (request->op == MANAGE_FORWARDS)
		return list(vsock, *file, err);
	int ret = vsock_unforward(vsock, request->value);
	return ret < 0 ? err_set(err, -ret, "it has no such port") : 0;
}
