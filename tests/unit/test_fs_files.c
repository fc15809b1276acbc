/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-fs: what is in files. */
#include "tests/unit/fs_client.h"
#include "tests/unit/host.h"

#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ROOT 1u

static uint8_t pattern[FS_DATA_MAX], back[1 << 20];

static void fill(void)
{
	for (uint32_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + i / 251);
}

/* The file on the host has the pattern's first bytes from `offset` on. */
static bool has(const char *path, off_t offset, size_t size)
{
	int fd = open(path, O_RDONLY);
	bool good = pread(fd, back, size, offset) == (ssize_t)size && memcmp(back, pattern, size) == 0;
	close(fd);
	return good;
}

/* Every length around the limits: in a message, with the pipe, by pages and by parts of them. */
static void sizes(void)
{
	static const uint32_t size[] = {0, 1, 79, 80, 4095, 4096, 4097, FS_INLINE_MAX - 81, FS_INLINE_MAX - 80,
	        FS_INLINE_MAX - 79, FS_INLINE_MAX - 17, FS_INLINE_MAX - 16, FS_INLINE_MAX - 15, FS_INLINE_MAX, 65536,
	        65537, 100001, FS_DATA_MAX - 1, FS_DATA_MAX};
	static const uint64_t offset[] = {0, 1, 4095, 8192, 1u << 20};
	int64_t fh;
	fill();
	REQUIRE(client_start(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "f", O_RDWR, 0644, &fh);
	for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		for (unsigned k = 0; k < sizeof(offset) / sizeof(offset[0]); k++) {
			CHECK_EQ(write_node(node, fh, offset[k], pattern, size[i], 0), size[i]);
			CHECK(has(at("f"), (off_t)offset[k], size[i]));
			CHECK_EQ(read_node(node, fh, offset[k], size[i]), size[i]);
			CHECK(memcmp(client.in, pattern, size[i]) == 0);
			REQUIRE(truncate(at("f"), 0) == 0);
		}
	}
	client_end();
}

/* A read is short at the file's end, and nowhere else. */
static void ends_of_files(void)
{
	REQUIRE(client_start(&(struct start){0}));
	fill();
	REQUIRE(put(at("f"), ""));
	int fd = open(at("f"), O_WRONLY);
	REQUIRE(write(fd, pattern, 100001) == 100001);
	close(fd);
	uint64_t node = (uint64_t)look_up(ROOT, "f");
	int64_t fh = open_node(node, O_RDONLY);
	CHECK_EQ(read_node(node, fh, 0, FS_DATA_MAX), 100001);
	CHECK(memcmp(client.in, pattern, 100001) == 0);
	CHECK_EQ(read_node(node, fh, 90000, 65536), 10001);
	CHECK(memcmp(client.in, pattern + 90000, 10001) == 0);
	CHECK_EQ(read_node(node, fh, 100001, 65536), 0);
	CHECK_EQ(read_node(node, fh, 1u << 30, 100), 0);
	CHECK_EQ(read_node(node, fh, UINT64_MAX, 100), -EINVAL);
	CHECK_EQ(read_node(node, fh, INT64_MAX, 65536), -EINVAL);
	CHECK_EQ(write_node(node, fh, 0, "x", 1, 0), -EBADF); /* it is open for reading */
	client_end();
}

/* Many replies that wait together: more than the pipe has room for. */
static void read_ahead(void)
{
	enum { READS = 24, EACH = 131072 };
	int64_t fh;
	fill();
	REQUIRE(client_start(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "f", O_RDWR, 0644, &fh);
	for (unsigned i = 0; i < READS; i++)
		REQUIRE(write_node(node, fh, i * (uint64_t)EACH, pattern + i, EACH, 0) == EACH);
	uint64_t first = client.unique;
	for (unsigned i = 0; i < READS; i++) {
		struct fuse_read_in in = {.fh = (uint64_t)fh, .offset = i * (uint64_t)EACH, .size = EACH};
		REQUIRE(post(FUSE_READ, node, &in, sizeof(in), FS_REPLY_MAX));
	}
	for (unsigned i = 0; i < READS; i++) {
		client.unique = first + 1 + i;
		REQUIRE(take() == 0 && client.size == EACH);
		CHECK(memcmp(client.in, pattern + i, EACH) == 0);
	}
	client_end();
}

static void appending(void)
{
	int64_t fh;
	fill();
	REQUIRE(client_start(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "log", O_WRONLY | O_APPEND, 0644, &fh);
	CHECK_EQ(write_node(node, fh, 0, "one", 3, O_APPEND), 3);
	/* What the host has added is not overwritten, whatever the guest takes for the end. */
	int fd = open(at("log"), O_WRONLY | O_APPEND);
	REQUIRE(write(fd, "TWO", 3) == 3);
	close(fd);
	CHECK_EQ(write_node(node, fh, 3, "three", 5, O_APPEND), 5);
	CHECK_STR(get(at("log")), "oneTWOthree");
	CHECK_EQ(write_node(node, fh, 3, pattern, 70000, O_APPEND), 70000);
	CHECK(has(at("log"), 11, 70000));
	/* A page of a mapping has its place. */
	struct fuse_write_in in = {.fh = (uint64_t)fh, .size = 1, .write_flags = FUSE_WRITE_CACHE, .flags = O_APPEND};
	uint8_t bytes[sizeof(in) + 1] = {0};
	memcpy(bytes, &in, sizeof(in));
	bytes[sizeof(in)] = 'O';
	CHECK_EQ(call(FUSE_WRITE, node, bytes, sizeof(bytes)), 0);
	CHECK(strncmp(get(at("log")), "OneTWO", 6) == 0);
	client_end();
}

static void opening(void)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	int64_t fh;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("f"), "12345") && mkdir(at("d"), 0755) == 0);
	uint64_t node = (uint64_t)look_up(ROOT, "f"), d = (uint64_t)look_up(ROOT, "d");
	CHECK(open_node(node, O_WRONLY | O_TRUNC) > 0);
	CHECK_STR(get(at("f")), "");
	CHECK_EQ(open_node(d, O_RDONLY), -EACCES);
	CHECK_EQ(open_node(node, O_RDONLY | O_DIRECTORY), -ENOTDIR);
	CHECK_EQ(open_node(999, O_RDONLY), -ESTALE);
	/* O_DIRECT is for the guest's pages; here it would ask for alignment. */
	int64_t direct = open_node(node, O_RDWR | O_DIRECT);
	CHECK_EQ(write_node(node, direct, 1, "x", 1, O_DIRECT), 1);
	/* Flags that are no business of a guest's. */
	CHECK(open_node(node, O_RDONLY | O_PATH | O_CREAT | O_ASYNC | O_NOATIME | O_TMPFILE) < 0 ||
	        REPLY(struct fuse_open_out)->fh > 0);
	CHECK_EQ(create_node(ROOT, "f", O_RDWR | O_EXCL, 0644, &fh), -EEXIST);
	CHECK_EQ(create_node(ROOT, "f", O_RDWR, 0644, &fh), (int64_t)node);
	CHECK_EQ(read_node(node, fh, 0, 10), 2);
	CHECK_EQ(create_node(ROOT, "f", O_RDWR | O_TRUNC, 0644, &fh), (int64_t)node);
	CHECK_EQ(read_node(node, fh, 0, 10), 0);
	CHECK_EQ(create_node(ROOT, "d", O_RDWR | O_EXCL, 0644, &fh), -EEXIST);
	/* The guest did not know of it, and is to look again. */
	CHECK_EQ(create_node(ROOT, "d", O_RDWR, 0644, &fh), -ESTALE);
	uint64_t locked = (uint64_t)create_node(ROOT, "ro", O_RDWR, 0444, &fh);
	CHECK_EQ(write_node(locked, fh, 0, "x", 1, 0), 1); /* as open(2) has it */
	CHECK_EQ(call(FUSE_OPEN, node, &in, 4), -EINVAL);
	client_end();
}

/* Pages stay in the guest from one open to the next, unless they may be of before a change in the same tick. */
static void cached_pages(void)
{
	struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}},
	                now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("f"), "1") && utimensat(AT_FDCWD, at("f"), old, 0) == 0);
	uint64_t node = (uint64_t)look_up(ROOT, "f");
	int64_t fh = open_node(node, O_RDONLY);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, FOPEN_KEEP_CACHE);
	CHECK_EQ(read_node(node, fh, 0, 1), 1);
	open_node(node, O_RDONLY);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, FOPEN_KEEP_CACHE);
	REQUIRE(utimensat(AT_FDCWD, at("f"), now, 0) == 0);
	open_node(node, O_RDONLY);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, 0);
	/* Nor is a time for which nanoseconds have no number one of long ago. */
	struct timespec late[2] = {{.tv_sec = 15032385535}, {.tv_sec = 15032385535}};
	REQUIRE(read_node(node, fh, 0, 1) == 1 && utimensat(AT_FDCWD, at("f"), late, 0) == 0);
	open_node(node, O_RDONLY);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, 0);
	/* Dropped: what it reads now is as new as the next open. */
	REQUIRE(utimensat(AT_FDCWD, at("f"), old, 0) == 0);
	open_node(node, O_RDONLY);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, FOPEN_KEEP_CACHE);
	/* What reads already goes on filling pages, also when they are dropped at an open that does not read. */
	for (int twice = 0; twice < 2; twice++) {
		REQUIRE(utimensat(AT_FDCWD, at("f"), late, 0) == 0);
		open_node(node, twice ? O_RDONLY : O_WRONLY);
		CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, 0);
	}
	/* So does what writes: of a file that was never read, too. */
	REQUIRE(put(at("g"), "1"));
	node = (uint64_t)look_up(ROOT, "g");
	open_node(node, O_WRONLY);
	REQUIRE(utimensat(AT_FDCWD, at("g"), late, 0) == 0);
	open_node(node, O_RDONLY);
	CHECK_EQ(REPLY(struct fuse_open_out)->open_flags, 0);
	client_end();
}

/* Others say how it was found. */
#define USED_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DIRECT | O_NOATIME)

/* The file that came with the last reply is this one, and open so. */
static bool passed(const char *path, int flags)
{
	struct stat own, st;
	if (client.file < 0 || stat(path, &st) < 0 || fstat(client.file, &own) < 0)
		return false;
	return st.st_ino == own.st_ino && (fcntl(client.file, F_GETFL) & USED_FLAGS) == flags &&
	       fcntl(client.file, F_GETFD) == FD_CLOEXEC;
}

/* The monitor gets what the guest opens, with the same rights, as long as handles are few. */
static void passed_files(void)
{
	int64_t fh, few[FS_DIRECT_FILES];
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("f"), "text") && mkdir(at("d"), 0755) == 0 && put(at("suid"), "x"));
	REQUIRE(chmod(at("suid"), 04755) == 0);
	uint64_t node = (uint64_t)look_up(ROOT, "f"), suid = (uint64_t)look_up(ROOT, "suid");
	fh = open_node(node, O_RDONLY);
	CHECK(passed(at("f"), O_RDONLY));
	CHECK_EQ(read_node(node, fh, 0, 10), 4);
	CHECK(client.file < 0);
	open_node(node, O_WRONLY | O_APPEND);
	CHECK(passed(at("f"), O_WRONLY));
	open_node(node, O_RDWR | O_DSYNC | O_NONBLOCK);
	CHECK(passed(at("f"), O_RDWR | O_DSYNC));
	create_node(ROOT, "new", O_RDWR, 0644, &fh);
	CHECK(passed(at("new"), O_RDWR));
	create_node(ROOT, "f", O_RDONLY, 0644, &fh);
	CHECK(passed(at("f"), O_RDONLY));
	/* With the guest's release, that is over; what the monitor has stays open until it closes it. */
	CHECK_EQ(release_node(node, (uint64_t)fh, false), 0);
	/* Of none that a write would take a setuid bit from, of no folder, and with no error. */
	CHECK(open_node(suid, O_RDWR) > 0 && client.file < 0);
	CHECK(open_node(ROOT, O_RDONLY | O_DIRECTORY) > 0 && client.file < 0);
	CHECK(create_node(ROOT, "f", O_RDWR | O_EXCL, 0644, &fh) == -EEXIST && client.file < 0);
	struct fuse_open_in in = {.flags = O_RDONLY};
	CHECK(post(FUSE_OPEN, node, &in, sizeof(in), sizeof(struct fuse_out_header)));
	CHECK(take() == -ERANGE && client.file < 0);
	CHECK(post(FUSE_OPEN, node, &in, sizeof(in), 0)); /* no reply: no file */
	unsigned count = 0;
	while (count < FS_DIRECT_FILES && (few[count] = open_node(node, O_RDONLY)) > 0 && client.file >= 0)
		count++;
	CHECK(count > 100 && count < FS_DIRECT_FILES);
	CHECK(few[count] > (int64_t)FS_DIRECT_FILES);
	CHECK_EQ(read_node(node, few[count], 0, 10), 4);
	CHECK_EQ(release_node(node, (uint64_t)few[7], false), 0);
	CHECK(open_node(node, O_RDONLY) == few[7] && passed(at("f"), O_RDONLY));
	client_end();
}

/* What the file takes of the host's disk, in KiB. */
static long kib_of(const char *path)
{
	struct stat st;
	return stat(path, &st) < 0 ? -1 : (long)st.st_blocks / 2;
}

/* A hole of the guest's takes no more of the host's disk than one of the host's own, within a MiB. */
static void sparse_files(void)
{
	int64_t fh;
	fill();
	REQUIRE(client_start(&(struct start){0}));
	int own = open(at("own"), O_WRONLY | O_CREAT, 0644);
	CHECK(pwrite(own, "end", 3, 10u << 20) == 3);
	close(own);
	const long most = kib_of(at("own")) + 1024;
	uint64_t node = (uint64_t)create_node(ROOT, "f", O_RDWR, 0644, &fh);
	CHECK_EQ(write_node(node, fh, 10u << 20, "end", 3, 0), 3);
	CHECK(kib_of(at("f")) < most);
	struct fuse_lseek_in in = {.fh = (uint64_t)fh, .whence = SEEK_DATA};
	CHECK_EQ(call(FUSE_LSEEK, node, &in, sizeof(in)), 0);
	uint64_t data = REPLY(struct fuse_lseek_out)->offset;
	CHECK(data == 0 || (data > 0 && data <= 10u << 20)); /* the file system need not know holes */
	in = (struct fuse_lseek_in){.fh = (uint64_t)fh, .offset = 10u << 20, .whence = SEEK_HOLE};
	CHECK_EQ(call(FUSE_LSEEK, node, &in, sizeof(in)), 0);
	CHECK_EQ(REPLY(struct fuse_lseek_out)->offset, (10u << 20) + 3);
	in.offset = 11u << 20;
	CHECK_EQ(call(FUSE_LSEEK, node, &in, sizeof(in)), -ENXIO);
	in.whence = SEEK_SET;
	CHECK_EQ(call(FUSE_LSEEK, node, &in, sizeof(in)), -EINVAL);
	in = (struct fuse_lseek_in){.fh = (uint64_t)fh, .offset = UINT64_MAX, .whence = SEEK_DATA};
	CHECK_EQ(call(FUSE_LSEEK, node, &in, sizeof(in)), -EINVAL);
	struct fuse_setattr_in longer = {.valid = FATTR_SIZE, .size = 100u << 20};
	CHECK_EQ(call(FUSE_SETATTR, node, &longer, sizeof(longer)), 0);
	CHECK(kib_of(at("f")) < most);
	for (uint32_t i = 0; i < 8; i++)
		CHECK_EQ(write_node(node, fh, i * FS_DATA_MAX, pattern, FS_DATA_MAX, 0), FS_DATA_MAX);
	struct fuse_fallocate_in hole = {
	        .fh = (uint64_t)fh, .length = 2u << 20, .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
	int ret = call(FUSE_FALLOCATE, node, &hole, sizeof(hole));
	CHECK(ret == -EOPNOTSUPP || (ret == 0 && kib_of(at("f")) < most && !has(at("f"), 0, 4096)));
	client_end();
}

static void allocation(void)
{
	struct stat st;
	int64_t fh;
	REQUIRE(client_start(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "f", O_RDWR, 0644, &fh);
	struct fuse_fallocate_in in = {.fh = (uint64_t)fh, .length = 65536};
	int ret = call(FUSE_FALLOCATE, node, &in, sizeof(in));
	CHECK(ret == -EOPNOTSUPP || (ret == 0 && stat(at("f"), &st) == 0 && st.st_size == 65536));
	in.offset = UINT64_MAX;
	CHECK_EQ(call(FUSE_FALLOCATE, node, &in, sizeof(in)), -EFBIG);
	in = (struct fuse_fallocate_in){.fh = (uint64_t)fh, .length = 1, .mode = 0xffff};
	CHECK(call(FUSE_FALLOCATE, node, &in, sizeof(in)) < 0);
	in.fh = 77;
	CHECK_EQ(call(FUSE_FALLOCATE, node, &in, sizeof(in)), -EBADF);
	client_end();
}

static void copies(void)
{
	int64_t from, to;
	fill();
	REQUIRE(client_start(&(struct start){0}));
	uint64_t a = (uint64_t)create_node(ROOT, "a", O_RDWR, 0644, &from);
	uint64_t b = (uint64_t)create_node(ROOT, "b", O_RDWR, 0644, &to);
	CHECK_EQ(write_node(a, from, 0, pattern, 200000, 0), 200000);
	struct fuse_copy_file_range_in in = {
	        .fh_in = (uint64_t)from, .nodeid_out = b, .fh_out = (uint64_t)to, .off_out = 10, .len = 1ull << 40};
	CHECK_EQ(call(FUSE_COPY_FILE_RANGE, a, &in, sizeof(in)), 0);
	CHECK_EQ(REPLY(struct fuse_write_out)->size, 200000);
	CHECK(has(at("b"), 10, 200000));
	in.fh_out = 99;
	CHECK_EQ(call(FUSE_COPY_FILE_RANGE, a, &in, sizeof(in)), -EBADF);
	in = (struct fuse_copy_file_range_in){.fh_in = (uint64_t)from, .fh_out = (uint64_t)to, .off_in = UINT64_MAX};
	CHECK_EQ(call(FUSE_COPY_FILE_RANGE, a, &in, sizeof(in)), -EINVAL);
	in = (struct fuse_copy_file_range_in){.fh_in = (uint64_t)from, .fh_out = (uint64_t)to, .flags = 1};
	CHECK_EQ(call(FUSE_COPY_FILE_RANGE, a, &in, sizeof(in)), -EINVAL);
	client_end();
}

static void syncing(void)
{
	int64_t fh;
	REQUIRE(client_start(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "f", O_RDWR, 0644, &fh);
	struct fuse_fsync_in in = {.fh = (uint64_t)fh};
	CHECK_EQ(call(FUSE_FSYNC, node, &in, sizeof(in)), 0);
	in.fsync_flags = FUSE_FSYNC_FDATASYNC;
	CHECK_EQ(call(FUSE_FSYNC, node, &in, sizeof(in)), 0);
	struct fuse_syncfs_in all = {0};
	CHECK_EQ(call(FUSE_SYNCFS, ROOT, &all, sizeof(all)), 0);
	/* With each write on the host at once, there is nothing to do at a close. */
	struct fuse_flush_in flush = {.fh = (uint64_t)fh};
	CHECK_EQ(call(FUSE_FLUSH, node, &flush, sizeof(flush)), -ENOSYS);
	CHECK_EQ(release_node(node, (uint64_t)fh, false), 0);
	CHECK_EQ(release_node(node, (uint64_t)fh, false), -EBADF);
	CHECK_EQ(call(FUSE_FSYNC, node, &in, sizeof(in)), -EBADF);
	client_end();
}

/* The host is full, or the file is as large as it may be: an error, and the next write passes. */
static void full(void)
{
	int64_t fh;
	fill();
	struct rlimit old, small = {100000, RLIM_INFINITY};
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	bool started = client_start(&(struct start){0});
	setrlimit(RLIMIT_FSIZE, &old);
	REQUIRE(started);
	uint64_t node = (uint64_t)create_node(ROOT, "f", O_RDWR, 0644, &fh);
	CHECK_EQ(write_node(node, fh, 0, pattern, 131072, 0), 100000); /* what there was room for */
	CHECK_EQ(write_node(node, fh, 100000, pattern, 131072, 0), -EFBIG);
	CHECK_EQ(write_node(node, fh, 100000, pattern, 10, 0), -EFBIG);
	CHECK_EQ(write_node(node, fh, 0, pattern, 65536, 0), 65536);
	CHECK(has(at("f"), 0, 100000));
	client_end();
}

/* A host without room: the guest is told, keeps what it has, and goes on when there is room again. */
static void no_space(void)
{
	int64_t fh, other;
	fill();
	strcpy(client.dir, "/tmp/wisp-test-fs-XXXXXX");
	REQUIRE(mkdtemp(client.dir));
	if (!mount_tmpfs(client.dir, "size=256k")) {
		rmdir(client.dir);
		SKIP("a mount is root's to make");
	}
	REQUIRE(client_start_over(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "f", O_RDWR, 0644, &fh), done = 0;
	int n;
	while ((n = write_node(node, fh, done, pattern, 100000, 0)) > 0)
		done += (uint64_t)n;
	CHECK_EQ(n, -ENOSPC);
	CHECK(done > 200000 && done <= 262144);
	CHECK_EQ(write_node(node, fh, done, pattern, 4096, 0), -ENOSPC);
	struct fuse_fallocate_in more = {.fh = (uint64_t)fh, .length = 1 << 20};
	CHECK_EQ(call(FUSE_FALLOCATE, node, &more, sizeof(more)), -ENOSPC);
	CHECK_EQ(read_node(node, fh, 100000, 4096), 4096);
	CHECK(memcmp(client.in, pattern, 4096) == 0);
	int64_t second = create_node(ROOT, "g", O_RDWR, 0644, &other);
	CHECK(second > 1 || second == -ENOSPC);
	struct fuse_setattr_in shorter = {.valid = FATTR_SIZE, .size = 100000};
	CHECK_EQ(call(FUSE_SETATTR, node, &shorter, sizeof(shorter)), 0);
	CHECK_EQ(write_node(node, fh, 100000, pattern, 100000, 0), 100000);
	CHECK(client_stop());
	umount2(client.dir, MNT_DETACH);
	rmdir(client.dir);
}

/* A file that cannot be read: here the memory of wisp-fs itself, which has nothing at its beginning. */
static void io_errors(void)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	/* Nothing follows: Linux fills a hole from its end on. */
	const size_t hole = 64u << 20;
	uint8_t *last = mmap(NULL, hole, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(last != MAP_FAILED && munmap(last + page, hole - page) == 0);
	const uint64_t end = (uint64_t)(uintptr_t)last + page;
	strcpy(client.dir, "/proc/self");
	REQUIRE(client_start_over(&(struct start){.read_only = true}));
	uint64_t node = (uint64_t)look_up(ROOT, "mem");
	int64_t fh = open_node(node, O_RDONLY);
	REQUIRE(fh > 0);
	CHECK_EQ(read_node(node, fh, 0, 4096), -EIO);
	CHECK_EQ(read_node(node, fh, 4096, 200000), -EIO); /* as pages, and then not */
	/* Nor after a part that can: a short reply would be the end of the file. */
	CHECK_EQ(read_node(node, fh, end - 100, 100), 100);
	CHECK_EQ(read_node(node, fh, end - 100, 4096), -EIO);
	CHECK_EQ(read_node(node, fh, end - 100, 200000), -EIO);
	CHECK(look_up(ROOT, "status") > 1);
	CHECK(client_stop());
}

/* The pages that fit into the pipe can be read, the rest cannot. The next request finds the pipe as it should be. */
static void io_errors_behind_pages(void)
{
	struct fuse_attr attr;
	fill();
	REQUIRE(client_start(&(struct start){.fails = SYS_pread64}));
	int fd = open(at("f"), O_WRONLY | O_CREAT, 0644);
	REQUIRE(write(fd, pattern, 200000) == 200000);
	close(fd);
	uint64_t node = (uint64_t)look_up(ROOT, "f");
	int64_t fh = open_node(node, O_RDONLY);
	for (int twice = 0; twice < 2; twice++) {
		CHECK_EQ(read_node(node, fh, 0, 200000), -EIO);
		CHECK(client.piped);
		CHECK_EQ(stat_node(node, &attr), 0);
		CHECK_EQ(read_node(node, fh, 4096, 20000), 20000);
		CHECK(memcmp(client.in, pattern + 4096, 20000) == 0);
	}
	client_end();
}

static void read_only(void)
{
	int64_t fh;
	struct listing;
	REQUIRE(client_start(&(struct start){.read_only = true}));
	REQUIRE(put(at("f"), "text") && mkdir(at("d"), 0755) == 0);
	uint64_t node = (uint64_t)look_up(ROOT, "f");
	int64_t reading = open_node(node, O_RDONLY);
	CHECK_EQ(read_node(node, reading, 0, 10), 4);
	CHECK_EQ(open_node(node, O_WRONLY), -EROFS);
	CHECK_EQ(open_node(node, O_RDWR), -EROFS);
	CHECK_EQ(open_node(node, O_RDONLY | O_TRUNC), -EROFS);
	CHECK_EQ(create_node(ROOT, "f", O_RDONLY, 0644, &fh), -EROFS);
	CHECK_EQ(write_node(node, reading, 0, pattern, 100000, 0), -EROFS);
	CHECK_EQ(make_folder(ROOT, "x"), -EROFS);
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "f", NULL), -EROFS);
	CHECK_EQ(call_names(FUSE_RMDIR, ROOT, NULL, 0, "d", NULL), -EROFS);
	CHECK_EQ(call_names(FUSE_SYMLINK, ROOT, NULL, 0, "s", "f"), -EROFS);
	CHECK_EQ(rename_node(ROOT, "f", ROOT, "g", 0), -EROFS);
	struct fuse_link_in link_in = {.oldnodeid = node};
	CHECK_EQ(call_names(FUSE_LINK, ROOT, &link_in, sizeof(link_in), "g", NULL), -EROFS);
	struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0644};
	CHECK_EQ(call_names(FUSE_MKNOD, ROOT, &mknod_in, sizeof(mknod_in), "g", NULL), -EROFS);
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 0777};
	CHECK_EQ(call(FUSE_SETATTR, node, &in, sizeof(in)), -EROFS);
	CHECK_EQ(call_names(FUSE_REMOVEXATTR, node, NULL, 0, "user.x", NULL), -EROFS);
	struct fuse_fallocate_in more = {.fh = (uint64_t)reading, .length = 1};
	CHECK_EQ(call(FUSE_FALLOCATE, node, &more, sizeof(more)), -EROFS);
	CHECK_STR(get(at("f")), "text");
	client_end();
}

/* One file, in a folder that has nothing else and cannot be changed. */
static void single_file(void)
{
	struct fuse_attr attr;
	int64_t fh;
	REQUIRE(client_start(&(struct start){.file = "f"}));
	REQUIRE(put(at("secret"), "x"));
	CHECK_EQ(stat_node(ROOT, &attr), 0);
	CHECK_EQ(attr.mode, S_IFDIR | 0555);
	uint64_t node = (uint64_t)look_up(ROOT, FS_FILE_NAME);
	REQUIRE(node > 1);
	CHECK_EQ(look_up(ROOT, FS_FILE_NAME), (int64_t)node);
	CHECK_EQ(look_up(ROOT, "secret"), -ENOENT);
	CHECK_EQ(look_up(ROOT, "f"), -ENOENT);
	fh = open_node(node, O_RDWR);
	CHECK_EQ(read_node(node, fh, 0, 10), 6);
	CHECK_EQ(write_node(node, fh, 0, "S", 1, 0), 1);
	CHECK_STR(get(at("f")), "Shared");
	CHECK_EQ(stat_node(node, &attr), 0);
	CHECK_EQ(attr.size, 6);
	struct fuse_syncfs_in all = {0};
	CHECK_EQ(call(FUSE_SYNCFS, ROOT, &all, sizeof(all)), 0);
	/* What it is forgets nothing. */
	CHECK_EQ(forget(node, 1000), 0);
	CHECK_EQ(stat_node(node, &attr), 0);
	CHECK_EQ(make_folder(ROOT, "d"), -EPERM);
	CHECK_EQ(create_node(ROOT, "x", O_RDWR, 0644, &fh), -EPERM);
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, FS_FILE_NAME, NULL), -EPERM);
	CHECK_EQ(rename_node(ROOT, FS_FILE_NAME, ROOT, "x", 0), -EPERM);
	CHECK_EQ(open_node(ROOT, O_RDONLY | O_DIRECTORY), -EPERM);
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 0};
	CHECK_EQ(call(FUSE_SETATTR, ROOT, &in, sizeof(in)), -EPERM);
	in.mode = 0600;
	CHECK_EQ(call(FUSE_SETATTR, node, &in, sizeof(in)), 0);
	struct fuse_init_in init = {.major = 7, .minor = 36};
	CHECK_EQ(call(FUSE_INIT, 0, &init, sizeof(init)), 0);
	CHECK_EQ(look_up(ROOT, FS_FILE_NAME), (int64_t)node);
	client_end();
}

/* uid=map: owners are those of the host, and what a user of the guest creates is that user's. */
static void mapped_owners(void)
{
	struct stat st;
	if (geteuid() != 0)
		SKIP("not root");
	REQUIRE(client_start(&(struct start){.map = true}));
	REQUIRE(put(at("f"), "") && chown(at("f"), 1234, 2345) == 0 && chmod(client.dir, 0777) == 0);
	uint64_t node = (uint64_t)look_up(ROOT, "f");
	CHECK(REPLY(struct fuse_entry_out)->attr.uid == 1234 && REPLY(struct fuse_entry_out)->attr.gid == 2345);
	struct fuse_setattr_in in = {.valid = FATTR_UID, .uid = 77};
	CHECK_EQ(call(FUSE_SETATTR, node, &in, sizeof(in)), 0);
	CHECK(stat(at("f"), &st) == 0 && st.st_uid == 77 && st.st_gid == 2345);
	/* As the monitor would pass a request of this user on. */
	struct {
		struct fs_frame frame;
		struct fuse_in_header header;
		struct fuse_mkdir_in in;
		char name[4];
	} message = {.frame = {.room = FS_REPLY_MAX},
	        .header = {.len = sizeof(message) - sizeof(message.frame),
	                .opcode = FUSE_MKDIR,
	                .unique = ++client.unique,
	                .nodeid = ROOT,
	                .uid = 1000,
	                .gid = 1001},
	        .in = {.mode = 0755},
	        .name = "dir"};
	REQUIRE(send(client.socket, &message, sizeof(message), 0) == sizeof(message));
	CHECK_EQ(take(), 0);
	CHECK(stat(at("dir"), &st) == 0 && st.st_uid == 1000 && st.st_gid == 1001);
	CHECK_EQ(make_folder(ROOT, "root"), 0); /* and back */
	CHECK(stat(at("root"), &st) == 0 && st.st_uid == 0);
	client_end();
}

TEST_MAIN("fs_files", {"sizes", sizes}, {"ends_of_files", ends_of_files}, {"read_ahead", read_ahead},
        {"appending", appending}, {"opening", opening}, {"cached_pages", cached_pages}, {"passed_files", passed_files},
        {"sparse_files", sparse_files}, {"allocation", allocation}, {"copies", copies}, {"syncing", syncing},
        {"full", full}, {"no_space", no_space}, {"io_errors", io_errors},
        {"io_errors_behind_pages", io_errors_behind_pages}, {"read_only", read_only}, {"single_file", single_file},
        {"mapped_owners", mapped_owners})
