/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's life, with a monitor that obeys the contract and has no machine (test_lib.h). */
#include <sched.h>
#include <sys/eventfd.h>

#include "tests/unit/test_place.h"
#include "vmm/lib/pack.h"

static void create_exec_close(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	struct wisp_output *output;
	const char *argv[] = {"echo", "hi", NULL};
	REQUIRE(make_place(&p));
	p.options.name = NULL;
	int before = count_entries("/proc/self/fd");
	REQUIRE((sandbox = create(&p.options)));
	CHECK(strncmp(wisp_get_sandbox_name(sandbox), "wisp-", 5) == 0);
	CHECK_EQ(wisp_exec(sandbox, argv, NULL, &output, &error), 0);
	CHECK_STR((const char *)output->stdout_data, "hi\n");
	wisp_free_output(output);
	wisp_close_sandbox(sandbox);
	CHECK_EQ(count_entries("/proc/self/fd"), before);
	end_place(&p, 0);
}

static void the_monitor_gets_its_description(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct description d;
	char disk[128], other[128];
	REQUIRE(make_place(&p));
	snprintf(disk, sizeof(disk), "%s/disk", p.dir);
	snprintf(other, sizeof(other), "%s/other", p.dir);
	write_file(p.dir, "disk", "data");
	write_file(p.dir, "other", "data");
	struct wisp_disk disks[] = {
	        {.path = disk, .rate = {11, 12}}, {.path = other, .read_only = true, .cache = WISP_CACHE_UNSAFE}};
	const char *breakpoints[] = {"start_kernel=0xffffffff81000000", NULL};
	p.options.disks = disks;
	p.options.disk_count = 2;
	p.options.memory_mib = 96;
	p.options.boot_timeout_ms = 1500;
	p.options.hostname = "host";
	p.options.max_duration_ms = 60000;
	p.options.idle_timeout_ms = INT64_MAX;
	p.options.image_rate = (struct wisp_rate){1, 2};
	p.options.overlay_rate = (struct wisp_rate){5, 5};
	p.options.vsock_rate = (struct wisp_rate){.bytes = 3};
	p.options.console_rate = (struct wisp_rate){.operations = 4};
	p.options.console = true;
	p.options.kernel_args = "a=b c";
	p.options.trace = true;
	p.options.reclaim = true;
	p.options.engine = WISP_ENGINE_EPOLL;
	p.options.breakpoints = breakpoints;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	int fd = openat(AT_FDCWD, wisp_get_sandbox_dir(sandbox), O_RDONLY | O_DIRECTORY), file;
	file = openat(fd, "description", O_RDONLY);
	REQUIRE(file >= 0 && read(file, &d, sizeof(d)) == (ssize_t)sizeof(d));
	close(file);
	close(fd);
	CHECK_EQ(d.flags, DESCRIPTION_EPHEMERAL | DESCRIPTION_CONSOLE | DESCRIPTION_TRACE | DESCRIPTION_INITRAMFS |
	                          DESCRIPTION_IMAGE | DESCRIPTION_RECLAIM);
	CHECK(d.cpus == 1 && d.memory_mib == 96 && d.engine == WISP_ENGINE_EPOLL);
	CHECK_EQ(d.boot_timeout_ms, 1500);
	CHECK_EQ(d.disk_count, 3);
	CHECK_EQ(d.disk[0].read_only, 1);
	CHECK_EQ(d.disk[1].read_only, 0);
	CHECK_EQ(d.disk[2].read_only, 1);
	CHECK_EQ(d.disk[2].cache, WISP_CACHE_UNSAFE);
	CHECK(d.disk[0].rate.bytes == 1 && d.disk[0].rate.operations == 2);
	CHECK(d.disk[1].rate.bytes == 11 && d.disk[1].rate.operations == 12);
	CHECK(d.disk[2].rate.bytes == 0 && d.vsock_rate.bytes == 3 && d.console_rate.operations == 4);
	CHECK(d.max_duration_ms == 60000 && d.idle_timeout_ms == DESCRIPTION_LIFETIME_MS_MAX);
	CHECK_EQ(d.stop_grace_ms, WISP_STOP_GRACE_MS_DEFAULT);
	CHECK_EQ(d.breakpoint_count, 1);
	CHECK_STR(d.breakpoint[0].name, "start_kernel");
	CHECK_EQ(d.breakpoint[0].addr, 0xffffffff81000000);
	CHECK_STR(d.name, "box");
	CHECK_STR(d.hostname, "host");
	CHECK_STR(d.kernel_args, "a=b c");
	CHECK_STR(d.kernel_name, p.kernel);
	CHECK(d.started_ns > 0);
	wisp_close_sandbox(sandbox);
	end_place(&p, 0);
}

/* A handle is of one sandbox, and never of another that has the name afterwards. */
static void a_handle_does_not_follow_its_name(void)
{
	struct place p;
	struct wisp_sandbox *first, *old, *second;
	struct wisp_error error;
	struct wisp_output *output;
	struct wisp_session *session;
	struct wisp_session_info **list;
	enum wisp_end end;
	int fd;
	const char *argv[] = {"true", NULL};
	REQUIRE(make_place(&p));
	REQUIRE(wisp_create_sandbox(&p.options, &first, &error) == 0);
	REQUIRE(wisp_open_sandbox(p.root, "box", &old, &error) == 0);
	CHECK_EQ(wisp_exec(old, argv, NULL, &output, &error), 0);
	wisp_free_output(output);
	CHECK_EQ(wisp_stop_sandbox(first, 0, &error), 0);
	wisp_close_sandbox(first);
	REQUIRE(wisp_create_sandbox(&p.options, &second, &error) == 0);
	CHECK_EQ(wisp_exec(old, argv, NULL, &output, &error), -ESRCH);
	CHECK_EQ(error.status, WISP_ERR_NOT_RUNNING);
	CHECK_EQ(wisp_exec_stream(old, argv, NULL, &session, &error), -ESRCH);
	CHECK_EQ(wisp_open_session(old, 1, NULL, &session, &error), -ESRCH);
	CHECK_EQ(wisp_list_sessions(old, &list, &error), -ESRCH);
	CHECK_EQ(wisp_ping_sandbox(old, NULL, &error), -ESRCH);
	CHECK_EQ(wisp_connect_port(old, 1, -1, &fd, &error), -ESRCH);
	CHECK_EQ(wisp_listen_port(old, 5000, &fd, &error), -ESRCH);
	CHECK_EQ(error.status, WISP_ERR_NOT_RUNNING);
	CHECK_EQ(wisp_wait_sandbox(old, -1, &end, &error), 0);
	CHECK_EQ(wisp_kill_sandbox(old, &error), 0);
	wisp_close_sandbox(old);
	CHECK_EQ(wisp_exec(second, argv, NULL, &output, &error), 0);
	wisp_free_output(output);
	wisp_close_sandbox(second);
	end_place(&p, 0);
}

/* A boot that does not end, and one that is stopped and does not obey. */
static void creating_and_stopping_are_cancelled(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	int fd = eventfd(1, EFD_CLOEXEC);
	struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = &fd};
	REQUIRE(make_place(&p));
	set_kernel(&p, "fake-hang");
	p.options.cancel = &cancel;
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -ECANCELED);
	CHECK_EQ(error.status, WISP_ERR_CANCELLED);
	CHECK(!sandbox);
	CHECK_EQ(count_entries(p.root), 0);
	p.options.no_wait = true;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_wait_ready(sandbox, -1, &error), -ECANCELED);
	CHECK_EQ(wisp_wait_sandbox(sandbox, -1, NULL, &error), -ECANCELED);
	wisp_close_sandbox(sandbox);
	set_kernel(&p, "fake-stubborn");
	p.options.no_wait = false;
	p.options.cancel = NULL;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_set_cancel(sandbox, &cancel, &error), 0);
	CHECK_EQ(wisp_stop_sandbox(sandbox, 60000, &error), -ECANCELED);
	CHECK_EQ(wisp_set_cancel(sandbox, NULL, &error), 0);
	CHECK_EQ(wisp_kill_sandbox(sandbox, &error), 0);
	wisp_close_sandbox(sandbox);
	close(fd);
	end_place(&p, 0);
}

static void detached_lives_on(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct wisp_sandbox_info **list;
	struct wisp_error error;
	struct wisp_output *output;
	const char *env[] = {"A=b\nc\\d", NULL}, *argv[] = {"sh", "-c", "echo \"$A\" $PWD", NULL};
	REQUIRE(make_place(&p));
	p.options.detach = p.options.keep = true;
	p.options.env = env;
	p.options.workdir = "/tmp";
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	wisp_close_sandbox(sandbox);
	/* As another process would. */
	REQUIRE(wisp_open_sandbox(p.root, "box", &sandbox, &error) == 0);
	CHECK_EQ(wisp_exec(sandbox, argv, NULL, &output, &error), 0);
	CHECK_STR((const char *)output->stdout_data, "b\nc\\d /tmp\n");
	wisp_free_output(output);
	CHECK_EQ(wisp_list_sandboxes(p.root, &list, &error), 1);
	CHECK_STR(list[0]->name, "box");
	CHECK_EQ(list[0]->state, WISP_SANDBOX_RUNNING);
	CHECK(list[0]->pid > 1 && kill(list[0]->pid, 0) == 0);
	CHECK_STR(list[0]->env[0], env[0]);
	wisp_free_sandbox_list(list);
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), -EBUSY);
	CHECK_EQ(error.status, WISP_ERR_STILL_RUNNING);
	CHECK_EQ(wisp_wait_sandbox(sandbox, 0, NULL, &error), -EAGAIN);
	CHECK_EQ(wisp_stop_sandbox(sandbox, 0, &error), 0);
	enum wisp_end end;
	CHECK_EQ(wisp_wait_sandbox(sandbox, 0, &end, &error), 0);
	CHECK_EQ(end, WISP_END_POWEROFF);
	CHECK_EQ(wisp_stop_sandbox(sandbox, 0, &error), 0);
	wisp_close_sandbox(sandbox);
	CHECK_EQ(wisp_open_sandbox(p.root, "box", &sandbox, &error), -ESRCH);
	CHECK_EQ(error.status, WISP_ERR_NOT_RUNNING);
	CHECK_EQ(wisp_inspect_sandbox(p.root, "box", &info, &error), 0);
	CHECK_EQ(info->state, WISP_SANDBOX_STOPPED);
	CHECK_EQ(info->end, WISP_END_POWEROFF);
	CHECK_STR(info->end_text, "powered off");
	wisp_free_sandbox_info(info);
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), 0);
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), -ENOENT);
	end_place(&p, 0);
}

static void failed_boots_leave_nothing(void)
{
	static const struct {
		const char *kernel;
		enum wisp_status status;
		const char *word;
	} cases[] = {
	        {"fake-error", WISP_ERR_SETUP, "the kernel is fake"},
	        {"fake-panic", WISP_ERR_BOOT_FAILED, "panic"},
	        {"fake-die", WISP_ERR_SETUP, "without saying why"},
	};
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	REQUIRE(make_place(&p));
	for (size_t i = 0; i < 12; i++) {
		set_kernel(&p, cases[i % 3].kernel);
		p.options.detach = i % 6 >= 3;
		p.options.keep = i >= 6;
		CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) < 0);
		CHECK_EQ(error.status, cases[i % 3].status);
		if (!strstr(error.message, cases[i % 3].word))
			printf("# %s\n", error.message);
		CHECK(strstr(error.message, cases[i % 3].word));
		CHECK(!sandbox);
		CHECK_EQ(count_entries(p.root), 0);
	}
	end_place(&p, 0);
}

static void a_boot_that_hangs(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	REQUIRE(make_place(&p));
	set_kernel(&p, "fake-hang");
	p.options.boot_timeout_ms = 1;
	for (int detach = 0; detach < 2; detach++) {
		p.options.detach = detach;
		int64_t began = now_ms();
		CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -ETIMEDOUT);
		CHECK_EQ(error.status, WISP_ERR_BOOT_TIMEOUT);
		CHECK(now_ms() - began < 6000);
	}
	end_place(&p, 0);
}

static void create_without_waiting(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	REQUIRE(make_place(&p));
	p.options.no_wait = true;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	int r;
	while ((r = wisp_wait_ready(sandbox, 0, &error)) == -EAGAIN) {
		struct pollfd pfd = {.fd = wisp_get_sandbox_fd(sandbox), .events = POLLIN};
		REQUIRE(poll(&pfd, 1, 5000) == 1);
	}
	CHECK_EQ(r, 0);
	CHECK_EQ(wisp_wait_ready(sandbox, -1, &error), 0);
	wisp_close_sandbox(sandbox);
	/* Given up in the middle. */
	set_kernel(&p, "fake-hang");
	for (int detach = 0; detach < 2; detach++) {
		p.options.detach = p.options.keep = detach;
		REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
		CHECK_EQ(wisp_wait_ready(sandbox, 10, &error), -EAGAIN);
		wisp_close_sandbox(sandbox);
		CHECK_EQ(count_entries(p.root), 0);
	}
	end_place(&p, 0);
}

static void stubborn_guests_are_killed(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	REQUIRE(make_place(&p));
	set_kernel(&p, "fake-stubborn");
	p.options.keep = true;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	int64_t began = now_ms();
	CHECK_EQ(wisp_stop_sandbox(sandbox, 100, &error), 0);
	CHECK(now_ms() - began < 5000);
	wisp_close_sandbox(sandbox);
	CHECK_EQ(wisp_inspect_sandbox(p.root, "box", &info, &error), 0);
	CHECK_EQ(info->state, WISP_SANDBOX_STOPPED);
	CHECK_EQ(info->end, WISP_END_KILLED);
	wisp_free_sandbox_info(info);
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), 0);
	p.options.keep = false;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_kill_sandbox(sandbox, &error), 0);
	CHECK_EQ(count_entries(p.root), 0);
	wisp_close_sandbox(sandbox);
	end_place(&p, 0);
}

static void the_end_is_told(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	enum wisp_end end = WISP_END_UNKNOWN;
	REQUIRE(make_place(&p));
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_wait_sandbox(sandbox, 10, &end, &error), -EAGAIN);
	struct wisp_sandbox_info *info;
	REQUIRE(wisp_inspect_sandbox(p.root, "box", &info, &error) == 0);
	CHECK(info->pid > 1);
	kill(info->pid, SIGTERM);
	wisp_free_sandbox_info(info);
	struct pollfd pfd = {.fd = wisp_get_sandbox_fd(sandbox), .events = POLLIN};
	CHECK_EQ(poll(&pfd, 1, 5000), 1);
	CHECK_EQ(wisp_wait_sandbox(sandbox, 5000, &end, &error), 0);
	CHECK_EQ(end, WISP_END_POWEROFF);
	wisp_close_sandbox(sandbox);
	end_place(&p, 0);
}

static void bad_options_are_refused(void)
{
	struct place p;
	REQUIRE(make_place(&p));
	struct wisp_create_options good = p.options;
	static const char *const names[] = {"", "A", "-x", ".x", "a/b", "a\nb", "a b", "..",
	        "a123456789012345678901234567890123456789012345678901234567890123"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		p.options.name = names[i];
		expect_refusal(&p, WISP_ERR_INVALID, "not a name for a sandbox");
	}
	p.options = good;
	p.options.cpus = WISP_CPUS_MAX + 1;
	expect_refusal(&p, WISP_ERR_INVALID, "cpus");
	p.options.cpus = WISP_CPUS_MAX;
	expect_refusal(&p, WISP_ERR_INVALID, "this host has");
	p.options = good;
	p.options.memory_mib = WISP_MEMORY_MIB_MIN - 1;
	expect_refusal(&p, WISP_ERR_INVALID, "memory");
	p.options.memory_mib = 1u << 30;
	expect_refusal(&p, WISP_ERR_INVALID, "memory");
	p.options = good;
	p.options.workdir = "tmp";
	expect_refusal(&p, WISP_ERR_INVALID, "not absolute");
	p.options = good;
	p.options.hostname = "a host";
	expect_refusal(&p, WISP_ERR_INVALID, "host name");
	p.options = good;
	p.options.engine = WISP_ENGINE_EPOLL + 1;
	expect_refusal(&p, WISP_ERR_INVALID, "there is no engine 3");
	p.options = good;
	p.options.boot_timeout_ms = -1;
	expect_refusal(&p, WISP_ERR_INVALID, "negative");
	p.options = good;
	p.options.state_root = NULL;
	expect_refusal(&p, WISP_ERR_INVALID, "state_root");
	p.options.state_root = "/tmp";
	expect_refusal(&p, WISP_ERR_INVALID, "others may write");
	p.options = good;
	p.options.kernel = "/no/kernel";
	expect_refusal(&p, WISP_ERR_SETUP, "/no/kernel");
	p.options = good;
	p.options.initramfs = "/no/initramfs";
	expect_refusal(&p, WISP_ERR_SETUP, "initramfs");
	p.options = good;
	p.options.helper = "/etc/passwd";
	expect_refusal(&p, WISP_ERR_SETUP, "/etc/passwd");
	p.options = good;
	p.options.libdir = "/no/lib";
	expect_refusal(&p, WISP_ERR_SETUP, "/no/lib");
	p.options = good;
	struct wisp_disk disk = {.path = "/no/disk"};
	p.options.disks = &disk;
	p.options.disk_count = 1;
	expect_refusal(&p, WISP_ERR_SYSTEM, "/no/disk");
	disk = (struct wisp_disk){.path = "/proc/version", .read_only = true, .cache = WISP_CACHE_DIRECT};
	expect_refusal(&p, WISP_ERR_INVALID, "O_DIRECT");
	disk.cache = (enum wisp_cache)3;
	expect_refusal(&p, WISP_ERR_INVALID, "cache mode 3");
	p.options = good;
	p.options.writable = true;
	expect_refusal(&p, WISP_ERR_IMAGE, "only ext4");
	end_place(&p, 0);
}

static void images_are_checked(void)
{
	struct place p;
	char path[128];
	REQUIRE(make_place(&p));
	snprintf(path, sizeof(path), "%s/image", p.dir);
	p.options.image = path;
	expect_refusal(&p, WISP_ERR_IMAGE, "there is no image");
	write_file(p.dir, "image", "");
	expect_refusal(&p, WISP_ERR_IMAGE, "empty");
	write_file(p.dir, "image", "garbage");
	expect_refusal(&p, WISP_ERR_IMAGE, "not an image");
	write_file(p.dir, "image", "hsqs");
	CHECK_EQ(truncate(path, 4096), 0);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	uint64_t bytes = 4097;
	CHECK_EQ(pwrite(fd, &bytes, sizeof(bytes), 40), 8);
	close(fd);
	expect_refusal(&p, WISP_ERR_IMAGE, "truncated");
	/* The kernel that comes with wisp is known. */
	p.options.kernel = NULL;
	expect_refusal(&p, WISP_ERR_IMAGE, "squashfs of version 0.0");
	p.options.kernel = p.kernel;
	p.options.image = NULL;
	p.options.overlay = path;
	expect_refusal(&p, WISP_ERR_IMAGE, "format it with mkfs.ext4");
	p.options.overlay = NULL;
	p.options.image = "/dev/null";
	expect_refusal(&p, WISP_ERR_IMAGE, "not a file");
	p.options.image = p.dir;
	expect_refusal(&p, WISP_ERR_INVALID, "cache_dir");
	end_place(&p, 0);
}

/* A directory is packed once, and again when something in it changed. */
static void directories_are_packed(void)
{
	if (access("/usr/bin/mksquashfs", X_OK) < 0)
		SKIP("no mksquashfs");
	struct place p;
	char tree[80], cache[80], inner[112];
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	char first[256] = "";
	REQUIRE(make_place(&p));
	snprintf(tree, sizeof(tree), "%s/tree", p.dir);
	snprintf(cache, sizeof(cache), "%s/cache/images", p.dir);
	snprintf(inner, sizeof(inner), "%s/sub", tree);
	CHECK_EQ(mkdir(tree, 0755), 0);
	CHECK_EQ(mkdir(inner, 0755), 0);
	write_file(inner, "file", "text");
	p.options.image = tree;
	p.options.cache_dir = cache;
	for (int round = 0; round < 3; round++) {
		if (round == 2)
			write_file(inner, "file", "other text");
		REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
		CHECK_EQ(wisp_inspect_sandbox(p.root, "box", &info, &error), 0);
		if (round == 0)
			snprintf(first, sizeof(first), "%s", info->image);
		CHECK(strncmp(info->image, cache, strlen(cache)) == 0);
		CHECK_EQ(strcmp(info->image, first) == 0, round < 2);
		wisp_free_sandbox_info(info);
		wisp_close_sandbox(sandbox);
	}
	CHECK_EQ(count_entries(cache), 3); /* two images and the lock */
	end_place(&p, 0);
}

/* mksquashfs is ended, and what it has written so far is gone. */
static void packing_is_cancelled(void)
{
	struct place p;
	char tree[80], cache[80], large[112];
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	int fd = eventfd(1, EFD_CLOEXEC);
	struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = &fd};
	if (!pack_find())
		SKIP("no mksquashfs");
	REQUIRE(make_place(&p));
	snprintf(tree, sizeof(tree), "%s/tree", p.dir);
	snprintf(cache, sizeof(cache), "%s/cache", p.dir);
	snprintf(large, sizeof(large), "%s/large", tree);
	CHECK_EQ(mkdir(tree, 0755), 0);
	write_file(tree, "large", "");
	CHECK_EQ(truncate(large, 1ll << 40), 0); /* keeps it busy */
	p.options.image = tree;
	p.options.cache_dir = cache;
	p.options.cancel = &cancel;
	p.options.no_wait = true;
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -ECANCELED);
	CHECK_EQ(error.status, WISP_ERR_CANCELLED);
	CHECK(!sandbox);
	CHECK_EQ(count_entries(cache), 0);
	close(fd);
	end_place(&p, 0);
}

static void many_at_once(void)
{
	struct place p;
	struct wisp_sandbox *sandboxes[12];
	struct wisp_error error;
	REQUIRE(make_place(&p));
	p.options.name = NULL;
	p.options.no_wait = true;
	for (int i = 0; i < 12; i++)
		REQUIRE(wisp_create_sandbox(&p.options, &sandboxes[i], &error) == 0);
	for (int i = 0; i < 12; i++)
		CHECK_EQ(wisp_wait_ready(sandboxes[i], -1, &error), 0);
	CHECK_EQ(count_entries(p.root), 12);
	for (int i = 0; i < 12; i++)
		wisp_close_sandbox(sandboxes[i]);
	end_place(&p, 0);
}

static void no_state_root_holds_none(void)
{
	struct wisp_sandbox_info **list;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	CHECK_EQ(wisp_list_sandboxes("/no/such/root", &list, &error), 0);
	CHECK(list && !list[0]);
	wisp_free_sandbox_list(list);
	CHECK_EQ(wisp_open_sandbox("/no/such/root", "box", &sandbox, &error), -ENOENT);
	CHECK_EQ(error.status, WISP_ERR_NO_SANDBOX);
	CHECK_EQ(wisp_open_sandbox("/tmp", "../etc", &sandbox, &error), -EINVAL);
}

/* A program that ignores SIGCHLD, as some daemons do, has its children reaped by the kernel. */
static void sigchld_ignored(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	REQUIRE(make_place(&p));
	signal(SIGCHLD, SIG_IGN);
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), 0);
	wisp_close_sandbox(sandbox);
	signal(SIGCHLD, SIG_DFL);
	end_place(&p, 0);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"create_exec_close", create_exec_close},
	        {"the_monitor_gets_its_description", the_monitor_gets_its_description},
	        {"a_handle_does_not_follow_its_name", a_handle_does_not_follow_its_name},
	        {"creating_and_stopping_are_cancelled", creating_and_stopping_are_cancelled},
	        {"detached_lives_on", detached_lives_on},
	        {"failed_boots_leave_nothing", failed_boots_leave_nothing},
	        {"a_boot_that_hangs", a_boot_that_hangs},
	        {"create_without_waiting", create_without_waiting},
	        {"stubborn_guests_are_killed", stubborn_guests_are_killed},
	        {"the_end_is_told", the_end_is_told},
	        {"bad_options_are_refused", bad_options_are_refused},
	        {"images_are_checked", images_are_checked},
	        {"directories_are_packed", directories_are_packed},
	        {"packing_is_cancelled", packing_is_cancelled},
	        {"many_at_once", many_at_once},
	        {"no_state_root_holds_none", no_state_root_holds_none},
	        {"sigchld_ignored", sigchld_ignored},
	};
	return test_main("lib_create", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
