/* SPDX-License-Identifier: Apache-2.0 */
/* Who owns a name, a directory, a disk: what is claimed, listed, locked, removed, and what is left alone. */
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/unit/test_place.h"

/* Its monitor died by SIGKILL: it is seen, listed, replaced by the next of the name, and pruned. */
static void stale_sandboxes(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info **list;
	struct wisp_error error;
	REQUIRE(make_place(&p));
	p.options.detach = p.options.keep = true;
	for (int round = 0; round < 3; round++) {
		p.options.keep = round < 2;
		REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
		wisp_close_sandbox(sandbox);
		REQUIRE(wisp_list_sandboxes(p.root, &list, &error) == 1);
		int32_t pid = list[0]->pid;
		wisp_free_sandbox_list(list);
		kill(pid, SIGKILL);
		for (int i = 0; i < 100 && kill(pid, 0) == 0; i++)
			sleep_ms(10);
		CHECK_EQ(wisp_open_sandbox(p.root, "box", &sandbox, &error), -ESRCH);
		CHECK_EQ(error.status, WISP_ERR_NOT_RUNNING);
		REQUIRE(wisp_list_sandboxes(p.root, &list, &error) == 1);
		CHECK_EQ(list[0]->state, WISP_SANDBOX_STALE);
		wisp_free_sandbox_list(list);
	}
	/* Looking changes nothing; neither does saying what would be done. */
	CHECK_EQ(count_entries(p.root), 1);
	CHECK_EQ(wisp_prune_sandboxes(p.root, true, &list, &error), 1);
	CHECK_STR(list[0]->name, "box");
	wisp_free_sandbox_list(list);
	CHECK_EQ(count_entries(p.root), 1);
	CHECK_EQ(wisp_prune_sandboxes(p.root, false, NULL, &error), 1);
	CHECK_EQ(wisp_prune_sandboxes(p.root, false, NULL, &error), 0);
	end_place(&p, 0);
}

/* As between the end of the record lock and that of the lock itself, while the kernel takes a killed monitor apart. */
static void a_monitor_that_is_taken_apart(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	char path[PATH_MAX];
	REQUIRE(make_place(&p));
	p.options.detach = p.options.keep = true;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	wisp_close_sandbox(sandbox);
	REQUIRE(wisp_inspect_sandbox(p.root, "box", &info, &error) == 0);
	int32_t monitor = info->pid;
	wisp_free_sandbox_info(info);
	kill(monitor, SIGKILL);
	for (int i = 0; i < 1000 && kill(monitor, 0) == 0; i++)
		sleep_ms(10);
	snprintf(path, sizeof(path), "%s/box/lock", p.root);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	REQUIRE(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
	REQUIRE(wisp_open_sandbox(p.root, "box", &sandbox, &error) == 0);
	pid_t child = fork();
	if (child == 0) {
		sleep_ms(50);
		_exit(0);
	}
	close(fd); /* the lock is the child's now */
	CHECK_EQ(wisp_kill_sandbox(sandbox, &error), 0);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	wisp_close_sandbox(sandbox);
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), 0);
	end_place(&p, 0);
}

/* A state directory that is an ordinary folder: what is not a sandbox is neither listed, claimed nor removed. */
static void foreign_entries_are_left_alone(void)
{
	static const char *const foreign[] = {"music", "docs", "nginx", ".wisp-0123456789abcdef", ".0123456789abcdef"};
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info, **list;
	struct wisp_error error;
	char path[PATH_MAX];
	REQUIRE(make_place(&p) && mkdir(p.root, 0700) == 0);
	for (size_t i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "%s/%s", p.root, foreign[i]);
		REQUIRE(mkdir(path, 0700) == 0);
		if (i == 1)
			write_file(path, "lock", "");
		if (i >= 2)
			write_file(path, "config", "cpus=1\nmemory_mib=64\n");
		if (i >= 3) {
			struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
			utimensat(AT_FDCWD, path, old, 0);
		}
	}
	/* Nor are odd entries in the way of the others. */
	snprintf(path, sizeof(path), "%s/config", p.root);
	REQUIRE(mkdir(path, 0) == 0);
	snprintf(path, sizeof(path), "%s/link", p.root);
	REQUIRE(symlink("/", path) == 0);
	write_file(p.root, "file", "text");
	p.options.name = "box";
	p.options.detach = p.options.keep = true;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	/* Nor is a directory, or a config, that others may read, whatever it says; nor one that says nothing. */
	static const struct {
		const char *name, *text;
		mode_t dir, config;
	} copies[] = {{"readable", SANDBOX_FILES_MAGIC, 0700, 0644}, {"open", SANDBOX_FILES_MAGIC, 0755, 0600},
	        {"unsigned", "cpus=1\nmemory_mib=64\n", 0700, 0600}, {"theirs", SANDBOX_FILES_MAGIC, 0700, 0600}};
	const size_t copy_count = geteuid() == 0 ? 4 : 3; /* only root can give one away */
	for (size_t i = 0; i < copy_count; i++) {
		snprintf(path, sizeof(path), "%s/%s", p.root, copies[i].name);
		REQUIRE(mkdir(path, 0700) == 0);
		write_file(path, "config", copies[i].text);
		chmod(path, copies[i].dir);
		REQUIRE(i < 3 || chown(path, 65534, 65534) == 0);
		strcat(path, "/config");
		chmod(path, copies[i].config);
	}
	CHECK_EQ(wisp_list_sandboxes(p.root, &list, &error), 1);
	wisp_free_sandbox_list(list);
	CHECK_EQ(wisp_prune_sandboxes(p.root, false, NULL, &error), 0);
	static const char *const names[] = {
	        "music", "docs", "nginx", "config", "link", "file", "readable", "open", "unsigned", "theirs"};
	for (size_t i = 0; i < 6 + copy_count; i++) {
		struct wisp_sandbox *other;
		p.options.name = names[i];
		CHECK_EQ(wisp_create_sandbox(&p.options, &other, &error), -EEXIST);
		CHECK(strstr(error.message, "that is not a sandbox"));
		CHECK(wisp_remove_sandbox(p.root, names[i], &error) < 0);
		CHECK_EQ(error.status, WISP_ERR_NO_SANDBOX);
		CHECK(wisp_inspect_sandbox(p.root, names[i], &info, &error) < 0);
		CHECK(wisp_open_sandbox(p.root, names[i], &other, &error) < 0);
		struct wisp_logs *logs;
		CHECK(wisp_open_logs(p.root, names[i], NULL, &logs, &error) < 0);
		CHECK_EQ(error.status, WISP_ERR_NO_SANDBOX);
	}
	CHECK_EQ(wisp_kill_sandbox(sandbox, &error), 0);
	wisp_close_sandbox(sandbox);
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), 0);
	/* Writable by others: not even looked at. */
	chmod(p.root, 0777);
	CHECK_EQ(wisp_list_sandboxes(p.root, &list, &error), -EPERM);
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), -EPERM);
	chmod(p.root, 0700);
	end_place(&p, 8 + (int)copy_count);
}

static void make_leftover(const struct place *p, const char *config, const char *lock, const char *other)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/.wisp-0123456789abcdef", p->root);
	REQUIRE(mkdir(path, 0700) == 0);
	if (config)
		write_file(path, "config", config);
	if (lock)
		write_file(path, "lock", lock);
	if (other)
		write_file(path, other, "");
	strcat(path, "/config");
	chmod(path, 0600);
}

/* What a process that died left half made or half removed goes with prune, at whatever step it died. */
static void leftovers_are_pruned(void)
{
	static const struct {
		const char *config, *lock, *other;
	} steps[] = {{NULL, NULL, NULL}, {NULL, "", NULL}, {SANDBOX_FILES_MAGIC, "", NULL},
	        {SANDBOX_FILES_MAGIC, NULL, "exec.log"}, {SANDBOX_FILES_MAGIC, NULL, NULL}};
	struct place p;
	struct wisp_error error;
	REQUIRE(make_place(&p) && mkdir(p.root, 0700) == 0);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		make_leftover(&p, steps[i].config, steps[i].lock, steps[i].other);
		CHECK_EQ(wisp_prune_sandboxes(p.root, false, NULL, &error), 0);
		CHECK_EQ(count_entries(p.root), 0);
	}
	/* One that is being made is not touched, nor one that has something. */
	static const struct {
		const char *lock, *other;
		bool held;
	} left[] = {{"", NULL, true}, {"1", NULL, false}, {"", "exec.log", false}, {NULL, "exec.log", false}};
	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
		char path[PATH_MAX];
		make_leftover(&p, NULL, left[i].lock, left[i].other);
		snprintf(path, sizeof(path), "%s/.wisp-0123456789abcdef/lock", p.root);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		CHECK(!left[i].held || flock(fd, LOCK_EX) == 0);
		CHECK_EQ(wisp_prune_sandboxes(p.root, false, NULL, &error), 0);
		CHECK(faccessat(AT_FDCWD, path, F_OK, 0) == 0 || !left[i].lock);
		close(fd);
		CHECK_EQ(count_entries(p.root), 1);
		*strrchr(path, '/') = '\0';
		remove_all(path);
	}
	end_place(&p, 0);
}

/* Two sandboxes never write to one file, and none reads what another writes. */
static void disks_are_locked(void)
{
	static const struct {
		bool first_ro, second_ro, refused;
	} cases[] = {{true, true, false}, {true, false, true}, {false, true, true}, {false, false, true}};
	struct place p;
	struct wisp_sandbox *sandbox, *second;
	struct wisp_error error;
	char path[128], alias[128];
	REQUIRE(make_place(&p));
	write_file(p.dir, "disk", "data");
	snprintf(path, sizeof(path), "%s/disk", p.dir);
	snprintf(alias, sizeof(alias), "%s/alias", p.dir);
	REQUIRE(link(path, alias) == 0);
	for (size_t i = 0; i < 4; i++) {
		struct wisp_disk one = {.path = path, .read_only = cases[i].first_ro};
		struct wisp_disk other = {.path = alias, .read_only = cases[i].second_ro};
		struct wisp_disk both[2] = {one, other};
		p.options.name = "box";
		p.options.disks = &one;
		p.options.disk_count = 1;
		REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
		p.options.name = "other";
		p.options.disks = &other;
		int r = wisp_create_sandbox(&p.options, &second, &error);
		CHECK_EQ(r, cases[i].refused ? -EBUSY : 0);
		if (r < 0) {
			CHECK_EQ(error.status, WISP_ERR_DISK_BUSY);
			CHECK(strstr(error.message, "in use by the sandbox 'box'"));
		}
		wisp_close_sandbox(second);
		wisp_close_sandbox(sandbox);
		/* Twice in one sandbox is the same. */
		p.options.disks = both;
		p.options.disk_count = 2;
		r = wisp_create_sandbox(&p.options, &sandbox, &error);
		CHECK_EQ(r, cases[i].refused ? -EBUSY : 0);
		wisp_close_sandbox(sandbox);
	}
	/* As an overlay, too. */
	struct wisp_disk disk = {.path = path};
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK_EQ(pwrite(fd, "\x53\xef", 2, 1024 + 56), 2); /* ext4, as far as anyone looks */
	close(fd);
	p.options.overlay = alias;
	p.options.disks = &disk;
	p.options.disk_count = 1;
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -EBUSY);
	end_place(&p, 0);
}

/* Wherever the descriptors run out, it is an error and not a hang, and nothing is left. */
static void out_of_descriptors(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	struct rlimit old, limit;
	REQUIRE(make_place(&p) && getrlimit(RLIMIT_NOFILE, &old) == 0);
	int first = dup(0), failures = 0, r = -1;
	close(first);
	for (int spare = 0; r < 0 && spare < 64; spare++) {
		limit = (struct rlimit){.rlim_cur = (rlim_t)(first + spare), .rlim_max = old.rlim_max};
		setrlimit(RLIMIT_NOFILE, &limit);
		r = wisp_create_sandbox(&p.options, &sandbox, &error);
		setrlimit(RLIMIT_NOFILE, &old);
		failures += r < 0;
		CHECK(r == 0 || error.message[0]);
		wisp_close_sandbox(sandbox);
		CHECK(count_entries(p.root) <= 0);
		CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	}
	CHECK_EQ(r, 0);
	CHECK(failures >= 8);
	int after = dup(0);
	close(after);
	CHECK_EQ(after, first);
	end_place(&p, 0);
}

/*
 * Without a descriptor for the monitor's process, nobody could wait for its end. out_of_descriptors does not come here:
 * the step before has just closed some.
 */
static void no_descriptor_for_the_monitor(void)
{
	struct place p;
	int status = 0;
	REQUIRE(make_place(&p));
	pid_t pid = fork();
	if (pid == 0) {
		struct wisp_sandbox *sandbox;
		struct wisp_error error;
		if (!make_call_fail(SYS_pidfd_open, EMFILE))
			_exit(77);
		alarm(20); /* for a create that waits */
		bool failed = wisp_create_sandbox(&p.options, &sandbox, &error) == -EMFILE;
		bool reaped = waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
		_exit(failed && reaped && strstr(error.message, "the monitor's process") ? 0 : 1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(count_entries(p.root) <= 0);
	end_place(&p, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("seccomp is not available");
	CHECK_EQ(status, 0);
}

static void names_are_taken(void)
{
	struct place p;
	struct wisp_sandbox *sandbox, *second;
	struct wisp_error error;
	REQUIRE(make_place(&p));
	p.options.keep = true;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_create_sandbox(&p.options, &second, &error), -EEXIST);
	CHECK_EQ(error.status, WISP_ERR_NAME_TAKEN);
	CHECK(strstr(error.message, "running"));
	CHECK_EQ(wisp_stop_sandbox(sandbox, 61234, &error), 0);
	char grace[16];
	read_text(p.root, "box/grace", grace, sizeof(grace));
	CHECK_STR(grace, "61234"); /* the monitor is told how long it has */
	wisp_close_sandbox(sandbox);
	CHECK_EQ(wisp_create_sandbox(&p.options, &second, &error), -EEXIST);
	CHECK(strstr(error.message, "remove it"));
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), 0);
	end_place(&p, 0);
}

enum { OWNER = 4242 };

/* What the owner of the directory is told of root's sandbox in it; in a process of its own. */
static void ask_as_owner(const struct place *p)
{
	struct wisp_sandbox *sandbox;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	fflush(stdout);
	pid_t pid = fork();
	if (pid > 0) {
		int status;
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		return;
	}
	REQUIRE(chmod(p->dir, 0711) == 0 && setresgid(OWNER, OWNER, OWNER) == 0 && setresuid(OWNER, OWNER, OWNER) == 0);
	CHECK_EQ(wisp_open_sandbox(p->root, "box", &sandbox, &error), -EACCES);
	CHECK(strstr(error.message, "belongs to root: use it as root"));
	CHECK_EQ(wisp_inspect_sandbox(p->root, "box", &info, &error), -EACCES);
	CHECK_EQ(wisp_remove_sandbox(p->root, "box", &error), -EACCES);
	CHECK_EQ(wisp_prune_sandboxes(p->root, false, NULL, &error), 0);
	fflush(stdout);
	_exit(test_failed);
}

/*
 * root uses the state directory of another user, as whom its monitors run. They can do with the directory what they
 * like, but not forge a config: what that says, root would open and execute.
 */
static void another_users_directory(void)
{
	static const char *const theirs[] = {"box", "box/vmm.log", "box/vsock.sock_99"};
	struct place p;
	struct stat st;
	struct wisp_error error;
	struct wisp_sandbox_info **list;
	char path[PATH_MAX];
	int fd;
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(make_place(&p) && mkdir(p.root, 0700) == 0 && chown(p.root, OWNER, OWNER) == 0);
	p.options.detach = p.options.keep = true;
	struct wisp_sandbox *sandbox = create(&p.options);
	REQUIRE(sandbox);
	CHECK_EQ(wisp_listen_port(sandbox, 99, &fd, &error), 0);
	close(fd);
	for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", p.root, theirs[i]);
		CHECK(lstat(path, &st) == 0 && st.st_uid == OWNER && st.st_gid == OWNER);
	}
	snprintf(path, sizeof(path), "%s/box/config", p.root);
	CHECK(lstat(path, &st) == 0 && st.st_uid == 0);
	ask_as_owner(&p);
	CHECK_EQ(wisp_stop_sandbox(sandbox, 1000, &error), 0);
	wisp_close_sandbox(sandbox);
	REQUIRE(chown(path, OWNER, OWNER) == 0);
	CHECK_EQ(wisp_list_sandboxes(p.root, &list, &error), 0);
	wisp_free_sandbox_list(list);
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), -EBADMSG);
	CHECK(chown(path, 0, 0) == 0);
	CHECK_EQ(wisp_remove_sandbox(p.root, "box", &error), 0);
	end_place(&p, 0);
}

/* The owner is killed: its monitor goes, and so does the directory. */
static void a_killed_owner_leaves_nothing(void)
{
	struct place p;
	int ends[2];
	char byte;
	REQUIRE(make_place(&p) && pipe2(ends, O_CLOEXEC) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct wisp_sandbox *sandbox;
		if (wisp_create_sandbox(&p.options, &sandbox, NULL) == 0 && write(ends[1], "r", 1) == 1)
			pause();
		_exit(1);
	}
	close(ends[1]);
	CHECK_EQ(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	CHECK_EQ(count_entries(p.root), 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 200 && count_entries(p.root) > 0; i++)
		sleep_ms(10);
	end_place(&p, 0);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"stale_sandboxes", stale_sandboxes},
	        {"a_monitor_that_is_taken_apart", a_monitor_that_is_taken_apart},
	        {"foreign_entries_are_left_alone", foreign_entries_are_left_alone},
	        {"leftovers_are_pruned", leftovers_are_pruned},
	        {"disks_are_locked", disks_are_locked},
	        {"out_of_descriptors", out_of_descriptors},
	        {"no_descriptor_for_the_monitor", no_descriptor_for_the_monitor},
	        {"names_are_taken", names_are_taken},
	        {"another_users_directory", another_users_directory},
	        {"a_killed_owner_leaves_nothing", a_killed_owner_leaves_nothing},
	};
	return test_main("lib_state", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
