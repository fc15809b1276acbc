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

/* Processes that serve something below `dir`. Only root sees what a process that is not dumpable has open. */
static int count_servers(const char *dir)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	int count = 0;
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
		count += strcmp(comm, "wisp-fs\n") == 0 && strncmp(target, dir, strlen(dir)) == 0;
	}
	if (proc)
		closedir(proc);
	return count;
}

static bool servers_end(const char *dir)
{
	for (int i = 0; i < 200 && count_servers(dir) > 0; i++)
		sleep_ms(10);
	return count_servers(dir) == 0;
}

static void served_until_the_end(void)
{
	struct place p;
	struct wisp_sandbox *sandbox = NULL;
	struct wisp_error error;
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
	p.options.folders = folders;
	p.options.folder_count = 3;
	p.options.folder_size = sizeof(folders[0]);
	int before = count_entries("/proc/self/fd");
	if (wisp_create_sandbox(&p.options, &sandbox, &error) < 0)
		printf("# %s\n", error.message);
	REQUIRE(sandbox);
	CHECK_EQ(count_servers(p.dir), 3);
	/* They are no children of this process. */
	int status;
	while (waitpid(-1, &status, WNOHANG) > 0)
		;
	int fd = open(wisp_get_sandbox_dir(sandbox), O_RDONLY | O_DIRECTORY), described;
	described = openat(fd, "description", O_RDONLY);
	REQUIRE(described >= 0 && read(described, &d, sizeof(d)) == (ssize_t)sizeof(d));
	close(described);
	close(fd);
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
	p.options.folders = &folder;
	p.options.folder_count = 1;
	p.options.folder_size = sizeof(folder);
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	int fd = open(wisp_get_sandbox_dir(sandbox), O_RDONLY | O_DIRECTORY), described;
	described = openat(fd, "description", O_RDONLY);
	REQUIRE(described >= 0 && read(described, &d, sizeof(d)) == (ssize_t)sizeof(d));
	close(described);
	close(fd);
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
	p.options.folders = &folder;
	p.options.folder_count = 1;
	p.options.folder_size = sizeof(folder);
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
	p.options.folders = &folder;
	p.options.folder_count = 1;
	p.options.folder_size = sizeof(folder);
	/* Without its program. */
	CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) < 0);
	CHECK(error.status == WISP_ERR_SETUP && strstr(error.message, "/wisp-fs: No such file"));
	p.options.from = "/no/snapshot";
	p.options.kernel = NULL;
	CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) == -EINVAL && strstr(error.message, "a folder"));
	p.options.from = NULL;
	p.options.kernel = p.kernel;
	p.options.warm = true;
	p.options.cache_dir = p.dir;
	CHECK(wisp_create_sandbox(&p.options, &sandbox, &error) == -EINVAL && strstr(error.message, "folders"));
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
	p.options.folders = &folder;
	p.options.folder_count = 1;
	p.options.folder_size = sizeof(folder);
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

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {{"served_until_the_end", served_until_the_end}, {"root", root},
	        {"killed_monitor", killed_monitor}, {"refused", refused}, {"not_together", not_together},
	        {"silent_server", silent_server}};
	fake_vmm_main(argc, argv);
	return test_main("lib_folders", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
