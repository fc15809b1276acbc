/* SPDX-License-Identifier: Apache-2.0 */
/* The fake monitor's socket for requests: pauses nothing, saves a pattern, and forks itself. */
#ifndef WISP_TEST_MANAGE_H
#define WISP_TEST_MANAGE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/shared/manage.h"
#include "vmm/shared/sandbox_files.h"
#include "vmm/shared/stats.h"

#define FAKE_CONNECTIONS 16
#define FAKE_STATE 5000u
#define FAKE_MEMORY (3u * SNAPSHOT_CHUNK - 2 * SNAPSHOT_PAGE) /* the last chunk is not whole */

struct fake_manage {
	int listener;
	int fds[FAKE_CONNECTIONS];
	size_t count;
	bool holds[FAKE_CONNECTIONS];
	bool paused; /* by a request; who holds it is not seen */
	bool template, unsaved;
	struct {
		int fd;
		struct manage_port entry;
	} port[MANAGE_PORTS_MAX]; /* they only listen */
	unsigned port_count, last_port;
	void (*changed)(const void *owner); /* called when `paused` changes, before that is answered */
	const void *owner;
};

static inline int fake_listen(const char *dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/" SANDBOX_FILES_MONITOR, dir);
	unlink(address.sun_path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 64) < 0)
		abort();
	return fd;
}

/* Reads a request and the descriptor that came with it, or -1. False at the end of the connection. */
static inline bool fake_receive(int fd, struct manage_request *request, int *file)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec io = {.iov_base = request, .iov_len = sizeof(*request)};
	struct msghdr message = {
	        .msg_iov = &io, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	*file = -1;
	if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*request))
		return false;
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	if (head)
		memcpy(file, CMSG_DATA(head), sizeof(*file));
	return request->magic == MANAGE_MAGIC && request->version == MANAGE_VERSION;
}

static inline void fake_reply(int fd, int error, const struct snapshot_layout *layout)
{
	struct manage_reply reply = {
	        .magic = MANAGE_MAGIC, .version = MANAGE_VERSION, .error = error, .paused_us = 1234};
	if (layout)
		reply.layout = *layout;
	if (error)
		snprintf(reply.text, sizeof(reply.text), "%s", strerror(-error));
	if (send(fd, &reply, sizeof(reply), MSG_NOSIGNAL) < 0)
		return;
}

/* What a monitor writes. Memory is a pattern that depends on the page. */
static inline int fake_save(int file, struct snapshot_layout *layout)
{
	*layout = (struct snapshot_layout){.state_size = FAKE_STATE,
	        .extents_offset = SNAPSHOT_HEAD_SIZE + 2 * SNAPSHOT_PAGE,
	        .extent_count = 2,
	        .data_offset = SNAPSHOT_HEAD_SIZE + 3 * SNAPSHOT_PAGE,
	        .data_size = FAKE_MEMORY};
	const struct snapshot_extent extents[2] = {
	        {0, SNAPSHOT_CHUNK}, {2 * SNAPSHOT_CHUNK, FAKE_MEMORY - SNAPSHOT_CHUNK}};
	uint8_t page[SNAPSHOT_PAGE];
	memset(page, 's', sizeof(page));
	for (unsigned at = 0; at < FAKE_STATE; at += sizeof(page)) {
		size_t n = FAKE_STATE - at < sizeof(page) ? FAKE_STATE - at : sizeof(page);
		if (pwrite(file, page, n, SNAPSHOT_HEAD_SIZE + at) != (ssize_t)n)
			return errno ? -errno : -EIO;
	}
	if (pwrite(file, extents, sizeof(extents), (off_t)layout->extents_offset) != (ssize_t)sizeof(extents))
		return errno ? -errno : -EIO;
	for (unsigned at = 0; at < FAKE_MEMORY; at += sizeof(page)) {
		for (size_t i = 0; i < sizeof(page); i++)
			page[i] = (uint8_t)((at / sizeof(page)) * 7 + (i & 15));
		if (pwrite(file, page, sizeof(page), (off_t)(layout->data_offset + at)) != (ssize_t)sizeof(page))
			return errno ? -errno : -EIO;
	}
	return 0;
}

/* Numbers that a test can tell apart. */
static inline struct stats fake_stats(void)
{
	struct stats stats = {.size = sizeof(stats),
	        .flags = STATS_MEMORY,
	        .cpus = 2,
	        .device_count = 2,
	        .uptime_ns = 3500000000,
	        .cpu_ns = 1100000000,
	        .loop_ns = 100000000,
	        .vcpu_ns = {600000000, 400000000},
	        .sessions_running = 1,
	        .sessions_ended = 2,
	        .sessions_failed = 3,
	        .exits_known = 1u << STATS_EXITS_ALL | 1u << STATS_EXITS_IO | 1u << STATS_EXITS_HALT,
	        .exits = {[STATS_EXITS_ALL] = 100, [STATS_EXITS_IO] = 30, [STATS_EXITS_HALT] = 60},
	        .guest = {64u << 20, 48u << 20, 32u << 20, 4096},
	        .monitor = {1u << 20, 512u << 10, 256u << 10, 0}};
	stats.device[0] = (struct stats_device){"vda", 1024, 2048, 10, 20, 5};
	stats.device[1] = (struct stats_device){"vsock", 11, 22, 1, 2, 0};
	return stats;
}

static inline void fake_reply_stats(int fd)
{
	struct stats stats = fake_stats();
	fake_reply(fd, 0, NULL);
	/* In two parts, as a socket may deliver them. */
	if (send(fd, &stats, 100, MSG_NOSIGNAL) == 100)
		(void)!send(fd, (const char *)&stats + 100, sizeof(stats) - 100, MSG_NOSIGNAL);
}

static inline void fake_pause(struct fake_manage *m, bool paused)
{
	m->paused = paused;
	m->changed(m->owner);
}

static inline void fake_drop(struct fake_manage *m, size_t i)
{
	close(m->fds[i]);
	m->count--;
	m->fds[i] = m->fds[m->count];
	m->holds[i] = m->holds[m->count];
	m->holds[m->count] = false;
}

static inline int fake_add_port(struct fake_manage *m, int fd, uint32_t to)
{
	if (fd < 0 || to == 0 || m->port_count == MANAGE_PORTS_MAX) {
		close(fd);
		return -EINVAL;
	}
	m->port[m->port_count].fd = fd;
	m->port[m->port_count++].entry = (struct manage_port){.id = ++m->last_port, .to = (uint16_t)to};
	return 0;
}

static inline int fake_remove_port(struct fake_manage *m, uint32_t id)
{
	for (unsigned i = 0; i < m->port_count; i++) {
		if (m->port[i].entry.id != id)
			continue;
		close(m->port[i].fd);
		memmove(&m->port[i], &m->port[i + 1], (--m->port_count - i) * sizeof(m->port[0]));
		return 0;
	}
	return -ENOENT;
}

/* Of a port that leads to 666, the entry is not what a monitor may write. */
static inline int fake_list_ports(struct fake_manage *m, int file)
{
	for (unsigned i = 0; i < m->port_count; i++) {
		struct manage_port *entry = &m->port[i].entry;
		socklen_t size = sizeof(entry->address);
		getsockname(m->port[i].fd, (struct sockaddr *)entry->address, &size);
		entry->address_size = entry->to == 666 ? UINT16_MAX : (uint16_t)size;
		if (write(file, entry, sizeof(*entry)) != (ssize_t)sizeof(*entry))
			return -EIO;
	}
	close(file);
	return 0;
}

/* Answers a request that came in. Returns 1 if the connection asked for a fork, which the caller does. */
static inline int fake_answer(struct fake_manage *m, size_t i)
{
	struct manage_request request;
	struct snapshot_layout layout;
	int fd = m->fds[i], file, error = 0;
	if (!fake_receive(fd, &request, &file)) {
		fake_drop(m, i);
		return 0;
	}
	switch (request.op) {
	case MANAGE_PAUSE:
		error = m->paused && !request.flags ? -EALREADY : 0;
		if (request.flags & MANAGE_HOLD)
			m->holds[i] = true;
		else if (!error)
			fake_pause(m, true);
		break;
	case MANAGE_RESUME:
		error = m->template ? -EPERM : m->paused || m->holds[i] ? 0 : -EALREADY;
		if (!error && !m->holds[i])
			fake_pause(m, false);
		m->holds[i] = false;
		break;
	case MANAGE_SNAPSHOT:
		if (m->unsaved)
			_exit(9);
		error = file < 0 ? -EINVAL : fake_save(file, &layout);
		if (file >= 0)
			close(file);
		fake_reply(fd, error, &layout);
		return 0;
	case MANAGE_FORWARD: error = fake_add_port(m, file, request.value); break;
	case MANAGE_UNFORWARD: error = fake_remove_port(m, request.value); break;
	case MANAGE_FORWARDS: error = fake_list_ports(m, file); break;
	case MANAGE_REFRESH_DISKS: break;
	case MANAGE_STATS: fake_reply_stats(fd); return 0;
	case MANAGE_FORK: return 1;
	default: error = -ENOSYS;
	}
	fake_reply(fd, error, NULL);
	return 0;
}

#endif
