/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-fs: what the host moves and removes while the guest knows it or has it open. */
#include "tests/unit/fs_client.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>

#define ROOT 1u

/* The host puts a folder into the one that was in it. What the guest then forgets does not take the other one along. */
static void turned_round(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(mkdir(at("a"), 0755) == 0 && mkdir(at("a/b"), 0755) == 0);
	uint64_t a = (uint64_t)look_up(ROOT, "a"), b = (uint64_t)look_up(a, "b");
	CHECK_EQ(look_up(b, "x"), 0);
	REQUIRE(rename(at("a/b"), at("b")) == 0 && rename(at("a"), at("b/a")) == 0);
	CHECK_EQ(look_up(b, "a"), (int64_t)a);
	CHECK(forget(a, 2) == 0 && forget(b, 1) == 0);
	CHECK_EQ(look_up(ROOT, "b"), (int64_t)b);
	CHECK_EQ(stat_node(b, &attr), 0);
	a = (uint64_t)look_up(b, "a");
	CHECK(stat_node(a, &attr) == 0 && look_up(a, "x") == 0);
	int64_t fh, file = create_node(ROOT, "f", O_RDWR, 0644, &fh);
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "f", NULL), 0);
	CHECK_EQ(stat_node((uint64_t)file, &attr), 0);
	client_end();
}

/* As logrotate does it: the guest's file is the same, whether the guest has opened or created it. */
static void open_file_is_moved(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}));
	for (unsigned i = 0; i < 2; i++) {
		int64_t fh, node = create_node(ROOT, "log", O_RDWR, 0644, &fh);
		if (i == 1) {
			CHECK_EQ(release_node((uint64_t)node, (uint64_t)fh, false), 0);
			fh = open_node((uint64_t)node, O_RDWR);
		}
		REQUIRE(node > 1 && fh > 0 && rename(at("log"), at("old")) == 0);
		CHECK_EQ(write_node((uint64_t)node, fh, 0, "line", 4, 0), 4);
		CHECK(stat_node((uint64_t)node, &attr) == 0 && attr.size == 4);
		struct fuse_setattr_in in = {.valid = FATTR_SIZE | FATTR_FH, .fh = (uint64_t)fh, .size = 2};
		CHECK_EQ(call(FUSE_SETATTR, (uint64_t)node, &in, sizeof(in)), 0);
		CHECK_STR(get(at("old")), "li");
		REQUIRE(unlink(at("old")) == 0);
		CHECK(stat_node((uint64_t)node, &attr) == 0 && attr.nlink == 0);
		CHECK_EQ(release_node((uint64_t)node, (uint64_t)fh, false), 0);
		CHECK_EQ(stat_node((uint64_t)node, &attr), -ESTALE);
	}
	client_end();
}

static unsigned count_deleted(pid_t pid)
{
	char path[64], target[PATH_MAX];
	unsigned count = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	DIR *dir = opendir(path);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		count += strstr(target, " (deleted)") != NULL;
	}
	if (dir)
		closedir(dir);
	return count;
}

/* What the guest has used and closed takes no space any more when the host removes it. */
static void removed_files_take_no_space(void)
{
	struct fuse_setattr_in mode = {.valid = FATTR_MODE, .mode = 0600};
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("read"), "1") && put(at("changed"), "1") && put(at("linked"), "1") && put(at("moved"), "1"));
	uint64_t read = (uint64_t)look_up(ROOT, "read"), changed = (uint64_t)look_up(ROOT, "changed");
	uint64_t linked = (uint64_t)look_up(ROOT, "linked");
	struct fuse_link_in link_in = {.oldnodeid = linked};
	struct fuse_rename_in rename_in = {.newdir = ROOT};
	int64_t fh = open_node(read, O_RDONLY), created_fh, created;
	created = create_node(ROOT, "created", O_WRONLY, 0644, &created_fh);
	REQUIRE(fh > 0 && created > 1);
	CHECK_EQ(call(FUSE_SETATTR, changed, &mode, sizeof(mode)), 0);
	CHECK_EQ(call_names(FUSE_LINK, ROOT, &link_in, sizeof(link_in), "link", NULL), 0);
	CHECK(look_up(ROOT, "moved") > 1);
	CHECK_EQ(call_names(FUSE_RENAME, ROOT, &rename_in, sizeof(rename_in), "moved", "there"), 0);
	static const char *const names[] = {"read", "changed", "linked", "link", "there", "created"};
	for (unsigned i = 0; i < 6; i++)
		REQUIRE(unlink(at("%s", names[i])) == 0);
	CHECK_EQ(count_deleted(client.pid), 4); /* both open files, each as a handle and a node */
	CHECK_EQ(release_node(read, (uint64_t)fh, false), 0);
	CHECK_EQ(release_node((uint64_t)created, (uint64_t)created_fh, false), 0);
	CHECK_EQ(count_deleted(client.pid), 0);
	client_end();
}

/* The host gives a file's number to another one, or moves it: nothing tells these apart, so the guest opens neither. */
static void reused_number(void)
{
	struct stat st;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("a"), "old") && put(at("c"), "other"));
	uint64_t a = (uint64_t)look_up(ROOT, "a"), c = (uint64_t)look_up(ROOT, "c");
	REQUIRE(rename(at("c"), at("d")) == 0);
	CHECK(look_up(ROOT, "d") > 1 && look_up(ROOT, "d") != (int64_t)c);
	CHECK_EQ(open_node(c, O_WRONLY | O_TRUNC), -ESTALE);
	CHECK_STR(get(at("d")), "other");
	/* A folder in which the guest knows something moves with that. */
	REQUIRE(mkdir(at("e"), 0755) == 0 && mkdir(at("f"), 0755) == 0 && put(at("f/x"), ""));
	uint64_t e = (uint64_t)look_up(ROOT, "e"), f = (uint64_t)look_up(ROOT, "f");
	REQUIRE(look_up(f, "x") > 1 && rename(at("e"), at("e2")) == 0 && rename(at("f"), at("f2")) == 0);
	CHECK(look_up(ROOT, "e2") > 1 && look_up(ROOT, "e2") != (int64_t)e);
	CHECK_EQ(look_up(ROOT, "f2"), (int64_t)f);
	REQUIRE(stat(at("a"), &st) == 0 && unlink(at("a")) == 0);
	bool same = recreate(at("b"), st.st_ino);
	int64_t b = look_up(ROOT, "b");
	CHECK(b > 1 && b != (int64_t)a);
	CHECK_EQ(open_node(a, O_WRONLY | O_TRUNC), -ESTALE);
	CHECK_STR(get(at("b")), "the new one");
	client_end();
	if (!same)
		SKIP("this file system gives no number of an inode again");
}

static int leased = -1;

static void give_back(int number)
{
	(void)number;
	fcntl(leased, F_SETLEASE, F_UNLCK);
}

/* A file server of the host has promised a client to ask before the file changes. The guest waits, as others do. */
static void lease(void)
{
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("f"), "old"));
	uint64_t f = (uint64_t)look_up(ROOT, "f");
	struct sigaction action = {.sa_handler = give_back, .sa_flags = SA_RESTART}, before;
	sigaction(SIGIO, &action, &before);
	leased = open(at("f"), O_RDONLY | O_CLOEXEC);
	bool known = fcntl(leased, F_SETLEASE, F_RDLCK) == 0;
	if (known) {
		int64_t fh = open_node(f, O_WRONLY | O_TRUNC);
		CHECK(fh > 0);
		CHECK_EQ(write_node(f, fh, 0, "new", 3, 0), 3);
		CHECK_STR(get(at("f")), "new");
	}
	close(leased);
	sigaction(SIGIO, &before, NULL);
	client_end();
	if (!known)
		SKIP("this file system has no leases");
}

/* Whose group this process is not in, and for whose bit it has no right of its own. */
static void folder_hands_its_group_down(void)
{
	struct stat st;
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(client_start(&(struct start){.map = true, .jail = true}));
	REQUIRE(mkdir(at("d"), 0755) == 0 && chown(at("d"), 0, 2345) == 0);
	uint64_t d = (uint64_t)look_up(ROOT, "d");
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 02775};
	CHECK_EQ(call(FUSE_SETATTR, d, &in, sizeof(in)), 0);
	CHECK_EQ(REPLY(struct fuse_attr_out)->attr.mode, S_IFDIR | 02775);
	CHECK(stat(at("d"), &st) == 0 && st.st_mode == (S_IFDIR | 02775));
	CHECK_EQ(make_folder(d, "x"), 0);
	CHECK(stat(at("d/x"), &st) == 0 && st.st_gid == 2345 && st.st_mode & S_ISGID);
	CHECK_EQ(make_folder(ROOT, "y"), 0);
	CHECK(stat(at("y"), &st) == 0 && st.st_gid == 0);
	client_end();
}

TEST_MAIN("fs_moves", {"turned_round", turned_round}, {"open_file_is_moved", open_file_is_moved},
        {"removed_files_take_no_space", removed_files_take_no_space}, {"reused_number", reused_number},
        {"lease", lease}, {"folder_hands_its_group_down", folder_hands_its_group_down})
