/* SPDX-License-Identifier: Apache-2.0 */
/* Where the library makes a cgroup, in a tree of plain files; and what it refuses. */
#include <sys/stat.h>

#include "tests/unit/test_lib.h"
#include "vmm/lib/cgroup.h"

static char root[64];

static void put(const char *dir, const char *name, const char *text)
{
	char path[512];
	snprintf(path, sizeof(path), "%s%s/%s", root, dir, name);
	FILE *file = fopen(path, "w");
	if (!file || fputs(text, file) < 0 || fclose(file) != 0)
		abort();
}

static void make(const char *dir, const char *controllers, const char *enabled)
{
	char path[512];
	snprintf(path, sizeof(path), "%s%s", root, dir);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		abort();
	put(dir, "cgroup.procs", "");
	put(dir, "cgroup.controllers", controllers);
	put(dir, "cgroup.subtree_control", enabled);
}

static void expect_parent(const char *own, bool is_root, const struct cgroup_limits *limits, const char *wanted)
{
	char *got = cgroup_find_parent(root, own, is_root, limits);
	CHECK_STR(got ? got + strlen(root) : "none", wanted);
	free(got);
}

static void the_nearest_that_is_delegated(void)
{
	const struct cgroup_limits memory = {.memory_mib = 64}, all = {64, 500, 32}, cpu = {.cpu_milli = 1};
	snprintf(root, sizeof(root), "/tmp/wisp-test-XXXXXX");
	REQUIRE(mkdtemp(root));
	make("", "cpuset cpu io memory pids\n", "memory pids\n");
	make("/user", "memory pids\n", "");
	make("/user/app", "memory pids\n", "memory pids\n");
	make("/user/app/run.scope", "", "");
	expect_parent("/user/app/run.scope", false, &memory, "/user/app");
	expect_parent("/user/app/run.scope/", false, &memory, "/user/app");
	/* Without a controller, further up; there, one that is not enabled yet is. */
	expect_parent("/user/app/run.scope", false, &all, "");
	expect_parent("/user/app/run.scope", false, &cpu, "");
	expect_parent("/", true, &memory, "");
	expect_parent("/user/app", true, &memory, "");
	/* Not one that has processes, even if it may have the controller. */
	make("/user/app/run.scope", "memory pids\n", "memory\n");
	put("/user/app/run.scope", "cgroup.type", "domain\n");
	expect_parent("/user/app/run.scope", false, &memory, "/user/app/run.scope");
	put("/user/app/run.scope", "cgroup.procs", "1\n");
	expect_parent("/user/app/run.scope", false, &memory, "/user/app");
	/* Not a word in a word. */
	make("", "cpuset memory2\n", "");
	expect_parent("/user", false, &cpu, "none");
	expect_parent("/gone", false, &cpu, "none");
	remove_all(root);
}

static void limits_that_cannot_work_are_refused(void)
{
	struct wisp_error error;
	CHECK_EQ(cgroup_check(&(struct cgroup_limits){0}, 1, &error), 0);
	CHECK_EQ(cgroup_check(&(struct cgroup_limits){16, 10, 17}, 1, &error), 0);
	CHECK_EQ(cgroup_check(&(struct cgroup_limits){.memory_mib = 15}, 1, &error), -EINVAL);
	CHECK(strstr(error.message, "memory_max_mib is 15"));
	CHECK_EQ(cgroup_check(&(struct cgroup_limits){.cpu_milli = 9}, 1, &error), -EINVAL);
	CHECK_EQ(cgroup_check(&(struct cgroup_limits){.pids = 19}, 4, &error), -EINVAL);
	CHECK(strstr(error.message, "needs 20"));
}

/* Only what it has made: a config says where that is. */
static void nothing_else_is_removed(void)
{
	char path[128];
	snprintf(root, sizeof(root), "/tmp/wisp-test-XXXXXX");
	REQUIRE(mkdtemp(root));
	snprintf(path, sizeof(path), "%s/wisp-0123456789abcdef", root);
	REQUIRE(mkdir(path, 0700) == 0);
	cgroup_remove(path);
	cgroup_remove(NULL);
	cgroup_remove("");
	snprintf(path, sizeof(path), "/sys/fs/cgroup/../../..%s/wisp-0123456789abcdef", root);
	cgroup_remove(path);
	CHECK_EQ(access(path, F_OK), 0);
	remove_all(root);
}

static void a_death_for_want_of_memory_is_explained(void)
{
	snprintf(root, sizeof(root), "/tmp/wisp-test-XXXXXX");
	REQUIRE(mkdtemp(root));
	CHECK(!cgroup_explain_death(NULL));
	CHECK(!cgroup_explain_death(root));
	put("", "memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 1\n");
	CHECK(!cgroup_explain_death(root));
	put("", "memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n");
	const char *why = cgroup_explain_death(root);
	CHECK(why && strstr(why, "memory_max_mib"));
	remove_all(root);
}

/* Never ignored: where there is no cgroup v2, or none for this process, the creation fails and leaves nothing. */
static void they_work_or_are_refused(void)
{
	const struct cgroup_limits limits = {.pids = 100};
	struct wisp_error error;
	char *path = NULL;
	int fd = -1;
	int r = cgroup_create(&limits, &path, &fd, &error);
	if (r < 0) {
		CHECK(!path && fd < 0);
		CHECK(strstr(error.message, "cannot be limited") || strstr(error.message, "cannot make the cgroup"));
		SKIP("no cgroup v2 for this process");
	}
	CHECK_EQ(access(path, F_OK), 0);
	cgroup_sweep(path); /* its lock is held */
	CHECK_EQ(access(path, F_OK), 0);
	/* Whoever manages the cgroup above cannot take the controller away. */
	char above[300];
	snprintf(above, sizeof(above), "%.*s/cgroup.subtree_control", (int)(strrchr(path, '/') - path), path);
	int control = open(above, O_WRONLY | O_CLOEXEC);
	REQUIRE(control >= 0);
	CHECK(write(control, "-pids", 5) < 0 && errno == EBUSY);
	close(control);
	close(fd);
	cgroup_sweep(path);
	CHECK(access(path, F_OK) < 0);
	/* What a process that was killed has half made. */
	REQUIRE(mkdir(path, 0755) == 0);
	cgroup_sweep(path);
	CHECK(access(path, F_OK) < 0);
	free(path);
}

TEST_MAIN("cgroup", {"the_nearest_that_is_delegated", the_nearest_that_is_delegated},
        {"limits_that_cannot_work_are_refused", limits_that_cannot_work_are_refused},
        {"a_death_for_want_of_memory_is_explained", a_death_for_want_of_memory_is_explained},
        {"nothing_else_is_removed", nothing_else_is_removed}, {"they_work_or_are_refused", they_work_or_are_refused})
