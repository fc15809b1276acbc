/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a sandbox that is saved and restored: what is shared, copied, refused. */
#include "tests/unit/test_saved.h"

static void read_only_disks(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_sandbox *sandbox;
	char moved[128];
	struct stat st;
	REQUIRE(start(&s, 1));
	CHECK(!wisp_writes_disks(s.sandbox));
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
	CHECK(wisp_writes_disks(s.sandbox) && !wisp_writes_disks(sandbox)); /* copies vanish */
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
	CHECK(wisp_writes_disks(sandbox));
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

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"read_only_disks", read_only_disks},
	        {"written_disks", written_disks},
	        {"stopped_with_the_snapshot", stopped_with_the_snapshot},
	};
	fake_vmm_main(argc, argv);
	return test_main("lib_snapshot_disks", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
