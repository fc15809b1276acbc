/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-fs with cache=always: a folder that only the guest changes. */
#include "tests/unit/fs_client.h"
#include "tests/unit/host.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define ROOT 1u

/* All that the guest is told stays valid: also that there is no such name. */
static void valid(void)
{
	const struct fuse_entry_out *entry = REPLY(struct fuse_entry_out);
	const struct fuse_attr_out *attr = REPLY(struct fuse_attr_out);
	struct fuse_setattr_in mode = {.valid = FATTR_MODE, .mode = 0600};
	struct fuse_getattr_in in = {0};
	int64_t fh;
	REQUIRE(client_start(&(struct start){.always = true}));
	CHECK(!(REPLY(struct fuse_init_out)->flags & FUSE_AUTO_INVAL_DATA));
	CHECK_EQ(look_up(ROOT, "missing"), 0);
	CHECK(entry->entry_valid == FS_VALID_ALWAYS_S && entry->entry_valid_nsec == 0);
	REQUIRE(put(at("a"), "four"));
	int64_t node = look_up(ROOT, "a");
	CHECK(node > 1 && entry->entry_valid == FS_VALID_ALWAYS_S && entry->attr_valid == FS_VALID_ALWAYS_S);
	CHECK(entry->entry_valid_nsec == 0 && entry->attr_valid_nsec == 0);
	CHECK_EQ(call(FUSE_GETATTR, (uint64_t)node, &in, sizeof(in)), 0);
	CHECK(attr->attr_valid == FS_VALID_ALWAYS_S && attr->attr_valid_nsec == 0);
	CHECK_EQ(call(FUSE_SETATTR, (uint64_t)node, &mode, sizeof(mode)), 0);
	CHECK(attr->attr_valid == FS_VALID_ALWAYS_S && attr->attr_valid_nsec == 0);
	CHECK_EQ(make_folder(ROOT, "d"), 0);
	CHECK(entry->entry_valid == FS_VALID_ALWAYS_S && entry->attr_valid == FS_VALID_ALWAYS_S);
	CHECK(create_node(ROOT, "new", O_RDWR, 0644, &fh) > 1);
	CHECK(entry->entry_valid == FS_VALID_ALWAYS_S && entry->attr_valid == FS_VALID_ALWAYS_S);
	client_end();
}

/* A file that was just written keeps its pages. */
static void pages(void)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	int64_t fh;
	REQUIRE(client_start(&(struct start){.always = true}));
	uint64_t node = (uint64_t)create_node(ROOT, "f", O_RDWR, 0644, &fh);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(write_node(node, fh, 0, "text", 4, 0), 4);
		CHECK_EQ(read_node(node, fh, 0, 4), 4);
		CHECK_EQ(call(FUSE_OPEN, node, &in, sizeof(in)), 0);
		CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, FOPEN_KEEP_CACHE);
	}
	client_end();
}

/* The names of the folder, listed from its beginning in pieces of a page without a handle; or an error. */
static int list(uint64_t node)
{
	struct fuse_read_in in = {.size = 4096};
	int count = 0, ret;
	while ((ret = call(FUSE_READDIR, node, &in, sizeof(in))) == 0 && client.size > 0) {
		for (uint32_t i = 0; i < client.size; count++) {
			const struct fuse_dirent *d = (const void *)(client.in + i);
			in.offset = d->off;
			i += (uint32_t)FUSE_DIRENT_SIZE(d);
		}
	}
	return ret < 0 ? ret : count;
}

static bool counts_entries(void)
{
	struct statfs st;
	return statfs(client.dir, &st) == 0 && (st.f_type == TMPFS_MAGIC || st.f_type == OVERLAYFS_SUPER_MAGIC);
}

/* On a file system whose offsets may count what is there, a folder is read on with the descriptor that began. */
static void counted_folders(void)
{
	struct fuse_open_in open_in = {.flags = O_DIRECTORY};
	strcpy(client.dir, "/tmp/wisp-test-fs-XXXXXX");
	REQUIRE(mkdtemp(client.dir));
	if (!mount_tmpfs(client.dir, "size=256k")) {
		rmdir(client.dir);
		SKIP("a mount is root's to make");
	}
	REQUIRE(counts_entries() && client_start_over(&(struct start){.always = true}));
	CHECK_EQ(call(FUSE_OPENDIR, ROOT, &open_in, sizeof(open_in)), 0);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE);
	CHECK(client_stop());
	umount(client.dir);
	rmdir(client.dir);
}

/* The guest lists a folder without opening it. */
static void unopened_folders(void)
{
	struct fuse_open_in open_in = {.flags = O_DIRECTORY};
	struct fuse_fsync_in sync_in = {0};
	struct fuse_init_in old = {.major = 7, .minor = 36};
	int64_t fh;
	REQUIRE(client_start(&(struct start){.always = true}));
	if (counts_entries()) {
		CHECK_EQ(call(FUSE_OPENDIR, ROOT, &open_in, sizeof(open_in)), 0);
		client_end();
		SKIP("/tmp is on a file system whose folders are opened");
	}
	CHECK_EQ(call(FUSE_OPENDIR, ROOT, &open_in, sizeof(open_in)), -ENOSYS);
	REQUIRE(mkdir(at("d"), 0755) == 0 && mkdir(at("e"), 0755) == 0);
	uint64_t d = (uint64_t)look_up(ROOT, "d"), e = (uint64_t)look_up(ROOT, "e");
	for (unsigned i = 0; i < 500; i++)
		REQUIRE(put(at("d/a file with a name of some length %u", i), ""));
	for (int twice = 0; twice < 2; twice++)
		CHECK(list(d) == 502 && list(e) == 2);
	struct fuse_read_in all = {.size = FS_DATA_MAX};
	CHECK(call(FUSE_READDIRPLUS, d, &all, sizeof(all)) == 0 && client.size > 500 * sizeof(struct fuse_direntplus));
	/* A list that begins again has what is new, also if all of the last one was read at once. */
	uint64_t f = (uint64_t)create_node(e, "f", O_RDWR, 0644, &fh);
	CHECK_EQ(list(e), 3);
	struct fuse_read_in small = {.size = 10};
	CHECK(call(FUSE_READDIR, e, &small, sizeof(small)) == 0 && client.size == 0);
	CHECK_EQ(call_names(FUSE_UNLINK, e, NULL, 0, "f", NULL), 0);
	CHECK_EQ(list(e), 2);
	CHECK_EQ(call(FUSE_FSYNCDIR, d, &sync_in, sizeof(sync_in)), 0);
	/* Only folders, and only those that there are. */
	CHECK_EQ(call(FUSE_READDIR, f, &small, sizeof(small)), -ENOTDIR);
	CHECK_EQ(call(FUSE_FSYNCDIR, f, &sync_in, sizeof(sync_in)), -EBADF);
	CHECK_EQ(call(FUSE_FSYNCDIR, 12345, &sync_in, sizeof(sync_in)), -EBADF);
	/* One that is removed is as in any file system. */
	CHECK_EQ(call_names(FUSE_RMDIR, ROOT, NULL, 0, "e", NULL), 0);
	CHECK_EQ(list(e), -ENOENT);
	/* A guest that must open folders, does. */
	CHECK_EQ(call(FUSE_INIT, 0, &old, sizeof(old)), 0);
	CHECK(call(FUSE_OPENDIR, ROOT, &open_in, sizeof(open_in)) == 0);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE);
	/* In any other folder, no handle is none. */
	CHECK(client_stop() && client_start_over(&(struct start){0}));
	CHECK_EQ(call(FUSE_READDIR, ROOT, &small, sizeof(small)), -EBADF);
	CHECK_EQ(call(FUSE_FSYNCDIR, ROOT, &sync_in, sizeof(sync_in)), -EBADF);
	client_end();
}

/* If it only reads, it opens no files either. */
static void unopened_files(void)
{
	static uint8_t pattern[200000];
	struct fuse_init_in old = {.major = 7, .minor = 36};
	struct fuse_lseek_in seek = {.whence = SEEK_HOLE};
	struct fuse_fsync_in sync_in = {0};
	struct fuse_getattr_in size = {.getattr_flags = FUSE_GETATTR_FH};
	for (uint32_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + i / 251);
	REQUIRE(client_start(&(struct start){.always = true, .read_only = true}));
	REQUIRE(put(at("f"), "first") && put(at("g"), "second") && symlink("f", at("l")) == 0);
	int fd = open(at("large"), O_WRONLY | O_CREAT, 0644);
	REQUIRE(write(fd, pattern, 200000) == 200000);
	close(fd);
	uint64_t f = (uint64_t)look_up(ROOT, "f"), g = (uint64_t)look_up(ROOT, "g");
	CHECK_EQ(open_node(f, O_RDONLY), -ENOSYS);
	for (int twice = 0; twice < 2; twice++) {
		CHECK(read_node(f, 0, 0, 10) == 5 && memcmp(client.in, "first", 5) == 0);
		CHECK(read_node(g, 0, 3, 10) == 3 && memcmp(client.in, "ond", 3) == 0);
	}
	CHECK(read_node((uint64_t)look_up(ROOT, "large"), 0, 0, 250000) == 200000 &&
	        memcmp(client.in, pattern, 200000) == 0);
	CHECK(call(FUSE_LSEEK, g, &seek, sizeof(seek)) == 0 && REPLY(struct fuse_lseek_out)->offset == 6);
	CHECK_EQ(call(FUSE_FSYNC, g, &sync_in, sizeof(sync_in)), 0);
	CHECK(call(FUSE_GETATTR, g, &size, sizeof(size)) == 0 && REPLY(struct fuse_attr_out)->attr.size == 6);
	CHECK_EQ(write_node(g, 0, 0, "x", 1, 0), -EROFS);
	/* Neither what is no file, nor what there is not. */
	CHECK_EQ(read_node(ROOT, 0, 0, 10), -EBADF);
	CHECK_EQ(read_node((uint64_t)look_up(ROOT, "l"), 0, 0, 10), -EBADF);
	CHECK_EQ(read_node(12345, 0, 0, 10), -ESTALE);
	CHECK_EQ(call(FUSE_FSYNC, 12345, &sync_in, sizeof(sync_in)), -EBADF);
	/* A guest that must open files, does. */
	CHECK_EQ(call(FUSE_INIT, 0, &old, sizeof(old)), 0);
	CHECK(open_node((uint64_t)look_up(ROOT, "f"), O_RDONLY) > 0);
	/* One that writes has to, and to nothing else than what it has opened. */
	CHECK(client_stop() && client_start_over(&(struct start){.always = true}));
	f = (uint64_t)look_up(ROOT, "f");
	CHECK(open_node(f, O_RDONLY) > 0);
	CHECK_EQ(write_node(f, 0, 0, "x", 1, 0), -EBADF);
	CHECK(client_stop() && client_start_over(&(struct start){0}));
	CHECK_EQ(read_node((uint64_t)look_up(ROOT, "f"), 0, 0, 10), -EBADF);
	client_end();
}

TEST_MAIN("fs_always", {"valid", valid}, {"pages", pages}, {"unopened_folders", unopened_folders},
        {"unopened_files", unopened_files}, {"counted_folders", counted_folders})
