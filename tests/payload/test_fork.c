/* SPDX-License-Identifier: Apache-2.0 */
/* Pause, snapshot, restore and fork through the library, with a real wisp-vmm on any /dev/kvm. */
#include <sys/mount.h>
#include <sys/syscall.h>

#include "tests/payload/counting.h"
#include "tests/unit/fail_call.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true; /* such a monitor has no jail */
#else
static const bool sanitized = false;
#endif

static void a_paused_sandbox_stands_still(void)
{
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	uint64_t first;
	struct wisp_sandbox *box = start_counting("box");
	REQUIRE(box);
	CHECK_EQ(wisp_pause_sandbox(box, &error), 0);
	size_t length = log_length("box");
	REQUIRE(wisp_inspect_sandbox(root, "box", &info, &error) == 0);
	CHECK_EQ(info->state, WISP_SANDBOX_PAUSED);
	wisp_free_sandbox_info(info);
	CHECK_EQ(wisp_pause_sandbox(box, &error), 0);
	pause_ms(100);
	CHECK_EQ(log_length("box"), length);
	CHECK_EQ(wisp_resume_sandbox(box, &error), 0);
	CHECK_EQ(wisp_resume_sandbox(box, &error), 0);
	CHECK(counts_on("box"));
	CHECK(is_count("box", &first));
	CHECK_EQ(wisp_pause_sandbox(box, &error), 0);
	CHECK(stop(box)); /* a paused one, too */
	CHECK(!exists("box"));
}

static void clones_count_on_and_so_does_their_source(void)
{
	static const char *const names[] = {"box", "new-1", "new-2", "new-3"};
	struct wisp_sandbox *box = start_counting("box"), *clone[3];
	uint64_t first[4];
	REQUIRE(box);
	REQUIRE(fork_into(box, 3, "new", clone) == 0);
	for (int i = 0; i < 4; i++) {
		CHECK(counts_on(names[i]));
		CHECK(is_count(names[i], &first[i]));
	}
	/* One pause for all: they go on with the same number. */
	CHECK(first[1] > 1 && first[1] == first[2] && first[2] == first[3]);
	CHECK(wisp_get_pause_us(box) > 0);
	/* A clone of a clone, whose sources end before it. */
	struct wisp_sandbox *second;
	uint64_t its_first;
	REQUIRE(fork_into(clone[0], 1, "again", &second) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(stop(clone[i]));
	CHECK(stop(box));
	CHECK(counts_on("again"));
	CHECK(is_count("again", &its_first));
	CHECK(its_first >= first[1]);
	CHECK(stop(second));
	CHECK(!exists("box") && !exists("new-1") && !exists("again"));
}

static void snapshots_start_any_number(void)
{
	struct wisp_sandbox *box = start_counting("box"), *one, *two;
	struct wisp_error error;
	uint64_t first[2], own;
	struct stat st;
	for (int compress = 0; compress < 2; compress++) {
		REQUIRE(box);
		REQUIRE(save(box, compress, false) == 0);
		REQUIRE(stat(file, &st) == 0);
		CHECK_EQ(st.st_mode & 07777, 0600);
		CHECK_EQ(wisp_verify_snapshot(file, NULL, &error), 0);
		one = restore_as("one", false);
		two = restore_as("two", false);
		REQUIRE(one && two);
		CHECK(counts_on("box") && counts_on("one") && counts_on("two"));
		CHECK(is_count("box", &own) && is_count("one", &first[0]) && is_count("two", &first[1]));
		CHECK(first[0] > 1 && first[0] == first[1]);
		CHECK(stop(one));
		CHECK(stop(two));
	}
	REQUIRE(save(box, false, true) == 0);
	CHECK_EQ(wisp_wait_sandbox(box, HANG_MS, NULL, &error), 0);
	wisp_close_sandbox(box);
	one = restore_as("one", false);
	REQUIRE(one);
	CHECK(counts_on("one"));
	CHECK(stop(one));
	unlink(file);
}

static void a_template_is_only_forked(void)
{
	struct wisp_sandbox *box = start_counting("box"), *template, *clone[5];
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	uint64_t first[5];
	char name[16];
	REQUIRE(box && save(box, false, true) == 0);
	wisp_close_sandbox(box);
	template = restore_as("template", true);
	REQUIRE(template);
	unlink(file); /* it keeps what it needs */
	REQUIRE(wisp_inspect_sandbox(root, "template", &info, &error) == 0);
	CHECK_EQ(info->state, WISP_SANDBOX_TEMPLATE);
	CHECK(sanitized || info->jail_layers & WISP_LAYER_SECCOMP);
	wisp_free_sandbox_info(info);
	CHECK(wisp_resume_sandbox(template, &error) < 0);
	REQUIRE(fork_into(template, 5, "new", clone) == 0);
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "new-%d", i + 1);
		CHECK(counts_on(name));
		CHECK(is_count(name, &first[i]));
		CHECK_EQ(first[i], first[0]);
	}
	CHECK_EQ(log_length("template"), 0);
	CHECK(stop(template));
	for (int i = 0; i < 5; i++)
		CHECK(stop(clone[i]));
}

/* Of a sandbox that runs, that is paused, and of its clone, whose monitor cannot know its memory. */
static void counts_are_told_meanwhile(void)
{
	struct wisp_sandbox *box = start_counting("box"), *clone;
	struct wisp_stats *before, *after;
	struct wisp_error error;
	REQUIRE(box && counts_on("box"));
	REQUIRE(wisp_sandbox_stats(box, &before, &error) == 0);
	CHECK_STR(before->name, "box");
	CHECK_EQ(before->cpus, 1);
	CHECK(before->uptime_ns > 0 && before->vcpus_ns > 0);
	CHECK(before->vcpus_ns == before->vcpu_ns[0] && before->cpu_ns >= before->loop_ns);
	CHECK(before->memory_known || access("/proc/self/smaps", R_OK) < 0);
	/* The guest has written to some pages, of the 32 MiB that it has. */
	CHECK(!before->memory_known ||
	        (before->guest_memory.resident >= 65536 && before->guest_memory.private_only >= 65536 &&
	                before->guest_memory.resident <= 33u << 20));
	CHECK(!before->memory_known ||
	        (before->monitor_memory.proportional > 0 &&
	                before->resident == before->guest_memory.resident + before->monitor_memory.resident));
	REQUIRE(before->device_count == 1);
	CHECK_STR(before->devices[0].name, "console");
	CHECK(!before->exits_known || before->exits > 0);
	CHECK(before->state == WISP_SANDBOX_RUNNING || before->state == WISP_SANDBOX_BOOTING);
	CHECK(counts_on("box"));
	CHECK_EQ(wisp_pause_sandbox(box, &error), 0);
	REQUIRE(wisp_sandbox_stats(box, &after, &error) == 0);
	CHECK_EQ(after->state, WISP_SANDBOX_PAUSED);
	CHECK(after->vcpus_ns > before->vcpus_ns && after->uptime_ns > before->uptime_ns);
	CHECK(after->exits >= before->exits);
	wisp_free_stats(before);
	wisp_free_stats(after);
	REQUIRE(fork_into(box, 1, "clone", &clone) == 0);
	REQUIRE(wisp_sandbox_stats(clone, &after, &error) == 0);
	CHECK(!after->memory_known);
	CHECK(after->resident > 0);
	wisp_free_stats(after);
	CHECK(stop(clone));
	CHECK(stop(box));
}

/* A clone has its source's limit, from its own start on; a pause does not stop it. */
static void clones_inherit_the_limits(void)
{
	struct wisp_create_options options = options_for("box");
	struct wisp_sandbox *box, *clone;
	struct wisp_sandbox_info *info;
	enum wisp_end end[2] = {0};
	struct wisp_error error;
	options.kernel = payload;
	options.kernel_args = "payload=count fill=4";
	options.memory_mib = 64;
	options.bare = options.no_wait = true;
	options.max_duration_ms = 5000;
	REQUIRE(wisp_create_sandbox(&options, &box, &error) == 0 && counts_on("box"));
	REQUIRE(fork_into(box, 1, "clone", &clone) == 0);
	REQUIRE(wisp_inspect_sandbox(root, "clone", &info, &error) == 0);
	CHECK_EQ(info->max_duration_ms, 5000);
	wisp_free_sandbox_info(info);
	CHECK_EQ(wisp_pause_sandbox(clone, &error), 0);
	CHECK_EQ(wisp_wait_sandbox(box, HANG_MS, &end[0], &error), 0);
	CHECK_EQ(wisp_wait_sandbox(clone, HANG_MS, &end[1], &error), 0);
	CHECK(end[0] == WISP_END_MAX_DURATION && end[1] == WISP_END_MAX_DURATION);
	wisp_close_sandbox(box);
	wisp_close_sandbox(clone);
}

static bool uses(const char *name, enum wisp_engine engine)
{
	struct wisp_sandbox_info *info;
	if (wisp_inspect_sandbox(root, name, &info, NULL) < 0)
		return false;
	bool good = info->engine == engine && (sanitized || info->jail_layers & WISP_LAYER_IO_URING);
	wisp_free_sandbox_info(info);
	return good;
}

/* Of a sandbox and its clone, which has no choice: the jail is made for its source's. */
static void the_engine_is_told(void)
{
	struct wisp_sandbox *box = start_counting("box"), *one, *clone;
	REQUIRE(box && save(box, false, true) == 0);
	wisp_close_sandbox(box);
	one = restore_as("one", false);
	REQUIRE(one && fork_into(one, 1, "clone", &clone) == 0);
	CHECK(uses("one", test_engine()) && uses("clone", test_engine()));
	CHECK(counts_on("clone"));
	CHECK(stop(one));
	CHECK(stop(clone));
	unlink(file);
}

/* A host that forbids io_uring, as containers do: epoll is chosen, unless io_uring is required. */
static void io_uring_is_not_needed(void)
{
	int status = -1;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		struct wisp_create_options options = options_for("other");
		struct wisp_sandbox *box, *one;
		struct wisp_error error;
		char text[8192] = "", path[PATH_MAX];
		if (!make_call_fail(SYS_io_uring_setup, EPERM))
			_exit(77);
		setenv("WISP_TEST_ENGINE", "auto", 1);
		box = start_counting("box");
		CHECK(box && save(box, false, true) == 0);
		wisp_close_sandbox(box);
		one = restore_as("one", false);
		CHECK(one && counts_on("one") && uses("one", WISP_ENGINE_EPOLL));
		snprintf(path, sizeof(path), "%s/one/vmm.log", root);
		FILE *log = fopen(path, "re");
		CHECK(log && fread(text, 1, sizeof(text) - 1, log) > 0 && strstr(text, "io_uring (not used: epoll)"));
		CHECK(stop(one));
		options.kernel = payload;
		options.bare = options.no_wait = true;
		options.engine = WISP_ENGINE_IO_URING;
		CHECK(wisp_create_sandbox(&options, &box, &error) == 0 && wisp_wait_ready(box, HANG_MS, &error) < 0);
		CHECK(strstr(error.message, "cannot use io_uring: Operation not permitted (allow it: "));
		wisp_close_sandbox(box);
		fflush(stdout);
		_exit(test_failed);
	}
	waitpid(pid, &status, 0);
	unlink(file);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("seccomp is not available");
	CHECK_EQ(status, 0);
}

static void bad_numbers_and_names_are_refused(void)
{
	struct wisp_sandbox *box = start_counting("box"), *other = start_counting("other"), *clone[2];
	REQUIRE(box && other);
	CHECK_EQ(fork_into(box, 0, "new", clone), -EINVAL);
	CHECK_EQ(fork_into(box, WISP_CLONES_MAX + 1, "new", clone), -EINVAL);
	CHECK(fork_into(box, 1, "other", clone) < 0 && !clone[0]);
	CHECK(fork_into(box, 1, "../x", clone) < 0);
	/* The second name is taken: the first clone goes, too. */
	CHECK(stop(other));
	other = start_counting("new-2");
	REQUIRE(other);
	CHECK(fork_into(box, 2, "new", clone) < 0);
	CHECK(!exists("new-1"));
	CHECK(counts_on("box"));
	CHECK(stop(other));
	CHECK(stop(box));
}

/* The library dies between its request and the clone's description: the clone's process goes, the source lives. */
static void a_fork_whose_caller_dies_leaves_nothing(void)
{
	struct wisp_sandbox *box = start_counting("box");
	REQUIRE(box);
	for (int i = 0; i < 10; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			struct wisp_sandbox *clone[3];
			fork_into(box, 3, "new", clone);
			_exit(0);
		}
		pause_ms(i * 2);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	CHECK(counts_on("box"));
	for (int i = 0; i < HANG_MS / 10 && (exists("new-1") || exists("new-2") || exists("new-3")); i++) {
		struct wisp_error error;
		/* What was claimed and never had a monitor is stale. */
		wisp_remove_sandbox(root, "new-1", &error);
		wisp_remove_sandbox(root, "new-2", &error);
		wisp_remove_sandbox(root, "new-3", &error);
		pause_ms(10);
	}
	CHECK(!exists("new-1") && !exists("new-2") && !exists("new-3"));
	CHECK(stop(box));
}

static void a_full_disk_leaves_no_file(void)
{
	char dir[PATH_MAX], kept[PATH_MAX];
	struct wisp_sandbox *box = start_counting("box");
	struct wisp_snapshot_options options = {.size = sizeof(options)};
	struct wisp_error error;
	REQUIRE(box);
	snprintf(dir, sizeof(dir), "%s/small", root);
	snprintf(kept, sizeof(kept), "%s/small/snapshot", root);
	mkdir(dir, 0700);
	if (mount("tmpfs", dir, "tmpfs", 0, "size=1M") < 0) {
		rmdir(dir);
		CHECK(stop(box));
		SKIP("it takes a mount, which only root can make");
	}
	CHECK_EQ(wisp_snapshot_sandbox(box, kept, &options, &error), -ENOSPC);
	printf("# %s\n", error.message);
	DIR *list = opendir(dir);
	struct dirent *entry;
	while (list && (entry = readdir(list)))
		CHECK(entry->d_name[0] == '.');
	if (list)
		closedir(list);
	CHECK(counts_on("box"));
	CHECK(stop(box));
	umount(dir);
	rmdir(dir);
}

static void cycles_leave_nothing_behind(void)
{
	struct wisp_sandbox *box = start_counting("box"), *clone;
	struct wisp_sandbox_info *info;
	char fds[64];
	struct wisp_error error;
	REQUIRE(box && save(box, false, false) == 0);
	REQUIRE(wisp_inspect_sandbox(root, "box", &info, &error) == 0);
	snprintf(fds, sizeof(fds), "/proc/%d/fd", info->pid);
	wisp_free_sandbox_info(info);
	int own = count_entries("/proc/self/fd"), its = count_entries(fds), names = count_entries(root);
	const char *asked = getenv("SOAK_CYCLES"); /* make soak */
	for (int i = 0, cycles = asked ? atoi(asked) : 25; i < cycles; i++) {
		REQUIRE(fork_into(box, 1, "new", &clone) == 0);
		CHECK(counts_on("new"));
		CHECK(stop(clone));
		clone = restore_as("new", false);
		REQUIRE(clone);
		CHECK(stop(clone));
	}
	CHECK_EQ(count_entries("/proc/self/fd"), own);
	CHECK(count_entries(fds) <= its); /* it may have had the connection of the snapshot then */
	CHECK_EQ(count_entries(root), names);
	CHECK(stop(box));
	unlink(file);
	/* No child is left either, of this process or of the monitor. */
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

/* Mappings of the snapshot's file in the sandbox's monitor. */
static int count_mappings(const char *name)
{
	struct wisp_sandbox_info *info;
	char path[64], line[PATH_MAX + 128];
	int count = 0;
	if (wisp_inspect_sandbox(root, name, &info, NULL) < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/maps", info->pid);
	wisp_free_sandbox_info(info);
	FILE *maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps))
		count += strstr(line, file) != NULL;
	if (!maps || fclose(maps) != 0)
		return -1;
	return count;
}

static void private_memory_is_not_the_files(void)
{
	struct wisp_create_options options = options_for("new");
	struct wisp_sandbox *box = start_counting("box"), *shared = NULL, *own = NULL;
	REQUIRE(box && save(box, false, true) == 0);
	wisp_close_sandbox(box);
	shared = restore_as("shared", false);
	options.from = file;
	options.cache_dir = cache;
	options.private_memory = true;
	REQUIRE(shared && wisp_create_sandbox(&options, &own, NULL) == 0);
	CHECK(count_mappings("shared") > 0);
	CHECK_EQ(count_mappings("new"), 0);
	CHECK(counts_on("new"));
	CHECK(stop(shared));
	CHECK(stop(own));
	unlink(file);
}

COUNTING_MAIN("fork", {"a_paused_sandbox_stands_still", a_paused_sandbox_stands_still},
        {"clones_count_on_and_so_does_their_source", clones_count_on_and_so_does_their_source},
        {"snapshots_start_any_number", snapshots_start_any_number},
        {"private_memory_is_not_the_files", private_memory_is_not_the_files},
        {"a_template_is_only_forked", a_template_is_only_forked},
        {"counts_are_told_meanwhile", counts_are_told_meanwhile},
        {"clones_inherit_the_limits", clones_inherit_the_limits}, {"the_engine_is_told", the_engine_is_told},
        {"io_uring_is_not_needed", io_uring_is_not_needed},
        {"bad_numbers_and_names_are_refused", bad_numbers_and_names_are_refused},
        {"a_fork_whose_caller_dies_leaves_nothing", a_fork_whose_caller_dies_leaves_nothing},
        {"a_full_disk_leaves_no_file", a_full_disk_leaves_no_file},
        {"cycles_leave_nothing_behind", cycles_leave_nothing_behind})
