/* SPDX-License-Identifier: Apache-2.0 */
/* Warm starts: which configurations share a snapshot, what becomes of one that cannot be used, and who makes it. */
#include "tests/unit/test_saved.h"
#include "vmm/lib/cache.h"
#include "vmm/lib/pack.h"

/* The one snapshot in the cache, or "". */
static void find_snapshot(const struct saved *s, char path[PATH_MAX])
{
	char command[256];
	snprintf(command, sizeof(command), "ls %s/warm-*.snap 2>/dev/null", s->cache);
	FILE *pipe = popen(command, "r");
	path[0] = '\0';
	if (pipe && fgets(path, PATH_MAX, pipe))
		path[strcspn(path, "\n")] = '\0';
	if (pipe)
		pclose(pipe);
}

/* A place with options of which only the name is a sandbox's own; no sandbox. */
static bool begin(struct saved *s)
{
	memset(s, 0, sizeof(*s));
	if (!make_place(&s->place))
		return false;
	snprintf(s->cache, sizeof(s->cache), "%s/cache", s->place.dir);
	s->place.options.cache_dir = s->cache;
	s->place.options.warm = true;
	return true;
}

/* Starts a sandbox, ends it, and tells whether it was a warm start; -1 after an error. */
static int starts_warm(const struct wisp_create_options *options)
{
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	if (wisp_create_sandbox(options, &sandbox, &error) < 0) {
		printf("# %s\n", error.message);
		return -1;
	}
	int warm = wisp_is_warm(sandbox);
	wisp_close_sandbox(sandbox);
	return warm;
}

static bool makes(const struct wisp_create_options *options)
{
	struct wisp_error error;
	if (wisp_make_warm(options, &error) == 0)
		return true;
	printf("# %s\n", error.message);
	return false;
}

static void the_second_start_is_warm(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	struct wisp_output *output;
	struct description d;
	struct stat first, second;
	char path[PATH_MAX];
	const char *env[] = {"A=1", NULL}, *other[] = {"B=2", NULL};
	const char *argv[] = {"sh", "-c", "echo $A $B $PWD", NULL};
	REQUIRE(begin(&s));
	struct wisp_create_options *options = &s.place.options;
	options->env = other;
	options->workdir = "/usr";
	options->hostname = "maker";
	CHECK_EQ(starts_warm(options), 0);
	REQUIRE(makes(options));
	find_snapshot(&s, path);
	CHECK_EQ(mode_of(path), 0600);
	CHECK_EQ(count_entries(s.place.root), 0);
	/* Nothing of the options that it was made with shows. */
	options->env = env;
	options->workdir = "/tmp";
	options->hostname = NULL;
	options->no_wait = options->keep = true;
	REQUIRE(wisp_create_sandbox(options, &sandbox, &error) == 0);
	CHECK(wisp_is_warm(sandbox));
	REQUIRE(read_description(sandbox, &d));
	CHECK_EQ(d.flags, DESCRIPTION_RESTORE | DESCRIPTION_IMAGE);
	CHECK_STR(d.hostname, "box");
	CHECK_EQ(wisp_exec(sandbox, argv, NULL, &output, &error), 0);
	CHECK_STR((const char *)output->stdout_data, "1 /tmp\n");
	wisp_free_output(output);
	/* It is there, so it is not made again. */
	REQUIRE(stat(path, &first) == 0);
	CHECK(makes(options));
	CHECK(stat(path, &second) == 0 && first.st_ino == second.st_ino);
	wisp_close_sandbox(sandbox);
	CHECK_EQ(wisp_remove_sandbox(s.place.root, "box", &error), 0);
	/* Only if it is asked for. */
	options->warm = options->keep = false;
	CHECK_EQ(starts_warm(options), 0);
	end(&s);
}

/* Another file in the place of `name`, with the same contents. */
static void replace(const char *dir, const char *name)
{
	char command[512];
	snprintf(command, sizeof(command), "cd %s && cp -p %s new && mv new %s", dir, name, name);
	if (system(command) != 0)
		abort();
}

static void each_input_counts(void)
{
	struct saved s;
	char image[128], monitor[128], text[256];
	REQUIRE(begin(&s));
	struct wisp_create_options *options = &s.place.options, other;
	snprintf(text, sizeof(text), "cp %s/base.squashfs %s/image", s.place.lib, s.place.dir);
	REQUIRE(system(text) == 0);
	snprintf(image, sizeof(image), "%s/image", s.place.dir);
	options->image = image;
	REQUIRE(makes(options));
	CHECK_EQ(starts_warm(options), 1);
	other = *options;
	other.memory_mib = 96;
	CHECK_EQ(starts_warm(&other), 0);
	other = *options;
	other.kernel_args = "quiet";
	CHECK_EQ(starts_warm(&other), 0);
	other = *options;
	other.reclaim = true;
	CHECK_EQ(starts_warm(&other), 0);
	other = *options;
	other.image = NULL;
	CHECK_EQ(starts_warm(&other), 0);
	other = *options;
	other.initramfs = s.place.kernel;
	CHECK_EQ(starts_warm(&other), 0);
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
		other = *options;
		other.cpus = 2;
		CHECK_EQ(starts_warm(&other), 0);
	}
	snprintf(monitor, sizeof(monitor), "%s/monitor", s.place.dir);
	snprintf(text, sizeof(text), "#!/bin/sh\nexec %s/wisp-vmm\n", s.place.lib);
	write_file(s.place.dir, "monitor", text);
	chmod(monitor, 0700);
	other = *options;
	other.helper = monitor;
	CHECK_EQ(starts_warm(&other), 0);
	CHECK_EQ(starts_warm(options), 1);
	/* The same paths, and other files. */
	static const char *const names[] = {"lib/fake-ready", "lib/initramfs.cpio", "image"};
	for (size_t i = 0; i < 3; i++) {
		replace(s.place.dir, names[i]);
		CHECK_EQ(starts_warm(options), 0);
		REQUIRE(makes(options));
		CHECK_EQ(starts_warm(options), 1);
		/* A file that is written to has another time, if not another size. */
		snprintf(text, sizeof(text), "%s/%s", s.place.dir, names[i]);
		REQUIRE(utimensat(AT_FDCWD, text, NULL, 0) == 0);
		CHECK_EQ(starts_warm(options), 0);
		REQUIRE(makes(options));
	}
	CHECK_EQ(starts_warm(options), 1);
	end(&s);
}

static void alter(const char *path, off_t at)
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

static void what_cannot_be_used_is_replaced(void)
{
	static const off_t places[] = {0, 100, SNAPSHOT_HEAD_SIZE + 1};
	struct saved s;
	char path[PATH_MAX], text[2 * PATH_MAX + 8];
	REQUIRE(begin(&s));
	struct wisp_create_options *options = &s.place.options, other;
	for (size_t i = 0; i < 5; i++) {
		REQUIRE(makes(options));
		CHECK_EQ(starts_warm(options), 1);
		find_snapshot(&s, path);
		if (i < 3)
			alter(path, places[i]);
		else
			REQUIRE(truncate(path, i == 3 ? 0 : 70000) == 0);
		if (i % 2)
			CHECK(makes(options)); /* without a start in between */
		else
			CHECK_EQ(starts_warm(options), 0);
		CHECK_EQ(access(path, F_OK), i % 2 ? 0 : -1);
	}
	/* A whole snapshot, of another configuration. */
	REQUIRE(makes(options));
	find_snapshot(&s, path);
	snprintf(text, sizeof(text), "mv %s %s/aside", path, s.place.dir);
	REQUIRE(system(text) == 0);
	other = *options;
	other.memory_mib = 96;
	REQUIRE(makes(&other));
	find_snapshot(&s, text);
	snprintf(path, sizeof(path), "%s/aside", s.place.dir);
	REQUIRE(rename(path, text) == 0);
	CHECK_EQ(starts_warm(&other), 0);
	CHECK_EQ(access(text, F_OK), -1);
	/* What is not a file is not deleted, and in nobody's way. */
	REQUIRE(mkdir(text, 0700) == 0);
	CHECK_EQ(starts_warm(&other), 0);
	CHECK_EQ(access(text, F_OK), 0);
	end(&s);
}

/* The monitor knows whether the processor is the same. Its answer here is in the name of the cache. */
static void the_monitor_may_refuse(void)
{
	struct saved s;
	char path[PATH_MAX];
	REQUIRE(begin(&s));
	static const char *const caches[] = {"fake-error", "fake-die", "fake-panic"};
	for (size_t i = 0; i < 3; i++) {
		snprintf(s.cache, sizeof(s.cache), "%s/%s", s.place.dir, caches[i]);
		s.place.options.no_wait = i == 0;
		REQUIRE(makes(&s.place.options));
		CHECK_EQ(starts_warm(&s.place.options), 0);
		find_snapshot(&s, path);
		CHECK_STR(path, "");
	}
	end(&s);
}

static void one_maker_at_a_time(void)
{
	struct saved s;
	struct wisp_error error;
	char path[PATH_MAX], lock[PATH_MAX];
	REQUIRE(begin(&s));
	REQUIRE(makes(&s.place.options));
	find_snapshot(&s, path);
	snprintf(lock, sizeof(lock), "%.*s.lock", (int)(strlen(path) - 5), path);
	int fd = open(lock, O_RDWR | O_CLOEXEC);
	REQUIRE(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
	REQUIRE(unlink(path) == 0);
	CHECK(makes(&s.place.options));
	CHECK_EQ(access(path, F_OK), -1);
	close(fd);
	CHECK(makes(&s.place.options));
	CHECK_EQ(access(path, F_OK), 0);
	/* One that fails leaves nothing but its lock. */
	set_kernel(&s.place, "fake-unsaved");
	CHECK_EQ(wisp_make_warm(&s.place.options, &error), -ECONNRESET);
	CHECK_EQ(count_entries(s.cache), 3);
	set_kernel(&s.place, "fake-panic");
	CHECK_EQ(wisp_make_warm(&s.place.options, &error), -EIO);
	CHECK_EQ(error.status, WISP_ERR_BOOT_FAILED);
	end(&s);
}

static void the_cache_is_bounded(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	char path[PATH_MAX];
	const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	REQUIRE(begin(&s));
	REQUIRE(makes(&s.place.options));
	find_snapshot(&s, path);
	/* In the last minute, somebody may have found it who has not opened it yet. */
	CHECK_EQ(wisp_prune_cache(s.cache, 0, &error), 0);
	REQUIRE(utimensat(AT_FDCWD, path, old, 0) == 0);
	REQUIRE(wisp_create_sandbox(&s.place.options, &sandbox, &error) == 0);
	CHECK(wisp_is_warm(sandbox));
	struct stat st;
	CHECK(stat(path, &st) == 0 && st.st_mtim.tv_sec > 1000); /* that was a use */
	REQUIRE(utimensat(AT_FDCWD, path, old, 0) == 0);
	CHECK_EQ(wisp_prune_cache(s.cache, 0, &error), 0);
	wisp_close_sandbox(sandbox);
	CHECK_EQ(wisp_prune_cache(s.cache, 0, &error), 1);
	CHECK_EQ(count_entries(s.cache), 0);
	end(&s);
}

static void the_image_may_be_a_directory(void)
{
	struct saved s;
	char dir[128];
	if (!pack_find()) {
		test_skipped = "mksquashfs is not installed";
		return;
	}
	REQUIRE(begin(&s));
	snprintf(dir, sizeof(dir), "%s/rootfs", s.place.dir);
	REQUIRE(mkdir(dir, 0755) == 0);
	s.place.options.image = dir;
	REQUIRE(makes(&s.place.options));
	CHECK_EQ(starts_warm(&s.place.options), 1);
	CHECK_EQ(starts_warm(&s.place.options), 1);
	write_file(dir, "file", "");
	CHECK_EQ(starts_warm(&s.place.options), 0);
	end(&s);
}

static void refused_options(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_disk disk = {.path = "/nowhere", .read_only = true};
	const char *breakpoints[] = {"a=0x1", NULL};
	REQUIRE(begin(&s));
	struct wisp_create_options options[8];
	static const char *const words[8] = {
	        "writable", "overlay", "disks", "console", "breakpoints", "bare", "from", "requires cache_dir"};
	for (size_t i = 0; i < 8; i++)
		options[i] = s.place.options;
	options[0].writable = true;
	options[1].overlay = "/nowhere";
	options[2].disks = &disk;
	options[2].disk_count = 1;
	options[3].console = true;
	options[4].breakpoints = breakpoints;
	options[4].trace = true;
	options[5].bare = options[5].no_wait = true;
	options[6].from = "/nowhere";
	options[7].cache_dir = NULL;
	for (size_t i = 0; i < 8; i++) {
		refuse(&options[i], -EINVAL, words[i]);
		expect(wisp_make_warm(&options[i], &error), -EINVAL, &error, words[i]);
		CHECK_EQ(error.status, WISP_ERR_INVALID);
	}
	end(&s);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"the_second_start_is_warm", the_second_start_is_warm},
	        {"each_input_counts", each_input_counts},
	        {"what_cannot_be_used_is_replaced", what_cannot_be_used_is_replaced},
	        {"the_monitor_may_refuse", the_monitor_may_refuse},
	        {"one_maker_at_a_time", one_maker_at_a_time},
	        {"the_cache_is_bounded", the_cache_is_bounded},
	        {"the_image_may_be_a_directory", the_image_may_be_a_directory},
	        {"refused_options", refused_options},
	};
	fake_vmm_main(argc, argv);
	return test_main("lib_warm", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
