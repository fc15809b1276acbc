/* SPDX-License-Identifier: Apache-2.0 */
/* Shared folders of a sandbox: what is refused, what the monitor gets, and that each wisp-fs ends with it. */
#include "tests/unit/test_place.h"

#include <linux/fuse.h>

#include "vmm/lib/launch.h"
#include "vmm/shared/fs_wire.h"

/* The place's libdir has the real one. */
static bool add_program(const struct place *p)
{
	char program[PATH_MAX], link[PATH_MAX];
	snprintf(link, sizeof(link), "%s/wisp-fs", p->lib);
	return access(built("../../lib/wisp/wisp-fs", program), X_OK) == 0 && symlink(program, link) == 0;
}

static bool has_word(const char *process, const char *word)
{
	char words[65];
	int dir = open(process, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = openat(dir, "cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, words, sizeof(words) - 1);
	close(fd);
	close(dir);
	words[n > 0 ? n : 0] = '\0';
	for (const char *at = words; at < words + n; at += strlen(at) + 1)
		if (strcmp(at, word) == 0)
			return true;
	return false;
}

/*
 * Processes that serve something below `dir`; or of them, those that were started with `word`: "same" for one that
 * refuses a guest that knows another folder. Only root sees what a process that is not dumpable has open.
 */
static int count(const char *dir, const char *word)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	int found = 0;
	DIR *proc = opendir("/proc");
	while (proc && (entry = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/fd/%d", entry->d_name, FS_FOLDER_FD);
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		snprintf(path, sizeof(path), "/proc/%s", entry->d_name);
		char comm[32];
		read_text(path, "comm", comm, sizeof(comm));
		found += strcmp(comm, "wisp-fs\n") == 0 && strncmp(target, dir, strlen(dir)) == 0 &&
		         (!word || has_word(path, word));
	}
	if (proc)
		closedir(proc);
	return found;
}

static int count_servers(const char *dir)
{
	return count(dir, NULL);
}

static bool servers_end(const char *dir)
{
	for (int i = 0; i < 200 && count_servers(dir) > 0; i++)
		sleep_ms(10);
	return count_servers(dir) == 0;
}

static bool read_description(const struct wisp_sandbox *sandbox, struct description *d)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/description", wisp_get_sandbox_dir(sandbox));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, d, sizeof(*d));
	if (fd >= 0)
		close(fd);
	return n == (ssize_t)sizeof(*d);
}

static void share(struct place *p, const struct wisp_folder *folders, size_t count)
{
	p->options.folders = folders;
	p->options.folder_count = count;
	p->options.folder_size = sizeof(*folders);
}

static void served_until_the_end(void)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL;
	struct description d;
	char folder[PATH_MAX], file[PATH_MAX];
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(make_place(&p) && add_program(&p));
	snprintf(folder, sizeof(folder), "%s/shared", p.dir);
	snprintf(file, sizeof(file), "%s/file", p.dir);
	REQUIRE(mkdir(folder, 0755) == 0);
	write_file(p.dir, "file", "x");
	struct wisp_folder folders[] = {{.path = folder, .guest = "/work"},
	        {.path = file, .guest = "/etc/my file", .read_only = true},
	        {.path = folder, .guest = "/again", .owners = WISP_OWNERS_MAP}};
	share(&p, folders, 3);
	int before = count_entries("/proc/self/fd");
	REQUIRE((sandbox = create(&p.options)));
	CHECK_EQ(count_servers(p.dir), 3);
	/* They are no children of this process. */
	int status;
	while (waitpid(-1, &status, WNOHANG) > 0)
		;
	REQUIRE(read_description(sandbox, &d));
	CHECK_EQ(d.folder_count, 3);
	CHECK_STR(d.folder[0].path, "/work");
	CHECK_STR(d.folder[1].path, "/etc/my file");
	CHECK(!d.folder[0].read_only && !d.folder[0].is_file && d.folder[1].read_only && d.folder[1].is_file);
	struct wisp_sandbox_info *info;
	REQUIRE(wisp_inspect_sandbox(p.root, "box", &info, NULL) == 0);
	REQUIRE(info->folders[0] && info->folders[1] && info->folders[2] && !info->folders[3]);
	CHECK_STR(info->folders[0]->path, folder);
	CHECK_STR(info->folders[0]->guest, "/work");
	CHECK(!info->folders[0]->read_only && info->folders[0]->owners == WISP_OWNERS_SQUASH);
	CHECK_STR(info->folders[1]->path, file);
	CHECK_STR(info->folders[1]->guest, "/etc/my file");
	CHECK(info->folders[1]->read_only && info->folders[2]->owners == WISP_OWNERS_MAP);
	wisp_free_sandbox_info(info);
	wisp_close_sandbox(sandbox);
	CHECK(servers_end(p.dir));
	CHECK_EQ(count_entries("/proc/self/fd"), before);
	end_place(&p, 0);
}

/* A folder as the root: without an image, and read-only whatever was said. */
static void root(void)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL;
	struct description d;
	REQUIRE(make_place(&p) && add_program(&p));
	struct wisp_folder folder = {.path = p.dir, .guest = "//"};
	share(&p, &folder, 1);
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	REQUIRE(read_description(sandbox, &d));
	CHECK(!(d.flags & DESCRIPTION_IMAGE) && d.disk_count == 0);
	CHECK_STR(d.folder[0].path, "/");
	CHECK_EQ(d.folder[0].read_only, 1);
	wisp_close_sandbox(sandbox);
	end_place(&p, 0);
}

/* A monitor that is killed takes them along. */
static void killed_monitor(void)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL;
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(make_place(&p) && add_program(&p));
	struct wisp_folder folder = {.path = p.dir, .guest = "/work"};
	share(&p, &folder, 1);
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	CHECK_EQ(count_servers(p.dir), 1);
	CHECK_EQ(wisp_kill_sandbox(sandbox, NULL), 0);
	wisp_close_sandbox(sandbox);
	CHECK(servers_end(p.dir));
	end_place(&p, 0);
}

static void refused(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	char fifo[PATH_MAX], long_path[400] = "/";
	REQUIRE(make_place(&p) && add_program(&p));
	snprintf(fifo, sizeof(fifo), "%s/fifo", p.dir);
	REQUIRE(mkfifo(fifo, 0600) == 0);
	memset(long_path + 1, 'x', 300);
	const struct {
		struct wisp_folder folder;
		const char *word;
	} wrong[] = {
	        {{.path = "/no/folder", .guest = "/work"}, "cannot share /no/folder: No such file"},
	        {{.path = fifo, .guest = "/work"}, "neither a folder nor a regular file"},
	        {{.path = "/dev/null", .guest = "/work"}, "neither a folder nor a regular file"},
	        {{.path = p.dir, .guest = "work"}, "not absolute"},
	        {{.path = p.kernel, .guest = "/"}, "cannot be the guest's root"},
	        {{.path = p.dir, .guest = long_path}, "longer than 255 bytes"},
	        {{.path = p.dir}, "lacks its path"},
	        {{.path = "", .guest = "/work"}, "lacks its path"},
	        {{.path = p.dir, .guest = "/work", .owners = (enum wisp_owners)7}, "there are no owners 7"},
	        {{.path = p.dir, .guest = "/work", .cache = (enum wisp_folder_cache)7}, "there is no cache 7"},
	};
	p.options.folder_count = 1;
	p.options.folder_size = sizeof(struct wisp_folder);
	int before = count_entries("/proc/self/fd");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		p.options.folders = &wrong[i].folder;
		CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) < 0);
		CHECK_EQ(error.status, WISP_ERR_INVALID);
		if (!strstr(error.message, wrong[i].word)) {
			printf("# \"%s\" does not say \"%s\"\n", error.message, wrong[i].word);
			test_failed = true;
		}
	}
	struct wisp_folder over = {.path = p.dir, .guest = "///"};
	p.options.folders = &over;
	p.options.image = p.dir;
	CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) == -EINVAL && strstr(error.message, "omit the image"));
	p.options.image = NULL;
	/* The second one fails: the first one's process goes. */
	struct wisp_folder two[] = {{.path = p.dir, .guest = "/a"}, {.path = "/no", .guest = "/b"}};
	p.options.folders = two;
	p.options.folder_count = 2;
	CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) < 0);
	CHECK(servers_end(p.dir));
	two[1] = over;
	CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) == -EINVAL &&
	        strstr(error.message, "before the others"));
	p.options.folder_count = WISP_FOLDERS_MAX + 1;
	CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) == -EINVAL && strstr(error.message, "at most 8"));
	CHECK_EQ(count_entries("/proc/self/fd"), before);
	end_place(&p, 0);
}

/* With what a sandbox cannot be together. */
static void not_together(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	REQUIRE(make_place(&p));
	struct wisp_folder folder = {.path = p.dir, .guest = "/work"};
	share(&p, &folder, 1);
	/* Without its program. */
	CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) < 0);
	CHECK(error.status == WISP_ERR_SETUP && strstr(error.message, "/wisp-fs: No such file"));
	p.options.warm = true;
	p.options.cache_dir = p.dir;
	CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) == -EINVAL && strstr(error.message, "folders"));
	end_place(&p, 0);
}

static int fork_into(struct wisp_sandbox *source, size_t count, const struct place *p, struct wisp_sandbox **clones,
        struct wisp_error *error)
{
	struct wisp_fork_options options = {.size = sizeof(options), .libdir = p->lib};
	return wisp_fork_sandbox(source, count, &options, clones, error);
}

/* A clone's folders are those of its source, each served by a process of its own. */
static void clones(void)
{
	struct place p;
	struct wisp_sandbox *source = NULL, *clone[2];
	struct wisp_error error;
	struct description d;
	char elsewhere[PATH_MAX];
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(make_place(&p) && add_program(&p));
	struct wisp_folder folders[] = {
	        {.path = p.dir, .guest = "/work", .read_only = true}, {.path = p.dir, .guest = "/rw"}};
	share(&p, folders, 2);
	REQUIRE(wisp_create_sandbox(&p.options, &source, NULL) == 0);
	if (fork_into(source, 2, &p, clone, &error) < 0)
		printf("# %s\n", error.message);
	REQUIRE(clone[0] && clone[1] && read_description(clone[1], &d));
	CHECK(d.flags & DESCRIPTION_FORK && d.folder_count == 2);
	CHECK(d.folder[0].read_only && !d.folder[1].read_only);
	CHECK_STR(d.folder[0].path, "/work");
	CHECK(count_servers(p.dir) == 6 && count(p.dir, "same") == 4);
	wisp_close_sandbox(source);
	/* And so on for a clone's clone. */
	struct wisp_sandbox *third;
	CHECK_EQ(fork_into(clone[0], 1, &p, &third, &error), 0);
	wisp_close_sandbox(third);
	wisp_close_sandbox(clone[1]);
	/* Without the folder there is no clone. */
	snprintf(elsewhere, sizeof(elsewhere), "%s/shared", p.dir);
	wisp_close_sandbox(clone[0]);
	CHECK(servers_end(p.dir));
	REQUIRE(mkdir(elsewhere, 0755) == 0);
	folders[0].path = elsewhere;
	REQUIRE(wisp_create_sandbox(&p.options, &source, NULL) == 0 && rmdir(elsewhere) == 0);
	int fds = count_entries("/proc/self/fd");
	CHECK(fork_into(source, 1, &p, clone, &error) < 0 && !clone[0]);
	CHECK(strstr(error.message, "cannot share") && strstr(error.message, "No such file"));
	CHECK_EQ(count_entries("/proc/self/fd"), fds);
	wisp_close_sandbox(source);
	end_place(&p, 0);
}

/* A snapshot has no folder: whoever restores it gives one in place of each. */
static void snapshots(void)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL;
	struct wisp_error error;
	struct description d;
	char saved[PATH_MAX];
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(make_place(&p) && add_program(&p));
	struct wisp_folder before[] = {
	        {.path = p.dir, .guest = "/work"}, {.path = p.kernel, .guest = "/f", .read_only = true}};
	share(&p, before, 2);
	snprintf(saved, sizeof(saved), "%s/saved", p.dir);
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	CHECK_EQ(wisp_snapshot_sandbox(sandbox, saved, NULL, &error), 0);
	wisp_close_sandbox(sandbox);
	struct wisp_folder given[3] = {
	        {.path = p.lib, .guest = "/f", .read_only = true}, {.path = p.lib, .guest = "/work"}};
	struct wisp_create_options options = {.size = sizeof(options),
	        .state_root = p.root,
	        .libdir = p.lib,
	        .name = "new",
	        .from = saved,
	        .folders = given,
	        .folder_size = sizeof(given[0])};
	const struct {
		size_t count;
		struct wisp_folder third;
		bool read_only; /* of the first */
		enum wisp_owners owners;
		const char *word;
	} wrong[] = {
	        {0, {0}, true, WISP_OWNERS_SQUASH, "has a folder of the host at /work: give it one (-v HOST:/work)"},
	        {1, {0}, true, WISP_OWNERS_SQUASH, "at /work: give it one"},
	        {3, {.path = p.dir, .guest = "/x"}, true, WISP_OWNERS_SQUASH, "has no folder at /x: omit it"},
	        {3, {.path = p.dir, .guest = "/work"}, true, WISP_OWNERS_SQUASH, "has no folder at /work: omit it"},
	        {3, {.path = p.dir}, true, WISP_OWNERS_SQUASH, "has no folder at no path"},
	        {2, {0}, false, WISP_OWNERS_SQUASH, "only reads the folder at /f: give it read-only"},
	        {2, {0}, true, WISP_OWNERS_MAP, "the folder at /f has uid=squash"},
	        {WISP_FOLDERS_MAX + 1, {0}, true, WISP_OWNERS_SQUASH, "at most 8"},
	};
	int fds = count_entries("/proc/self/fd");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		options.folder_count = wrong[i].count;
		given[0].read_only = wrong[i].read_only;
		given[0].owners = wrong[i].owners;
		given[2] = wrong[i].third;
		CHECK(wisp_create_sandbox(&options, &sandbox, &error) < 0);
		if (error.status != WISP_ERR_INVALID || !strstr(error.message, wrong[i].word)) {
			printf("# \"%s\" does not say \"%s\"\n", error.message, wrong[i].word);
			test_failed = true;
		}
	}
	CHECK_EQ(count_entries("/proc/self/fd"), fds);
	/* In another order, and another folder of the host: the guest's are as they were. */
	given[0] = (struct wisp_folder){.path = p.kernel, .guest = "/f", .read_only = true};
	options.folder_count = 2;
	REQUIRE((sandbox = create(&options)) && read_description(sandbox, &d));
	CHECK(d.flags & DESCRIPTION_RESTORE && d.folder_count == 2);
	CHECK_STR(d.folder[0].path, "/work");
	CHECK_STR(d.folder[1].path, "/f");
	CHECK(!d.folder[0].read_only && d.folder[1].read_only && d.folder[1].is_file);
	CHECK(count_servers(p.dir) == 2 && count(p.dir, "same") == 0);
	struct wisp_sandbox_info *info;
	REQUIRE(wisp_inspect_sandbox(p.root, "new", &info, NULL) == 0);
	CHECK_STR(info->folders[0]->path, p.lib);
	wisp_free_sandbox_info(info);
	wisp_close_sandbox(sandbox);
	CHECK(servers_end(p.dir));
	end_place(&p, 0);
}

/* Of a folder that only one guest may change there are no others: neither clones nor, later, one from a file. */
static void cache_always(void)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL, *clone = NULL;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	char saved[PATH_MAX];
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(make_place(&p) && add_program(&p));
	snprintf(saved, sizeof(saved), "%s/saved", p.dir);
	struct wisp_folder folder = {.path = p.dir, .guest = "/work", .cache = WISP_FOLDER_ALWAYS};
	share(&p, &folder, 1);
	REQUIRE((sandbox = create(&p.options)));
	CHECK(count(p.dir, "always") == 1 && count(p.dir, "ro") == 0);
	REQUIRE(wisp_inspect_sandbox(p.root, "box", &info, NULL) == 0);
	CHECK_EQ(info->folders[0]->cache, WISP_FOLDER_ALWAYS);
	wisp_free_sandbox_info(info);
	CHECK(fork_into(sandbox, 1, &p, &clone, &error) == -EINVAL && !clone);
	CHECK(error.status == WISP_ERR_INVALID &&
	        strstr(error.message, "folder at /work has cache=always cannot be forked"));
	CHECK_EQ(wisp_snapshot_sandbox(sandbox, saved, NULL, &error), -EINVAL);
	CHECK(error.status == WISP_ERR_INVALID &&
	        strstr(error.message, "folder at /work has cache=always cannot be saved"));
	CHECK(access(saved, F_OK) < 0);
	wisp_close_sandbox(sandbox);
	/* One that none of them changes, clones keep; but the host may change it before a snapshot is used. */
	folder.read_only = true;
	REQUIRE((sandbox = create(&p.options)));
	CHECK_EQ(fork_into(sandbox, 1, &p, &clone, &error), 0);
	CHECK_EQ(count(p.dir, "always"), 2);
	wisp_close_sandbox(clone);
	CHECK_EQ(wisp_snapshot_sandbox(sandbox, saved, NULL, &error), -EINVAL);
	wisp_close_sandbox(sandbox);
	/* A snapshot's guest that knew nothing for long may have it. */
	folder.cache = WISP_FOLDER_AUTO;
	REQUIRE((sandbox = create(&p.options)));
	CHECK_EQ(count(p.dir, "always"), 0);
	CHECK_EQ(wisp_snapshot_sandbox(sandbox, saved, NULL, &error), 0);
	wisp_close_sandbox(sandbox);
	folder.cache = WISP_FOLDER_ALWAYS;
	p.options.kernel = NULL;
	p.options.from = saved;
	REQUIRE((sandbox = create(&p.options)));
	CHECK_EQ(count(p.dir, "always"), 1);
	wisp_close_sandbox(sandbox);
	CHECK(servers_end(p.dir));
	end_place(&p, 0);
}

/* A template may have other folders than the guest of its snapshot knows, and then its clones have those. */
static void templates(void)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL, *clone = NULL;
	struct wisp_error error;
	char saved[PATH_MAX];
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(make_place(&p) && add_program(&p));
	struct wisp_folder folder = {.path = p.dir, .guest = "/work"};
	share(&p, &folder, 1);
	snprintf(saved, sizeof(saved), "%s/saved", p.dir);
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	CHECK_EQ(wisp_snapshot_sandbox(sandbox, saved, NULL, &error), 0);
	wisp_close_sandbox(sandbox);
	folder.path = p.lib;
	p.options.kernel = NULL;
	p.options.from = saved;
	p.options.is_template = p.options.detach = true;
	REQUIRE((sandbox = create(&p.options)));
	CHECK_EQ(fork_into(sandbox, 1, &p, &clone, &error), 0);
	CHECK(clone && count_servers(p.dir) == 2 && count(p.dir, "same") == 0);
	wisp_close_sandbox(clone);
	CHECK_EQ(wisp_kill_sandbox(sandbox, &error), 0);
	wisp_close_sandbox(sandbox);
	CHECK(servers_end(p.dir));
	end_place(&p, 0);
}

/* The root stays: its programs run. And it is no image. */
static void root_of_a_snapshot(void)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL;
	struct wisp_error error;
	struct description d;
	char saved[PATH_MAX];
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(make_place(&p) && add_program(&p));
	struct wisp_folder folder = {.path = p.dir, .guest = "/"};
	snprintf(saved, sizeof(saved), "%s/saved", p.dir);
	share(&p, &folder, 1);
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	CHECK_EQ(wisp_snapshot_sandbox(sandbox, saved, NULL, &error), 0);
	struct wisp_sandbox *clone = NULL;
	CHECK_EQ(fork_into(sandbox, 1, &p, &clone, &error), 0);
	CHECK(clone && read_description(clone, &d) && !(d.flags & DESCRIPTION_IMAGE) && d.folder_count == 1);
	wisp_close_sandbox(clone);
	wisp_close_sandbox(sandbox);
	p.options.kernel = NULL;
	p.options.from = saved;
	folder.guest = "//";
	REQUIRE((sandbox = create(&p.options)) && read_description(sandbox, &d));
	CHECK(!(d.flags & DESCRIPTION_IMAGE) && d.folder_count == 1 && d.folder[0].read_only);
	CHECK_STR(d.folder[0].path, "/");
	CHECK_EQ(count(p.dir, "same"), 1);
	wisp_close_sandbox(sandbox);
	end_place(&p, 0);
}

/* A program that starts, and says neither that it serves nor why it cannot: the wait for it has an end. */
static void silent_server(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	struct launch_words words;
	int ready[2], said[2], status;
	char program[PATH_MAX];
	REQUIRE(make_place(&p));
	snprintf(program, sizeof(program), "%s/wisp-fs", p.lib);
	write_file(p.lib, "wisp-fs", "#!/bin/sh\nexec sleep 1000\n");
	REQUIRE(chmod(program, 0755) == 0 && pipe2(ready, O_CLOEXEC) == 0 && pipe2(said, O_CLOEXEC) == 0);
	struct wisp_folder folder = {.path = p.dir, .guest = "/work"};
	share(&p, &folder, 1);
	close(ready[1]);
	p.options.cancel = &(struct wisp_cancel){.size = sizeof(struct wisp_cancel), .fd = &ready[0]};
	int before = count_entries("/proc/self/fd");
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -ECANCELED);
	CHECK_EQ(count_entries("/proc/self/fd"), before);
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD); /* it was killed, and reaped */
	/* Without a caller that gives up, the limit. */
	pid_t pid = fork();
	if (pid == 0) {
		(void)!write(said[1], "starting\n", 9);
		pause();
	}
	REQUIRE(pid > 0);
	CHECK_EQ(launch_hear(said[0], program, pid, NULL, 50, &words, &error), -ETIMEDOUT);
	CHECK(error.status == WISP_ERR_SETUP && strstr(error.message, "wisp-fs did not start within"));
	CHECK_STR(launch_last_line(&words, "nothing"), "starting");
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(said[0]);
	close(said[1]);
	close(ready[0]);
	end_place(&p, 0);
}

/* One that ends without a word. The second time, the kernel reaps it, and nobody learns its status. */
static void dead_server(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error = {.message = ""};
	char program[PATH_MAX];
	REQUIRE(make_place(&p));
	snprintf(program, sizeof(program), "%s/wisp-fs", p.lib);
	write_file(p.lib, "wisp-fs", "#!/bin/sh\nkill -9 $$\n");
	REQUIRE(chmod(program, 0755) == 0);
	struct wisp_folder folder = {.path = p.dir, .guest = "/work"};
	share(&p, &folder, 1);
	for (unsigned i = 0; i < 2; i++) {
		signal(SIGCHLD, i ? SIG_IGN : SIG_DFL);
		CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -EIO);
		CHECK(strstr(error.message, "wisp-fs did not start"));
	}
	signal(SIGCHLD, SIG_DFL);
	end_place(&p, 0);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {{"served_until_the_end", served_until_the_end}, {"root", root},
	        {"killed_monitor", killed_monitor}, {"refused", refused}, {"not_together", not_together},
	        {"clones", clones}, {"snapshots", snapshots}, {"cache_always", cache_always}, {"templates", templates},
	        {"root_of_a_snapshot", root_of_a_snapshot}, {"silent_server", silent_server},
	        {"dead_server", dead_server}};
	fake_vmm_main(argc, argv);
	return test_main("lib_folders", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
