/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/shared/description.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char magic[8] = {'w', 'i', 's', 'p', 'v', 'm', 'm', '\n'};

void description_init(struct description *d)
{
	memset(d, 0, sizeof(*d));
	memcpy(d->magic, magic, sizeof(d->magic));
	d->version = DESCRIPTION_VERSION;
	d->size = sizeof(*d);
}

/* --- the descriptors, in the order in which they are sent --- */

/* Pointers to those that `d` says are there. Returns their number. */
static size_t list_fds(const struct description *d, struct description_fds *fds, int *list[DESCRIPTION_FDS_MAX])
{
	size_t count = 0;
	list[count++] = &fds->root;
	list[count++] = &fds->dir;
	list[count++] = &fds->lock;
	if (!(d->flags & (DESCRIPTION_RESTORE | DESCRIPTION_FORK)))
		list[count++] = &fds->kernel;
	if (d->flags & DESCRIPTION_INITRAMFS)
		list[count++] = &fds->initramfs;
	if (d->flags & DESCRIPTION_RESTORE)
		list[count++] = &fds->snapshot;
	if (d->flags & DESCRIPTION_CGROUP)
		list[count++] = &fds->cgroup;
	for (uint32_t i = 0; i < d->disk_count; i++)
		list[count++] = &fds->disk[i];
	for (uint32_t i = 0; i < d->folder_count; i++)
		for (size_t k = 0; k < DESCRIPTION_FOLDER_FDS; k++)
			list[count++] = &fds->folder[i][k];
	for (uint32_t i = 0; i < d->net.queues && d->net.port >= DESCRIPTION_NET_TAP; i++)
		list[count++] = &fds->net[i];
	return count;
}

void description_init_fds(struct description_fds *fds)
{
	*fds = (struct description_fds){
	        .root = -1, .dir = -1, .lock = -1, .kernel = -1, .initramfs = -1, .snapshot = -1, .cgroup = -1};
	for (size_t i = 0; i < DESCRIPTION_NET_QUEUES_MAX; i++)
		fds->net[i] = -1;
	for (size_t i = 0; i < DESCRIPTION_DISKS_MAX; i++)
		fds->disk[i] = -1;
	for (size_t i = 0; i < DESCRIPTION_FOLDERS_MAX; i++)
		for (size_t k = 0; k < DESCRIPTION_FOLDER_FDS; k++)
			fds->folder[i][k] = -1;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void description_close_fds(struct description_fds *fds)
{
	close_fd(fds->root);
	close_fd(fds->dir);
	close_fd(fds->lock);
	close_fd(fds->kernel);
	close_fd(fds->initramfs);
	close_fd(fds->snapshot);
	close_fd(fds->cgroup);
	for (size_t i = 0; i < DESCRIPTION_NET_QUEUES_MAX; i++)
		close_fd(fds->net[i]);
	for (size_t i = 0; i < DESCRIPTION_DISKS_MAX; i++)
		close_fd(fds->disk[i]);
	for (size_t i = 0; i < DESCRIPTION_FOLDERS_MAX; i++)
		for (size_t k = 0; k < DESCRIPTION_FOLDER_FDS; k++)
			close_fd(fds->folder[i][k]);
	description_init_fds(fds);
}

/* --- checks --- */

static bool is_string(const char *field, size_t size)
{
	return memchr(field, '\0', size) != NULL;
}

static int check_strings(const struct description *d)
{
	bool good = is_string(d->name, sizeof(d->name)) && is_string(d->hostname, sizeof(d->hostname)) &&
	            is_string(d->kernel_args, sizeof(d->kernel_args)) &&
	            is_string(d->kernel_name, sizeof(d->kernel_name)) &&
	            is_string(d->initramfs_name, sizeof(d->initramfs_name));
	for (uint32_t i = 0; good && i < DESCRIPTION_BREAKPOINTS_MAX; i++)
		good = is_string(d->breakpoint[i].name, sizeof(d->breakpoint[i].name));
	for (uint32_t i = 0; good && i < DESCRIPTION_FOLDERS_MAX; i++)
		good = is_string(d->folder[i].path, sizeof(d->folder[i].path));
	return good ? 0 : -EINVAL;
}

static bool check_name(const char *name)
{
	return name[0] != '\0' && name[0] != '.' && !strchr(name, '/');
}

static bool is_root(const struct description_folder *folder)
{
	return folder->path[0] == '/' && folder->path[1] == '\0';
}

static bool is_set(const struct in6_addr *address)
{
	return !IN6_IS_ADDR_UNSPECIFIED(address);
}

/* NULL, or what is wrong. */
static const char *check_net(const struct description *d)
{
	static const struct description_net none;
	const struct description_net *net = &d->net;
	bool boots = !(d->flags & (DESCRIPTION_RESTORE | DESCRIPTION_FORK));
	if (net->port == DESCRIPTION_NET_NONE)
		return memcmp(net, &none, sizeof(none)) == 0 ? NULL : "a network without a port";
	if (net->port > DESCRIPTION_NET_STREAM || (net->port == DESCRIPTION_NET_DOWN && boots))
		return "the network's port";
	if (d->flags & DESCRIPTION_BARE)
		return "a payload with a network";
	if (net->queues < 1 || net->queues > DESCRIPTION_NET_QUEUES_MAX ||
	        (net->queues > 1 && net->port == DESCRIPTION_NET_STREAM))
		return "the network's queues";
	if (net->mtu < WISP_NET_MTU_MIN)
		return "the network's MTU";
	if (net->mac[0] & 1)
		return "a MAC of a group";
	if (net->prefix > 32 || (net->address == 0) != (net->prefix == 0) ||
	        (net->address == 0 && (net->gateway || net->dns)))
		return "the network's addresses";
	bool has6 = is_set(&net->address6);
	if (net->prefix6 > 128 || has6 != (net->prefix6 != 0) ||
	        (!has6 && (is_set(&net->gateway6) || is_set(&net->dns6))))
		return "the network's addresses of IPv6";
	return NULL;
}

/* What may hold only together with something else. */
static const char *contradiction(const struct description *d)
{
	bool image = d->flags & DESCRIPTION_IMAGE, overlay = d->flags & DESCRIPTION_OVERLAY;
	bool restore = d->flags & DESCRIPTION_RESTORE, fork = d->flags & DESCRIPTION_FORK;
	if (restore && fork)
		return "a snapshot for a fork";
	if ((restore || fork) && (d->flags & (DESCRIPTION_INITRAMFS | DESCRIPTION_CONSOLE | DESCRIPTION_RECLAIM) ||
	                                 d->breakpoint_count > 0))
		return "a restored machine that is to boot";
	if ((d->flags & DESCRIPTION_PREFETCH) && !restore && !fork)
		return "memory to prefetch for a machine that boots";
	if ((d->flags & DESCRIPTION_TEMPLATE) && (!restore || !(d->flags & DESCRIPTION_DETACH)))
		return "a template without a snapshot, or with an owner";
	if (overlay && !image)
		return "an overlay without an image";
	if (d->disk_count < (uint32_t)image + (uint32_t)overlay)
		return "fewer disks than it names";
	if (overlay && (!d->disk[0].read_only || d->disk[1].read_only))
		return "an overlay that is read-only, or over an image that is not";
	if ((d->flags & DESCRIPTION_BARE) &&
	        (d->disk_count > 0 || (d->flags & (DESCRIPTION_INITRAMFS | DESCRIPTION_RECLAIM))))
		return "a payload with disks, an initramfs or a balloon";
	if ((d->flags & DESCRIPTION_NO_JAIL) && (d->flags & DESCRIPTION_REQUIRE_JAIL))
		return "a jail that is switched off and required";
	if (d->folder_count > 0 && d->flags & DESCRIPTION_BARE)
		return "folders of a payload, which has no agent to mount them";
	if (is_root(&d->folder[0]) && (image || d->folder[0].is_file || !d->folder[0].read_only))
		return "a root folder that is written to, or next to an image";
	if (d->breakpoint_count > 0 && !(d->flags & DESCRIPTION_TRACE))
		return "breakpoints without a trace";
	return NULL;
}

int description_check(const struct description *d, char *why, size_t size)
{
	if (memcmp(d->magic, magic, sizeof(magic)) != 0 || d->version != DESCRIPTION_VERSION || d->size != sizeof(*d)) {
		snprintf(why, size,
		        "the monitor and the library are of different versions: install both from one build");
		return -EPROTO;
	}
	const char *what = contradiction(d);
	if (d->flags & ~(uint32_t)DESCRIPTION_FLAGS_ALL)
		what = "unknown flags";
	else if (d->disk_count > DESCRIPTION_DISKS_MAX)
		what = "too many disks";
	else if (d->breakpoint_count > DESCRIPTION_BREAKPOINTS_MAX)
		what = "too many breakpoints";
	else if (d->boot_timeout_ms > DESCRIPTION_BOOT_TIMEOUT_MS_MAX)
		what = "a boot timeout of more than a day";
	else if (d->max_duration_ms > DESCRIPTION_LIFETIME_MS_MAX || d->idle_timeout_ms > DESCRIPTION_LIFETIME_MS_MAX)
		what = "a lifetime of more than a century";
	else if (d->idle_timeout_ms > 0 && d->flags & DESCRIPTION_BARE)
		what = "an idle timeout for a payload, which has no sessions";
	else if (d->folder_count > DESCRIPTION_FOLDERS_MAX)
		what = "too many folders";
	else if (d->engine > WISP_ENGINE_EPOLL)
		what = "an unknown engine";
	else if (check_strings(d) < 0)
		what = "a string without an end";
	else if (!check_name(d->name))
		what = "a bad name";
	if (!what)
		what = check_net(d);
	for (uint32_t i = 0; i < DESCRIPTION_DISKS_MAX; i++) {
		if (d->disk[i].read_only > 1 || d->disk[i].cache > WISP_CACHE_UNSAFE)
			what = "a disk's mode";
	}
	for (uint32_t i = 0; i < DESCRIPTION_FOLDERS_MAX && !what; i++) {
		const struct description_folder *folder = &d->folder[i];
		if (folder->read_only > 1 || folder->is_file > 1)
			what = "a folder's mode";
		else if ((folder->path[0] == '/') != (i < d->folder_count) || (i > 0 && is_root(folder)))
			what = "a folder's path";
	}
	if (what) {
		snprintf(why, size, "the sandbox's description is invalid: %s", what);
		return -EINVAL;
	}
	if (d->cpus < 1 || d->cpus > WISP_CPUS_MAX) {
		snprintf(why, size, "%u vCPUs: choose 1 to %u", d->cpus, WISP_CPUS_MAX);
		return -EINVAL;
	}
	if (d->memory_mib < WISP_MEMORY_MIB_MIN || d->memory_mib > DESCRIPTION_MEMORY_MIB_MAX) {
		snprintf(why, size, "%u MiB of memory: choose %u MiB to 1 TiB", d->memory_mib, WISP_MEMORY_MIB_MIN);
		return -EINVAL;
	}
	return 0;
}

int description_decode(const void *bytes, size_t length, struct description *d, char *why, size_t size)
{
	if (length != sizeof(*d)) {
		snprintf(why, size, "the sandbox's description has %zu bytes, not %zu", length, sizeof(*d));
		return -EPROTO;
	}
	memcpy(d, bytes, sizeof(*d));
	return description_check(d, why, size);
}

/* --- the socket --- */

union fd_message {
	char bytes[CMSG_SPACE(DESCRIPTION_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int description_send(int socket, const struct description *d, const struct description_fds *fds)
{
	struct description_fds copy = *fds;
	int *list[DESCRIPTION_FDS_MAX];
	union fd_message control = {0};
	size_t count = list_fds(d, &copy, list);
	/* Sending reads this memory only. */
	struct iovec io = {.iov_base = (void *)(uintptr_t)d, .iov_len = sizeof(*d)};
	struct msghdr message = {.msg_iov = &io,
	        .msg_iovlen = 1,
	        .msg_control = control.bytes,
	        .msg_controllen = CMSG_SPACE(count * sizeof(int))};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(count * sizeof(int));
	for (size_t i = 0; i < count; i++)
		memcpy(CMSG_DATA(head) + i * sizeof(int), list[i], sizeof(int));
	ssize_t n;
	do
		n = sendmsg(socket, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	/* An empty socket takes a few KiB at once. */
	return n == (ssize_t)sizeof(*d) ? 0 : -EIO;
}

/* Keeps those that were expected, closes the rest. */
static int take_fds(struct msghdr *message, int received[DESCRIPTION_FDS_MAX], size_t *count)
{
	int ret = message->msg_flags & MSG_CTRUNC ? -EPROTO : 0;
	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(fd));
			if (*count < DESCRIPTION_FDS_MAX) {
				received[(*count)++] = fd;
			} else {
				close(fd);
				ret = -EPROTO;
			}
		}
	}
	return ret;
}

/* Reads until `room` is full. Descriptors may come with any part. */
static int receive_whole(int socket, void *room, size_t size, int received[DESCRIPTION_FDS_MAX], size_t *count)
{
	int ret = 0;
	for (size_t done = 0; done < size && ret == 0;) {
		union fd_message control;
		struct iovec io = {.iov_base = (char *)room + done, .iov_len = size - done};
		struct msghdr message = {.msg_iov = &io,
		        .msg_iovlen = 1,
		        .msg_control = control.bytes,
		        .msg_controllen = sizeof(control.bytes)};
		ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		ret = take_fds(&message, received, count);
		done += (size_t)n;
	}
	return ret;
}

int description_receive(int socket, struct description *d, struct description_fds *fds, char *why, size_t size)
{
	struct description raw;
	int received[DESCRIPTION_FDS_MAX], *list[DESCRIPTION_FDS_MAX];
	size_t count = 0;
	description_init_fds(fds);
	int ret = receive_whole(socket, &raw, sizeof(raw), received, &count);
	if (ret < 0)
		snprintf(why, size, "cannot receive the sandbox's description: %s", strerror(-ret));
	else
		ret = description_decode(&raw, sizeof(raw), d, why, size);
	if (ret == 0 && count != list_fds(d, fds, list)) {
		snprintf(why, size, "the sandbox's description came with %zu descriptors, not %zu", count,
		        list_fds(d, fds, list));
		ret = -EPROTO;
	}
	for (size_t i = 0; i < count; i++) {
		if (ret == 0)
			*list[i] = received[i];
		else
			close(received[i]);
	}
	return ret;
}

int description_set(char *field, size_t size, const char *text)
{
	int n = snprintf(field, size, "%s", text);
	return n < 0 || (size_t)n >= size ? -E2BIG : 0;
}
