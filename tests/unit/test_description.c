/* SPDX-License-Identifier: Apache-2.0 */
/* What the library tells the monitor: whole, with its descriptors, or refused with a reason and nothing kept. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/shared/description.h"

static struct description valid(void)
{
	struct description d;
	description_init(&d);
	d.flags = DESCRIPTION_INITRAMFS | DESCRIPTION_IMAGE | DESCRIPTION_OVERLAY | DESCRIPTION_TRACE |
	          DESCRIPTION_CGROUP;
	d.cpus = 2;
	d.memory_mib = 128;
	d.boot_timeout_ms = 30000;
	d.disk_count = 3;
	d.disk[0].read_only = 1;
	d.disk[2].cache = WISP_CACHE_DIRECT;
	d.breakpoint_count = 1;
	description_set(d.breakpoint[0].name, sizeof(d.breakpoint[0].name), "start_kernel");
	d.folder_count = 1;
	d.folder[0].read_only = 1;
	description_set(d.folder[0].path, sizeof(d.folder[0].path), "/work");
	description_set(d.name, sizeof(d.name), "box");
	description_set(d.hostname, sizeof(d.hostname), "host");
	description_set(d.kernel_args, sizeof(d.kernel_args), "quiet");
	d.net = (struct description_net){.port = DESCRIPTION_NET_TAP,
	        .mtu = 1500,
	        .mac = {2},
	        .prefix = 24,
	        .address = 1,
	        .gateway = 2,
	        .dns = 3,
	        .prefix6 = 64,
	        .queues = 2,
	        .address6.s6_addr = {0xfd, [15] = 1},
	        .gateway6.s6_addr = {0xfd, [15] = 2},
	        .dns6.s6_addr = {0xfd, [15] = 3}};
	return d;
}

static int open_fds(void)
{
	int fd = dup(0);
	close(fd);
	return fd;
}

/* Each descriptor is told apart by its own size. */
static struct description_fds make_fds(void)
{
	struct description_fds fds;
	description_init_fds(&fds);
	int *all[] = {&fds.root, &fds.dir, &fds.lock, &fds.kernel, &fds.initramfs, &fds.cgroup, &fds.disk[0],
	        &fds.disk[1], &fds.disk[2], &fds.folder[0][0], &fds.folder[0][1], &fds.folder[0][2], &fds.net[0],
	        &fds.net[1]};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		char name[] = "/tmp/wisp-test-XXXXXX";
		*all[i] = mkstemp(name);
		unlink(name);
		if (ftruncate(*all[i], (off_t)(i + 1)) < 0)
			abort();
	}
	return fds;
}

static off_t size_of(int fd)
{
	struct stat st;
	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : -1;
}

static void it_arrives_whole_with_its_descriptors(void)
{
	struct description d = valid(), got;
	struct description_fds fds = make_fds(), there;
	char why[200] = "";
	int pair[2];
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	CHECK_EQ(description_send(pair[0], &d, &fds), 0);
	description_close_fds(&fds);
	CHECK_EQ(fds.kernel, -1);
	CHECK_EQ(description_receive(pair[1], &got, &there, why, sizeof(why)), 0);
	CHECK_STR(why, "");
	CHECK(memcmp(&d, &got, sizeof(d)) == 0);
	const int all[] = {there.root, there.dir, there.lock, there.kernel, there.initramfs, there.cgroup,
	        there.disk[0], there.disk[1], there.disk[2], there.folder[0][0], there.folder[0][1], there.folder[0][2],
	        there.net[0], there.net[1]};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		CHECK_EQ(size_of(all[i]), (off_t)i + 1);
		CHECK(fcntl(all[i], F_GETFD) & FD_CLOEXEC);
	}
	CHECK_EQ(there.disk[3], -1);
	CHECK_EQ(there.folder[1][0], -1);
	description_close_fds(&there);
	close(pair[0]);
	close(pair[1]);
}

/* Sends `length` bytes of a description with `count` copies of a descriptor; returns what the receiver says. */
static int receive_raw(const struct description *d, size_t length, size_t count, char *why, size_t size)
{
	union {
		char bytes[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct description got, copy = *d;
	struct description_fds fds;
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return 1;
	struct iovec io = {.iov_base = &copy, .iov_len = length};
	struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
	if (count > 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		*head = (struct cmsghdr){
		        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
		for (size_t i = 0; i < count; i++)
			memcpy(CMSG_DATA(head) + i * sizeof(int), &pair[0], sizeof(int));
	}
	if (length > 0 && sendmsg(pair[0], &message, 0) != (ssize_t)length)
		abort();
	shutdown(pair[0], SHUT_WR);
	int ret = description_receive(pair[1], &got, &fds, why, size);
	description_close_fds(&fds);
	close(pair[0]);
	close(pair[1]);
	return ret;
}

static void a_broken_message_is_refused_and_keeps_nothing(void)
{
	struct description d = valid();
	char why[200];
	int before = open_fds();
	CHECK_EQ(receive_raw(&d, sizeof(d), 14, why, sizeof(why)), 0);
	CHECK_EQ(receive_raw(&d, 0, 0, why, sizeof(why)), -ECONNRESET);
	CHECK_EQ(receive_raw(&d, sizeof(d) - 1, 14, why, sizeof(why)), -ECONNRESET);
	CHECK(strstr(why, "cannot receive"));
	CHECK_EQ(receive_raw(&d, sizeof(d), 13, why, sizeof(why)), -EPROTO);
	CHECK(strstr(why, "13 descriptors, not 14"));
	CHECK_EQ(receive_raw(&d, sizeof(d), 15, why, sizeof(why)), -EPROTO);
	CHECK_EQ(receive_raw(&d, sizeof(d), 60, why, sizeof(why)), -EPROTO);
	d.version++;
	CHECK_EQ(receive_raw(&d, sizeof(d), 14, why, sizeof(why)), -EPROTO);
	CHECK(strstr(why, "different versions"));
	CHECK_EQ(open_fds(), before);
}

static void refuse(const struct description *d, const char *word)
{
	char why[200] = "";
	CHECK(description_check(d, why, sizeof(why)) < 0);
	if (!strstr(why, word)) {
		printf("# \"%s\" does not say \"%s\"\n", why, word);
		test_failed = true;
	}
}

#define REFUSE(word, ...)                       \
	do {                                    \
		struct description d = valid(); \
		__VA_ARGS__;                    \
		refuse(&d, word);               \
	} while (0)

static void every_field_is_checked(void)
{
	char why[200];
	struct description good = valid();
	CHECK_EQ(description_check(&good, why, sizeof(why)), 0);
	CHECK_EQ(description_decode(&good, sizeof(good) - 1, &good, why, sizeof(why)), -EPROTO);
	/* A restored machine and a clone have folders too. */
	good.flags = DESCRIPTION_RESTORE;
	good.breakpoint_count = 0;
	CHECK_EQ(description_check(&good, why, sizeof(why)), 0);
	good.flags = DESCRIPTION_FORK;
	CHECK_EQ(description_check(&good, why, sizeof(why)), 0);
	REFUSE("different versions", d.magic[0] = 'x');
	REFUSE("different versions", d.size++);
	REFUSE("flags", d.flags |= 1u << 31);
	REFUSE("choose 1 to", d.cpus = 0);
	REFUSE("choose 1 to", d.cpus = WISP_CPUS_MAX + 1);
	REFUSE("MiB of memory: choose", d.memory_mib = WISP_MEMORY_MIB_MIN - 1);
	REFUSE("MiB of memory: choose", d.memory_mib = UINT32_MAX);
	REFUSE("boot timeout", d.boot_timeout_ms = UINT32_MAX);
	REFUSE("century", d.max_duration_ms = DESCRIPTION_LIFETIME_MS_MAX + 1);
	REFUSE("century", d.idle_timeout_ms = UINT64_MAX);
	REFUSE("too many folders", d.folder_count = DESCRIPTION_FOLDERS_MAX + 1);
	REFUSE("folder's mode", d.folder[0].read_only = 2);
	REFUSE("folder's mode", d.folder[7].is_file = 2);
	REFUSE("folder's path", d.folder[0].path[0] = 'x');
	REFUSE("folder's path", d.folder_count = 2);
	REFUSE("folder's path", d.folder_count = 0);
	REFUSE("folder's path", d.folder_count = 2, strcpy(d.folder[1].path, "/"));
	REFUSE("next to an image", strcpy(d.folder[0].path, "/"));
	REFUSE("root folder that is written to", strcpy(d.folder[0].path, "/"), d.flags = 0, d.disk_count = 0,
	        d.breakpoint_count = 0, d.folder[0].read_only = 0);
	REFUSE("no agent to mount", d.flags = DESCRIPTION_BARE, d.disk_count = d.breakpoint_count = 0);
	REFUSE("unknown engine", d.engine = WISP_ENGINE_EPOLL + 1);
	REFUSE("no sessions", d.flags = DESCRIPTION_BARE, d.disk_count = d.breakpoint_count = d.folder_count = 0,
	        d.folder[0].path[0] = '\0', d.idle_timeout_ms = 1);
	REFUSE("too many disks", d.disk_count = DESCRIPTION_DISKS_MAX + 1);
	REFUSE("too many breakpoints", d.breakpoint_count = DESCRIPTION_BREAKPOINTS_MAX + 1);
	REFUSE("disk's mode", d.disk[1].read_only = 2);
	REFUSE("disk's mode", d.disk[9].cache = WISP_CACHE_UNSAFE + 1);
	REFUSE("without an image", d.flags &= ~(uint32_t)DESCRIPTION_IMAGE);
	REFUSE("fewer disks", d.disk_count = 1);
	REFUSE("read-only", d.disk[1].read_only = 1);
	REFUSE("read-only", d.disk[0].read_only = 0);
	REFUSE("payload with", d.flags |= DESCRIPTION_BARE);
	REFUSE("switched off and required", d.flags |= DESCRIPTION_NO_JAIL | DESCRIPTION_REQUIRE_JAIL);
	REFUSE("payload with", d.flags = DESCRIPTION_BARE | DESCRIPTION_RECLAIM, d.disk_count = 0,
	        d.breakpoint_count = 0);
	REFUSE("is to boot", d.flags = DESCRIPTION_RESTORE | DESCRIPTION_RECLAIM, d.breakpoint_count = 0);
	REFUSE("without a port", d.net.port = DESCRIPTION_NET_NONE);
	REFUSE("network's port", d.net.port = DESCRIPTION_NET_STREAM + 1);
	REFUSE("network's port", d.net.port = DESCRIPTION_NET_DOWN);
	REFUSE("network's queues", d.net.queues = 0);
	REFUSE("network's queues", d.net.queues = DESCRIPTION_NET_QUEUES_MAX + 1);
	REFUSE("network's queues", d.net.port = DESCRIPTION_NET_STREAM);
	REFUSE("network's MTU", d.net.mtu = WISP_NET_MTU_MIN - 1);
	REFUSE("of a group", d.net.mac[0] = 1);
	REFUSE("network's addresses", d.net.prefix = 33);
	REFUSE("network's addresses", d.net.prefix = 0);
	REFUSE("network's addresses", d.net.address = 0);
	REFUSE("network's addresses", d.net.address = d.net.prefix = 0);
	REFUSE("addresses of IPv6", d.net.prefix6 = 129);
	REFUSE("addresses of IPv6", d.net.prefix6 = 0);
	REFUSE("addresses of IPv6", d.net.address6 = in6addr_any);
	REFUSE("addresses of IPv6", d.net.address6 = in6addr_any, d.net.prefix6 = 0);
	REFUSE("addresses of IPv6", d.net.address6 = d.net.dns6 = in6addr_any, d.net.prefix6 = 0);
	REFUSE("addresses of IPv6", d.net.address6 = d.net.gateway6 = in6addr_any, d.net.prefix6 = 0);
	REFUSE("payload with a network", d.flags = DESCRIPTION_BARE,
	        d.disk_count = d.breakpoint_count = d.folder_count = 0, d.folder[0].path[0] = '\0');
	REFUSE("without a trace", d.flags &= ~(uint32_t)DESCRIPTION_TRACE);
	REFUSE("without an end", memset(d.kernel_args, 'x', sizeof(d.kernel_args)));
	REFUSE("without an end", memset(d.kernel_name, 'x', sizeof(d.kernel_name)));
	REFUSE("without an end", memset(d.breakpoint[7].name, 'x', sizeof(d.breakpoint[7].name)));
	REFUSE("without an end", memset(d.folder[7].path, '/', sizeof(d.folder[7].path)));
	REFUSE("without an end", memset(d.name, 'x', sizeof(d.name)));
	REFUSE("bad name", d.name[0] = '\0');
	REFUSE("bad name", description_set(d.name, sizeof(d.name), "../up"));
	REFUSE("bad name", description_set(d.name, sizeof(d.name), "a/b"));
}

static void a_string_that_is_too_long_is_told(void)
{
	struct description d = valid();
	CHECK_EQ(description_set(d.hostname, sizeof(d.hostname),
	                 "0123456789012345678901234567890123456789012345678901234567890123456789"),
	        -E2BIG);
	CHECK_EQ(strlen(d.hostname), sizeof(d.hostname) - 1);
}

TEST_MAIN("description", {"it_arrives_whole_with_its_descriptors", it_arrives_whole_with_its_descriptors},
        {"a_broken_message_is_refused_and_keeps_nothing", a_broken_message_is_refused_and_keeps_nothing},
        {"every_field_is_checked", every_field_is_checked},
        {"a_string_that_is_too_long_is_told", a_string_that_is_too_long_is_told})
