/* SPDX-License-Identifier: Apache-2.0 */
/* Files that the device reads and writes itself, of which the host gives or takes a part, or nothing. */
#include "tests/unit/fs_passed.h"
#include "tests/unit/host.h"

/* A file that gives a page at a time. */
static void short_reads(void)
{
	struct shared *t = &shared;
	static uint8_t wanted[60000];
	uint32_t len, size = 0;
	int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	for (ssize_t n; (n = pread(fd, wanted + size, sizeof(wanted) - size, size)) > 0; size += (uint32_t)n)
		CHECK(n < 20000);
	if (size < sizeof(wanted))
		SKIP("the kernel lists no symbols");
	REQUIRE(start(t) && open_file(t, 1, fd));
	struct place to = post_read(t, 10, 1, 0, size);
	CHECK(done(t, &len) && len == OUT_HEAD + size && memcmp(guest_at(&t->g, to.body, size), wanted, size) == 0);
	end(t);
	close(fd);
}

/*
 * The memory of this process as a file, which can be read and written up to *edge. From there on it fails with EIO, as
 * a bad block does: a mapping beyond the end of what it maps.
 */
static int open_memory(uint64_t *edge)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = make_file((uint32_t)page);
	uint8_t *at = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	*edge = (uint64_t)(uintptr_t)at + page;
	return at == MAP_FAILED ? -1 : open("/proc/self/mem", O_RDWR | O_CLOEXEC);
}

/* Also after a part that can be read: a short reply would be the end of the file. */
static void read_errors(void)
{
	struct shared *t = &shared;
	static const struct {
		uint32_t before, size; /* of which `before` bytes can be read */
	} reads[] = {{0, 1}, {0, 4096}, {0, FS_DATA_MAX}, {100, 101}, {100, 4096}, {1000, FS_DATA_MAX}};
	uint64_t edge;
	uint32_t len;
	int fd = open_memory(&edge);
	REQUIRE(fd >= 0 && start(t) && open_file(t, 1, fd));
	for (unsigned i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		struct place to = post_read(t, 10 + i, 1, edge - reads[i].before, reads[i].size);
		CHECK_EQ(next(t), -1);
		REQUIRE(done(t, &len));
		struct fuse_out_header head = head_of(t, to.head);
		CHECK_EQ(head.error, -EIO);
		CHECK(len == OUT_HEAD && head.len == OUT_HEAD && head.unique == 10 + i);
		to = post_read(t, 50, 1, edge - 100, 100);
		CHECK(done(t, &len) && len == OUT_HEAD + 100 && head_of(t, to.head).error == 0);
		CHECK(has(t, to.body, (uint32_t)sysconf(_SC_PAGESIZE) - 100, 100));
	}
	end(t);
	close(fd);
}

static int write_at(struct shared *t, uint64_t offset, const void *data, uint32_t size)
{
	return write_bytes(t, (struct fuse_write_in){.fh = 1, .offset = offset, .size = size}, data);
}

/* A write says what it has written; the error is the next one's. */
static void write_errors(void)
{
	struct shared *t = &shared;
	static uint8_t data[5000];
	uint64_t edge;
	int fd = open_memory(&edge);
	memset(data, 'w', sizeof(data));
	REQUIRE(fd >= 0 && start(t) && open_file(t, 1, fd));
	const uint8_t *at = (const uint8_t *)(uintptr_t)(edge - 1000);
	CHECK_EQ(write_at(t, edge - 1000, data, sizeof(data)), 1000);
	CHECK(memcmp(at, data, 1000) == 0 && at[-1] != 'w');
	CHECK_EQ(write_at(t, edge, data, sizeof(data) - 1000), -EIO);
	CHECK_EQ(write_at(t, edge - 1, "x", 1), 1);
	CHECK(at[999] == 'x' && at[998] == 'w');
	end(t);
	close(fd);
}

/* A file on a file system of 256 KiB, or -1. */
static int open_small(void)
{
	char dir[] = "/tmp/wisp-test-fs-XXXXXX", path[64];
	int fd = -1;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/f", dir);
	if (mount_tmpfs(dir, "size=256k")) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		umount2(dir, MNT_DETACH); /* it lasts as long as the file is open */
	}
	rmdir(dir);
	return fd;
}

/* What there is room for is written, and can be read; the next write fails, until there is room again. */
static void no_space(void)
{
	struct shared *t = &shared;
	static uint8_t data[100000], back[100000];
	uint64_t size = 0;
	int fd = open_small(), n, last = 0;
	if (fd < 0)
		SKIP("a mount is root's to make");
	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 3 + i / 256);
	REQUIRE(start(t) && open_file(t, 1, fd));
	while ((n = write_at(t, size, data, sizeof(data))) > 0) {
		size += (uint32_t)n;
		last = n;
	}
	CHECK_EQ(n, -ENOSPC);
	CHECK(last < (int)sizeof(data) && size > 200000 && size <= 262144);
	CHECK(pread(fd, back, sizeof(back), (off_t)(size - (uint32_t)last)) == last &&
	        memcmp(back, data, (size_t)last) == 0);
	CHECK_EQ(write_at(t, size, data, 1), -ENOSPC);
	CHECK_EQ(write_at(t, 1, data, 5000), 5000); /* what has its blocks */
	CHECK(ftruncate(fd, 100000) == 0);
	CHECK_EQ(write_at(t, 100000, data, sizeof(data)), sizeof(data));
	CHECK(pread(fd, back, sizeof(back), 100000) == sizeof(back) && memcmp(back, data, sizeof(back)) == 0);
	end(t);
	close(fd);
}

TEST_MAIN("virtio_fs_errors", {"short_reads", short_reads}, {"read_errors", read_errors},
        {"write_errors", write_errors}, {"no_space", no_space})
