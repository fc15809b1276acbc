/* SPDX-License-Identifier: Apache-2.0 */
/* The library and a real wisp-vmm on any /dev/kvm: bare sandboxes that run tests/payload/payload.c. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/engine.h"
#include "tests/unit/test.h"
#include "wisp.h"

#define HANG_MS 30000
#if defined(__x86_64__)
#define PC_NAME "rip"
#else
#define PC_NAME "pc"
#endif

static char libdir[PATH_MAX], payload[PATH_MAX], base[PATH_MAX], initramfs[PATH_MAX];
static char root[] = "/tmp/wisp-test-XXXXXX";

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true; /* such a monitor has no jail */
#else
static const bool sanitized = false;
#endif

static struct wisp_create_options options_for(const char *args)
{
	return (struct wisp_create_options){.size = sizeof(struct wisp_create_options),
	        .state_root = root,
	        .name = "box",
	        .libdir = libdir,
	        .kernel = payload,
	        .kernel_args = args,
	        .memory_mib = WISP_MEMORY_MIB_MIN,
	        .engine = test_engine(),
	        .bare = true,
	        .no_wait = true};
}

static bool exists(const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	snprintf(path, sizeof(path), "%s/%s", root, name);
	return stat(path, &st) == 0;
}

static bool write_file(const char *path, const void *data, size_t size)
{
	FILE *file = fopen(path, "w");
	return file && fwrite(data, size, 1, file) == 1 && fclose(file) == 0;
}

static void pause_ms(int ms)
{
	struct timespec pause = {.tv_nsec = ms * 1000000L};
	nanosleep(&pause, NULL);
}

/* The monitor creates this log once it watches its owner. */
static bool runs_in_time(void)
{
	for (int i = 0; i < HANG_MS / 10 && !exists("box/console.log"); i++)
		pause_ms(10);
	return exists("box/console.log");
}

static bool runs_in_time_or_ends(struct wisp_sandbox *sandbox)
{
	enum wisp_end end;
	for (int i = 0; i < HANG_MS / 10 && !exists("box/console.log"); i++) {
		if (wisp_wait_sandbox(sandbox, 0, &end, NULL) != -EAGAIN)
			return false;
		pause_ms(10);
	}
	return exists("box/console.log");
}

static bool gone_in_time(const char *name)
{
	for (int i = 0; i < HANG_MS / 10 && exists(name); i++)
		pause_ms(10);
	return !exists(name);
}

static void ends_are_told(void)
{
	static const struct {
		const char *args;
		enum wisp_end end;
	} cases[] = {{"payload=poweroff", WISP_END_POWEROFF}, {"payload=reboot", WISP_END_REBOOT},
	        {"payload=panic", WISP_END_PANIC}};
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	for (size_t i = 0; i < 3; i++) {
		struct wisp_create_options options = options_for(cases[i].args);
		enum wisp_end end = WISP_END_UNKNOWN;
		if (wisp_create_sandbox(&options, &sandbox, &error) < 0)
			printf("# %s\n", error.message);
		REQUIRE(sandbox);
		CHECK_EQ(wisp_wait_sandbox(sandbox, HANG_MS, &end, &error), 0);
		CHECK_EQ(end, cases[i].end);
		wisp_close_sandbox(sandbox);
		CHECK(!exists("box"));
	}
}

/* Processes of this user that serve a folder: each monitor here has at most one. */
static unsigned count_servers(const char *folder)
{
	char path[PATH_MAX], target[PATH_MAX];
	unsigned count = 0;
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	while (proc && (entry = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/fd/6", entry->d_name);
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		count += strcmp(target, folder) == 0;
	}
	if (proc)
		closedir(proc);
	return count;
}

/* The machine has its device; the process that serves it ends with it. */
static void it_serves_folders(void)
{
	struct wisp_create_options options = options_for("payload=spin");
	struct wisp_sandbox *sandbox = NULL;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	char shared[64];
	snprintf(shared, sizeof(shared), "%s/shared", root);
	REQUIRE(mkdir(shared, 0755) == 0);
	struct wisp_folder folder = {.path = shared, .guest = "/work", .read_only = true};
	options.bare = false;
	options.image = base;
	options.initramfs = initramfs;
	options.folders = &folder;
	options.folder_count = 1;
	options.folder_size = sizeof(folder);
	if (wisp_create_sandbox(&options, &sandbox, &error) < 0)
		printf("# %s\n", error.message);
	REQUIRE(sandbox && runs_in_time());
	CHECK_EQ(count_servers(shared), geteuid() == 0 ? 1 : 0);
	REQUIRE(wisp_inspect_sandbox(root, "box", &info, &error) == 0);
	REQUIRE(info->folders[0] && !info->folders[1]);
	CHECK_STR(info->folders[0]->path, shared);
	wisp_free_sandbox_info(info);
	struct wisp_stats *stats;
	int r = -1;
	for (int i = 0; i < HANG_MS / 10 && (r = wisp_sandbox_stats(sandbox, &stats, &error)) < 0; i++)
		pause_ms(10); /* it does not take requests yet */
	REQUIRE(r == 0);
	bool has_device = false;
	for (size_t i = 0; i < stats->device_count; i++)
		has_device |= strcmp(stats->devices[i].name, "folder0") == 0;
	CHECK(has_device);
	wisp_free_stats(stats);
	wisp_close_sandbox(sandbox);
	for (int i = 0; i < HANG_MS / 10 && count_servers(shared) > 0; i++)
		pause_ms(10);
	CHECK_EQ(count_servers(shared), 0);
	CHECK(rmdir(shared) == 0);
}

static void what_is_kept_stays(void)
{
	struct wisp_create_options options = options_for("payload=poweroff");
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	options.keep = options.trace = true;
	REQUIRE(wisp_create_sandbox(&options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_wait_sandbox(sandbox, HANG_MS, NULL, &error), 0);
	wisp_close_sandbox(sandbox);
	REQUIRE(wisp_inspect_sandbox(root, "box", &info, &error) == 0);
	CHECK_EQ(info->state, WISP_SANDBOX_STOPPED);
	CHECK_EQ(info->end, WISP_END_POWEROFF);
	wisp_free_sandbox_info(info);
	CHECK(exists("box/trace") && exists("box/vmm.log") && exists("box/console.log") && exists("box/state"));
	CHECK(!exists("box/vsock.sock"));
	CHECK_EQ(wisp_remove_sandbox(root, "box", &error), 0);
	CHECK(!exists("box"));
}

/* What the guest printed last is in the record of its end, so a failed boot explains itself. */
static void the_last_words_are_kept(void)
{
	struct wisp_create_options options = options_for("payload=print");
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	options.keep = true;
	REQUIRE(wisp_create_sandbox(&options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_wait_sandbox(sandbox, HANG_MS, NULL, &error), 0);
	wisp_close_sandbox(sandbox);
	REQUIRE(wisp_inspect_sandbox(root, "box", &info, &error) == 0);
	CHECK_STR(info->end_text, "the guest powered off; its last words were \"hello from the payload\"");
	wisp_free_sandbox_info(info);
	CHECK_EQ(wisp_remove_sandbox(root, "box", &error), 0);
}

/* The owner's copy of the console. One that is full, because nobody reads it, does not stop the guest or its end. */
static void the_console_is_copied(void)
{
	struct wisp_create_options options = options_for("payload=print");
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	static char text[1 << 17];
	int ends[2];
	for (int full = 0; full < 2; full++) {
		enum wisp_end end = WISP_END_UNKNOWN;
		REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
		if (full)
			CHECK_EQ(write(ends[1], text, (size_t)fcntl(ends[1], F_GETPIPE_SZ)), 65536);
		options.console = true;
		options.console_fd = &ends[1];
		REQUIRE(wisp_create_sandbox(&options, &sandbox, &error) == 0);
		CHECK_EQ(wisp_wait_sandbox(sandbox, HANG_MS, &end, &error), 0);
		CHECK_EQ(end, WISP_END_POWEROFF);
		CHECK_EQ(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
		wisp_close_sandbox(sandbox);
		ssize_t n = read(ends[0], text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		CHECK(full ? n == 65536 : strstr(text, "hello from the payload") != NULL);
		close(ends[0]);
		close(ends[1]);
		memset(text, 0, sizeof(text));
	}
}

/* A boot that takes too long says where the processor is. */
static void a_boot_timeout_says_where_it_is(void)
{
	struct wisp_create_options options = options_for("payload=spin");
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	options.bare = options.no_wait = false;
	options.image = base;
	options.initramfs = initramfs;
	options.boot_timeout_ms = 1000; /* a slow host's vCPU must have begun by then */
	CHECK_EQ(wisp_create_sandbox(&options, &sandbox, &error), -ETIMEDOUT);
	CHECK_EQ(error.status, WISP_ERR_BOOT_TIMEOUT);
	bool told = strstr(error.message, "not ready after 1 s, with vCPU 0 at " PC_NAME " 0x");
	CHECK(told);
	if (!told)
		printf("# %s\n", error.message);
	CHECK(!exists("box"));
}

/* It ends by itself, detached or not, says why, and what is told of it says so too. */
static void it_lives_no_longer_than_allowed(void)
{
	struct wisp_create_options options = options_for("payload=spin");
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	enum wisp_end end = WISP_END_UNKNOWN;
	options.keep = true;
	options.max_duration_ms = 300;
	REQUIRE(wisp_create_sandbox(&options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_wait_sandbox(sandbox, HANG_MS, &end, &error), 0);
	CHECK_EQ(end, WISP_END_MAX_DURATION);
	wisp_close_sandbox(sandbox);
	REQUIRE(wisp_inspect_sandbox(root, "box", &info, &error) == 0);
	CHECK_EQ(info->end, WISP_END_MAX_DURATION);
	CHECK_EQ(info->max_duration_ms, 300);
	CHECK(strstr(info->end_text, "it has lived for 0.3 s"));
	wisp_free_sandbox_info(info);
	CHECK(wisp_open_sandbox(root, "box", &sandbox, &error) < 0);
	CHECK(strstr(error.message, "it ended (max-duration): it has lived for 0.3 s"));
	CHECK_EQ(wisp_remove_sandbox(root, "box", &error), 0);
	options.idle_timeout_ms = 1;
	CHECK_EQ(wisp_create_sandbox(&options, &sandbox, &error), -EINVAL);
	CHECK(strstr(error.message, "no sessions"));
}

static void closing_the_handle_ends_it(void)
{
	struct wisp_create_options options = options_for("payload=spin");
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	REQUIRE(wisp_create_sandbox(&options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_wait_sandbox(sandbox, 50, NULL, &error), -EAGAIN);
	wisp_close_sandbox(sandbox);
	CHECK(!exists("box"));
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

/* The caller's working directory can be unmounted and deleted. */
static void it_works_in_its_own_directory(void)
{
	struct wisp_create_options options = options_for("payload=spin");
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	char link[64], cwd[PATH_MAX] = "", box[PATH_MAX];
	REQUIRE(wisp_create_sandbox(&options, &sandbox, &error) == 0 && runs_in_time());
	REQUIRE(wisp_inspect_sandbox(root, "box", &info, &error) == 0);
	snprintf(link, sizeof(link), "/proc/%d/cwd", (int)info->pid);
	wisp_free_sandbox_info(info);
	CHECK(readlink(link, cwd, sizeof(cwd) - 1) > 0);
	snprintf(box, sizeof(box), "%s/box", root);
	CHECK_STR(cwd, box);
	wisp_close_sandbox(sandbox);
	CHECK(gone_in_time("box"));
}

/* A line of /proc/PID/status of the sandbox `box`, such as "NoNewPrivs:\t1". */
static bool has_status(const char *wanted)
{
	struct wisp_sandbox_info *info;
	char path[64], line[256];
	bool found = false;
	if (wisp_inspect_sandbox(root, "box", &info, NULL) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)info->pid);
	wisp_free_sandbox_info(info);
	FILE *status = fopen(path, "re");
	while (status && !found && fgets(line, sizeof(line), status))
		found = strncmp(line, wanted, strlen(wanted)) == 0;
	if (status)
		fclose(status);
	return found;
}

static void it_is_in_its_jail(void)
{
	struct wisp_create_options options = options_for("payload=spin");
	struct wisp_sandbox *sandbox;
	for (int jailed = 0; jailed < 2; jailed++) {
		options.jail = jailed ? WISP_JAIL_DEFAULT : WISP_JAIL_OFF;
		REQUIRE(wisp_create_sandbox(&options, &sandbox, NULL) == 0 && runs_in_time());
		CHECK(has_status(jailed && !sanitized ? "NoNewPrivs:\t1" : "NoNewPrivs:\t0"));
		CHECK(!jailed || sanitized || has_status("Seccomp:\t2"));
		CHECK(!jailed || sanitized || has_status("CapPrm:\t0000000000000000"));
		wisp_close_sandbox(sandbox);
		CHECK(gone_in_time("box"));
	}
}

static void a_whole_jail_can_be_required(void)
{
	struct wisp_create_options options = options_for("payload=spin");
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	options.jail = WISP_JAIL_REQUIRE;
	REQUIRE(wisp_create_sandbox(&options, &sandbox, &error) == 0);
	/* Whether this host can have it or not: nothing runs without. */
	if (runs_in_time_or_ends(sandbox)) {
		CHECK(has_status("Seccomp:\t2"));
	} else {
		CHECK(wisp_wait_ready(sandbox, HANG_MS, &error) < 0);
		CHECK(strstr(error.message, "is not whole, as --jail=require wants: "));
		printf("# %s\n", error.message);
	}
	wisp_close_sandbox(sandbox);
	CHECK(gone_in_time("box"));
}

/*
 * What the monitor of a running sandbox has open, and what no other test would notice: a descriptor of whoever started
 * it, or of its start.
 */
static void it_keeps_known_descriptors_only(void)
{
	static const char *const known[] = {"/dev/null", "/dev/kvm", "socket:[", "anon_inode:[eventfd]",
	        "anon_inode:[io_uring]", "anon_inode:[eventpoll]", "anon_inode:[signalfd]", "anon_inode:[pidfd]",
	        "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:", "anon_inode:kvm-vcpu-stats:", "pidfd:["};
	struct wisp_create_options options = options_for("payload=spin");
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	char dir[64];
	unsigned count = 0;
	int leaked = open("/etc/passwd", O_RDONLY); /* without O_CLOEXEC */
	REQUIRE(wisp_create_sandbox(&options, &sandbox, NULL) == 0 && runs_in_time());
	REQUIRE(wisp_inspect_sandbox(root, "box", &info, NULL) == 0);
	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)info->pid);
	wisp_free_sandbox_info(info);
	DIR *fds = opendir(dir);
	for (struct dirent *entry; fds && (entry = readdir(fds));) {
		char target[PATH_MAX] = "";
		if (entry->d_name[0] == '.' || readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1) < 0)
			continue;
		bool good = strncmp(target, root, strlen(root)) == 0;
		/* Of the monitor itself, for wisp stats. */
		good |= strncmp(target, "/proc/", 6) == 0 && strstr(target, "/smaps");
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			good |= strncmp(target, known[i], strlen(known[i])) == 0;
		if (!good)
			printf("# %s is %s\n", entry->d_name, target);
		CHECK(good);
		count++;
	}
	if (fds)
		closedir(fds);
	printf("# %u descriptors\n", count);
	CHECK(count > 0 && count <= 24);
	close(leaked);
	wisp_close_sandbox(sandbox);
	CHECK(gone_in_time("box"));
}

/* A process that the owner forked holds its descriptors, and is no owner. */
static void the_owners_death_ends_it(void)
{
	int ends[2], go[2];
	char byte;
	pid_t heir;
	REQUIRE(pipe(ends) == 0 && pipe(go) == 0);
	pid_t owner = fork();
	if (owner == 0) {
		struct wisp_create_options options = options_for("payload=spin");
		struct wisp_sandbox *sandbox;
		if (wisp_create_sandbox(&options, &sandbox, NULL) < 0)
			_exit(1);
		pid_t child = fork();
		if (child == 0) {
			while (read(go[0], &byte, 1) < 0)
				;
			_exit(0);
		}
		if (write(ends[1], &child, sizeof(child)) != sizeof(child))
			_exit(1);
		pause();
		_exit(1);
	}
	REQUIRE(read(ends[0], &heir, sizeof(heir)) == sizeof(heir));
	CHECK(runs_in_time());
	kill(owner, SIGKILL);
	waitpid(owner, NULL, 0);
	CHECK_EQ(kill(heir, 0), 0);
	CHECK(gone_in_time("box"));
	CHECK_EQ(write(go[1], "g", 1), 1);
	close(ends[0]);
	close(ends[1]);
	close(go[0]);
	close(go[1]);
}

static void a_refused_kernel_is_explained(void)
{
	struct wisp_create_options options = options_for(NULL);
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	options.kernel = "/etc/passwd";
	if (wisp_create_sandbox(&options, &sandbox, &error) < 0)
		printf("# %s\n", error.message);
	REQUIRE(sandbox);
	CHECK(wisp_wait_ready(sandbox, HANG_MS, &error) < 0);
	CHECK_EQ(error.status, WISP_ERR_SETUP);
	CHECK(strstr(error.message, "kernel /etc/passwd is not an "));
	wisp_close_sandbox(sandbox);
	CHECK(!exists("box"));
}

/* It is a program for the library: by hand it says so, and does nothing. */
static void started_by_hand_it_explains_itself(void)
{
	char command[PATH_MAX + 64], line[512] = "";
	snprintf(command, sizeof(command), "%s/wisp-vmm 3</dev/null 2>&1", libdir);
	FILE *pipe = popen(command, "r");
	REQUIRE(pipe && fgets(line, sizeof(line), pipe));
	CHECK(strstr(line, "libwisp starts this program"));
	CHECK_EQ(WEXITSTATUS(pclose(pipe)), 125);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"ends_are_told", ends_are_told},
	        {"it_serves_folders", it_serves_folders},
	        {"what_is_kept_stays", what_is_kept_stays},
	        {"the_last_words_are_kept", the_last_words_are_kept},
	        {"the_console_is_copied", the_console_is_copied},
	        {"a_boot_timeout_says_where_it_is", a_boot_timeout_says_where_it_is},
	        {"it_lives_no_longer_than_allowed", it_lives_no_longer_than_allowed},
	        {"closing_the_handle_ends_it", closing_the_handle_ends_it},
	        {"it_works_in_its_own_directory", it_works_in_its_own_directory},
	        {"it_is_in_its_jail", it_is_in_its_jail},
	        {"a_whole_jail_can_be_required", a_whole_jail_can_be_required},
	        {"it_keeps_known_descriptors_only", it_keeps_known_descriptors_only},
	        {"the_owners_death_ends_it", the_owners_death_ends_it},
	        {"a_refused_kernel_is_explained", a_refused_kernel_is_explained},
	        {"started_by_hand_it_explains_itself", started_by_hand_it_explains_itself},
	};
	const char *path = getenv("PAYLOAD");
	if (!realpath(path ? path : "build/tests/payload/payload", payload)) {
		perror("payload");
		return 1;
	}
	/* <build>/tests/payload/test_monitor */
	if (!realpath("/proc/self/exe", libdir))
		return 1;
	for (int i = 0; i < 3; i++)
		*strrchr(libdir, '/') = '\0';
	strncat(libdir, "/lib/wisp", sizeof(libdir) - strlen(libdir) - 1);
	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			printf("skip monitor/%s: no /dev/kvm\n", cases[i].name);
		return 0;
	}
	if (!mkdtemp(root))
		return 1;
	/* An image and an initramfs as far as the host can tell: the payload looks at neither. */
	unsigned char super[4096] = {0x68, 0x73, 0x71, 0x73, [41] = 0x10}; /* squashfs of 4096 bytes */
	snprintf(base, sizeof(base), "%s/base", root);
	snprintf(initramfs, sizeof(initramfs), "%s/initramfs", root);
	if (!write_file(base, super, sizeof(super)) || !write_file(initramfs, super, 512))
		return 1;
	int code = test_main("monitor", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
	unlink(base);
	unlink(initramfs);
	rmdir(root);
	return code;
}
