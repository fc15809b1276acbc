/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots, from the fake monitor of test_lib.h: saved, verified, refused, and what is made from them. */
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "tests/unit/test_saved.h"

static void pause_and_resume(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *other;
	REQUIRE(start(&s, 0));
	CHECK_EQ(wisp_pause_sandbox(s.sandbox, &error), 0);
	CHECK_EQ(state_of(s.sandbox), WISP_SANDBOX_PAUSED);
	CHECK_EQ(wisp_pause_sandbox(s.sandbox, &error), 0);
	/* A paused one can be opened, also by another process. */
	REQUIRE(wisp_open_sandbox(s.place.root, "box", &other, &error) == 0);
	expect(wisp_ping_sandbox(other, NULL, &error), -EAGAIN, &error, "is paused: resume it");
	CHECK_EQ(error.status, WISP_ERR_NOT_RUNNING);
	CHECK_EQ(wisp_resume_sandbox(other, &error), 0);
	CHECK_EQ(wisp_ping_sandbox(other, NULL, &error), 0);
	CHECK_EQ(state_of(s.sandbox), WISP_SANDBOX_RUNNING);
	CHECK_EQ(wisp_resume_sandbox(other, &error), 0);
	CHECK_EQ(wisp_refresh_disks(other, &error), 0);
	CHECK_EQ(wisp_stop_sandbox(s.sandbox, 0, &error), 0);
	expect(wisp_pause_sandbox(other, &error), -ESRCH, &error, "not running");
	wisp_close_sandbox(other);
	end(&s);
}

static void save_and_restore(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	struct wisp_output *output;
	struct description d;
	const char *env[] = {"A=1", "B=2", NULL}, *more[] = {"B=3", "C=4", NULL};
	const char *argv[] = {"sh", "-c", "echo $A $B $C $PWD", NULL};
	REQUIRE(start(&s, 1));
	wisp_close_sandbox(s.sandbox);
	s.place.options.env = env;
	s.place.options.workdir = "/tmp";
	s.place.options.memory_mib = 96;
	s.place.options.hostname = "first";
	REQUIRE(wisp_create_sandbox(&s.place.options, &s.sandbox, &error) == 0);
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, NULL, &error), 0, &error, "");
	CHECK_EQ(wisp_get_pause_us(s.sandbox), 1234);
	CHECK_EQ(mode_of(s.file), 0600);
	CHECK_EQ(state_of(s.sandbox), WISP_SANDBOX_RUNNING);
	expect(wisp_verify_snapshot(s.file, NULL, &error), 0, &error, "");
	struct wisp_create_options options = from(&s);
	options.env = more;
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	REQUIRE(sandbox && read_description(sandbox, &d));
	CHECK_EQ(d.flags, DESCRIPTION_RESTORE | DESCRIPTION_IMAGE | DESCRIPTION_EPHEMERAL);
	CHECK_EQ(d.memory_mib, 96);
	CHECK_EQ(d.disk_count, 2);
	CHECK_EQ(d.layout.data_size, FAKE_MEMORY);
	CHECK_STR(d.hostname, "new");
	CHECK_EQ(wisp_exec(sandbox, argv, NULL, &output, &error), 0);
	CHECK_STR((const char *)output->stdout_data, "1 3 4 /tmp\n");
	wisp_free_output(output);
	/* A snapshot of what came from one. */
	struct wisp_snapshot_options again = {.size = sizeof(again), .replace = true};
	expect(wisp_snapshot_sandbox(sandbox, s.file, &again, &error), 0, &error, "");
	wisp_close_sandbox(sandbox);
	/* The machine is what it is. */
	options = from(&s);
	options.cpus = 1;
	options.memory_mib = 96;
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	wisp_close_sandbox(sandbox);
	options.memory_mib = 128;
	refuse(&options, -EINVAL, "128 cannot be chosen");
	options = from(&s);
	options.cpus = 2;
	refuse(&options, -EINVAL, "2 cannot be chosen");
	options = from(&s);
	options.kernel = s.place.kernel;
	refuse(&options, -EINVAL, "the kernel");
	options = from(&s);
	options.is_template = true;
	refuse(&options, -EINVAL, "requires detach");
	options = from(&s);
	options.from = NULL;
	options.copy_disks = true;
	refuse(&options, -EINVAL, "set from");
	end(&s);
}

static void nothing_else_is_replaced(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_snapshot_options options = {.size = sizeof(options)};
	char text[32];
	REQUIRE(start(&s, 0));
	write_file(s.place.dir, "file", "a letter");
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &options, &error), -EEXIST, &error, "exists");
	options.replace = true;
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &options, &error), -EEXIST, &error, "not a snapshot");
	read_text(s.place.dir, "file", text, sizeof(text));
	CHECK_STR(text, "a letter");
	expect(wisp_snapshot_sandbox(s.sandbox, s.place.dir, &options, &error), -EEXIST, &error, "not a snapshot");
	expect(wisp_snapshot_sandbox(
	               s.sandbox, "/tmp/", &(struct wisp_snapshot_options){.size = sizeof(options)}, &error),
	        -EEXIST, &error, "exists");
	expect(wisp_snapshot_sandbox(s.sandbox, "/nowhere/file", &options, &error), -ENOENT, &error,
	        "cannot open the directory /nowhere/");
	unlink(s.file);
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &options, &error), 0, &error, "");
	int entries = count_entries(s.place.dir);
	for (int i = 0; i < 3; i++) {
		options.compress = i == 1;
		expect(wisp_snapshot_sandbox(s.sandbox, s.file, &options, &error), 0, &error, "");
		expect(wisp_verify_snapshot(s.file, NULL, &error), 0, &error, "");
	}
	CHECK_EQ(count_entries(s.place.dir), entries);
	end(&s);
}

static void change_byte(const char *path, off_t at)
{
	uint8_t byte;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pread(fd, &byte, 1, at) != 1)
		abort();
	byte ^= 0x10;
	if (pwrite(fd, &byte, 1, at) != 1)
		abort();
	close(fd);
}

static void altered_files_are_refused(void)
{
	static const struct {
		off_t at;
		const char *word;
		bool only_verified; /* a restore reads memory when it is used */
	} changes[] = {
	        {0, "not a snapshot", false},
	        {16, "its format is version", false},
	        {100, "its head is damaged", false},
	        {SNAPSHOT_HEAD_SIZE - 1, "its head is damaged", false},
	        {SNAPSHOT_HEAD_SIZE, "state is damaged", false},
	        {SNAPSHOT_HEAD_SIZE + 2 * SNAPSHOT_PAGE + 3, "state is damaged", false},
	        {SNAPSHOT_HEAD_SIZE + 3 * SNAPSHOT_PAGE, "MiB 0 differs", true},
	        {SNAPSHOT_HEAD_SIZE + 3 * SNAPSHOT_PAGE + FAKE_MEMORY - 1, "MiB 2 differs", true},
	        {SNAPSHOT_HEAD_SIZE + 3 * SNAPSHOT_PAGE + FAKE_MEMORY + 9, "its checksums are damaged", true},
	};
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	REQUIRE(start(&s, 0));
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, NULL, &error), 0, &error, "");
	struct wisp_create_options options = from(&s);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		change_byte(s.file, changes[i].at);
		CHECK(wisp_verify_snapshot(s.file, NULL, &error) < 0);
		CHECK_EQ(error.status, WISP_ERR_SNAPSHOT);
		if (!strstr(error.message, changes[i].word))
			printf("# %s\n", error.message);
		CHECK(strstr(error.message, changes[i].word));
		CHECK_EQ(wisp_create_sandbox(&options, &sandbox, &error) == 0, changes[i].only_verified);
		wisp_close_sandbox(sandbox);
		change_byte(s.file, changes[i].at);
	}
	expect(wisp_verify_snapshot(s.file, NULL, &error), 0, &error, "");
	struct stat st;
	REQUIRE(stat(s.file, &st) == 0);
	REQUIRE(truncate(s.file, st.st_size + 1) == 0);
	refuse(&options, -EBADMSG, "after its end");
	REQUIRE(truncate(s.file, st.st_size - 1) == 0);
	refuse(&options, -EBADMSG, "truncated");
	REQUIRE(truncate(s.file, 1000) == 0);
	refuse(&options, -EBADMSG, "ends in its head");
	REQUIRE(truncate(s.file, 0) == 0);
	refuse(&options, -ENODATA, "not a snapshot");
	unlink(s.file);
	refuse(&options, -ENOENT, "there is no snapshot");
	options.from = s.place.dir;
	refuse(&options, -EINVAL, "not a regular file");
	end(&s);
}

static void count_progress(void *context, uint64_t done, uint64_t total)
{
	uint64_t *last = context;
	CHECK(done > *last && done <= total);
	*last = done;
}

static void compressed(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	struct description d;
	struct stat st;
	uint64_t done = 0;
	struct wisp_progress progress = {.size = sizeof(progress), .report = count_progress, .context = &done};
	struct wisp_snapshot_options save = {.size = sizeof(save), .compress = true, .progress = &progress};
	REQUIRE(start(&s, 0));
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &save, &error), 0, &error, "");
	CHECK(done > FAKE_MEMORY);
	CHECK_EQ(mode_of(s.file), 0600);
	REQUIRE(stat(s.file, &st) == 0);
	CHECK(st.st_size < FAKE_MEMORY / 4);
	expect(wisp_verify_snapshot(s.file, NULL, &error), 0, &error, "");
	struct wisp_create_options options = from(&s);
	options.cache_dir = NULL;
	refuse(&options, -EINVAL, "cache_dir is not set");
	options.cache_dir = s.cache;
	options.progress = &progress;
	for (int round = 0; round < 2; round++) {
		done = 0;
		expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
		REQUIRE(sandbox && read_description(sandbox, &d));
		CHECK_EQ(d.layout.data_size, FAKE_MEMORY);
		CHECK_EQ(done > 0, round == 0); /* once */
		wisp_close_sandbox(sandbox);
	}
	CHECK_EQ(count_entries(s.cache), 2); /* and its lock */
	/* What is damaged in the cache is not used; what is damaged itself does not get there. */
	char command[256];
	snprintf(command, sizeof(command), "for f in %s/*.snapshot; do echo x > $f; done", s.cache);
	REQUIRE(system(command) == 0);
	done = 0;
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	CHECK(done > 0);
	wisp_close_sandbox(sandbox);
	options.progress = NULL;
	change_byte(s.file, 4000);
	refuse(&options, -EBADMSG, "damaged");
	CHECK_EQ(wisp_verify_snapshot(s.file, NULL, &error), -EBADMSG);
	CHECK_EQ(count_entries(s.cache), 2);
	change_byte(s.file, 4000);
	static const struct {
		off_t less;
		const char *word;
	} cuts[] = {{1, "truncated"}, {9, "truncated"}, {30, "truncated"}};
	for (size_t i = 0; i < 3; i++) {
		REQUIRE(truncate(s.file, st.st_size - cuts[i].less) == 0);
		refuse(&options, -EBADMSG, cuts[i].word);
	}
	end(&s);
}

/* A full disk, a caller that gives up: the sandbox goes on, and no file is left. */
static void failures_leave_nothing(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_output *output;
	const char *argv[] = {"true", NULL};
	int fd = eventfd(0, EFD_CLOEXEC);
	struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = &fd};
	struct wisp_snapshot_options save = {.size = sizeof(save), .cancel = &cancel, .copy_disks = true};
	struct rlimit limit, old;
	REQUIRE(start(&s, 2));
	int entries = count_entries(s.place.dir), fds = count_entries("/proc/self/fd");
	/* What is over the limit is the library's own: the monitor is another process. */
	signal(SIGXFSZ, SIG_IGN);
	REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
	static const rlim_t limits[] = {3, 4096, SNAPSHOT_HEAD_SIZE + 3 * SNAPSHOT_PAGE + FAKE_MEMORY};
	for (size_t i = 0; i < 3; i++) {
		limit = (struct rlimit){.rlim_cur = limits[i], .rlim_max = old.rlim_max};
		save.compress = i == 1;
		REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
		int r = wisp_snapshot_sandbox(s.sandbox, s.file, &save, &error);
		REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
		expect(r, -EFBIG, &error, "File too large");
		CHECK_EQ(count_entries(s.place.dir), entries);
		CHECK(runs_soon(s.sandbox));
	}
	save.compress = false;
	REQUIRE(write(fd, &(uint64_t){1}, 8) == 8);
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &save, &error), -ECANCELED, &error, "cancelled");
	CHECK_EQ(error.status, WISP_ERR_CANCELLED);
	CHECK_EQ(count_entries(s.place.dir), entries);
	CHECK_EQ(count_entries("/proc/self/fd"), fds);
	CHECK_EQ(wisp_exec(s.sandbox, argv, NULL, &output, &error), 0);
	wisp_free_output(output);
	close(fd);
	end(&s);
}

/* What the monitor cannot write, and a monitor that dies of it. */
static void the_monitor_fails(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	struct rlimit limit, old;
	REQUIRE(start(&s, 0));
	wisp_close_sandbox(s.sandbox);
	REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
	limit = (struct rlimit){.rlim_cur = 1 << 20, .rlim_max = old.rlim_max};
	REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	int r = wisp_create_sandbox(&s.place.options, &s.sandbox, &error);
	REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
	expect(r, 0, &error, "");
	int entries = count_entries(s.place.dir);
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, NULL, &error), -EFBIG, &error,
	        "cannot save the sandbox 'box': File too large");
	CHECK_EQ(count_entries(s.place.dir), entries);
	CHECK_EQ(state_of(s.sandbox), WISP_SANDBOX_RUNNING);
	set_kernel(&s.place, "fake-unsaved");
	s.place.options.name = "other";
	REQUIRE(wisp_create_sandbox(&s.place.options, &sandbox, &error) == 0);
	expect(wisp_snapshot_sandbox(sandbox, s.file, NULL, &error), -ECONNRESET, &error, "hung up");
	CHECK_EQ(count_entries(s.place.dir), entries);
	wisp_close_sandbox(sandbox);
	end(&s);
}

static void die(void *context, uint64_t done, uint64_t total)
{
	(void)context;
	(void)done;
	(void)total;
	kill(getpid(), SIGKILL);
}

/* The process that saves it is killed while it reads back what the monitor wrote, or compresses it. */
static void a_killed_process_leaves_nothing(void)
{
	struct saved s;
	struct wisp_progress progress = {.size = sizeof(progress), .report = die};
	struct wisp_snapshot_options save = {.size = sizeof(save), .progress = &progress, .copy_disks = true};
	REQUIRE(start(&s, 2));
	int entries = count_entries(s.place.dir);
	for (int i = 0; i < 4; i++) {
		save.compress = i & 1;
		save.stop = i & 2;
		pid_t pid = fork();
		if (pid == 0) {
			struct wisp_sandbox *sandbox;
			if (wisp_open_sandbox(s.place.root, "box", &sandbox, NULL) == 0)
				wisp_snapshot_sandbox(sandbox, s.file, &save, NULL);
			_exit(1);
		}
		int status;
		REQUIRE(waitpid(pid, &status, 0) == pid);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		CHECK_EQ(count_entries(s.place.dir), entries);
		/* One that was to be stopped is held by the process that died. */
		CHECK(runs_soon(s.sandbox));
	}
	end(&s);
}

static void templates(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct description d;
	REQUIRE(start(&s, 0));
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, NULL, &error), 0, &error, "");
	struct wisp_create_options options = from(&s);
	options.is_template = options.detach = true;
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	REQUIRE(sandbox && read_description(sandbox, &d));
	CHECK(d.flags & DESCRIPTION_TEMPLATE);
	CHECK_EQ(state_of(sandbox), WISP_SANDBOX_TEMPLATE);
	wisp_close_sandbox(sandbox);
	REQUIRE(wisp_inspect_sandbox(s.place.root, "new", &info, &error) == 0);
	CHECK_EQ(info->state, WISP_SANDBOX_TEMPLATE);
	wisp_free_sandbox_info(info);
	REQUIRE(wisp_open_sandbox(s.place.root, "new", &sandbox, &error) == 0);
	expect(wisp_resume_sandbox(sandbox, &error), -EPERM, &error, "cannot resume");
	expect(wisp_ping_sandbox(sandbox, NULL, &error), -EAGAIN, &error, "a template, which never runs");
	struct wisp_sandbox *clone;
	expect(wisp_fork_sandbox(sandbox, 1, NULL, &clone, &error), 0, &error, "");
	CHECK_EQ(wisp_ping_sandbox(clone, NULL, &error), 0);
	CHECK_EQ(state_of(sandbox), WISP_SANDBOX_TEMPLATE);
	wisp_close_sandbox(clone);
	CHECK_EQ(wisp_kill_sandbox(sandbox, &error), 0);
	wisp_close_sandbox(sandbox);
	end(&s);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"pause_and_resume", pause_and_resume},
	        {"save_and_restore", save_and_restore},
	        {"nothing_else_is_replaced", nothing_else_is_replaced},
	        {"altered_files_are_refused", altered_files_are_refused},
	        {"compressed", compressed},
	        {"failures_leave_nothing", failures_leave_nothing},
	        {"the_monitor_fails", the_monitor_fails},
	        {"a_killed_process_leaves_nothing", a_killed_process_leaves_nothing},
	        {"templates", templates},
	};
	fake_vmm_main(argc, argv);
	return test_main("lib_snapshot", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
