/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots, from the fake monitor of test_lib.h: saved, verified, refused, and what is made from them. */
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "tests/unit/test_place.h"
#include "vmm/shared/snapshot.h"

struct saved {
	struct place place;
	struct wisp_sandbox *sandbox;
	char file[112], cache[112];
	struct wisp_disk disks[2];
	char paths[2][112];
};

/* A sandbox with `disks` further disks, of which the second is read-only. */
static bool start(struct saved *s, size_t disks)
{
	struct wisp_error error;
	memset(s, 0, sizeof(*s));
	if (!make_place(&s->place))
		return false;
	snprintf(s->file, sizeof(s->file), "%s/file", s->place.dir);
	snprintf(s->cache, sizeof(s->cache), "%s/cache", s->place.dir);
	for (size_t i = 0; i < 2; i++) {
		snprintf(s->paths[i], sizeof(s->paths[i]), "%s/d%zu", s->place.dir, i);
		write_file(s->place.dir, i ? "d1" : "d0", i ? "read" : "written");
		s->disks[i] = (struct wisp_disk){.path = s->paths[i], .read_only = i == 1};
	}
	s->place.options.disks = disks == 1 ? s->disks + 1 : s->disks;
	s->place.options.disk_count = disks;
	s->place.options.cache_dir = s->cache;
	if (wisp_create_sandbox(&s->place.options, &s->sandbox, &error) == 0)
		return true;
	printf("# %s\n", error.message);
	return false;
}

static void end(struct saved *s)
{
	wisp_close_sandbox(s->sandbox);
	end_place(&s->place, 0);
}

/* The options of a sandbox that comes from the file. */
static struct wisp_create_options from(const struct saved *s)
{
	struct wisp_create_options options = {.size = sizeof(options),
	        .state_root = s->place.root,
	        .libdir = s->place.lib,
	        .name = "new",
	        .from = s->file,
	        .cache_dir = s->cache,
	        .disk_size = sizeof(struct wisp_disk)};
	return options;
}

static void expect(int got, int wanted, const struct wisp_error *error, const char *word)
{
	if (got != wanted || (wanted < 0 && !strstr(error->message, word)))
		printf("# %d: %s\n", got, got < 0 ? error->message : "");
	CHECK_EQ(got, wanted);
	CHECK(wanted == 0 || strstr(error->message, word));
	CHECK(wanted == 0 || !strchr(error->message, '\n'));
}

static void refuse(const struct wisp_create_options *options, int wanted, const char *word)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error = {0};
	expect(wisp_create_sandbox(options, &sandbox, &error), wanted, &error, word);
	CHECK(!sandbox);
}

static bool read_description(const struct wisp_sandbox *sandbox, struct description *d)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/description", wisp_get_sandbox_dir(sandbox));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, d, sizeof(*d)) : -1;
	if (fd >= 0)
		close(fd);
	return n == (ssize_t)sizeof(*d);
}

static mode_t mode_of(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static enum wisp_sandbox_state state_of(struct wisp_sandbox *sandbox)
{
	enum wisp_sandbox_state state = 0;
	CHECK_EQ(wisp_get_sandbox_state(sandbox, &state, NULL), 0);
	return state;
}

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
	CHECK_EQ(wisp_resume_sandbox(other, &error), 0);
	CHECK_EQ(state_of(s.sandbox), WISP_SANDBOX_RUNNING);
	CHECK_EQ(wisp_resume_sandbox(other, &error), 0);
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

static void read_only_disks(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	char moved[128];
	struct stat st;
	REQUIRE(start(&s, 1));
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, NULL, &error), 0, &error, "");
	struct wisp_create_options options = from(&s);
	REQUIRE(stat(s.paths[1], &st) == 0);
	struct timespec times[2] = {st.st_atim, st.st_mtim}, other[2] = {st.st_atim, {.tv_sec = 5}};
	REQUIRE(utimensat(AT_FDCWD, s.paths[1], other, 0) == 0);
	refuse(&options, -ESTALE, "was written to after the snapshot");
	REQUIRE(truncate(s.paths[1], 3) == 0);
	refuse(&options, -ESTALE, "it has 3 bytes, and the guest knows one of 4");
	/* A copy with the same time will do, when it is named. */
	snprintf(moved, sizeof(moved), "%s/moved", s.place.dir);
	write_file(s.place.dir, "moved", "read");
	REQUIRE(utimensat(AT_FDCWD, moved, times, 0) == 0);
	struct wisp_disk disk = {.path = moved, .read_only = true};
	options.disks = &disk;
	options.disk_count = 1;
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	wisp_close_sandbox(sandbox);
	disk.read_only = false;
	refuse(&options, -EINVAL, "only reads");
	struct wisp_disk two[2] = {disk, disk};
	options.disks = two;
	options.disk_count = 2;
	refuse(&options, -EINVAL, "name as many");
	options.disk_count = 0;
	unlink(s.paths[1]);
	refuse(&options, -ENOENT, s.paths[1]);
	end(&s);
}

/* Nobody has a disk that another writes to. */
static void written_disks(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox, *second;
	struct description d;
	struct wisp_snapshot_options save = {.size = sizeof(save)};
	char copy[128], text[32];
	REQUIRE(start(&s, 2));
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &save, &error), -EBUSY, &error, "go on writing");
	CHECK_EQ(access(s.file, F_OK), -1);
	save.copy_disks = true;
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &save, &error), 0, &error, "");
	CHECK_EQ(state_of(s.sandbox), WISP_SANDBOX_RUNNING);
	snprintf(copy, sizeof(copy), "%s.disk0", s.file);
	CHECK_EQ(mode_of(copy), 0600);
	read_text(s.place.dir, "file.disk0", text, sizeof(text));
	CHECK_STR(text, "written");
	/* Writing to the original changes nothing. */
	write_file(s.place.dir, "d0", "changed since");
	struct wisp_create_options options = from(&s);
	refuse(&options, -EINVAL, "belongs to the snapshot");
	options.copy_disks = true;
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	REQUIRE(sandbox && read_description(sandbox, &d));
	CHECK_EQ(d.disk_count, 3);
	CHECK(d.disk[0].read_only && !d.disk[1].read_only && d.disk[2].read_only);
	read_text(wisp_get_sandbox_dir(sandbox), "disk1.img", text, sizeof(text));
	CHECK_STR(text, "written");
	options.name = "second";
	expect(wisp_create_sandbox(&options, &second, &error), 0, &error, "");
	/* Its own disks go with it, so a snapshot that ends it needs copies. */
	struct wisp_snapshot_options stop = {.size = sizeof(stop), .stop = true};
	char other[128];
	snprintf(other, sizeof(other), "%s/other", s.place.dir);
	expect(wisp_snapshot_sandbox(second, other, &stop, &error), -EBUSY, &error, "removed with it");
	stop.copy_disks = true;
	expect(wisp_snapshot_sandbox(second, other, &stop, &error), 0, &error, "");
	wisp_close_sandbox(second);
	wisp_close_sandbox(sandbox);
	/* Another disk in its place. */
	struct wisp_disk disks[2] = {{.path = copy}, {.path = s.paths[1], .read_only = true}};
	options.disks = disks;
	options.disk_count = 2;
	options.copy_disks = false;
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	options.name = "third";
	refuse(&options, -EBUSY, copy);
	wisp_close_sandbox(sandbox);
	/* The copies are not replaced unasked. */
	unlink(s.file);
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &save, &error), -EEXIST, &error, "file.disk0 exists");
	CHECK_EQ(access(s.file, F_OK), -1);
	save.replace = true;
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &save, &error), 0, &error, "");
	end(&s);
}

static void stopped_with_the_snapshot(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	struct wisp_snapshot_options save = {.size = sizeof(save), .stop = true};
	enum wisp_end why = WISP_END_UNKNOWN;
	REQUIRE(start(&s, 2));
	wisp_close_sandbox(s.sandbox);
	s.place.options.keep = true;
	REQUIRE(wisp_create_sandbox(&s.place.options, &s.sandbox, &error) == 0);
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, &save, &error), 0, &error, "");
	CHECK_EQ(state_of(s.sandbox), WISP_SANDBOX_STOPPED);
	CHECK_EQ(wisp_wait_sandbox(s.sandbox, 0, &why, &error), 0);
	CHECK_EQ(why, WISP_END_POWEROFF);
	CHECK_EQ(wisp_remove_sandbox(s.place.root, "box", &error), 0);
	/* Its disk is free, and used in place, by one. */
	struct wisp_create_options options = from(&s);
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	options.name = "second";
	refuse(&options, -EBUSY, s.paths[0]);
	options.copy_disks = true;
	refuse(&options, -EBUSY, s.paths[0]);
	wisp_close_sandbox(sandbox);
	options.copy_disks = false;
	write_file(s.place.dir, "d0", "writtes");
	refuse(&options, -ESTALE, "was written to after the snapshot");
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
		CHECK_EQ(state_of(s.sandbox), WISP_SANDBOX_RUNNING);
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
	        {"read_only_disks", read_only_disks},
	        {"written_disks", written_disks},
	        {"stopped_with_the_snapshot", stopped_with_the_snapshot},
	        {"failures_leave_nothing", failures_leave_nothing},
	        {"templates", templates},
	};
	fake_vmm_main(argc, argv);
	return test_main("lib_snapshot", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
