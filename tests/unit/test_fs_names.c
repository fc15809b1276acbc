/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-fs: names, links, attributes, folders; and what becomes of what the guest knows when the host changes it. */
#include "tests/unit/fs_client.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define ROOT 1u

static void session(void)
{
	REQUIRE(client_start(&(struct start){0}));
	const struct fuse_init_out *out = REPLY(struct fuse_init_out);
	CHECK(out->major == 7 && out->minor == 36 && out->max_write == FS_DATA_MAX && out->max_pages == 64);
	/* Writes are the host's at once, locks stay in the guest, and access lists are not passed. */
	CHECK(!(out->flags & (FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_POSIX_ACL)));
	CHECK(out->flags & FUSE_AUTO_INVAL_DATA && out->flags & FUSE_HANDLE_KILLPRIV_V2);
	struct fuse_init_in later = {.major = 8}, early = {.major = 7, .minor = 12};
	CHECK_EQ(call(FUSE_INIT, 0, &later, sizeof(later)), 0);
	CHECK_EQ(REPLY(struct fuse_init_out)->major, 7);
	CHECK_EQ(call(FUSE_INIT, 0, &early, sizeof(early)), -EPROTO);
	client_end();
}

/* A guest that boots again knows nothing of before. */
static void second_session(void)
{
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("a"), "1"));
	int64_t node = look_up(ROOT, "a");
	REQUIRE(node > 1);
	int64_t fh = open_node((uint64_t)node, O_RDONLY);
	CHECK(fh > 0);
	struct fuse_init_in init = {.major = 7, .minor = 36};
	CHECK_EQ(call(FUSE_INIT, 0, &init, sizeof(init)), 0);
	CHECK_EQ(read_node((uint64_t)node, fh, 0, 1), -ESTALE);
	CHECK_EQ(look_up(ROOT, "a"), node);
	CHECK_EQ(read_node((uint64_t)node, fh, 0, 1), -EBADF);
	client_end();
}

static void entries(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("a"), "four") && chmod(at("a"), 0640) == 0);
	CHECK_EQ(look_up(ROOT, "missing"), 0);
	CHECK_EQ(REPLY(struct fuse_entry_out)->entry_valid_nsec, FS_VALID_NS);
	int64_t node = look_up(ROOT, "a");
	REQUIRE(node > 1);
	CHECK(REPLY(struct fuse_entry_out)->entry_valid == 0 && REPLY(struct fuse_entry_out)->attr_valid == 0);
	CHECK_EQ(look_up(ROOT, "a"), node);
	CHECK_EQ(stat_node((uint64_t)node, &attr), 0);
	CHECK(attr.size == 4 && attr.mode == (S_IFREG | 0640) && attr.nlink == 1);
	CHECK(attr.uid == 0 && attr.gid == 0); /* the guest's root, whoever owns it here */
	CHECK_EQ(look_up((uint64_t)node, "x"), -ENOTDIR);
	CHECK_EQ(stat_node(12345, &attr), -ESTALE);
	CHECK_EQ(stat_node(0, &attr), -ESTALE);
	CHECK_EQ(stat_node(UINT64_MAX, &attr), -ESTALE);
	client_end();
}

/* One component, and not one that leads up. */
static void bad_names(void)
{
	static char longest[300];
	memset(longest, 'n', sizeof(longest) - 1);
	const char *const wrong[] = {"", ".", "..", "a/b", "/", "../x", "a/", "/etc/passwd", "..//"};
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(mkdir(at("a"), 0755) == 0);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int64_t fh;
		CHECK_EQ(look_up(ROOT, wrong[i]), -EINVAL);
		CHECK_EQ(call_names(FUSE_MKDIR, ROOT, &mkdir_in, sizeof(mkdir_in), wrong[i], NULL), -EINVAL);
		CHECK_EQ(call_names(FUSE_RMDIR, ROOT, NULL, 0, wrong[i], NULL), -EINVAL);
		CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, wrong[i], NULL), -EINVAL);
		CHECK_EQ(call_names(FUSE_SYMLINK, ROOT, NULL, 0, wrong[i], "target"), -EINVAL);
		CHECK_EQ(create_node(ROOT, wrong[i], O_RDWR, 0644, &fh), -EINVAL);
		CHECK_EQ(rename_node(ROOT, wrong[i], ROOT, "b", 0), -EINVAL);
		CHECK_EQ(rename_node(ROOT, "a", ROOT, wrong[i], 0), -EINVAL);
	}
	CHECK_EQ(look_up(ROOT, longest), -ENAMETOOLONG);
	/* Without an end. */
	CHECK_EQ(call(FUSE_LOOKUP, ROOT, "abc", 3), -EINVAL);
	CHECK_EQ(call(FUSE_LOOKUP, ROOT, "", 0), -EINVAL);
	CHECK_EQ(call(FUSE_SYMLINK, ROOT, "abc\0def", 7), -EINVAL);
	CHECK_EQ(call(FUSE_SYMLINK, ROOT, "abc\0", 5), -EINVAL);
	client_end();
}

/* All that a name may be: newlines, spaces, bytes that are not UTF-8, 255 of them. */
static void odd_names(void)
{
	static char longest[256];
	memset(longest, 0xc3, sizeof(longest) - 1);
	const char *const names[] = {
	        "new\nline", " ", "...", "\xff\xfe", "\x01\x7f\t", "-rf", "a\\b", "\xc3\xa9", longest};
	REQUIRE(client_start(&(struct start){0}));
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int64_t fh, node = create_node(ROOT, names[i], O_RDWR, 0644, &fh);
		CHECK(node > 1);
		CHECK_EQ(write_node((uint64_t)node, fh, 0, "x", 1, 0), 1);
		CHECK_STR(get(at("%s", names[i])), "x");
		CHECK_EQ(look_up(ROOT, names[i]), node);
		CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, names[i], NULL), 0);
		CHECK(access(at("%s", names[i]), F_OK) < 0);
	}
	client_end();
}

/* Links that lead out, and chains of them, are links to the guest, and nothing more. */
static void symlink_farm(void)
{
	static const char *const targets[] = {"/", "/etc", "..", "../..", ".", "/proc/self/root", "/proc/self/fd/3",
	        "../../../../../../../../etc/passwd", "/dev/null", "loop"};
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(symlink("loop", at("loop")) == 0 && mkdir(at("in"), 0755) == 0);
	for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		char name[16];
		int64_t fh;
		snprintf(name, sizeof(name), "l%u", i);
		CHECK_EQ(call_names(FUSE_SYMLINK, ROOT, NULL, 0, name, targets[i]), 0);
		uint64_t node = REPLY(struct fuse_entry_out)->nodeid;
		CHECK(S_ISLNK(REPLY(struct fuse_entry_out)->attr.mode));
		CHECK_EQ(call(FUSE_READLINK, node, NULL, 0), 0);
		CHECK(client.size == strlen(targets[i]) && memcmp(client.in, targets[i], client.size) == 0);
		CHECK_EQ(look_up(node, "passwd"), -ENOTDIR);
		CHECK_EQ(open_node(node, O_RDONLY), -ELOOP);
		CHECK_EQ(open_node(node, O_RDONLY | O_DIRECTORY), -ENOTDIR);
		CHECK_EQ(create_node(ROOT, name, O_RDWR, 0644, &fh), -ESTALE);
		CHECK_EQ(create_node(node, "x", O_RDWR, 0644, &fh), -ENOTDIR);
		CHECK_EQ(make_folder(node, "x"), -ENOTDIR);
		struct fuse_setattr_in chmod_in = {.valid = FATTR_MODE, .mode = 0777};
		CHECK_EQ(call(FUSE_SETATTR, node, &chmod_in, sizeof(chmod_in)), -EOPNOTSUPP);
		struct fuse_setattr_in size_in = {.valid = FATTR_SIZE};
		CHECK_EQ(call(FUSE_SETATTR, node, &size_in, sizeof(size_in)), -EINVAL);
		CHECK_EQ(rename_node(ROOT, name, ROOT, "moved", 0), 0);
		CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "moved", NULL), 0);
	}
	/* Its own time, not its target's. */
	int64_t node = look_up(ROOT, "loop");
	struct fuse_setattr_in times = {.valid = FATTR_MTIME, .mtime = 1000};
	CHECK_EQ(call(FUSE_SETATTR, (uint64_t)node, &times, sizeof(times)), 0);
	CHECK_EQ(REPLY(struct fuse_attr_out)->attr.mtime, 1000);
	client_end();
}

/* The host puts a link where the guest knows a folder, while the guest works in it. */
static void races_with_links(void)
{
	char outside[] = "/tmp/wisp-test-fs-XXXXXX", path[64];
	REQUIRE(mkdtemp(outside));
	REQUIRE(client_start(&(struct start){.fds = 4 * 2 * NODE_DEPTH_MAX}));
	REQUIRE(mkdir(at("d"), 0755) == 0 && mkdir(at("d/e"), 0755) == 0);
	uint64_t d = (uint64_t)look_up(ROOT, "d"), e = (uint64_t)look_up(d, "e");
	/* Without a descriptor: it is looked for again, and is not followed. */
	REQUIRE(rename(at("d"), at("gone")) == 0 && symlink(outside, at("d")) == 0);
	CHECK_EQ(make_folder(e, "x"), 0); /* the folder itself, by its descriptor, wherever it is now */
	CHECK(access(at("gone/e/x"), F_OK) == 0 || access(at("gone/e"), F_OK) == 0);
	int64_t fh;
	CHECK(create_node(d, "y", O_RDWR, 0644, &fh) > 0);
	CHECK(access(at("gone/y"), F_OK) == 0);
	snprintf(path, sizeof(path), "%s/y", outside);
	CHECK(access(path, F_OK) < 0);
	CHECK_EQ(open_node((uint64_t)look_up(ROOT, "d"), O_RDONLY), -ELOOP);
	CHECK_EQ(rmdir(outside), 0); /* nothing came here */
	client_end();
}

static void devices(void)
{
	static const mode_t refused[] = {S_IFCHR | 0666, S_IFBLK | 0666, S_IFDIR | 0755, S_IFLNK | 0777, 0};
	REQUIRE(client_start(&(struct start){0}));
	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct fuse_mknod_in in = {.mode = refused[i], .rdev = 0x103};
		CHECK_EQ(call_names(FUSE_MKNOD, ROOT, &in, sizeof(in), "null", NULL), -EPERM);
	}
	struct fuse_mknod_in fifo = {.mode = S_IFIFO | 0644}, socket_in = {.mode = S_IFSOCK | 0644},
	                     file = {.mode = S_IFREG | 0644};
	CHECK_EQ(call_names(FUSE_MKNOD, ROOT, &fifo, sizeof(fifo), "fifo", NULL), 0);
	uint64_t node = REPLY(struct fuse_entry_out)->nodeid;
	CHECK_EQ(open_node(node, O_RDONLY), -EACCES); /* and nothing waits for its other end */
	int64_t fh;
	CHECK_EQ(create_node(ROOT, "fifo", O_RDWR, 0644, &fh), -ESTALE);
	CHECK_EQ(call_names(FUSE_MKNOD, ROOT, &socket_in, sizeof(socket_in), "socket", NULL), 0);
	CHECK_EQ(call_names(FUSE_MKNOD, ROOT, &file, sizeof(file), "file", NULL), 0);
	CHECK_EQ(call_names(FUSE_MKNOD, ROOT, &file, sizeof(file), "file", NULL), -EEXIST);
	/* One that the host has made is seen, without its number, and not opened. */
	if (mknod(at("null"), S_IFCHR | 0666, 0x103) == 0) {
		node = (uint64_t)look_up(ROOT, "null");
		CHECK_EQ(REPLY(struct fuse_entry_out)->attr.rdev, 0);
		CHECK_EQ(open_node(node, O_RDWR), -EACCES);
		CHECK_EQ(create_node(ROOT, "null", O_RDWR, 0644, &fh), -ESTALE);
	}
	client_end();
}

/* No program of the guest's runs on the host with other rights than those of who starts it. */
static void no_setuid(void)
{
	struct stat st;
	int64_t fh;
	REQUIRE(client_start(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "su", O_RDWR, 06755, &fh);
	CHECK(stat(at("su"), &st) == 0 && (st.st_mode & 07777) == 0755);
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 07711};
	CHECK_EQ(call(FUSE_SETATTR, node, &in, sizeof(in)), 0);
	CHECK_EQ(REPLY(struct fuse_attr_out)->attr.mode, S_IFREG | 01711);
	struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 06777};
	CHECK_EQ(call_names(FUSE_MKNOD, ROOT, &mknod_in, sizeof(mknod_in), "su2", NULL), 0);
	CHECK(stat(at("su2"), &st) == 0 && (st.st_mode & 07777) == 0777);
	/* A folder may hand its group down. */
	struct fuse_mkdir_in mkdir_in = {.mode = 06775};
	CHECK_EQ(call_names(FUSE_MKDIR, ROOT, &mkdir_in, sizeof(mkdir_in), "dir", NULL), 0);
	CHECK(stat(at("dir"), &st) == 0 && !(st.st_mode & S_ISUID));
	client_end();
}

static void hard_links(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("a"), "1") && mkdir(at("d"), 0755) == 0);
	uint64_t a = (uint64_t)look_up(ROOT, "a"), d = (uint64_t)look_up(ROOT, "d");
	struct fuse_link_in in = {.oldnodeid = a};
	CHECK_EQ(call_names(FUSE_LINK, d, &in, sizeof(in), "b", NULL), 0);
	CHECK(REPLY(struct fuse_entry_out)->nodeid == a && REPLY(struct fuse_entry_out)->attr.nlink == 2);
	CHECK_EQ(look_up(d, "b"), a);
	CHECK_EQ(call_names(FUSE_LINK, d, &in, sizeof(in), "b", NULL), -EEXIST);
	/* One name after the other goes. */
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "a", NULL), 0);
	CHECK_EQ(stat_node(a, &attr), 0);
	CHECK_EQ(attr.nlink, 1);
	CHECK_EQ(call_names(FUSE_UNLINK, d, NULL, 0, "b", NULL), 0);
	CHECK_EQ(stat_node(a, &attr), 0);
	CHECK_EQ(attr.nlink, 0);
	struct fuse_link_in folder = {.oldnodeid = d}, nothing = {.oldnodeid = 99};
	CHECK_EQ(call_names(FUSE_LINK, ROOT, &folder, sizeof(folder), "c", NULL), -EPERM);
	CHECK_EQ(call_names(FUSE_LINK, ROOT, &nothing, sizeof(nothing), "c", NULL), -ESTALE);
	client_end();
}

static void renames(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("a"), "a") && put(at("b"), "bb") && mkdir(at("d"), 0755) == 0 && put(at("d/f"), "fff"));
	uint64_t a = (uint64_t)look_up(ROOT, "a"), b = (uint64_t)look_up(ROOT, "b"), d = (uint64_t)look_up(ROOT, "d");
	uint64_t f = (uint64_t)look_up(d, "f");
	int64_t fh = open_node(b, O_RDWR);
	CHECK_EQ(rename_node(ROOT, "a", ROOT, "b", RENAME_NOREPLACE), -EEXIST);
	CHECK_EQ(rename_node(ROOT, "a", ROOT, "b", RENAME_WHITEOUT), -EINVAL);
	/* Over a file that is open: it lives on without a name. */
	CHECK_EQ(rename_node(ROOT, "a", ROOT, "b", 0), 0);
	CHECK_EQ(look_up(ROOT, "b"), a);
	CHECK_EQ(read_node(b, fh, 0, 10), 2);
	CHECK_EQ(stat_node(b, &attr), 0);
	CHECK(attr.nlink == 0 && attr.size == 2);
	/* A folder with what the guest knows in it. */
	CHECK_EQ(rename_node(ROOT, "d", ROOT, "e", 0), 0);
	CHECK_EQ(stat_node(f, &attr), 0);
	CHECK_EQ(attr.size, 3);
	CHECK_EQ(rename_node(d, "f", ROOT, "g", 0), 0);
	CHECK_EQ(stat_node(f, &attr), 0);
	CHECK_EQ(rename_node(ROOT, "b", ROOT, "g", RENAME_EXCHANGE), 0);
	CHECK(look_up(ROOT, "b") == (int64_t)f && look_up(ROOT, "g") == (int64_t)a);
	CHECK_EQ(stat_node(f, &attr), 0);
	CHECK_EQ(attr.size, 3);
	CHECK_EQ(rename_node(ROOT, "e", d, "inside", 0), -EINVAL);
	CHECK_EQ(rename_node(ROOT, "g", f, "x", 0), -ESTALE);
	CHECK_EQ(rename_node(ROOT, "nothing", ROOT, "x", 0), -ENOENT);
	struct fuse_rename_in old = {.newdir = d};
	CHECK_EQ(call_names(FUSE_RENAME, ROOT, &old, sizeof(old), "g", "h"), 0);
	CHECK_EQ(look_up(d, "h"), a);
	client_end();
}

/* Files that are removed stay as they are for who has them. */
static void removed_files(void)
{
	struct fuse_attr attr;
	int64_t fh;
	REQUIRE(client_start(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "tmp", O_RDWR, 0600, &fh);
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "tmp", NULL), 0);
	CHECK_EQ(write_node(node, fh, 0, "abc", 3, 0), 3);
	CHECK_EQ(stat_node(node, &attr), 0);
	CHECK(attr.size == 3 && attr.nlink == 0);
	struct fuse_setattr_in in = {.valid = FATTR_SIZE, .size = 1};
	CHECK_EQ(call(FUSE_SETATTR, node, &in, sizeof(in)), 0);
	CHECK_EQ(REPLY(struct fuse_attr_out)->attr.size, 1);
	CHECK_EQ(make_folder(ROOT, "d"), 0);
	uint64_t d = REPLY(struct fuse_entry_out)->nodeid;
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "d", NULL), -EISDIR);
	REQUIRE(put(at("d/x"), ""));
	CHECK_EQ(call_names(FUSE_RMDIR, ROOT, NULL, 0, "d", NULL), -ENOTEMPTY);
	REQUIRE(unlink(at("d/x")) == 0);
	CHECK_EQ(call_names(FUSE_RMDIR, ROOT, NULL, 0, "d", NULL), 0);
	CHECK_EQ(make_folder(d, "y"), -ENOENT);
	CHECK_EQ(call_names(FUSE_RMDIR, ROOT, NULL, 0, "d", NULL), -ENOENT);
	client_end();
}

/* What the host does under the guest's feet: an error, and the truth at the next lookup. */
static void host_changes(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("a"), "old") && put(at("b"), "new one"));
	uint64_t a = (uint64_t)look_up(ROOT, "a");
	REQUIRE(rename(at("b"), at("a")) == 0);
	CHECK_EQ(stat_node(a, &attr), -ESTALE); /* the guest looks the name up again */
	int64_t now = look_up(ROOT, "a");
	CHECK(now > 1 && now != (int64_t)a);
	CHECK_EQ(REPLY(struct fuse_entry_out)->attr.size, 7);
	REQUIRE(unlink(at("a")) == 0);
	CHECK_EQ(open_node((uint64_t)now, O_RDONLY), -ESTALE);
	CHECK_EQ(look_up(ROOT, "a"), 0);
	/* A folder that vanishes with all that is in it. */
	REQUIRE(mkdir(at("d"), 0755) == 0 && put(at("d/f"), "1"));
	uint64_t d = (uint64_t)look_up(ROOT, "d"), f = (uint64_t)look_up(d, "f");
	int64_t fh = open_node(f, O_RDONLY);
	REQUIRE(unlink(at("d/f")) == 0 && rmdir(at("d")) == 0);
	CHECK_EQ(read_node(f, fh, 0, 4), 1);
	CHECK_EQ(look_up(d, "f"), 0);
	CHECK_EQ(make_folder(d, "x"), -ENOENT);
	client_end();
}

/* The shared folder itself. */
static void root_vanishes(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(rmdir(client.dir) == 0);
	CHECK_EQ(stat_node(ROOT, &attr), 0);
	CHECK_EQ(look_up(ROOT, "a"), 0);
	CHECK_EQ(make_folder(ROOT, "a"), -ENOENT);
	client_end();
}

static void attributes(void)
{
	struct stat st;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("a"), "12345"));
	uint64_t a = (uint64_t)look_up(ROOT, "a");
	struct fuse_setattr_in in = {.valid = FATTR_MODE | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME,
	        .mode = 0600,
	        .size = 3,
	        .atime = 5,
	        .mtime = 7,
	        .mtimensec = 9};
	CHECK_EQ(call(FUSE_SETATTR, a, &in, sizeof(in)), 0);
	CHECK(stat(at("a"), &st) == 0 && st.st_size == 3 && (st.st_mode & 07777) == 0600);
	CHECK(st.st_atim.tv_sec == 5 && st.st_mtim.tv_sec == 7 && st.st_mtim.tv_nsec == 9);
	/* One owner for all: there is nothing to change, and nothing that fails. */
	struct fuse_setattr_in owner = {.valid = FATTR_UID | FATTR_GID, .uid = 1234, .gid = 1234};
	uid_t before = st.st_uid;
	CHECK_EQ(call(FUSE_SETATTR, a, &owner, sizeof(owner)), 0);
	CHECK_EQ(REPLY(struct fuse_attr_out)->attr.uid, 0);
	CHECK(stat(at("a"), &st) == 0 && st.st_uid == before);
	/* Nanoseconds that would mean something else to utimensat(2). */
	struct fuse_setattr_in odd = {.valid = FATTR_MTIME, .mtime = 11, .mtimensec = (1u << 30) - 2};
	CHECK_EQ(call(FUSE_SETATTR, a, &odd, sizeof(odd)), 0);
	CHECK_EQ(REPLY(struct fuse_attr_out)->attr.mtime, 11);
	struct fuse_setattr_in now = {.valid = FATTR_MTIME | FATTR_MTIME_NOW};
	CHECK_EQ(call(FUSE_SETATTR, a, &now, sizeof(now)), 0);
	CHECK(REPLY(struct fuse_attr_out)->attr.mtime > 1000000);
	struct fuse_setattr_in huge = {.valid = FATTR_SIZE, .size = UINT64_MAX};
	CHECK_EQ(call(FUSE_SETATTR, a, &huge, sizeof(huge)), -EFBIG);
	CHECK_EQ(call(FUSE_STATFS, ROOT, NULL, 0), 0);
	CHECK(REPLY(struct fuse_statfs_out)->st.bsize > 0 && REPLY(struct fuse_statfs_out)->st.namelen == 255);
	client_end();
}

static void user_attributes(void)
{
	static uint8_t bytes[70000];
	struct fuse_getxattr_in ask = {.size = 100}, size = {0};
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("a"), ""));
	uint64_t a = (uint64_t)look_up(ROOT, "a");
	if (setxattr(at("a"), "user.probe", "", 0, 0) < 0) {
		client_end();
		SKIP("the file system of /tmp has no user attributes");
	}
	struct fuse_setxattr_in in = {.size = 5};
	memcpy(bytes, &in, FUSE_COMPAT_SETXATTR_IN_SIZE);
	memcpy(bytes + FUSE_COMPAT_SETXATTR_IN_SIZE, "user.x\0value", 12);
	CHECK_EQ(call(FUSE_SETXATTR, a, bytes, FUSE_COMPAT_SETXATTR_IN_SIZE + 12), 0);
	CHECK_EQ(call_names(FUSE_GETXATTR, a, &ask, sizeof(ask), "user.x", NULL), 0);
	CHECK(client.size == 5 && memcmp(client.in, "value", 5) == 0);
	CHECK_EQ(call_names(FUSE_GETXATTR, a, &size, sizeof(size), "user.x", NULL), 0);
	CHECK_EQ(REPLY(struct fuse_getxattr_out)->size, 5);
	CHECK_EQ(call_names(FUSE_GETXATTR, a, &ask, sizeof(ask), "user.none", NULL), -ENODATA);
	/* Those that mean something to the host. */
	static const char *const refused[] = {
	        "security.capability", "trusted.overlay.opaque", "system.posix_acl_access", "security.selinux", "x"};
	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		CHECK_EQ(call_names(FUSE_GETXATTR, a, &ask, sizeof(ask), refused[i], NULL), -EOPNOTSUPP);
		CHECK_EQ(call_names(FUSE_REMOVEXATTR, a, NULL, 0, refused[i], NULL), -EOPNOTSUPP);
	}
	if (setxattr(at("a"), "trusted.t", "", 0, 0) == 0 || true) {
		CHECK_EQ(call(FUSE_LISTXATTR, a, &ask, sizeof(ask)), 0);
		CHECK_EQ(client.size, sizeof("user.probe") + sizeof("user.x"));
	}
	/* A length that lies. */
	in.size = 6;
	memcpy(bytes, &in, FUSE_COMPAT_SETXATTR_IN_SIZE);
	CHECK_EQ(call(FUSE_SETXATTR, a, bytes, FUSE_COMPAT_SETXATTR_IN_SIZE + 12), -EINVAL);
	/* A large one passes by the pipe, and is too large for the host's file system. */
	in.size = 65536;
	memcpy(bytes, &in, FUSE_COMPAT_SETXATTR_IN_SIZE);
	int ret = call(FUSE_SETXATTR, a, bytes, FUSE_COMPAT_SETXATTR_IN_SIZE + 7 + 65536);
	CHECK(ret == 0 || ret == -ENOSPC || ret == -E2BIG);
	CHECK_EQ(call_names(FUSE_REMOVEXATTR, a, NULL, 0, "user.probe", NULL), 0);
	client_end();
}

struct listing {
	unsigned count, with_node;
	bool dot, dotdot;
};

/* Lists the folder in pieces of `size`; each name once. */
static int list(uint64_t node, bool plus, uint32_t size, struct listing *l)
{
	struct fuse_open_in open_in = {.flags = O_DIRECTORY};
	int ret = call(FUSE_OPENDIR, node, &open_in, sizeof(open_in));
	struct fuse_read_in in = {.fh = REPLY(struct fuse_open_out)->fh, .size = size};
	*l = (struct listing){0};
	while (ret == 0 && (ret = call(plus ? FUSE_READDIRPLUS : FUSE_READDIR, node, &in, sizeof(in))) == 0 &&
	        client.size > 0) {
		if (client.size > size)
			return -1000;
		for (uint32_t i = 0; i < client.size;) {
			const struct fuse_entry_out *entry = (const void *)(client.in + i);
			const struct fuse_dirent *d = (const void *)(client.in + i + (plus ? sizeof(*entry) : 0));
			l->count++;
			l->with_node += plus && entry->nodeid > 0;
			l->dot |= d->namelen == 1 && d->name[0] == '.';
			l->dotdot |= d->namelen == 2 && memcmp(d->name, "..", 2) == 0;
			in.offset = d->off;
			i += plus ? (uint32_t)FUSE_DIRENTPLUS_SIZE((const struct fuse_direntplus *)(const void *)entry)
			          : (uint32_t)FUSE_DIRENT_SIZE(d);
		}
	}
	return ret < 0 ? ret : release_node(node, in.fh, true);
}

static void folders(void)
{
	struct listing l;
	REQUIRE(client_start(&(struct start){0}));
	for (unsigned i = 0; i < 500; i++)
		REQUIRE(put(at("a file with a name of some length %u", i), ""));
	for (unsigned plus = 0; plus < 2; plus++) {
		CHECK_EQ(list(ROOT, plus, 4096, &l), 0);
		CHECK(l.count == 502 && l.dot && l.dotdot && l.with_node == (plus ? 500 : 0));
		CHECK_EQ(list(ROOT, plus, 100000, &l), 0);
		CHECK_EQ(l.count, 502);
	}
	/* No room for a single entry. */
	int64_t fh = open_node(ROOT, O_RDONLY | O_DIRECTORY);
	struct fuse_read_in in = {.fh = (uint64_t)fh, .size = 10};
	CHECK_EQ(call(FUSE_READDIR, ROOT, &in, sizeof(in)), 0);
	CHECK_EQ(client.size, 0);
	CHECK_EQ(read_node(ROOT, fh, 0, 10), -EBADF); /* a folder's handle is no file's */
	CHECK_EQ(release_node(ROOT, (uint64_t)fh, false), -EBADF);
	struct fuse_fsync_in sync_in = {.fh = (uint64_t)fh};
	CHECK_EQ(call(FUSE_FSYNCDIR, ROOT, &sync_in, sizeof(sync_in)), 0);
	client_end();
}

enum { READ_FILES = 1500 };

/* Two read a folder of files 0 to files - 1 in turns, up to `most` entries of each reply. How often each has seen each.
 */
static void read_in_turns(
        struct fuse_read_in in[2], unsigned files, unsigned most, unsigned count[2], uint8_t seen[2][READ_FILES])
{
	for (unsigned i = 0; i < files; i++)
		REQUIRE(put(at("%u", i), ""));
	for (unsigned i = 0; i < 2; i++)
		in[i].fh = (uint64_t)open_node(ROOT, O_RDONLY | O_DIRECTORY);
	for (bool more = true; more;) {
		more = false;
		for (unsigned i = 0; i < 2; i++) {
			REQUIRE(call(FUSE_READDIR, ROOT, &in[i], sizeof(in[i])) == 0);
			more |= client.size > 0;
			unsigned entry = 0;
			for (uint32_t from = 0; from < client.size && entry < most; entry++) {
				const struct fuse_dirent *d = (const void *)(client.in + from);
				if (d->name[0] != '.')
					seen[i][strtoul(d->name, NULL, 10)]++;
				in[i].offset = d->off;
				from += (uint32_t)FUSE_DIRENT_SIZE(d);
			}
			count[i] += entry;
		}
	}
}

/* Two that read in turn do not disturb each other, nor does one that goes back. */
static void two_readers(void)
{
	static uint8_t seen[2][READ_FILES];
	struct fuse_read_in in[2] = {{.size = 512}, {.size = 512}};
	unsigned count[2] = {0};
	REQUIRE(client_start(&(struct start){0}));
	read_in_turns(in, 300, UINT_MAX, count, seen);
	CHECK(count[0] == 302 && count[1] == 302);
	in[0].offset = 0;
	CHECK_EQ(call(FUSE_READDIR, ROOT, &in[0], sizeof(in[0])), 0);
	CHECK(client.size > 0);
	client_end();
}

/*
 * They go back to the second entry of each reply. wisp-fs does not seek for that: where the host's offsets count what
 * is there, it would miss entries after others have been removed.
 */
static void reading_on(void)
{
	static uint8_t seen[2][READ_FILES];
	struct fuse_read_in in[2] = {{.size = 512}, {.size = 4096}};
	unsigned count[2] = {0};
	REQUIRE(client_start(&(struct start){.fails = SYS_lseek}));
	read_in_turns(in, READ_FILES, 2, count, seen);
	for (unsigned i = 0; i < READ_FILES; i++)
		CHECK(seen[0][i] && seen[1][i]);
	client_end();
}

/* The guest may keep its list of names, unless it was made within a tick of the folder's last change. */
static void cached_folders(void)
{
	struct fuse_open_in in = {.flags = O_DIRECTORY};
	struct listing l;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("a"), ""));
	struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}},
	                new[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
	REQUIRE(utimensat(AT_FDCWD, client.dir, old, 0) == 0);
	CHECK_EQ(list(ROOT, false, 4096, &l), 0);
	CHECK_EQ(call(FUSE_OPENDIR, ROOT, &in, sizeof(in)), 0);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE);
	REQUIRE(utimensat(AT_FDCWD, client.dir, new, 0) == 0);
	CHECK_EQ(call(FUSE_OPENDIR, ROOT, &in, sizeof(in)), 0);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, FOPEN_CACHE_DIR);
	client_end();
}

TEST_MAIN("fs_names", {"session", session}, {"second_session", second_session}, {"entries", entries},
        {"bad_names", bad_names}, {"odd_names", odd_names}, {"symlink_farm", symlink_farm},
        {"races_with_links", races_with_links}, {"devices", devices}, {"no_setuid", no_setuid},
        {"hard_links", hard_links}, {"renames", renames}, {"removed_files", removed_files},
        {"host_changes", host_changes}, {"root_vanishes", root_vanishes}, {"attributes", attributes},
        {"user_attributes", user_attributes}, {"folders", folders}, {"two_readers", two_readers},
        {"reading_on", reading_on}, {"cached_folders", cached_folders})
