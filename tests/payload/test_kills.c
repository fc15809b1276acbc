/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGKILL of each process at every moment of a snapshot, a restore and a fork; files that change under clones; signals.
 * The moments are steps over the time that the operation takes, so that each round is killed in another place.
 */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "tests/payload/counting.h"

#define ROUNDS 20
#define CLONES 3

static char dir[PATH_MAX]; /* of the snapshot that is made */
static char target[PATH_MAX + 16];
static const char *const names[] = {"new", "new-1", "new-2", "new-3"};

static int64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void sleep_us(int64_t us)
{
	struct timespec pause = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
	nanosleep(&pause, NULL);
}

/* ---- The operations: 0, or what failed. What they make stays, or goes with this process ---- */

static int do_snapshot(struct wisp_sandbox *box)
{
	struct wisp_snapshot_options options = {.size = sizeof(options)};
	struct wisp_error error;
	return wisp_snapshot_sandbox(box, target, &options, &error);
}

static int do_restore(struct wisp_sandbox *box)
{
	struct wisp_create_options options = options_for("new");
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	(void)box;
	options.from = file;
	options.no_wait = true;
	int r = wisp_create_sandbox(&options, &sandbox, &error);
	if (r == 0)
		r = wisp_wait_ready(sandbox, HANG_MS, &error);
	if (sandbox)
		wisp_close_sandbox(sandbox);
	return r;
}

static int do_fork(struct wisp_sandbox *box)
{
	struct wisp_fork_options options = {.size = sizeof(options), .name = "new"};
	struct wisp_sandbox *clones[CLONES];
	struct wisp_error error;
	int r = wisp_fork_sandbox(box, CLONES, &options, clones, &error);
	for (int i = 0; i < CLONES && r == 0; i++)
		wisp_close_sandbox(clones[i]);
	return r;
}

static int (*const operations[])(struct wisp_sandbox *box) = {do_snapshot, do_restore, do_fork};
#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

/* ---- What must be true afterwards ---- */

/* The snapshot is whole or not there, and nothing else is in its folder. */
static void check_target(void)
{
	struct wisp_error error;
	int whole = access(target, F_OK) == 0;
	if (whole)
		CHECK_EQ(wisp_verify_snapshot(target, NULL, &error), 0);
	CHECK_EQ(count_entries(dir), 2 + whole);
	unlink(target);
}

static int pid_of(const char *name)
{
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	if (wisp_inspect_sandbox(root, name, &info, &error) < 0)
		return 0;
	int pid = info->pid;
	wisp_free_sandbox_info(info);
	return pid;
}

/* What is left of a name is one that the other commands know what to do with: it ends by itself, and can be removed. */
static void clean_up(int round)
{
	struct wisp_error error;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int64_t until_us = now_us() + HANG_MS * 1000;
		while (pid_of(names[i]) > 0 && now_us() < until_us)
			pause_ms(1);
		if (round % 2 == 0) {
			int r = wisp_remove_sandbox(root, names[i], &error);
			if (r < 0 && r != -ENOENT)
				printf("# %s: %s\n", names[i], error.message);
			CHECK(r == 0 || r == -ENOENT);
		}
	}
	if (round % 2)
		CHECK(wisp_prune_sandboxes(root, false, NULL, &error) >= 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		CHECK(!exists(names[i]));
}

static void reap(void)
{
	int64_t until_us = now_us() + HANG_MS * 1000;
	pid_t pid;
	/* Orphans come here. */
	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0 && now_us() < until_us)
		if (pid == 0)
			pause_ms(1);
	CHECK(pid < 0 && errno == ECHILD);
}

/* A source, and the snapshot that is restored. */
static bool set_up(struct wisp_sandbox **box)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	snprintf(dir, sizeof(dir), "%s.dir", root);
	snprintf(target, sizeof(target), "%s/snapshot", dir);
	mkdir(dir, 0700);
	*box = start_counting("box");
	return *box && save(*box, false, false) == 0;
}

static void tear_down(struct wisp_sandbox *box)
{
	CHECK(stop(box));
	unlink(file);
	CHECK_EQ(rmdir(dir), 0);
	CHECK_EQ(count_entries(root), 2);
	reap();
}

/* How long an operation takes when nobody interferes; 0 if it fails. */
static int64_t measure(struct wisp_sandbox *box, size_t operation)
{
	int64_t began_us = now_us();
	int r = operations[operation](box);
	int64_t took_us = now_us() - began_us;
	CHECK_EQ(r, 0);
	check_target();
	return r == 0 ? took_us : 0;
}

/* ---- Who is killed ---- */

static void the_library_is_killed(void)
{
	struct wisp_sandbox *box;
	struct wisp_error error;
	REQUIRE(set_up(&box));
	for (size_t op = 0; op < OPERATIONS; op++) {
		int64_t took_us = measure(box, op);
		for (int i = 0; i < ROUNDS; i++) {
			pid_t pid = fork();
			if (pid == 0) {
				struct wisp_sandbox *own;
				_exit(wisp_open_sandbox(root, "box", &own, &error) < 0 || operations[op](own) < 0);
			}
			sleep_us(took_us * 5 / 4 * i / ROUNDS);
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			check_target();
			clean_up(i);
		}
		CHECK(counts_on("box"));
	}
	tear_down(box);
}

/* A process that kills the monitor of `name`, once there is one, after a while. */
static pid_t start_killer(const char *name, int64_t after_us)
{
	pid_t pid = fork(), victim = 0;
	if (pid != 0)
		return pid;
	for (int64_t until_us = now_us() + 1000000; victim <= 0 && now_us() < until_us;)
		victim = pid_of(name);
	sleep_us(after_us);
	_exit(victim > 0 && kill(victim, SIGKILL) == 0 ? 0 : 1);
}

static void a_source_is_killed(void)
{
	struct wisp_sandbox *box;
	REQUIRE(set_up(&box));
	for (size_t op = 0; op < OPERATIONS; op += 2) { /* a restore has no source */
		int64_t took_us = measure(box, op);
		for (int i = 0; i < ROUNDS; i++) {
			pid_t killer = start_killer("box", took_us * 5 / 4 * i / ROUNDS);
			/* An error, or it was in time. The clones that are made have lost nothing. */
			(void)operations[op](box);
			waitpid(killer, NULL, 0);
			check_target();
			clean_up(i);
			wisp_close_sandbox(box);
			CHECK(!exists("box"));
			box = start_counting("box");
			REQUIRE(box);
		}
	}
	tear_down(box);
}

static void a_clone_is_killed(void)
{
	struct wisp_sandbox *box;
	REQUIRE(set_up(&box));
	for (size_t op = 1; op < OPERATIONS; op++) {
		int64_t took_us = measure(box, op);
		for (int i = 0; i < ROUNDS; i++) {
			pid_t killer = start_killer(op == 1 ? "new" : "new-2", took_us * i / ROUNDS);
			(void)operations[op](box);
			kill(killer, SIGKILL);
			waitpid(killer, NULL, 0);
			clean_up(i);
		}
		CHECK(counts_on("box"));
	}
	tear_down(box);
}

/* ---- The file under running clones ---- */

/* It was opened before: another file of that name is nothing to them. */
static void a_replaced_file_changes_nothing(void)
{
	struct wisp_sandbox *box, *one, *two;
	uint64_t first;
	REQUIRE(set_up(&box));
	one = restore_as("one", false);
	REQUIRE(one && counts_on("one"));
	REQUIRE(save(box, false, false) == 0); /* in its place */
	two = restore_as("two", false);
	REQUIRE(two && counts_on("two"));
	CHECK_EQ(unlink(file), 0);
	CHECK(counts_on("one") && counts_on("two"));
	CHECK(is_count("one", &first) && is_count("two", &first));
	CHECK(stop(one) && stop(two));
	tear_down(box);
}

static void ends_with_a_reason(struct wisp_sandbox *sandbox, const char *name)
{
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	enum wisp_end end;
	CHECK_EQ(wisp_wait_sandbox(sandbox, HANG_MS, &end, &error), 0);
	REQUIRE(wisp_inspect_sandbox(root, name, &info, &error) == 0);
	printf("# %s: %s\n", wisp_get_end_name(end), info->end_text);
	/* What the guest finds where its pages were depends on the processor. */
	CHECK(end != WISP_END_UNKNOWN && end != WISP_END_POWEROFF);
	CHECK(strstr(info->end_text, "snapshot") && strstr(info->end_text, "was truncated"));
	wisp_free_sandbox_info(info);
	wisp_close_sandbox(sandbox);
	CHECK_EQ(wisp_remove_sandbox(root, name, &error), 0);
}

/* Pages that a sandbox has not written to are those of the file: it ends, and says why. So does its clone. */
static void a_truncated_file_ends_the_clones(void)
{
	struct wisp_sandbox *box, *one, *twin;
	struct wisp_error error;
	REQUIRE(set_up(&box));
	for (int i = 0; i < 2; i++) {
		struct wisp_create_options options = options_for("one");
		struct wisp_fork_options fork_options = {.size = sizeof(fork_options), .name = "twin", .keep = true};
		options.from = file;
		options.keep = options.no_wait = true;
		REQUIRE(i == 0 || save(box, false, false) == 0);
		REQUIRE(wisp_create_sandbox(&options, &one, &error) == 0);
		REQUIRE(counts_on("one"));
		REQUIRE(wisp_fork_sandbox(one, 1, &fork_options, &twin, &error) == 0);
		REQUIRE(counts_on("twin"));
		CHECK_EQ(truncate(file, i == 0 ? 0 : 128 << 10), 0);
		ends_with_a_reason(one, "one");
		ends_with_a_reason(twin, "twin");
		unlink(file);
	}
	CHECK(counts_on("box"));
	tear_down(box);
}

/* ---- Signals and requests that have no use for a payload or a template ---- */

static void signals_end_what_has_no_agent(void)
{
	struct wisp_sandbox *box, *made[2];
	struct wisp_error error;
	enum wisp_end end;
	REQUIRE(set_up(&box));
	made[0] = restore_as("one", false);
	made[1] = restore_as("two", true);
	REQUIRE(made[0] && made[1]);
	for (int i = 0; i < 2; i++) {
		const char *name = i == 0 ? "one" : "two";
		int pid = pid_of(name);
		CHECK_EQ(wisp_refresh_disks(made[i], &error), i == 0 ? 0 : -EOPNOTSUPP);
		CHECK_EQ(kill(pid, SIGTERM), 0);
		CHECK_EQ(wisp_wait_sandbox(made[i], HANG_MS, &end, &error), 0);
		CHECK_EQ(end, WISP_END_KILLED);
		wisp_close_sandbox(made[i]);
	}
	wisp_remove_sandbox(root, "two", &error);
	tear_down(box);
}

COUNTING_MAIN("kills", {"the_library_is_killed", the_library_is_killed}, {"a_source_is_killed", a_source_is_killed},
        {"a_clone_is_killed", a_clone_is_killed}, {"a_replaced_file_changes_nothing", a_replaced_file_changes_nothing},
        {"a_truncated_file_ends_the_clones", a_truncated_file_ends_the_clones},
        {"signals_end_what_has_no_agent", signals_end_what_has_no_agent})
